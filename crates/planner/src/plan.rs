//! What is to be done, as data: nothing is left to choose for whoever carries it out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::endpoint::Host;
use crate::health::Unhealthy;
use crate::memory::Operation;
use crate::names::{MachineName, MachineType};
use crate::orders::{Order, Word};
use crate::release::ReleaseStep;
use crate::sizing::{LimitReached, Sizing};
use crate::snapshot::DemandKey;
use crate::time::{Seconds, Timestamp};

/// The outcome of one planning. The fields from `provision` on are the phases, in the order of execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How many machines each type is to have, and why.
    pub sizing: BTreeMap<MachineType, Sizing>,
    /// What is thought of each machine of the snapshot; exactly one verdict each.
    pub verdicts: BTreeMap<MachineName, Verdict>,
    /// Machines to create. The intent is to be recorded before the provider is asked.
    pub provision: Vec<Provision>,
    /// Stopped machines to start again.
    pub start: Vec<MachineName>,
    /// Machines that are up, to bring up to date and to check.
    pub deploy: Vec<MachineName>,
    /// Machines that are ready and may get builds: all that the machines file is to name.
    pub publish: Vec<MachineName>,
    /// Machines on their way out, each with its next step.
    pub release: Vec<Release>,
    /// Machines that the queue runner lists for the first time since they were started.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recognized: BTreeSet<MachineName>,
    /// What the queue runner counts of the machines' steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub built: BTreeMap<MachineName, StepsBuilt>,
    /// Machines that are ready and do not work.
    pub unhealthy: BTreeMap<MachineName, Unhealthy>,
    /// What the operator has said and still counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// Odd things that someone should look at.
    pub warnings: Vec<Warning>,
    /// When the plan changes although nothing happens: a grace period ends, a back-off is over, paid time runs
    /// out. `None`: never.
    pub wake_at: Option<Timestamp>,
}

/// Steps that a machine has built, as the queue runner counts them: since it knows the machine's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepsBuilt {
    /// How many.
    pub steps: u64,
    /// How long they took together.
    pub time: Seconds,
}

/// Whether the machines file (classic) lists a machine, or its builder runs (REST): whether it can be
/// given new builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptsJobs {
    /// New builds may start on it.
    Yes,
    /// Only what runs there already goes on.
    No,
}

/// What is thought of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The queue or `minMachines` wants it.
    InUse,
    /// Nothing wants it, yet it stays.
    Keep {
        /// Why it stays.
        reason: KeepReason,
        /// Whether it may get new builds meanwhile.
        accepts_jobs: AcceptsJobs,
    },
    /// It goes, once it is drained.
    Release {
        /// Stopped or destroyed.
        how: ReleaseHow,
        /// Why it goes.
        reason: ReleaseReason,
    },
    /// It is being stopped or destroyed.
    Ending {
        /// Which of the two.
        operation: Operation,
        /// Since when.
        since: Timestamp,
    },
}

/// Why a machine that nothing wants stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeepReason {
    /// Its provider could not list its machines: what is not seen is not touched.
    ProviderUnavailable,
    /// The queue status is unavailable: nothing is done that cannot be undone.
    QueueUnavailable,
    /// Much time is paid for: it may as well be used.
    MuchPaidTimeLeft {
        /// How much.
        left: Seconds,
    },
    /// Another machine has the same name: a release by name could hit the wrong one.
    DuplicateName,
    /// The queue runner does not list it by any name that we know, and shows a busy builder that is neither
    /// ours nor in `otherMachines`.
    MayBeBuilder {
        /// What the queue runner calls that builder.
        builder: Host,
    },
    /// It was destroyed, and its provider still lists it.
    Destroyed {
        /// When.
        at: Timestamp,
    },
    /// It is building.
    Busy {
        /// How many steps.
        jobs: u64,
    },
    /// It was used within the grace period.
    RecentlyUsed {
        /// How long ago.
        idle_for: Seconds,
        /// The pool's grace period.
        grace_period: Seconds,
    },
    /// The queue runner was started a short while ago and may not know all its work yet.
    QueueRunnerJustStarted {
        /// How long ago.
        uptime: Seconds,
    },
    /// Idle, but its time is paid for: it goes when that has nearly run out.
    SomePaidTimeLeft {
        /// How much.
        left: Seconds,
    },
    /// It is off, and `stopOnIdle` keeps it so until it is wanted.
    StoppedInReserve,
    /// It is wanted, but what machines share has no room for it now.
    NoRoom,
    /// It is wanted, but a limit leaves no room for it now.
    Limit(LimitReached),
    /// The operator wants it kept.
    Ordered(Order),
    /// The operator has paused its type.
    Paused(Order),
}

/// What becomes of a released machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseHow {
    /// Its disk is kept.
    Stop,
    /// Nothing is kept.
    Destroy,
}

/// Why a machine goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseReason {
    /// It is idle and more machines are there than are allowed.
    Idle {
        /// For how long, where anything tells.
        idle_for: Option<Seconds>,
    },
    /// It is off, and its type destroys what is idle.
    StoppedUnwanted,
    /// It is off, and `maxMachines` others of its type are already there or in reserve.
    ReserveFull,
    /// Its type is not in the policy any more.
    TypeNotConfigured,
    /// The provider says that it is beyond repair.
    Failed,
    /// It was deployed again and again, without success, and builds nothing.
    NeverReady {
        /// For how long.
        failing_for: Seconds,
    },
    /// It was ready, but has not worked for too long.
    Unhealthy {
        /// What is wrong.
        what: Unhealthy,
        /// For how long.
        unhealthy_for: Seconds,
    },
    /// Its provider does not list it any more: made sure that it is gone.
    Vanished {
        /// For how long.
        missing_for: Seconds,
    },
    /// It was destroyed, and its provider still lists it.
    StillListed {
        /// When it was destroyed.
        since: Timestamp,
    },
    /// It was asked for, never seen, and is not wanted any more: made sure that it is gone.
    RequestAbandoned,
    /// The operator wants it drained, or gone.
    Ordered(Order),
}

impl ReleaseReason {
    /// What becomes of the machine: `drain` for one that stays where it is then.
    pub fn verb(&self, how: ReleaseHow) -> &'static str {
        match (self, how) {
            (Self::Ordered(Order { word: Word::Drain(_), .. }), _) => "drain",
            (_, ReleaseHow::Stop) => "stop",
            (_, ReleaseHow::Destroy) => "destroy",
        }
    }

    /// A word for it, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::StoppedUnwanted => "stopped-unwanted",
            Self::ReserveFull => "reserve-full",
            Self::TypeNotConfigured => "type-not-configured",
            Self::Failed => "failed",
            Self::NeverReady { .. } => "never-ready",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Vanished { .. } => "vanished",
            Self::StillListed { .. } => "still-listed",
            Self::RequestAbandoned => "request-abandoned",
            Self::Ordered(_) => "ordered",
        }
    }
}

/// One machine to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provision {
    /// Its name; creating the same name twice gives one machine.
    pub name: MachineName,
    /// Its type.
    #[serde(rename = "type")]
    pub machine_type: MachineType,
    /// Whether it failed before.
    pub attempt: Attempt,
}

/// Whether a machine is asked for anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attempt {
    /// For the first time.
    First,
    /// Creating it has failed, or its answer was lost.
    Again,
}

/// One machine to release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Which.
    pub name: MachineName,
    /// Stopped or destroyed.
    pub how: ReleaseHow,
    /// Why.
    pub reason: ReleaseReason,
    /// What comes next.
    pub step: ReleaseStep,
}

/// An odd thing that does not stop the planning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Warning {
    /// Steps wait that no pool builds.
    NoPoolFor {
        /// What they need.
        kind: DemandKey,
        /// How many.
        runnable: u64,
    },
    /// A machine of ours is not in its provider's listing.
    Missing {
        /// Which.
        name: MachineName,
        /// For how long.
        missing_for: Seconds,
    },
    /// A ready machine does not work.
    Unhealthy {
        /// Which.
        name: MachineName,
        /// What is wrong.
        what: Unhealthy,
    },
    /// Most machines of a type do not work in the same way.
    CommonCause {
        /// The type.
        machine_type: MachineType,
    },
    /// An operation failed and will be tried again.
    Failing {
        /// The machine.
        name: MachineName,
        /// The operation.
        operation: Operation,
        /// In its provider's words.
        error: String,
        /// When it is tried again.
        retry_at: Timestamp,
    },
    /// What a provider lists that is not ours.
    NotOurs {
        /// Its name there.
        name: MachineName,
    },
    /// Our state cannot be written down: nothing is created or released.
    NoStorage {
        /// Why.
        reason: String,
    },
    /// Two machines of one name: only the first is looked at, and it is not released.
    DuplicateMachine {
        /// The name.
        name: MachineName,
    },
    /// What a machine's provider tells of it that cannot be used.
    Machine {
        /// The machine.
        name: MachineName,
        /// What, and what became of it.
        problem: String,
    },
    /// A policy that the configuration check would have refused.
    MinAboveMax {
        /// The pool; its maximum counts.
        machine_type: MachineType,
    },
    /// Machines of a type could not be listed.
    Unlisted {
        /// The type.
        machine_type: MachineType,
        /// The provider's error.
        reason: String,
    },
    /// The queue status is unavailable.
    QueueUnavailable {
        /// Why.
        reason: String,
    },
    /// What the queue adapter found odd.
    Queue {
        /// In its words.
        message: String,
    },
}

//! The plan, as data: verdicts and actions. The reconciler has nothing to decide.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::endpoint::Host;
use crate::health::Unhealthy;
use crate::memory::{Operation, Progress, StepsBuilt};
use crate::names::{MachineName, MachineType};
use crate::orders::{Order, OrderKind};
use crate::policy::defaults;
use crate::release::ReleaseStep;
use crate::sizing::{LimitReached, Outdated, Sizing};
use crate::snapshot::{AcceptsJobs, DemandKey};
use crate::time::{Seconds, Timestamp};

/// The result of one planning. The fields from `provision` to `release` are the actions. Their order does not matter: a
/// release waits until a publication has ended, not until this plan's begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How many machines each type is allowed, and why.
    pub sizing: BTreeMap<MachineType, Sizing>,
    /// One verdict on each machine of the snapshot.
    pub verdicts: BTreeMap<MachineName, Verdict>,
    /// Machines to create. The first plan that names one makes the reconciler record the intent. The next plan, made when the
    /// intent is on disk, names it again, and only then the provider is called.
    pub provision: Vec<Provision>,
    /// Stopped machines to start again.
    pub start: Vec<MachineName>,
    /// Machines that are up, to deploy and check.
    pub deploy: Vec<MachineName>,
    /// Machines that are ready and may get builds: the content of the machines file.
    pub publish: Vec<MachineName>,
    /// Machines to release, each with its next step.
    pub release: Vec<Release>,
    /// Machines that a queue status shows for the first time since they were created or started.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recognized: BTreeSet<MachineName>,
    /// Machines that the queue runner lists as disabled although the machines file names them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled_though_published: BTreeSet<MachineName>,
    /// The queue runner's counts of the machines' steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub built: BTreeMap<MachineName, StepsBuilt>,
    /// Since when machines have built without finishing a step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<MachineName, Progress>,
    /// Machines that are ready but unhealthy.
    pub unhealthy: BTreeMap<MachineName, Unhealthy>,
    /// The operator's orders that are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// Unexpected things that someone should check.
    pub warnings: Vec<Warning>,
    /// When the plan changes without an event: an idle timeout, a back-off or paid time ends. `None`: never.
    pub wake_at: Option<Timestamp>,
}

/// The decision on one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The queue or `minMachines` needs it.
    InUse,
    /// It is not used now, but it stays.
    Keep {
        /// Why it stays.
        reason: KeepReason,
        /// Whether it may get new builds meanwhile. `Yes` also ends a release that has begun.
        accepts_jobs: AcceptsJobs,
    },
    /// It is released, once it is drained.
    Release {
        /// Stopped or destroyed.
        how: ReleaseHow,
        /// Why it is released.
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

/// Why a machine that is not used now stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeepReason {
    /// Its provider could not list its machines: what cannot be observed is not touched.
    ProviderUnavailable,
    /// The queue status is unavailable: nothing irreversible is done.
    QueueUnavailable,
    /// Much of its time is already paid for, so it is used.
    MuchPaidTimeLeft {
        /// How much.
        left: Seconds,
        /// The pool's `useWhilePaid`. Recordings of versions without that setting do not have it.
        #[serde(default = "defaults::use_while_paid")]
        enough: Seconds,
    },
    /// Another machine has the same name: a release by name could hit the wrong one.
    DuplicateName,
    /// The queue runner does not list it by any name that we know, and shows a builder that is neither ours nor in
    /// `otherMachines`: a busy one, or (REST, after a failed stop of its builder) any.
    MayBeBuilder {
        /// The queue runner's name for that builder.
        builder: Host,
    },
    /// REST: it is listed only under a host name that the machine itself has not confirmed (its deployment
    /// asks for it), and may be this busy builder.
    UnconfirmedName {
        /// The builder's host.
        builder: Host,
    },
    /// Classic: the queue runner lists it only as disabled although the machines file named it, so it may know it by
    /// another name, that of this busy builder.
    MayBeRenamed {
        /// The builder's host.
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
    /// Its provider is about to interrupt it; its running builds may still finish in time.
    Interrupted {
        /// How many steps.
        jobs: u64,
    },
    /// It is to be replaced, and what it builds may end.
    Outdated {
        /// How many steps.
        jobs: u64,
        /// Why it is replaced.
        why: Outdated,
    },
    /// It was used within the idle timeout.
    RecentlyUsed {
        /// Time since then.
        idle_for: Seconds,
        /// The pool's idle timeout. Recordings of earlier versions have its former name.
        #[serde(alias = "grace_period", alias = "gracePeriod")]
        idle_timeout: Seconds,
    },
    /// The queue runner was started a short while ago and may not know all its steps yet.
    QueueRunnerJustStarted {
        /// Time since then.
        uptime: Seconds,
    },
    /// It is idle, but its time is paid for: it is released shortly before that ends.
    SomePaidTimeLeft {
        /// How much.
        left: Seconds,
        /// The pool's `keepWhilePaid`. Recordings of versions without that setting do not have it.
        #[serde(default = "defaults::keep_while_paid")]
        enough: Seconds,
    },
    /// It is off. `stopOnIdle` keeps it until it is needed.
    StoppedInReserve,
    /// It is needed, but a shared resource has no room for it now.
    NoRoom,
    /// It is needed, but a limit prevents it now.
    Limit(LimitReached),
    /// The operator ordered to keep it.
    Ordered(Order),
    /// The operator has paused its type.
    Paused(Order),
}

/// How a machine is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseHow {
    /// Its disk is kept.
    Stop,
    /// Nothing is kept.
    Destroy,
}

/// Why a machine is released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseReason {
    /// It is idle, and more machines exist than are allowed.
    Idle {
        /// For how long, if known.
        idle_for: Option<Seconds>,
    },
    /// It is off, and its type destroys idle machines.
    StoppedUnwanted,
    /// It is off, and `maxMachines` others of its type exist or are in reserve.
    ReserveFull,
    /// Its type is not in the policy any more.
    TypeNotConfigured,
    /// The provider reports that it has failed permanently.
    Failed,
    /// It is not ready, its operations keep failing, and it builds nothing.
    NeverReady {
        /// For how long.
        failing_for: Seconds,
    },
    /// It was ready, but has been unhealthy for too long.
    Unhealthy {
        /// What is wrong.
        what: Unhealthy,
        /// For how long.
        unhealthy_for: Seconds,
    },
    /// Its provider does not list it any more: destroyed to be sure that it is gone.
    Vanished {
        /// For how long.
        missing_for: Seconds,
    },
    /// It was destroyed, and its provider still lists it.
    StillListed {
        /// When it was destroyed.
        since: Timestamp,
    },
    /// It was requested, never listed, and is no longer needed: destroyed to be sure that it is gone.
    RequestAbandoned,
    /// Its provider is about to interrupt it.
    Interrupted {
        /// When the interruption was announced.
        at: Timestamp,
    },
    /// It is replaced by a new machine.
    Outdated(Outdated),
    /// The operator ordered to drain or release it.
    Ordered(Order),
}

impl ReleaseReason {
    /// The action: `drain` for a machine that stays, but gets no builds.
    pub fn verb(&self, how: ReleaseHow) -> &'static str {
        match (self, how) {
            (Self::Ordered(Order { kind: OrderKind::Drain(_), .. }), _) => "drain",
            (_, ReleaseHow::Stop) => "stop",
            (_, ReleaseHow::Destroy) => "destroy",
        }
    }

    /// A short name for metrics.
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
            Self::Interrupted { .. } => "interrupted",
            Self::Outdated(_) => "outdated",
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

/// Whether an operation on the machine to create has failed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attempt {
    /// No: it is new, its intent was just recorded, or a crash hides how its creation ended.
    First,
    /// Yes: its creation has failed or exceeded its time limit.
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
    /// The next step.
    pub step: ReleaseStep,
}

/// An unexpected thing that does not stop the planning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Warning {
    /// No pool can build these steps.
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
    /// A ready machine is unhealthy.
    Unhealthy {
        /// Which.
        name: MachineName,
        /// What is wrong.
        what: Unhealthy,
    },
    /// Most machines of a type are unhealthy in the same way.
    CommonCause {
        /// The type.
        machine_type: MachineType,
    },
    /// An operation failed and will be retried.
    Failing {
        /// The machine.
        name: MachineName,
        /// The operation.
        operation: Operation,
        /// The provider's message.
        error: String,
        /// When it is retried.
        retry_at: Timestamp,
    },
    /// A provider lists a machine that is not ours.
    NotOurs {
        /// Its name there.
        name: MachineName,
    },
    /// Our state cannot be recorded: nothing is created or released.
    NoStorage {
        /// Why.
        reason: String,
    },
    /// Two machines have the same name: only the first is used, and neither is released.
    DuplicateMachine {
        /// The name.
        name: MachineName,
    },
    /// A value that a machine's provider reports and that cannot be used.
    Machine {
        /// The machine.
        name: MachineName,
        /// Which value, and how it was handled.
        problem: String,
    },
    /// A policy that the configuration check rejects.
    MinAboveMax {
        /// The pool. Its `maxMachines` is used.
        machine_type: MachineType,
    },
    /// Machines of a type could not be listed.
    #[serde(alias = "unlisted")]
    Unlistable {
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
    /// The queue adapter found something unexpected.
    Queue {
        /// Its message.
        message: String,
    },
}

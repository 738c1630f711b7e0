//! What was observed, all at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::Host;
use crate::experience::Experience;
use crate::memory::{BackOff, Memory, Sequence};
use crate::names::{Feature, MachineName, MachineType, System, Tag};
use crate::orders::Order;
use crate::plan::AcceptsJobs;
use crate::time::{Seconds, Timestamp};

/// All that one cycle observed, with its one timestamp (read before anything else, so that times err
/// towards keeping a machine).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// When the observation began.
    pub taken_at: Timestamp,
    /// Every machine of our tag, with recorded intents to create as [`MachineState::Requested`].
    pub machines: Vec<Machine>,
    /// Machine types whose machines could not be listed, with the reason. Their machines above are the
    /// ones last seen. Nothing is created or released there.
    #[serde(default)]
    pub unlisted: BTreeMap<MachineType, String>,
    /// What machines share and may not use up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Types whose creations failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub back_off: BTreeMap<MachineType, BackOff>,
    /// What earlier machines of the types have shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub experience: BTreeMap<MachineType, Experience>,
    /// What providers list that is not ours: left alone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_ours: BTreeSet<MachineName>,
    /// What the operator has said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// Why our state cannot be written down now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_error: Option<String>,
    /// What the queue runner said.
    pub queue: QueueStatus,
    /// The moment when it was asked for.
    #[serde(default)]
    pub queue_asked: Sequence,
    /// When that was, by our clock; `None`: at `taken_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_asked_at: Option<Timestamp>,
}

impl Snapshot {
    /// What the operator has said and still counts.
    pub(crate) fn orders_in_force(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(|order| order.is_in_force(self.taken_at))
    }

    /// No machines, and nothing to remember.
    pub fn new(taken_at: Timestamp, queue: QueueStatus) -> Self {
        Self {
            taken_at,
            machines: Vec::new(),
            unlisted: BTreeMap::new(),
            resources: Vec::new(),
            back_off: BTreeMap::new(),
            experience: BTreeMap::new(),
            not_ours: BTreeSet::new(),
            orders: Vec::new(),
            storage_error: None,
            queue,
            queue_asked: Sequence(0),
            queue_asked_at: None,
        }
    }
}

/// Something that running machines share: a host's memory, a quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    /// What it is, with its unit and its whole amount: `MiB of this host's 4096 for machines`.
    pub name: String,
    /// How much of it no running machine uses.
    pub free: u64,
    /// How much of it one running machine of a type needs; types that are not here need none.
    pub needs: BTreeMap<MachineType, u64>,
}

/// A build machine as its provider describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// Unique within the tag.
    pub name: MachineName,
    /// The type it was created for; it may have left the policy since.
    #[serde(rename = "type")]
    pub machine_type: MachineType,
    /// What the provider says of it.
    pub state: MachineState,
    /// Host name or address for ssh, once known.
    #[serde(default)]
    pub address: Option<Host>,
    /// What the machine calls itself: the key of Hydra's REST status.
    #[serde(default)]
    pub host_name: Option<Host>,
    /// Who Nix logs in as.
    #[serde(default = "default_ssh_user")]
    pub ssh_user: String,
    /// The ssh port.
    #[serde(default = "default_ssh_port")]
    pub ssh_port: u16,
    /// The whole public key line of the machine's ssh host key: `ssh-ed25519 AAAA...`.
    #[serde(default)]
    pub host_key: Option<String>,
    /// When it was started, if the provider tells.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When the next charge falls due; until then its time is paid for. `None`: charged by the second.
    #[serde(default)]
    pub next_charge_at: Option<Timestamp>,
    /// The tag that it carries by its provider's own word, where the provider tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What its provider tells of it that cannot be used, with the reason; copied into the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What we remember of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: Memory,
}

fn default_ssh_user() -> String {
    "root".to_owned()
}

fn default_ssh_port() -> u16 {
    22
}

impl Machine {
    /// A machine that is only asked for so far.
    pub fn requested(name: MachineName, machine_type: MachineType) -> Self {
        Self {
            name,
            machine_type,
            state: MachineState::Requested,
            address: None,
            host_name: None,
            ssh_user: default_ssh_user(),
            ssh_port: default_ssh_port(),
            host_key: None,
            started_at: None,
            next_charge_at: None,
            tag: None,
            problems: Vec::new(),
            memory: Memory::default(),
        }
    }

    /// How much paid time is left at `now`; zero when charged by the second.
    pub fn paid_time_left(&self, now: Timestamp) -> Seconds {
        self.next_charge_at.map_or(Seconds(0), |at| at.since(now))
    }
}

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// The intent to create it is recorded, no machine has been seen yet.
    Requested,
    /// The provider is making it.
    Creating,
    /// It is booting.
    Starting,
    /// It runs.
    Up,
    /// It runs, says the provider, but does not answer. A deployment may mend it.
    Unreachable,
    /// It is shutting down.
    Stopping,
    /// It is off; its disk is kept.
    Stopped,
    /// It is beyond repair.
    Failed,
}

impl MachineState {
    /// Whether builds may be running on it or its time is being paid for.
    pub fn is_live(self) -> bool {
        match self {
            Self::Creating | Self::Starting | Self::Up | Self::Unreachable => true,
            Self::Requested | Self::Stopping | Self::Stopped | Self::Failed => false,
        }
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Requested => "requested",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Unreachable => "unreachable",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

/// What the queue runner said, if it could be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum QueueStatus {
    /// It answered.
    Up(Queue),
    /// It is stopped, could not be asked, or its answer made no sense. The text says which.
    Unavailable(String),
}

/// The state of the queue runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Seconds since the queue runner was started.
    pub uptime: Seconds,
    /// When it made this answer, by *its* clock; `None` where it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Seconds that its clock is ahead of ours (negative: behind); 0 where that is not known. Every other time
    /// in here is by our clock already.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clock_offset_seconds: i64,
    /// What waits and what runs, one entry per kind of step.
    pub demand: Vec<Demand>,
    /// Steps of all kinds that could start at once, counted when the answer was made. The counts by kind may be
    /// older and count steps that were canceled since: this is the most that can be true of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable_total: Option<u64>,
    /// Runnable steps that no machine known to the queue runner can build.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unsupported_steps: u64,
    /// Steps under way beyond those that the machines' `current_jobs` tell of: their outputs are being copied
    /// from machines that no longer count them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub copying_steps: u64,
    /// The machines that the queue runner knows, ours and others.
    pub machines: Vec<QueueMachine>,
    /// What it calls them by.
    #[serde(default, skip_serializing_if = "MachineKeys::is_address")]
    pub keys: MachineKeys,
    /// What the adapter found odd in the answer; copied into the plan.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Queue {
    /// When it made this answer, by our clock; `None` where it does not tell.
    pub fn answered_at(&self) -> Option<Timestamp> {
        let ours = self.time?.0.checked_add_signed(self.clock_offset_seconds.checked_neg()?);
        ours.map(Timestamp)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a queue runner calls machines by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MachineKeys {
    /// The address in the machines file (classic).
    #[default]
    Address,
    /// What the machine calls itself (REST).
    HostName,
}

impl MachineKeys {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    fn is_address(&self) -> bool {
        *self == Self::Address
    }
}

/// A kind of step: what a machine must offer to build it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DemandKey {
    /// The system that the step is built on.
    pub system: System,
    /// The features that it requires.
    #[serde(default)]
    pub features: BTreeSet<Feature>,
}

/// `SYSTEM` or `SYSTEM:FEATURE,FEATURE`, as classic Hydra writes it.
impl fmt::Display for DemandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.system.fmt(f)?;
        for (i, feature) in self.features.iter().enumerate() {
            write!(f, "{}{feature}", if i == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

/// The steps of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Demand {
    /// Which kind.
    pub kind: DemandKey,
    /// Steps that wait for a machine; those being built do not count.
    #[serde(default)]
    pub runnable: u64,
    /// Steps being built.
    #[serde(default)]
    pub running: u64,
    /// When such a step last ran; `None` when never, or not told.
    #[serde(default)]
    pub last_active: Option<Timestamp>,
    /// How long the waiting steps have waited since they became runnable, in seconds, all added up; `None` where
    /// the queue runner does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
}

impl Demand {
    /// No steps of `kind`.
    pub fn none_of(kind: DemandKey) -> Self {
        Self { kind, runnable: 0, running: 0, last_active: None, wait_seconds: None }
    }
}

/// A machine as the queue runner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueMachine {
    /// Host name or address, without user, scheme, port and parameters.
    pub host: Host,
    /// The port, where the machine's key names one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Whether it could be given a step now: listed (classic), connected (REST).
    pub accepts_jobs: AcceptsJobs,
    /// Steps that it is building; 1 where the queue runner's count cannot be read: in doubt it is busy.
    pub current_jobs: u64,
    /// Since when it has had nothing to build; `None` while busy, when it never built, or not told.
    #[serde(default)]
    pub idle_since: Option<Timestamp>,
    /// Until when it gets no steps because of failures; `None` when it never failed. It may lie in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_until: Option<Timestamp>,
    /// Failures (to connect, for the classic queue runner) since it last worked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consecutive_failures: u64,
    /// When it last failed; `None` when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// Steps that it has finished; `None` where not told. A classic queue runner counts by address: a new machine
    /// at an old address goes on with the old one's numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_done: Option<u64>,
    /// How long those steps took together, copying included; `None` where not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_step_time: Option<Seconds>,
    /// How much of that was building.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_build_time: Option<Seconds>,
}

impl QueueMachine {
    /// A machine that has never built and would take a step now.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            port: None,
            accepts_jobs: AcceptsJobs::Yes,
            current_jobs: 0,
            idle_since: None,
            disabled_until: None,
            consecutive_failures: 0,
            last_failure: None,
            steps_done: None,
            total_step_time: None,
            total_build_time: None,
        }
    }
}

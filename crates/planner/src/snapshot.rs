//! What was observed, all at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::Host;
use crate::experience::Experience;
use crate::left_out::is_default;
use crate::memory::{BackOff, Memory, Sequence};
use crate::money::Money;
use crate::names::{Feature, MachineName, MachineType, System, Tag};
use crate::orders::Order;
use crate::time::{Seconds, Timestamp};

/// What one charge pays for.
pub(crate) const CHARGE_PERIOD: Seconds = Seconds::from_minutes(60);

/// All observations for one plan. The single timestamp is read before anything else, so that errors favor
/// keeping a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// When the observation began.
    pub taken_at: Timestamp,
    /// Every machine of our tag, with recorded intents to create as [`MachineState::Requested`].
    pub machines: Vec<Machine>,
    /// Types with machines of a provider that could not be listed, with the reason. Their machines above are the last known
    /// ones. Nothing of these types is created or released.
    #[serde(default, alias = "unlisted")]
    pub unlistable: BTreeMap<MachineType, String>,
    /// What machines share and may not use up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// The most that a new machine of a type may cost per hour, where its provider reports that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<MachineType, Money>,
    /// Types with failed creations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub back_off: BTreeMap<MachineType, BackOff>,
    /// Measurements of earlier machines, per type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub experience: BTreeMap<MachineType, Experience>,
    /// Names that providers list but that are not ours. They are ignored.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_ours: BTreeSet<MachineName>,
    /// The operator's orders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// Why our state cannot be recorded now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_error: Option<String>,
    /// The answer of the queue runner.
    pub queue: QueueStatus,
    /// The moment when it was requested.
    #[serde(default)]
    pub queue_asked: Sequence,
    /// When it was requested, by our clock; `None`: `taken_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_asked_at: Option<Timestamp>,
    /// A cautious estimate of how long the queue runner takes to answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue_latency: Seconds,
}

impl Snapshot {
    /// When what failed on `machine` is tried again.
    pub fn next_try(&self, machine: &Machine) -> Option<Timestamp> {
        let failing = machine.memory.failing.as_ref()?;
        Some(failing.next_try(self.back_off.get(&machine.machine_type)))
    }

    /// The operator's orders that are in force.
    pub(crate) fn orders_in_force(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(|order| order.is_in_force(self.taken_at))
    }

    /// A snapshot without machines and memory.
    pub fn new(taken_at: Timestamp, queue: QueueStatus) -> Self {
        Self {
            taken_at,
            machines: Vec::new(),
            unlistable: BTreeMap::new(),
            resources: Vec::new(),
            prices: BTreeMap::new(),
            back_off: BTreeMap::new(),
            experience: BTreeMap::new(),
            not_ours: BTreeSet::new(),
            orders: Vec::new(),
            storage_error: None,
            queue,
            queue_asked: Sequence(0),
            queue_asked_at: None,
            queue_latency: Seconds(0),
        }
    }
}

/// A resource that running machines share: a host's memory, a quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    /// Its name, with unit and total: `MiB of this host's 4096 for machines`.
    pub name: String,
    /// The unused amount.
    pub free: u64,
    /// The amount that one running machine of a type needs. Absent types need none.
    pub needs: BTreeMap<MachineType, u64>,
}

impl Resource {
    /// What one more machine of a type needs.
    pub(crate) fn need_of(&self, machine_type: &MachineType) -> u64 {
        self.needs.get(machine_type).copied().unwrap_or(0)
    }
}

/// A build machine as its provider describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// Unique within the tag.
    pub name: MachineName,
    /// The type it was created for. The type may have been removed from the policy since.
    #[serde(rename = "type")]
    pub machine_type: MachineType,
    /// The state that the provider reports.
    pub state: MachineState,
    /// Host name or address for ssh, once known.
    #[serde(default)]
    pub address: Option<Host>,
    /// The machine's own host name: its key in Hydra's REST status.
    #[serde(default)]
    pub host_name: Option<Host>,
    /// The user that Nix logs in as.
    #[serde(default = "default_ssh_user")]
    pub ssh_user: String,
    /// The ssh port.
    #[serde(default = "default_ssh_port")]
    pub ssh_port: u16,
    /// The public key line of the machine's ssh host key: `ssh-ed25519 AAAA...`.
    #[serde(default)]
    pub host_key: Option<String>,
    /// When it was started, if the provider reports it.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When the next charge is due, by the provider's clock. Its time is paid for until then. `None`: charged by the second.
    #[serde(default)]
    pub next_charge_at: Option<Timestamp>,
    /// Its price per hour, if its provider reports that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour: Option<Money>,
    /// The digest of the settings that it was made from, if its provider reports that.
    #[serde(default, alias = "settings", skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// Whether its provider would create it from another image or with other ssh keys now. Only reported for types that are
    /// watched for that (`replaceOnChange`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub has_old_image: bool,
    /// The tag that the provider reports for it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Whether its provider has announced an interruption: a spot machine with its notice.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interrupted: bool,
    /// Values from its provider that cannot be used, with the reason. They are copied into the plan.
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
    /// A machine that is only requested so far.
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
            dollars_per_hour: None,
            made_from: None,
            has_old_image: false,
            tag: None,
            interrupted: false,
            problems: Vec::new(),
            memory: Memory::default(),
        }
    }

    /// When the next charge is due, by our clock.
    pub fn charge_at(&self) -> Option<Timestamp> {
        let at = self.next_charge_at?;
        Some(self.memory.charged.map_or(at, |charged| charged.correct(at)))
    }

    /// Until when its time is paid for at `now`. When the last listing is older than its next charge, each started hour
    /// since then counts as charged. When no listing showed it yet, and machines of its type are billed by the hour, its
    /// hours begin with the request.
    pub fn paid_until(&self, now: Timestamp, is_billed_by_hour: bool) -> Timestamp {
        let requested = self.memory.paid.filter(|_| is_billed_by_hour);
        let first_hour = requested.map(|paid| paid.since.after(CHARGE_PERIOD));
        let Some(at) = self.charge_at().or(first_hour) else { return now };
        let hours = now.since(at).0.div_ceil(CHARGE_PERIOD.0);
        at.after(Seconds(hours.saturating_mul(CHARGE_PERIOD.0)))
    }

    /// How much paid time is left at `now`; zero when charged by the second.
    pub fn paid_time_left(&self, now: Timestamp) -> Seconds {
        self.charge_at().map_or(Seconds(0), |at| at.since(now))
    }
}

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// The intent to create it is recorded. No machine has been seen yet.
    Requested,
    /// The provider is creating it.
    Creating,
    /// It is booting.
    Starting,
    /// It runs.
    Up,
    /// It runs according to the provider, but does not answer. A deployment may repair it.
    Unreachable,
    /// It is shutting down.
    Stopping,
    /// It is off; its disk is kept.
    Stopped,
    /// It has failed permanently.
    Failed,
}

impl MachineState {
    /// Whether it may run builds or costs money by time.
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

/// The answer of the queue runner, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum QueueStatus {
    /// Its answer.
    Up(Queue),
    /// It is stopped, did not answer, or its answer made no sense. The text says which.
    Unavailable(String),
}

/// The state of the queue runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Seconds since the queue runner was started.
    pub uptime: Seconds,
    /// When it created this answer, by *its* clock; `None` if it does not report that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Seconds that its clock is ahead of ours (negative: behind); 0 if not known. All other times here are
    /// by our clock.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clock_offset_seconds: i64,
    /// Waiting and running steps, one entry per kind of step.
    pub demand: Vec<Demand>,
    /// Steps of all kinds that could start now, counted when the answer was created. The counts by kind may
    /// be older and include steps that were canceled since; none of them can exceed this total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable_total: Option<u64>,
    /// Runnable steps that no machine known to the queue runner can build.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unsupported_steps: u64,
    /// Steps under way beyond the machines' `current_jobs`: their outputs are being copied from machines that
    /// no longer count them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub copying_steps: u64,
    /// The machines that the queue runner knows, ours and others.
    pub machines: Vec<QueueMachine>,
    /// How it identifies them.
    #[serde(default, skip_serializing_if = "MachineKeys::is_address")]
    pub keys: MachineKeys,
    /// Unexpected content of the answer. It is copied into the plan.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Queue {
    /// When it created this answer, by our clock; `None` if it does not report that.
    pub fn answered_at(&self) -> Option<Timestamp> {
        let ours = self.time?.0.checked_add_signed(self.clock_offset_seconds.checked_neg()?);
        ours.map(Timestamp)
    }
}

/// How a queue runner identifies machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MachineKeys {
    /// By the address in the machines file (classic).
    #[default]
    Address,
    /// By the machine's own host name (REST).
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
    /// Steps that wait for a machine; steps being built do not count.
    #[serde(default)]
    pub runnable: u64,
    /// Steps being built.
    #[serde(default)]
    pub running: u64,
    /// When such a step last ran; `None`: never, or not reported.
    #[serde(default)]
    pub last_active: Option<Timestamp>,
    /// Total time that the waiting steps have waited since they became runnable, in seconds; `None` if the
    /// queue runner does not report it.
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
    /// The port, if the machine's key contains one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Whether it can get a step now: in the machines file that was read (classic), connected (REST).
    pub accepts_jobs: AcceptsJobs,
    /// Steps that it is building. 1 if the queue runner's count cannot be read: in doubt it is busy.
    pub current_jobs: u64,
    /// Since when it has had nothing to build; `None`: busy, never built, or not reported.
    #[serde(default)]
    pub idle_since: Option<Timestamp>,
    /// It gets no steps until then because of failures; `None`: it never failed. It may be in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_until: Option<Timestamp>,
    /// Failures since its last success (classic: failed connections).
    #[serde(default, skip_serializing_if = "is_default")]
    pub consecutive_failures: u64,
    /// When it last failed; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// Steps that it has finished; `None` if not reported. A classic queue runner counts by address: a new
    /// machine at a reused address continues the count of its predecessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_done: Option<u64>,
    /// Total time of those steps, copying included; `None` if not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_step_time: Option<Seconds>,
    /// The part of it that was building.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_build_time: Option<Seconds>,
}

impl QueueMachine {
    /// A machine that has never built and could get a step now.
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

/// Whether a machine can get new builds: the machines file lists it (classic), or its builder runs (REST).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptsJobs {
    /// New builds may start on it.
    Yes,
    /// Only the builds that already run there continue.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spending::Paid;

    #[test]
    fn each_started_hour_after_the_last_listing_is_paid() {
        let machine = |charge| Machine {
            next_charge_at: charge,
            ..Machine::requested(MachineName::new("farm-0"), MachineType::new("x86_64-linux"))
        };
        let at = |second: u64| Timestamp(1_000_000 + second);
        for (charge, now, until) in [
            (None, 50, 50),
            (Some(3600), 0, 3600),
            (Some(3600), 3600, 3600),
            (Some(3600), 3601, 7200),
            (Some(3600), 7200, 7200),
            (Some(3600), 7201, 10_800),
        ] {
            let paid_until = machine(charge.map(at)).paid_until(at(now), false);
            assert_eq!(paid_until, at(until), "next charge {charge:?}, now {now}");
        }
        let mut requested = machine(None);
        requested.memory.paid = Some(Paid { since: at(0), dollars_per_hour: None });
        for (now, until) in [(50, 3600), (3601, 7200)] {
            assert_eq!(requested.paid_until(at(now), true), at(until), "now {now}");
            assert_eq!(requested.paid_until(at(now), false), at(now), "now {now}");
        }
    }
}

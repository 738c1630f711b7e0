//! Which machine in the queue status is which of ours. The queue runner knows machines by address (classic) or by host name
//! (REST), not by our names.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::copying::jobs;
use crate::endpoint::{Host, ports_fit};
use crate::host_pattern::HostPattern;
use crate::memory::{InMachinesFile, Memory, StepsBuilt};
use crate::snapshot::{
    AcceptsJobs, Machine, MachineKeys, MachineState, Queue, QueueMachine, QueueStatus,
};
use crate::time::{Seconds, Timestamp};

/// Both queue runners' name for their own host.
const LOCAL_HOST: &str = "localhost";
/// REST: how long a builder that could not be stopped may take to register again, for example under a new host name.
pub(crate) const REREGISTRATION_TIMEOUT: Seconds = Seconds::from_minutes(10);

/// The queue runner's machines, sorted by host.
pub(crate) struct QueueMachines<'a> {
    /// `None` while the status is unavailable.
    queue: Option<&'a Queue>,
    /// Each with its host, so that a search needs no other lookup.
    by_host: Vec<(&'a Host, &'a QueueMachine)>,
    unknown_builders: UnknownBuilders<'a>,
    addresses: Addresses,
}

/// The endpoints of listed machines, by address and by host name, and since when; sorted.
struct Addresses(Vec<(Host, u16, Timestamp)>);

impl Addresses {
    /// Those of `machines`; empty if none is missing, since only missing machines are looked up.
    fn of(machines: &[Machine]) -> Self {
        let (missing, listed): (Vec<_>, Vec<_>) =
            machines.iter().partition(|machine| machine.memory.missing.is_some());
        if missing.is_empty() {
            return Self(Vec::new());
        }
        let running = listed.into_iter().filter(|machine| machine.state.is_live());
        let mut addresses = Vec::new();
        for machine in running {
            let Some(since) = machine.started_at.or(machine.memory.ready_since) else { continue };
            let hosts = machine.address.iter().chain(&machine.host_name);
            addresses.extend(hosts.map(|host| (host.clone(), machine.ssh_port, since)));
        }
        addresses.sort_unstable();
        Self(addresses)
    }

    /// Whether the endpoint of a missing machine is now that of a machine that was created later. Addresses
    /// are reused, and the jobs there are not the missing machine's.
    fn were_reused(&self, machine: &Machine, (host, port): (&Host, Option<u16>)) -> bool {
        let first = self.0.partition_point(|(other, ..)| other < host);
        let mut there = self.0[first..].iter().take_while(|(other, ..)| other == host);
        let was_there = machine.started_at.max(machine.memory.ready_since);
        machine.memory.missing.is_some()
            && there.any(|(_, other, since)| {
                ports_fit(port, Some(*other)) && was_there.is_some_and(|at| at < *since)
            })
    }
}

/// Builders that are neither ours nor the operator's. Each may be a machine of ours under a name that we do not know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnknownBuilders<'a> {
    /// The first busy one by name.
    busy: Option<&'a Host>,
    /// REST: the first busy builder that is one of ours only by the word of a provider, because the machine itself has not been
    /// asked for its host name yet.
    unasked: Option<&'a Host>,
    /// The first of all unknown builders, including idle ones.
    any: Option<&'a Host>,
    /// How the queue runner identifies machines.
    keys: MachineKeys,
}

impl<'a> UnknownBuilders<'a> {
    /// Those of `queue`, sorted `by_host`; `ours` are our machines and `others` the operator's.
    fn of(
        queue: &'a Queue,
        by_host: &[(&'a Host, &'a QueueMachine)],
        ours: &[Machine],
        others: &[HostPattern],
    ) -> Self {
        let names = OnceCell::new();
        let names = || -> &BTreeSet<Host> {
            names.get_or_init(|| ours.iter().map(|m| Host::new(m.name.as_str())).collect())
        };
        let local = Host::new(LOCAL_HOST);
        // An `updateCommand` may name a machine by its name: it is ours, whatever pattern matches it.
        let has_our_name = |host: &Host| {
            let text = host.to_string();
            let label = text.split('.').next().unwrap_or_default();
            names().contains(host) || names().contains(&Host::new(label))
        };
        let is_other = |host: &Host| {
            *host == local || others.iter().any(|other| other.matches(host)) && !has_our_name(host)
        };
        let is_ours = are_of(by_host, ours.iter());
        let mut unknown = by_host
            .iter()
            .zip(&is_ours)
            .filter(|((host, _), is_ours)| !**is_ours && !is_other(host))
            .map(|(entry, _)| *entry)
            .peekable();
        let any = unknown.peek().map(|(host, _)| *host);
        let is_busy = |(_, entry): &(&Host, &QueueMachine)| jobs(queue, entry) > 0;
        let busy = unknown.find(is_busy).map(|(host, _)| host);
        let unasked = match queue.keys {
            MachineKeys::Address => None,
            MachineKeys::HostName => {
                // Two providers' words may be mixed up: without the machines' own, either may be the busy one.
                let asked = ours.iter().filter(|machine| machine.memory.ready_since.is_some());
                let is_asked = are_of(by_host, asked);
                let mut ours = by_host.iter().zip(is_ours.iter().zip(&is_asked));
                ours.find(|(entry, (is_ours, is_asked))| **is_ours && !**is_asked && is_busy(entry))
                    .map(|((host, _), _)| *host)
            }
        };
        Self { busy, unasked, any, keys: queue.keys }
    }

    /// The unknown builder that `machine` may be. `found` is the entry of `machine` under its known names.
    fn may_be_builder(
        self,
        machine: &Machine,
        found: Option<SeenInQueue>,
        now: Timestamp,
    ) -> Option<&'a Host> {
        let memory = &machine.memory;
        if found.is_none()
            && self.keys == MachineKeys::HostName
            && may_have_reregistered(memory, now)
        {
            return self.any;
        }
        // The unknown builder is another machine if ours has been identified. REST: only once its builder was asked to stop;
        // until then it may register again under another name.
        // A line that the queue runner does not use says nothing: it may know the machine by another name.
        let is_used =
            !memory.disabled_though_published && !is_disabled_though_published(memory, found);
        let is_known = memory.was_in_queue_status
            && match self.keys {
                MachineKeys::Address => is_used,
                MachineKeys::HostName => memory.leaving.is_some_and(|it| it.drained.is_some()),
            };
        // Until the machine confirms its host name, that may be the name of another, idle builder.
        let is_confirmed = match self.keys {
            MachineKeys::Address => is_used || found.is_some_and(SeenInQueue::is_in_use),
            MachineKeys::HostName => memory.ready_since.is_some() && !memory.name_is_unconfirmed,
        };
        // A machine that builds under a known name is not the unknown builder as well.
        let unknown_is_another =
            is_known || found.is_some_and(|seen| seen.jobs > 0 || is_confirmed);
        let unasked = self.unasked.filter(|_| found.is_some() && memory.ready_since.is_none());
        let busy = self.busy.or(unasked);
        busy.filter(|_| may_build(machine.state) && !unknown_is_another)
    }
}

/// For each entry of the queue runner, sorted `by_host`, whether it may be one of `machines`.
fn are_of<'m>(
    by_host: &[(&Host, &QueueMachine)],
    machines: impl Iterator<Item = &'m Machine>,
) -> Vec<bool> {
    let mut are = vec![false; by_host.len()];
    for (host, port) in machines.flat_map(endpoints) {
        let first = by_host.partition_point(|(other, _)| *other < host);
        let with_its_host = by_host[first..].iter().zip(&mut are[first..]);
        for ((_, entry), is_it) in with_its_host.take_while(|((other, _), _)| *other == host) {
            *is_it |= ports_fit(port, entry.port);
        }
    }
    are
}

/// Whether the queue runner lists a machine as disabled and idle although the machines file names it (classic).
pub(crate) fn is_disabled_though_published(memory: &Memory, seen: Option<SeenInQueue>) -> bool {
    memory.published_since.is_some()
        && memory.in_machines_file == InMachinesFile::Now
        && seen.is_some_and(|seen| !seen.is_in_use())
}

/// Whether a builder that was to be stopped may have registered again under another name, and may build soon.
/// Only for a limited time: another owner's idle builder is no reason to keep an unreachable machine.
fn may_have_reregistered(memory: &Memory, now: Timestamp) -> bool {
    let tried = memory.leaving.is_some_and(|leaving| leaving.drained.is_some());
    let failed = memory.failing.as_ref().filter(|failing| failing.operation.stops_builds());
    tried && failed.is_some_and(|failing| now < failing.since.after(REREGISTRATION_TIMEOUT))
}

/// A machine that is not created yet builds nothing, and one that is off has ended its builds. In all other
/// states the provider's report may be late.
fn may_build(state: MachineState) -> bool {
    match state {
        MachineState::Starting
        | MachineState::Up
        | MachineState::Unreachable
        | MachineState::Stopping
        | MachineState::Failed => true,
        MachineState::Requested | MachineState::Creating | MachineState::Stopped => false,
    }
}

/// All entries of the queue runner for one machine, over all its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenInQueue {
    pub(crate) jobs: u64,
    pub(crate) accepts_jobs: AcceptsJobs,
    pub(crate) idle_since: Option<Timestamp>,
    /// The queue runner gives it no builds until then.
    pub(crate) disabled_until: Option<Timestamp>,
    pub(crate) built: Option<StepsBuilt>,
}

impl<'a> QueueMachines<'a> {
    /// Those in `status`; `ours` are our machines and `others` the operator's.
    pub(crate) fn of_status(
        status: &'a QueueStatus,
        ours: &[Machine],
        others: &[HostPattern],
    ) -> Self {
        let QueueStatus::Up(queue) = status else {
            let unknown_builders = UnknownBuilders::default();
            let addresses = Addresses(Vec::new());
            return Self { queue: None, by_host: Vec::new(), unknown_builders, addresses };
        };
        let mut by_host: Vec<_> = queue.machines.iter().map(|entry| (&entry.host, entry)).collect();
        by_host.sort_by_key(|(host, _)| *host);
        let unknown_builders = UnknownBuilders::of(queue, &by_host, ours, others);
        let addresses = Addresses::of(ours);
        Self { queue: Some(queue), by_host, unknown_builders, addresses }
    }

    fn entries(&self, host: &Host) -> impl Iterator<Item = &'a QueueMachine> {
        let first = self.by_host.partition_point(|(other, _)| *other < host);
        let from_first = self.by_host[first..].iter();
        from_first.take_while(move |(other, _)| *other == host).map(|(_, entry)| *entry)
    }

    /// The unknown builder that `machine` may be at `now`. `found` is the entry of `machine` under its known
    /// names.
    pub(crate) fn may_be_builder(
        &self,
        machine: &Machine,
        found: Option<SeenInQueue>,
        now: Timestamp,
    ) -> Option<&'a Host> {
        self.unknown_builders.may_be_builder(machine, found, now)
    }

    /// Finds a machine by its address (classic Hydra; the port counts if the key names one), by its own host
    /// name (REST), and by every endpoint that was ever published for it. If several entries match (another
    /// user, an older entry), their jobs are added up: in doubt the machine stays.
    pub(crate) fn find(&self, machine: &Machine) -> Option<SeenInQueue> {
        let is_its = |place: &(&Host, _)| !self.addresses.were_reused(machine, *place);
        let endpoints: Vec<_> = endpoints(machine).filter(is_its).collect();
        let mut hosts: Vec<_> = endpoints.iter().map(|(host, _)| *host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        together(self.queue?, &endpoints, hosts.into_iter().flat_map(|host| self.entries(host)))
    }
}

/// Every endpoint that may identify `machine` in the queue runner.
fn endpoints(machine: &Machine) -> impl Iterator<Item = (&Host, Option<u16>)> {
    let now = machine.address.iter().chain(&machine.host_name);
    let published = machine.memory.published.iter().map(|endpoint| (&endpoint.host, endpoint.port));
    now.map(|host| (host, Some(machine.ssh_port))).chain(published)
}

/// As [`QueueMachines::find`], for one machine only: without sorting.
pub(crate) fn find_one(queue: &Queue, machine: &Machine) -> Option<SeenInQueue> {
    together(queue, &endpoints(machine).collect::<Vec<_>>(), queue.machines.iter())
}

/// Combines those of `entries` of `queue` that match one of `endpoints`.
fn together<'a>(
    queue: &Queue,
    endpoints: &[(&Host, Option<u16>)],
    entries: impl Iterator<Item = &'a QueueMachine>,
) -> Option<SeenInQueue> {
    let is_its = |entry: &&QueueMachine| {
        endpoints.iter().any(|(host, port)| **host == entry.host && ports_fit(*port, entry.port))
    };
    entries
        .filter(is_its)
        .map(|entry| SeenInQueue {
            jobs: jobs(queue, entry),
            accepts_jobs: entry.accepts_jobs,
            idle_since: entry.idle_since,
            disabled_until: entry.disabled_until,
            built: steps_built(entry),
        })
        .reduce(SeenInQueue::and)
}

/// A machine that has built nothing has no time yet.
fn steps_built(entry: &QueueMachine) -> Option<StepsBuilt> {
    let time = entry.total_step_time.or((entry.steps_done == Some(0)).then_some(Seconds(0)));
    entry.steps_done.zip(time).map(|(steps, time)| StepsBuilt { steps, time })
}

impl SeenInQueue {
    /// Whether it builds, or may get builds.
    pub(crate) fn is_in_use(self) -> bool {
        self.jobs > 0 || self.accepts_jobs == AcceptsJobs::Yes
    }

    fn and(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            accepts_jobs: if other.accepts_jobs == AcceptsJobs::Yes {
                AcceptsJobs::Yes
            } else {
                self.accepts_jobs
            },
            idle_since: self.idle_since.max(other.idle_since),
            disabled_until: self.disabled_until.max(other.disabled_until),
            built: self.built.zip(other.built).map(|(one, other)| StepsBuilt {
                steps: one.steps.saturating_add(other.steps),
                time: one.time.plus(other.time),
            }),
        }
    }
}

/// How many steps `machine` is building, or one while its outputs may be being copied, under any name that
/// the queue runner knows; `None` if it knows none.
pub fn jobs_of(queue: &Queue, machine: &Machine) -> Option<u64> {
    find_one(queue, machine).map(|seen| seen.jobs)
}

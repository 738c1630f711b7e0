//! Finds the provider's machines in the queue runner's list.

use std::collections::BTreeSet;

use crate::endpoint::{Endpoint, Host, ports_fit};
use crate::plan::AcceptsJobs;
use crate::snapshot::{Machine, MachineKeys, MachineState, Queue, QueueMachine, QueueStatus};
use crate::time::Timestamp;

/// The queue runner's machines, sorted by host.
pub(crate) struct QueueMachines<'a> {
    /// Each with its host beside it, where a search finds it without a look elsewhere.
    by_host: Vec<(&'a Host, &'a QueueMachine)>,
    unknown_builders: UnknownBuilders,
}

/// Whether a queue runner's list would show that a machine builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// It is in the list, or would be by a name that we know, or nobody builds whom we do not know.
    Visible,
    /// It may be one of those that build under names that we do not know.
    Hidden,
}

/// What the builders do that a queue runner tells by names that are none of our machines'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownBuilders {
    Idle,
    Busy,
}

impl UnknownBuilders {
    /// Those of `queue`, where `ours` are our machines. A classic queue runner tells addresses, which we know.
    pub(crate) fn of<'a>(queue: &Queue, ours: impl IntoIterator<Item = &'a Machine>) -> Self {
        if queue.keys == MachineKeys::Address {
            return Self::Idle;
        }
        let known: BTreeSet<_> = ours.into_iter().flat_map(hosts).collect();
        let mut busy = queue.machines.iter().filter(|entry| entry.current_jobs > 0);
        if busy.any(|entry| !known.contains(&entry.host)) { Self::Busy } else { Self::Idle }
    }

    /// Whether `found`, what was found for `machine`, is all there can be. One that has never been up builds
    /// nothing.
    pub(crate) fn visibility(self, machine: &Machine, found: Option<SeenInQueue>) -> Visibility {
        let has_been_up = matches!(machine.state, MachineState::Up | MachineState::Unreachable);
        let is_known = machine.host_name.is_some() || found.is_some();
        if self == Self::Busy && has_been_up && !is_known {
            Visibility::Hidden
        } else {
            Visibility::Visible
        }
    }
}

/// All that the queue runner says of one machine, over every name it knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenInQueue {
    pub(crate) jobs: u64,
    pub(crate) accepts_jobs: AcceptsJobs,
    pub(crate) idle_since: Option<Timestamp>,
}

impl<'a> QueueMachines<'a> {
    /// Those that `status` tells of, where `ours` are our machines.
    pub(crate) fn of_status(status: &'a QueueStatus, ours: &[Machine]) -> Self {
        match status {
            QueueStatus::Up(queue) => Self::new(queue, UnknownBuilders::of(queue, ours)),
            QueueStatus::Unavailable(_) => {
                Self { by_host: Vec::new(), unknown_builders: UnknownBuilders::Idle }
            }
        }
    }

    fn new(queue: &'a Queue, unknown_builders: UnknownBuilders) -> Self {
        let mut by_host: Vec<_> = queue.machines.iter().map(|entry| (&entry.host, entry)).collect();
        by_host.sort_by_key(|(host, _)| *host);
        Self { by_host, unknown_builders }
    }

    fn entries(&self, host: &Host) -> impl Iterator<Item = &'a QueueMachine> {
        let first = self.by_host.partition_point(|(other, _)| *other < host);
        let from_first = self.by_host[first..].iter();
        from_first.take_while(move |(other, _)| *other == host).map(|(_, entry)| *entry)
    }

    /// Whether `found`, what was found for `machine`, is all there can be.
    pub(crate) fn visibility(&self, machine: &Machine, found: Option<SeenInQueue>) -> Visibility {
        self.unknown_builders.visibility(machine, found)
    }

    /// Looks a machine up by its address (classic Hydra, where the port counts if the key names one), by
    /// what it calls itself (REST), and by every place that was ever published for it. Where several entries
    /// fit (another user, an older entry), the machine is as busy as all of them together: in doubt it stays.
    pub(crate) fn find(&self, machine: &Machine) -> Option<SeenInQueue> {
        let hosts: BTreeSet<_> = hosts(machine).collect();
        together(machine, hosts.into_iter().flat_map(|host| self.entries(host)))
    }
}

/// Every name that the queue runner may know `machine` by.
fn hosts(machine: &Machine) -> impl Iterator<Item = &Host> {
    let published = machine.published.iter().map(|endpoint| &endpoint.host);
    machine.address.iter().chain(&machine.host_name).chain(published)
}

/// As [`QueueMachines::find`], for one machine only: without sorting.
pub(crate) fn find_one(queue: &Queue, machine: &Machine) -> Option<SeenInQueue> {
    let hosts: BTreeSet<_> = hosts(machine).collect();
    together(machine, queue.machines.iter().filter(|entry| hosts.contains(&entry.host)))
}

/// What those of `entries`, which have a host of `machine`'s, say that have a port of it too.
fn together<'a>(
    machine: &Machine,
    entries: impl Iterator<Item = &'a QueueMachine>,
) -> Option<SeenInQueue> {
    entries
        .filter(|entry| has_place(machine, entry))
        .map(|entry| SeenInQueue {
            jobs: entry.current_jobs,
            accepts_jobs: entry.accepts_jobs,
            idle_since: entry.idle_since,
        })
        .reduce(SeenInQueue::and)
}

/// Whether `entry` stands for a place of `machine`.
fn has_place(machine: &Machine, entry: &QueueMachine) -> bool {
    let is_now = machine.address.iter().chain(&machine.host_name).any(|host| *host == entry.host);
    let was = |published: &Endpoint| {
        published.host == entry.host && ports_fit(published.port, entry.port)
    };
    (is_now && ports_fit(Some(machine.ssh_port), entry.port)) || machine.published.iter().any(was)
}

impl SeenInQueue {
    fn and(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            accepts_jobs: if other.accepts_jobs == AcceptsJobs::Yes {
                AcceptsJobs::Yes
            } else {
                self.accepts_jobs
            },
            idle_since: self.idle_since.max(other.idle_since),
        }
    }
}

/// How many steps `machine` is building, by whatever name the queue runner knows it; `None` if by none.
pub fn jobs_of(queue: &Queue, machine: &Machine) -> Option<u64> {
    find_one(queue, machine).map(|seen| seen.jobs)
}

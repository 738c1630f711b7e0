//! Finds the provider's machines in the queue runner's list.

use crate::plan::AcceptsJobs;
use crate::snapshot::{Machine, Queue, QueueMachine, QueueStatus};
use crate::time::Timestamp;

/// The queue runner's machines, sorted by host.
pub(crate) struct QueueMachines<'a> {
    by_host: Vec<&'a QueueMachine>,
}

/// All that the queue runner says of one machine, over every name it knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenInQueue {
    pub(crate) jobs: u64,
    pub(crate) accepts_jobs: AcceptsJobs,
    pub(crate) idle_since: Option<Timestamp>,
}

impl<'a> QueueMachines<'a> {
    pub(crate) fn of_status(status: &'a QueueStatus) -> Self {
        match status {
            QueueStatus::Up(queue) => Self::new(queue),
            QueueStatus::Unavailable(_) => Self { by_host: Vec::new() },
        }
    }

    pub(crate) fn new(queue: &'a Queue) -> Self {
        let mut by_host: Vec<_> = queue.machines.iter().collect();
        by_host.sort_by(|a, b| a.host.cmp(&b.host));
        Self { by_host }
    }

    fn entries(&self, host: &str) -> impl Iterator<Item = &'a QueueMachine> {
        let first = self.by_host.partition_point(|entry| entry.host.as_str() < host);
        self.by_host[first..].iter().copied().take_while(move |entry| entry.host == host)
    }

    /// Looks a machine up by its address (classic Hydra, where the port counts if the key names one) and
    /// by what it calls itself (REST). Where several entries fit (another user, an older entry), the
    /// machine is as busy as all of them together: in doubt it stays.
    pub(crate) fn find(&self, machine: &Machine) -> Option<SeenInQueue> {
        let address = machine.address.as_deref();
        let host_name = machine.host_name.as_deref().filter(|name| Some(*name) != address);
        address
            .into_iter()
            .chain(host_name)
            .flat_map(|host| self.entries(host))
            .filter(|entry| entry.port.is_none_or(|port| port == machine.ssh_port))
            .map(|entry| SeenInQueue {
                jobs: entry.current_jobs,
                accepts_jobs: entry.accepts_jobs,
                idle_since: entry.idle_since,
            })
            .reduce(SeenInQueue::and)
    }
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
    QueueMachines::new(queue).find(machine).map(|seen| seen.jobs)
}

//! The REST queue runner's queues: one per system, sorted only when steps are inserted (`BuildQueue::insert_new_jobs`);
//! until then the order is that of the shares at the last sort.

use planner::{DemandKey, System};

use super::shares::Shares;

#[derive(Clone, Debug)]
pub(super) struct Systems {
    queues: Vec<SystemQueue>,
    /// By kind of step: the index of its system's queue.
    queue_of: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct SystemQueue {
    system: System,
    pub(super) kinds: Vec<u16>,
    /// By jobset: the share that it had used at the last sort.
    used: Vec<u64>,
    inserted: bool,
}

impl Systems {
    pub(super) fn new(kinds: &[DemandKey]) -> Self {
        let mut queues: Vec<SystemQueue> = Vec::new();
        for (at, kind) in (0_u16..).zip(kinds) {
            match queues.iter_mut().find(|queue| queue.system == kind.system) {
                Some(queue) => queue.kinds.push(at),
                None => queues.push(SystemQueue {
                    system: kind.system.clone(),
                    kinds: vec![at],
                    used: Vec::new(),
                    inserted: true,
                }),
            }
        }
        queues.sort_by(|a, b| a.system.cmp(&b.system));
        let queue_of = |kind: &DemandKey| queues.iter().position(|q| q.system == kind.system);
        let queue_of = kinds.iter().filter_map(queue_of).collect();
        Self { queues, queue_of }
    }

    /// Adds a step of that kind.
    pub(super) fn insert(&mut self, kind: u16) {
        let queue = self.queue_of.get(usize::from(kind)).copied();
        if let Some(queue) = queue.and_then(|at| self.queues.get_mut(at)) {
            queue.inserted = true;
        }
    }

    /// Sorts the queues with new steps.
    pub(super) fn sort(&mut self, shares: &Shares) {
        for queue in self.queues.iter_mut().filter(|queue| queue.inserted) {
            queue.inserted = false;
            shares.copy_used(&mut queue.used);
        }
    }

    /// The queues by system.
    pub(super) fn queues(&self) -> &[SystemQueue] {
        &self.queues
    }
}

impl SystemQueue {
    /// The share that a jobset had used at the last sort.
    pub(super) fn used(&self, jobset: u16) -> u64 {
        self.used.get(usize::from(jobset)).copied().unwrap_or(0)
    }
}

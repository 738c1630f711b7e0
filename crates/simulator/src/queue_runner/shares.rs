//! The share that each jobset has used (`Jobset::addStep`, `pruneSteps` and `shareUsed` of the C++ queue runner; the
//! Rust one does the same).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::engine::Millis;
use crate::workload::Jobset;

/// `schedulingWindow` in `state.hh`: older steps do not count.
const SCHEDULING_WINDOW: Millis = Millis::from_hours(24);

#[derive(Clone, Debug)]
pub(super) struct Shares {
    jobsets: Vec<Used>,
}

#[derive(Clone, Debug)]
struct Used {
    shares: u64,
    seconds: u64,
    /// Steps in the window: start and duration.
    steps: BinaryHeap<Reverse<(Millis, u64)>>,
}

impl Shares {
    pub(super) fn new(jobsets: &[Jobset]) -> Self {
        let new = |jobset: &Jobset| Used {
            shares: u64::from(jobset.shares.max(1)),
            seconds: 0,
            steps: BinaryHeap::new(),
        };
        Self { jobsets: jobsets.iter().map(new).collect() }
    }

    /// Counts a step that ended.
    pub(super) fn add(&mut self, jobset: u16, started: Millis, length: Millis) {
        let used = &mut self.jobsets[usize::from(jobset)];
        let seconds = length.whole_seconds();
        used.seconds += seconds;
        used.steps.push(Reverse((started, seconds)));
    }

    /// Removes what has left the window.
    pub(super) fn prune(&mut self, now: Millis) {
        for used in &mut self.jobsets {
            while let Some(Reverse((started, seconds))) = used.steps.peek() {
                if *started + SCHEDULING_WINDOW > now {
                    break;
                }
                used.seconds -= seconds;
                used.steps.pop();
            }
        }
    }

    /// Seconds used per share, in millionths; jobsets with less go first.
    pub(super) fn used(&self, jobset: u16) -> u64 {
        let used = &self.jobsets[usize::from(jobset)];
        used.seconds.saturating_mul(1_000_000) / used.shares
    }

    /// Like [`Self::used`], for all jobsets.
    pub(super) fn copy_used(&self, used: &mut Vec<u64>) {
        used.clear();
        used.extend((0..).take(self.jobsets.len()).map(|jobset| self.used(jobset)));
    }
}

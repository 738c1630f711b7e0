//! Steps that wait for a machine, in dispatch order.
//!
//! Within one jobset the order never changes; between jobsets it depends on the used shares, which change whenever a
//! step ends. So each kind of step has one heap per jobset, and only the heads are compared.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::engine::Millis;
use crate::workload::StepIndex;

/// The order of the steps of one jobset; the smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) global_priority: Reverse<i32>,
    /// The lower criteria in the order of the queue runner, negated if the largest goes first.
    pub(super) rest: [i64; 4],
    pub(super) step: StepIndex,
}

/// Waiting steps, each with the start of its wait.
pub(super) type Heap = BinaryHeap<Reverse<(Rank, Millis)>>;

#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// By kind: jobsets with waiting steps.
    by_kind: Vec<BTreeMap<u16, Heap>>,
    waiting: usize,
}

impl Ready {
    pub(super) fn new(kinds: usize) -> Self {
        Self { by_kind: vec![BTreeMap::new(); kinds], waiting: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn has(&self, kind: u16) -> bool {
        !self.by_kind[usize::from(kind)].is_empty()
    }

    pub(super) fn push(&mut self, kind: u16, jobset: u16, rank: Rank, since: Millis) {
        self.by_kind[usize::from(kind)].entry(jobset).or_default().push(Reverse((rank, since)));
        self.waiting += 1;
    }

    /// Takes the first step among `kinds`, by the share that its jobset has `used`.
    pub(super) fn pop_first(
        &mut self,
        kinds: &[u16],
        used: impl Fn(u16) -> u64 + Copy,
    ) -> Option<StepIndex> {
        let heads = kinds.iter().flat_map(|&kind| {
            self.by_kind[usize::from(kind)].iter().filter_map(move |(&jobset, heap)| {
                let Reverse((rank, _)) = heap.peek()?;
                let order = (rank.global_priority, used(jobset), rank.rest, rank.step);
                Some((order, kind, jobset))
            })
        });
        let (_, kind, jobset) = heads.min()?;
        let jobsets = &mut self.by_kind[usize::from(kind)];
        let heap = jobsets.get_mut(&jobset)?;
        let Reverse((rank, _)) = heap.pop()?;
        if heap.is_empty() {
            jobsets.remove(&jobset);
        }
        self.waiting -= 1;
        Some(rank.step)
    }

    /// Takes the steps of `kind` for which `is_taken` is true; its parameters are the step and the start of its wait.
    pub(super) fn take(
        &mut self,
        kind: u16,
        mut is_taken: impl FnMut(StepIndex, Millis) -> bool,
    ) -> Vec<StepIndex> {
        let mut taken = Vec::new();
        self.by_kind[usize::from(kind)].retain(|_, heap| {
            heap.retain(|Reverse((rank, since))| {
                let goes = is_taken(rank.step, *since);
                if goes {
                    taken.push(rank.step);
                }
                !goes
            });
            !heap.is_empty()
        });
        self.waiting -= taken.len();
        taken.sort_unstable();
        taken
    }
}

//! Estimates how long the waiting steps have waited if the queue runner does not report it: no classic release since
//! February 2023 does.
//!
//! From one status to the next, some waiting steps have started: as many as the running and built steps
//! increased by. They are assumed to have waited as long as the others. New steps have not waited yet.

use std::collections::BTreeMap;

use planner::{Demand, DemandKey, Queue, Timestamp};

/// What the last status reported, with the waits that follow from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits {
    at: Timestamp,
    kinds: BTreeMap<DemandKey, Kind>,
    /// Steps that all machines have built, and steps that were running.
    built: u64,
    running: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    waiting: u64,
    running: u64,
    waited_seconds: u64,
}

impl Waits {
    pub(crate) fn shift(&mut self, seconds: i64) {
        self.at = self.at.shifted(seconds);
    }

    /// Writes the waits of the last status into `queue`, where they were left out.
    pub(crate) fn restore(&self, queue: &mut Queue) {
        for demand in &mut queue.demand {
            let known = self.kinds.get(&demand.kind).map(|kind| kind.waited_seconds);
            demand.wait_seconds = demand.wait_seconds.or(known);
        }
    }

    /// Fills in the waits that `queue`, received at `now`, does not report.
    pub(crate) fn fill_in(&mut self, queue: &mut Queue, now: Timestamp) {
        let built = queue.machines.iter().filter_map(|machine| machine.steps_done);
        let built = built.fold(0, u64::saturating_add);
        let newly_built = built.saturating_sub(self.built);
        let length = now.since(self.at).0;
        let mut kinds = BTreeMap::new();
        for demand in &mut queue.demand {
            let before = self.kinds.get(&demand.kind).copied().unwrap_or_default();
            let its_built = part(newly_built, before.running, self.running);
            let estimate = before.waited_until(demand, its_built, length);
            let waited_seconds = *demand.wait_seconds.get_or_insert(estimate);
            let (waiting, running) = (demand.runnable, demand.running);
            kinds.insert(demand.kind.clone(), Kind { waiting, running, waited_seconds });
        }
        let running = queue.demand.iter().map(|demand| demand.running);
        let running = running.fold(0, u64::saturating_add);
        *self = Self { at: now, kinds, built, running };
    }
}

impl Kind {
    /// The total wait of the waiting steps of `demand`. Of its steps, `built` were built in the last `length`
    /// seconds.
    fn waited_until(self, demand: &Demand, built: u64, length: u64) -> u64 {
        let begun = demand.running.saturating_add(built).saturating_sub(self.running);
        let left = self.waiting.saturating_sub(begun).min(demand.runnable);
        part(self.waited_seconds, left, self.waiting).saturating_add(left.saturating_mul(length))
    }
}

/// `whole * share / all`, rounded down; 0 if `all` is 0.
fn part(whole: u64, share: u64, all: u64) -> u64 {
    let part = (u128::from(whole) * u128::from(share)).checked_div(u128::from(all)).unwrap_or(0);
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use planner::{Host, QueueMachine, System};

    use super::*;

    #[test]
    fn waits_grow_and_go_with_the_steps() {
        let mut waits = Waits::default();
        let mut wait = |at, runnable, running, built, reported| {
            let kind = DemandKey { system: System::new("x86_64-linux"), features: BTreeSet::new() };
            let demand =
                Demand { runnable, running, wait_seconds: reported, ..Demand::none_of(kind) };
            let machine =
                QueueMachine { steps_done: Some(built), ..QueueMachine::new(Host::new("m")) };
            let mut queue =
                Queue { demand: vec![demand], machines: vec![machine], ..Queue::default() };
            waits.fill_in(&mut queue, Timestamp(at));
            queue.demand[0].wait_seconds.unwrap()
        };
        assert_eq!(wait(1000, 10, 0, 0, None), 0, "nothing is known of before");
        assert_eq!(wait(1010, 10, 0, 0, None), 100);
        assert_eq!(wait(1020, 8, 2, 0, None), 160, "two have begun");
        assert_eq!(wait(1030, 8, 2, 2, None), 180, "two were built, two have begun, two are new");
        assert_eq!(wait(1040, 4, 0, 2, None), 130, "four are gone");
        assert_eq!(wait(1050, 4, 0, 2, Some(7)), 7, "a reported wait is used");
        assert_eq!(wait(1060, 4, 0, 2, None), 47);
        assert_eq!(wait(1070, 0, 4, 2, None), 0);
    }
}

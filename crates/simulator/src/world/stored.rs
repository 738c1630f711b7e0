//! Old answers of the queue runner: something between the queue runner and the provisioner stores them.

use planner::{Queue, QueueStatus, Timestamp};

use super::SimWorld;
use super::checker::LogEntry;
use crate::engine::Millis;

/// Chance, in millionths, that an answer is stored and may be given again.
const STORED: u32 = 100_000;
/// A stored answer with a time that differs by less than this from a live one's looks live too (`maxStatusAge` and a margin).
const LIVE: Millis = Millis::from_minutes(4);
/// How long all answers may stay the same.
const FROZEN_FOR: Millis = Millis::from_minutes(10);

/// A stored answer.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredAnswer {
    /// The answer, the provisioner's time when it was made, and when that was.
    answer: Option<(Queue, Timestamp, Millis)>,
    /// Every answer is the stored one until then.
    frozen_until: Millis,
}

impl SimWorld {
    /// The queue runner's answer, or a stored one.
    pub(super) fn answer_of_queue_runner(&mut self) -> QueueStatus {
        let is_frozen = self.in_trouble() && self.now() < self.stored.frozen_until;
        let is_stale = is_frozen || self.by_chance(self.farm.faults.stale_status);
        if is_stale
            && let Some((queue, then, at)) = &self.stored.answer
            && !self.looks_live(queue, *at)
        {
            let age = self.timestamp().0.cast_signed() - then.0.cast_signed();
            let old = as_if_new(queue.clone(), age);
            let now = self.now();
            self.checker.log(now, LogEntry::StaleStatus);
            return QueueStatus::Up(old);
        }
        let queue = self.fresh_answer();
        let freezes = self.by_chance(self.farm.faults.frozen_status);
        if freezes {
            let length = Millis(self.provisioner.rng.below(FROZEN_FOR.0));
            self.stored.frozen_until = self.now() + length;
        }
        let stores = self.farm.faults.stale_status > 0 && self.by_chance(STORED);
        if freezes || stores {
            self.stored.answer = Some((queue.clone(), self.timestamp(), self.now()));
        }
        QueueStatus::Up(queue)
    }

    /// Whether the queue runner's clock was set back by just the age of an answer of `at`: nothing tells it from a live one.
    fn looks_live(&self, queue: &Queue, at: Millis) -> bool {
        let live = self.queue_runner_time();
        let is_near = |stored: Timestamp| live.0.abs_diff(stored.0) <= LIVE.0 / 1000;
        self.now().since(at) > LIVE && queue.time.is_some_and(is_near)
    }
}

/// An answer of `age` seconds ago: its own time is what it was, so all other times in it seem to be later by its age.
fn as_if_new(mut queue: Queue, age: i64) -> Queue {
    queue.clock_offset_seconds -= age;
    for machine in &mut queue.machines {
        machine.idle_since = machine.idle_since.map(|at| at.shifted(age));
    }
    for demand in &mut queue.demand {
        demand.last_active = demand.last_active.map(|at| at.shifted(age));
    }
    queue
}

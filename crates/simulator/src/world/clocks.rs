//! Clocks that are set: the provisioner's and the queue runner's.

use planner::{Queue, Timestamp};
use reconciler::Event as LoopEvent;

use super::checker::{ClockOf, LogEntry};
use super::event::Event;
use super::{Farm, SimWorld};
use crate::engine::Millis;
use crate::queue_runner::Epoch;

/// How often a clock may be set at random.
const CLOCK_INTERVAL: Millis = Millis::from_minutes(5);
/// The largest error of a clock.
const MOST_SECONDS: u64 = 3600;

/// The errors of the clocks, in seconds: positive if ahead.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// Virtual time zero.
    begin: Epoch,
    provisioner: i64,
    queue_runner: i64,
    /// Whether the provisioner's was ever set.
    pub(super) was_set: bool,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { begin: Farm::EPOCH, provisioner: 0, queue_runner: 0, was_set: false }
    }
}

impl SimWorld {
    /// Virtual time zero is `begin`: to be called before anything happens.
    pub fn begin_at(&mut self, begin: Epoch) {
        self.clocks.begin = begin;
    }

    /// Virtual time zero.
    pub(super) fn epoch(&self) -> Epoch {
        self.clocks.begin
    }

    /// The time by the provisioner's clock.
    pub(super) fn timestamp(&self) -> Timestamp {
        self.provisioner_epoch().at(self.now())
    }

    /// The time by the queue runner's clock.
    pub(super) fn queue_runner_time(&self) -> Timestamp {
        self.epoch().at(self.now()).shifted(self.clocks.queue_runner)
    }

    /// Virtual time zero by the provisioner's clock.
    pub(super) fn provisioner_epoch(&self) -> Epoch {
        Epoch(self.epoch().0.shifted(self.clocks.provisioner))
    }

    pub(super) fn expect_clock_steps(&mut self) {
        if self.farm.faults.clock_steps > 0 {
            self.engine.schedule_in(CLOCK_INTERVAL, Event::MaySetClock);
        }
    }

    /// A clock may be set. When faults end, it stays as it is.
    pub(super) fn may_set_clock(&mut self) {
        if !self.in_trouble() {
            return;
        }
        self.engine.schedule_in(CLOCK_INTERVAL, Event::MaySetClock);
        if self.by_chance(self.farm.faults.clock_steps) {
            let rng = &mut self.provisioner.rng;
            let ahead = rng.below(2 * MOST_SECONDS).cast_signed() - MOST_SECONDS.cast_signed();
            let is_ours = rng.chance(500_000);
            self.set_clock(
                if is_ours { ClockOf::Provisioner } else { ClockOf::QueueRunner },
                ahead,
            );
        }
    }

    fn set_clock(&mut self, clock_of: ClockOf, ahead: i64) {
        let clock = match clock_of {
            ClockOf::Provisioner => &mut self.clocks.provisioner,
            ClockOf::QueueRunner => &mut self.clocks.queue_runner,
        };
        let seconds = ahead - std::mem::replace(clock, ahead);
        let now = self.now();
        self.checker.log(now, LogEntry::ClockSet(clock_of, seconds));
        if clock_of == ClockOf::Provisioner && seconds != 0 {
            self.clocks.was_set = true;
            if self.reconciler().is_some() {
                self.tell_first(LoopEvent::ClockStepped { seconds });
            }
        }
    }

    /// The queue runner's answer. The adapters convert its times to the provisioner's clock.
    pub(super) fn fresh_answer(&self) -> Queue {
        let now = self.now();
        let Clocks { provisioner, queue_runner, .. } = self.clocks;
        Queue {
            time: Some(self.queue_runner_time()),
            clock_offset_seconds: queue_runner - provisioner,
            ..self.queue_runner.status(now, self.provisioner_epoch())
        }
    }
}

//! The one clock: the system's time, told once and counted on from there, so that a step of the system's clock is
//! an event and not a surprise.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use planner::Timestamp;

/// A difference from the system's clock that is no mere drift.
const STEP: Duration = Duration::from_secs(2);

/// A clock that never jumps by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// The system's time then.
    at_start: Duration,
}

/// The system's time. One before 1970 is as wrong as it can be; zero makes every time "not over yet".
fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), at_start: system_time() }
    }

    fn time(&self) -> Duration {
        self.at_start + self.started.elapsed()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.time().as_secs())
    }

    /// How long until `at` has come.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_secs(at.0).saturating_sub(self.time())
    }

    /// Goes with the system's clock again if that was set; returns by how many seconds.
    pub(crate) fn step(&mut self) -> Option<i64> {
        let (ours, system) = (self.time(), system_time());
        if ours.abs_diff(system) <= STEP {
            return None;
        }
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        *self = Self::start();
        Some(seconds(system) - seconds(ours))
    }
}

/// The system's time, for what has no driver.
pub(crate) fn now() -> Timestamp {
    Timestamp(system_time().as_secs())
}

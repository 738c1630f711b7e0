//! The one clock: the system time, read once and advanced from there. So a step of the system clock becomes
//! an event.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use planner::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// A larger difference from the system clock is a step, not drift.
const STEP: Duration = Duration::from_secs(2);

/// A clock that never jumps on its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// The system time at the start.
    at_start: Duration,
}

/// The system time. A time before 1970 counts as zero, so that no time counts as past.
fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), at_start: system_time() }
    }

    /// One that is still to notice that the system clock was set back by `length`.
    #[cfg(test)]
    pub(crate) fn before_set_back(length: Duration) -> Self {
        Self { started: Instant::now(), at_start: system_time() + length }
    }

    fn time(&self) -> Duration {
        self.at_start + self.started.elapsed()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.time().as_secs())
    }

    /// How long until `at`.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_secs(at.0).saturating_sub(self.time())
    }

    /// Follows the system clock again if it was set. Returns by how many seconds.
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

/// Time since the host booted, the same for all its processes; it also advances while the host is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uptime(pub(crate) Duration);

impl Uptime {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
        Self(Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0)))
    }

    pub(crate) fn after(self, length: Duration) -> Self {
        Self(self.0 + length)
    }

    /// Time until then; zero if it is over.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }
}

/// The system's time, for code without a driver.
pub(crate) fn now() -> Timestamp {
    Timestamp(system_time().as_secs())
}

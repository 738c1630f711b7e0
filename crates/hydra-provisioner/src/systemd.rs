//! Messages to systemd: readiness, reloads, status, watchdog.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Number of watchdog messages per watchdog interval.
const BEATS: u32 = 3;

/// systemd waits for `Ready` after it.
pub(crate) fn tell_reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// Reports progress of the loop to systemd's watchdog. Only the loop itself does this: if it hangs, the service is
/// restarted.
pub(crate) struct Watchdog {
    /// `None`: no watchdog.
    pub(crate) interval: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self { interval: sd_notify::watchdog_enabled().map(|limit| limit / BEATS), last: None }
    }

    pub(crate) fn beat(&mut self) {
        let Some(interval) = self.interval else { return };
        if self.last.is_none_or(|last| last.elapsed() >= interval) {
            self.last = Some(Instant::now());
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Without systemd there is no receiver, which is fine.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd cannot be notified: {error}");
    }
}

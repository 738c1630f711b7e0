//! How long, and how often, a call is retried.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::thread;
use std::time::{Duration, Instant};

use reconciler::OperationErrorKind;

use crate::providers::ProviderError;

/// The first pause between two attempts is about this long; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The limit of one request. A server that takes longer has probably lost it.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A trial is not repeated for long: the operator waits for it.
pub(in crate::providers) const TRIAL_LIMIT: Duration = Duration::from_secs(20);

/// What is asked beside the call itself may take this long.
const LONGEST_ASIDE: Duration = Duration::from_secs(5);

/// The remaining time of one call to the provider, and the number of attempts.
#[derive(Debug)]
pub(in crate::providers) struct RetryBudget {
    limit: Duration,
    deadline: Instant,
    pauses: u32,
    /// Why the attempts until now failed: the last reason, and the one before it that differs.
    reasons: [Option<String>; 2],
}

impl RetryBudget {
    /// For a call with the time limit `limit`.
    pub(in crate::providers) fn new(limit: Duration) -> Self {
        Self { limit, deadline: Instant::now() + limit, pauses: 0, reasons: [None, None] }
    }

    /// For what is asked beside the call itself: however long that takes, most of the time is left for the call.
    pub(in crate::providers) fn aside(&self) -> Self {
        Self::new(LONGEST_ASIDE.min(self.left() / 4))
    }

    /// The time limit of the next request.
    pub(in crate::providers) fn request_limit(&self) -> Duration {
        self.left().clamp(Duration::from_millis(1), REQUEST_LIMIT)
    }

    /// Whether half of the time limit has passed.
    pub(in crate::providers) fn is_half_over(&self) -> bool {
        self.left() < self.limit / 2
    }

    pub(in crate::providers) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits before the next attempt: at least `at_least`, and longer each time. Half of the pause is random,
    /// so that many callers do not retry at the same moment.
    ///
    /// # Errors
    /// With `reason`, if no time is left for another attempt. The last one may have been cut off by the limit itself: the
    /// reason before it is added if it is another one.
    pub(in crate::providers) fn pause(
        &mut self,
        at_least: Duration,
        reason: &str,
    ) -> Result<(), ProviderError> {
        let longest = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(10)).min(MAX_PAUSE);
        let pause = at_least.max(longest.mul_f64(0.5 + random_fraction() / 2.0));
        self.remember(reason);
        if pause >= self.left() {
            let earlier = self.reasons[1].as_ref();
            let earlier =
                earlier.map_or_else(String::new, |earlier| format!("; before it: {earlier}"));
            return Err(ProviderError {
                kind: OperationErrorKind::TimedOut,
                message: format!(
                    "no usable answer within {} s, after {}; the last error: {reason}{earlier}",
                    self.limit.as_secs(),
                    planner::counted(u64::from(self.pauses) + 1, "attempt")
                ),
            });
        }
        self.pauses += 1;
        thread::sleep(pause);
        Ok(())
    }

    fn remember(&mut self, reason: &str) {
        if self.reasons[0].as_deref() != Some(reason) {
            self.reasons.rotate_right(1);
            self.reasons[0] = Some(reason.to_owned());
        }
    }
}

/// From 0 to 1. The hasher's keys are random, which is sufficient here.
fn random_fraction() -> f64 {
    let sample = RandomState::new().hash_one(0) >> 40;
    f64::from(u32::try_from(sample).unwrap_or(0)) / f64::from(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_spread_over_the_whole_range() {
        let fractions: Vec<_> = (0..1000).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        assert!(fractions.iter().any(|fraction| *fraction < 0.1));
        assert!(fractions.iter().any(|fraction| *fraction > 0.9));
    }

    #[test]
    fn no_pause_goes_beyond_the_limit() {
        let mut retries = RetryBudget::new(Duration::from_millis(10));
        let error = retries.pause(Duration::from_secs(1), "503").unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::TimedOut);
        assert!(error.message.ends_with("after 1 attempt; the last error: 503"), "{error}");
    }

    /// The limit cuts the last attempt off, which hides the cause.
    #[test]
    fn another_reason_before_the_last_one_is_told() {
        let mut retries = RetryBudget::new(Duration::from_secs(60));
        retries.pause(Duration::ZERO, "503").unwrap();
        let error = retries.pause(Duration::from_secs(60), "no answer within 1 s").unwrap_err();
        let end = "; the last error: no answer within 1 s; before it: 503";
        assert!(error.message.ends_with(end), "{error}");
    }
}

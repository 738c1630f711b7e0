//! How long an idle machine is kept for possible later steps.
//!
//! `idleTimeout` (the original's `gracePeriod`) is a number of seconds, or `"auto"`. `"auto"` is ski rental (Karlin,
//! Manasse, Rudolph, Sleator,
//! "Competitive snoopy caching", Algorithmica 3, 1988): keeping a machine costs its price by the second; replacing it
//! costs the time from the request until it is ready. Keeping it for that long never costs more than twice the best
//! choice in hindsight:
//!
//! ```text
//! idle timeout with "auto" = average time from the request for a machine of the type until it is ready
//! ```
//!
//! While the provider of a type has no capacity, a released machine cannot be replaced. With `"auto"` its machines are then
//! kept idle for up to an hour.
//!
//! Machines that are more than the running steps need have no idle timeout (`surplus.rs`).
//!
//! `keepLast` applies to the last machine of a type, if it is longer: then the first step after a pause does
//! not wait.

use crate::experience::Experience;
use crate::memory::{BackOff, BackOffKind};
use crate::policy::{IdleTimeout, PoolPolicy};
use crate::time::{Seconds, Timestamp};

/// How long idle machines are kept that cannot be replaced, and how long after the end of a back-off this is assumed.
const WITHOUT_CAPACITY: Seconds = Seconds::from_minutes(60);

/// Whether a machine of a type could be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    Possible,
    /// Its provider had no capacity for the last one, and this counts until then.
    NoCapacity {
        until: Timestamp,
    },
}

impl Replacement {
    pub(crate) fn of(back_off: Option<&BackOff>, now: Timestamp) -> Self {
        let back_off = back_off.filter(|back_off| back_off.kind == BackOffKind::Capacity);
        match back_off.map(|back_off| back_off.until.after(WITHOUT_CAPACITY)) {
            Some(until) if now < until => Self::NoCapacity { until },
            _ => Self::Possible,
        }
    }
}

/// How long idle machines of a type are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdleTimeouts {
    /// Machines that are more than the running steps need.
    pub(crate) of_surplus: Seconds,
    pub(crate) usual: Seconds,
    /// The last machine of the type.
    pub(crate) of_last: Seconds,
    /// When this changes without an event.
    pub(crate) until: Option<Timestamp>,
}

impl IdleTimeouts {
    pub(crate) const NONE: Self =
        Self { of_surplus: Seconds(0), usual: Seconds(0), of_last: Seconds(0), until: None };

    pub(crate) fn of(pool: &PoolPolicy, experience: &Experience, replacement: Replacement) -> Self {
        let (of_surplus, usual, until) = match (pool.idle_timeout, replacement) {
            (IdleTimeout::After(length), _) => (length, length, None),
            (IdleTimeout::Auto, Replacement::Possible) => {
                (Seconds(0), experience.start_time(), None)
            }
            (IdleTimeout::Auto, Replacement::NoCapacity { until }) => {
                let length = experience.start_time().max(WITHOUT_CAPACITY);
                (length, length, Some(until))
            }
        };
        Self { of_surplus, usual, of_last: usual.max(pool.keep_last), until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::EndsWhen;
    use crate::names::System;

    fn timeouts(idle_timeout: IdleTimeout, replacement: Replacement) -> (u64, u64, u64) {
        let mut pool = PoolPolicy::new(vec![System::new("x86_64-linux")]);
        pool.idle_timeout = idle_timeout;
        pool.keep_last = Seconds(900);
        let IdleTimeouts { of_surplus, usual, of_last, .. } =
            IdleTimeouts::of(&pool, &Experience::default(), replacement);
        (of_surplus.0, usual.0, of_last.0)
    }

    #[test]
    fn auto_keeps_what_cannot_be_replaced() {
        let without = Replacement::NoCapacity { until: Timestamp(9) };
        assert_eq!(timeouts(IdleTimeout::Auto, Replacement::Possible), (0, 120, 900));
        assert_eq!(timeouts(IdleTimeout::Auto, without), (3600, 3600, 3600));
        for replacement in [Replacement::Possible, without] {
            let fixed = IdleTimeout::After(Seconds(60));
            assert_eq!(timeouts(fixed, replacement), (60, 60, 900));
        }
    }

    #[test]
    fn capacity_counts_as_missing_for_an_hour_after_the_back_off() {
        let back_off = |kind| BackOff {
            kind,
            failures: 1,
            until: Timestamp(1000),
            error: String::new(),
            ends_when: EndsWhen::Created,
        };
        let capacity = back_off(BackOffKind::Capacity);
        let at = |now| Replacement::of(Some(&capacity), Timestamp(now));
        assert_eq!(at(0), Replacement::NoCapacity { until: Timestamp(4600) });
        assert_eq!(at(4599), Replacement::NoCapacity { until: Timestamp(4600) });
        assert_eq!(at(4600), Replacement::Possible);
        let failure = back_off(BackOffKind::Failure);
        assert_eq!(Replacement::of(Some(&failure), Timestamp(0)), Replacement::Possible);
        assert_eq!(Replacement::of(None, Timestamp(0)), Replacement::Possible);
    }
}

//! What earlier machines of a type have shown, remembered across restarts. It may be deleted: then the usual
//! values count until there is something to go by.

use serde::{Deserialize, Serialize};

use crate::spending::Spent;
use crate::time::Seconds;

/// What is remembered of one machine type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Experience {
    /// From the request for a machine, or for its start, until it was ready: time that is paid for.
    pub start_time: Average,
    /// What those have cost that cost nothing any more.
    pub spent: Spent,
    /// What steps took that were built on them, copying included.
    pub step_time: Average,
}

impl Experience {
    /// A machine was ready after `took`.
    pub fn was_ready_after(&mut self, took: Seconds) {
        self.start_time.add(took, 1, START_TIME.most);
    }

    /// `steps` were built in `time` altogether.
    pub fn has_built(&mut self, steps: u64, time: Seconds) {
        self.step_time.add(time, steps, STEP_TIME.most);
    }

    /// How long a step takes.
    pub fn step_time(&self) -> Seconds {
        self.step_time.value(STEP_TIME).max(Seconds(1))
    }

    /// How long a machine takes until it is ready.
    pub fn start_time(&self) -> Seconds {
        self.start_time.value(START_TIME)
    }
}

/// Two minutes, until a machine has shown otherwise; the last twenty count.
const START_TIME: Prior = Prior { value: Seconds(120), weight: 1, most: 20 };

/// Two minutes with the weight of five steps; the last hundred count.
const STEP_TIME: Prior = Prior { value: Seconds(120), weight: 5, most: 100 };

/// What counts before anything was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior {
    pub(crate) value: Seconds,
    /// How many measurements it counts like.
    pub(crate) weight: u64,
    /// How many measurements are remembered.
    pub(crate) most: u64,
}

/// A decaying average of lengths of time. Beyond a number of measurements the earlier ones shrink together, so
/// that each counts less the older it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Average {
    /// Measurements that count.
    pub number: u64,
    /// Their sum.
    pub total: Seconds,
}

impl Average {
    /// Adds `number` measurements that come to `total`; no more than `most` are remembered.
    pub(crate) fn add(&mut self, total: Seconds, number: u64, most: u64) {
        let total = self.total.plus(total);
        let number = self.number.saturating_add(number);
        self.number = number.min(most);
        self.total = Seconds(scaled(total.0, self.number, number));
    }

    /// The average, together with `prior`; rounded down.
    pub(crate) fn value(self, prior: Prior) -> Seconds {
        let total = prior.value.0.saturating_mul(prior.weight).saturating_add(self.total.0);
        Seconds(total / self.number.saturating_add(prior.weight).max(1))
    }
}

/// `amount * share / whole`, rounded down; `amount` where `whole` is 0.
pub(crate) fn scaled(amount: u64, share: u64, whole: u64) -> u64 {
    if whole == 0 {
        return amount;
    }
    let scaled = u128::from(amount) * u128::from(share) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_fades_and_the_latest_count_most() {
        let mut experience = Experience::default();
        assert_eq!(experience.start_time(), Seconds(120));
        experience.was_ready_after(Seconds(60));
        assert_eq!(experience.start_time(), Seconds(90));
        for _ in 0..100 {
            experience.was_ready_after(Seconds(60));
        }
        assert_eq!((experience.start_time.number, experience.start_time()), (20, Seconds(62)));
        for _ in 0..100 {
            experience.was_ready_after(Seconds(600));
        }
        assert!((550..=600).contains(&experience.start_time().0), "{:?}", experience.start_time());
    }

    #[test]
    fn absurd_measurements_end_in_no_overflow() {
        let mut average = Average::default();
        for _ in 0..3 {
            average.add(Seconds(u64::MAX), u64::MAX, 20);
        }
        assert_eq!(average.number, 20);
        assert!(average.value(START_TIME).0 <= u64::MAX / 21);
        assert_eq!(scaled(5, 1, 0), 5);
    }
}

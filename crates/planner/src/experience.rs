//! What is remembered of earlier machines of a type, across restarts: measurements (without them, default values are used),
//! and the money spent, which the daily and monthly limits count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::MachineType;
use crate::spending::Spent;
use crate::time::Seconds;

/// What is remembered of the earlier machines of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Experience {
    /// From the request for a machine, or for its start, until it is ready: time that is paid for.
    pub start_time: Average,
    /// The cost of machines that no longer cost anything: part of `maxDailyCost` and `maxMonthlyCost`.
    pub spent: Spent,
    /// The duration of steps built on them, copying included.
    pub step_time: Average,
    /// Whether the last listing that showed one of them while it ran showed a next charge: they are billed by the hour, in
    /// advance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_billed_by_hour: bool,
}

impl Experience {
    /// A machine was ready after `took`.
    pub fn was_ready_after(&mut self, took: Seconds) {
        self.start_time.add(took, 1, START_TIME.most);
    }

    /// `steps` were built in a total of `time`.
    pub fn has_built(&mut self, steps: u64, time: Seconds) {
        self.step_time.add(time, steps, STEP_TIME.most);
    }

    /// The average duration of a step.
    pub fn step_time(&self) -> Seconds {
        self.step_time.value(STEP_TIME).max(Seconds(1))
    }

    /// The average time until a machine is ready.
    pub fn start_time(&self) -> Seconds {
        self.start_time.value(START_TIME)
    }
}

/// Whether machines of a type are billed by the hour, as far as known.
pub fn is_billed_by_hour(
    experience: &BTreeMap<MachineType, Experience>,
    machine_type: &MachineType,
) -> bool {
    experience.get(machine_type).is_some_and(|known| known.is_billed_by_hour)
}

/// Two minutes with the weight of one machine; measurements together count as at most 20.
const START_TIME: Prior = Prior { value: Seconds(120), weight: 1, most: 20 };

/// Two minutes with the weight of five steps; measurements together count as at most 100.
const STEP_TIME: Prior = Prior { value: Seconds(120), weight: 5, most: 100 };

/// A value that counts as some measurements, so that the first real ones do not decide alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior {
    pub(crate) value: Seconds,
    /// The number of measurements that it counts as.
    pub(crate) weight: u64,
    /// How many measurements all real ones together count as, at most.
    pub(crate) most: u64,
}

/// A decaying average of durations. Beyond a maximum number of measurements, all earlier ones are scaled down
/// together: the older a measurement is, the less it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Average {
    /// Measurements that count.
    pub number: u64,
    /// Their sum.
    pub total: Seconds,
}

impl Average {
    /// Adds `number` measurements with the sum `total`; at most `most` are remembered.
    pub(crate) fn add(&mut self, total: Seconds, number: u64, most: u64) {
        let total = self.total.plus(total);
        let number = self.number.saturating_add(number);
        self.number = number.min(most);
        self.total = Seconds(scaled(total.0, self.number, number));
    }

    /// The average, with `prior` included; rounded down.
    pub(crate) fn value(self, prior: Prior) -> Seconds {
        let total = prior.value.0.saturating_mul(prior.weight).saturating_add(self.total.0);
        Seconds(total / self.number.saturating_add(prior.weight).max(1))
    }
}

/// `amount * share / whole`, rounded down; `amount` if `whole` is 0.
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
    fn the_prior_fades_and_recent_measurements_count_most() {
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
    fn absurd_measurements_do_not_overflow() {
        let mut average = Average::default();
        for _ in 0..3 {
            average.add(Seconds(u64::MAX), u64::MAX, 20);
        }
        assert_eq!(average.number, 20);
        assert!(average.value(START_TIME).0 <= u64::MAX / 21);
        assert_eq!(scaled(5, 1, 0), 5);
    }
}

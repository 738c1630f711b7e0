//! The cost of machines, in integers: sums are exact and rounded only for display.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::Millis;

const HOUR: Millis = Millis::from_hours(1);

/// An exact amount, in millionths of a dollar per hour times seconds: 3,600 units are a millionth of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u128);

impl Cost {
    /// Millionths of a dollar, rounded to nearest.
    pub fn micro_dollars(self) -> u128 {
        (self.0 + 1800) / 3600
    }

    fn of(micro_dollars_per_hour: u64, seconds: u64) -> Self {
        Self(u128::from(micro_dollars_per_hour) * u128::from(seconds))
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

/// Dollars with six decimals.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micro = self.micro_dollars();
        f.pad(&format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000))
    }
}

/// How time is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum BillingModel {
    /// Every started second; EC2 (Linux) charges at least 60.
    #[serde(rename_all = "camelCase")]
    PerSecond {
        /// Minimum charge, in seconds.
        minimum_seconds: u64,
    },
    /// Every started hour, at the price of its first second.
    PerStartedHour,
}

/// What a machine of one type costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tariff {
    /// How its time is charged.
    pub billing: BillingModel,
    /// Price while it runs.
    pub price: PriceSeries,
    /// Price of its disk while it is stopped, in millionths of a dollar per hour.
    pub stopped_micro_dollars_per_hour: u64,
}

/// A price over time, in millionths of a dollar per hour: each price is valid from its time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PriceSeries(Vec<(Millis, u64)>);

/// An invalid price series.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TariffError {
    /// There is no price for time zero.
    #[error("the first price must be from 0 ms")]
    NoFirstPrice,
    /// The times do not increase.
    #[error("the price from {at} must come after the one before it")]
    Unordered {
        /// The time that is out of order.
        at: Millis,
    },
}

/// Ten cents per hour, billed by the second.
impl Default for Tariff {
    fn default() -> Self {
        Self {
            billing: BillingModel::PerSecond { minimum_seconds: 60 },
            price: PriceSeries::constant(100_000),
            stopped_micro_dollars_per_hour: 2_000,
        }
    }
}

impl PriceSeries {
    /// A constant price.
    pub fn constant(micro_dollars_per_hour: u64) -> Self {
        Self(vec![(Millis::ZERO, micro_dollars_per_hour)])
    }

    /// Prices, each valid from its time on.
    ///
    /// # Errors
    /// If the first is not from 0, or the times do not increase.
    pub fn new(prices: Vec<(Millis, u64)>) -> Result<Self, TariffError> {
        let series = Self(prices);
        series.check()?;
        Ok(series)
    }

    /// Checks prices that were read from a file.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn check(&self) -> Result<(), TariffError> {
        if self.0.first().is_none_or(|(from, _)| *from != Millis::ZERO) {
            return Err(TariffError::NoFirstPrice);
        }
        match self.0.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            None => Ok(()),
            Some(pair) => Err(TariffError::Unordered { at: pair[1].0 }),
        }
    }

    /// The lowest price.
    pub fn least(&self) -> u64 {
        self.0.iter().map(|(_, price)| *price).min().unwrap_or(0)
    }

    /// The first price, and how many follow.
    pub fn first_and_others(&self) -> (u64, usize) {
        (self.at(Millis::ZERO), self.0.len().saturating_sub(1))
    }

    fn at(&self, time: Millis) -> u64 {
        self.0.iter().rev().find(|(from, _)| *from <= time).map_or(0, |(_, price)| *price)
    }

    /// `seconds` from `start` on, each at the price of its start.
    fn charge(&self, start: Millis, seconds: u64) -> Cost {
        let mut total = Cost::default();
        let mut done = 0;
        while done < seconds {
            let time = start + Millis::from_seconds(done);
            let next = self.0.iter().map(|(from, _)| *from).find(|from| *from > time);
            let until = next.map_or(seconds, |next| next.since(start).0.div_ceil(1000));
            let until = until.min(seconds);
            total += Cost::of(self.at(time), until - done);
            done = until;
        }
        total
    }
}

impl Tariff {
    /// The cost of running from `start` to `end`.
    pub fn running(&self, start: Millis, end: Millis) -> Cost {
        let seconds = end.since(start).0.div_ceil(1000);
        match self.billing {
            BillingModel::PerSecond { minimum_seconds } => {
                self.price.charge(start, seconds.max(minimum_seconds))
            }
            BillingModel::PerStartedHour => (0..seconds.div_ceil(3600).max(1))
                .map(|hour| Cost::of(self.price.at(start + Millis::from_hours(hour)), 3600))
                .sum(),
        }
    }

    /// When the time ends that is paid for a machine that runs from `start` to `end`, without a minimum charge.
    pub fn paid_until(&self, start: Millis, end: Millis) -> Millis {
        let hours = end.since(start).0.div_ceil(HOUR.0).max(1);
        match self.billing {
            BillingModel::PerSecond { minimum_seconds: _ } => end,
            BillingModel::PerStartedHour => start + Millis::from_hours(hours),
        }
    }

    /// The cost of being stopped from `start` to `end`, billed by the second.
    pub fn stopped(&self, start: Millis, end: Millis) -> Cost {
        Cost::of(self.stopped_micro_dollars_per_hour, end.since(start).0.div_ceil(1000))
    }

    /// When the time paid for at `now` ends; `None` if billed by the second.
    pub fn next_charge_at(&self, start: Millis, now: Millis) -> Option<Millis> {
        match self.billing {
            BillingModel::PerSecond { .. } => None,
            BillingModel::PerStartedHour => {
                let hours = now.since(start).0 / HOUR.0 + 1;
                Some(start + Millis::from_hours(hours))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tariff(billing: BillingModel, prices: &[(u64, u64)]) -> Tariff {
        let prices = prices.iter().map(|(second, price)| (Millis::from_seconds(*second), *price));
        Tariff {
            billing,
            price: PriceSeries::new(prices.collect()).unwrap(),
            stopped_micro_dollars_per_hour: 7_200,
        }
    }

    /// Calculated by hand: (start ms, end ms, dollars).
    #[test]
    fn ledgers_worked_out_by_hand() {
        let by_second = BillingModel::PerSecond { minimum_seconds: 60 };
        let by_hour = BillingModel::PerStartedHour;
        // 0.36 dollars per hour are 100 millionths per second.
        let flat: &[(u64, u64)] = &[(0, 360_000)];
        // Twice as much from the 100th second on.
        let spot: &[(u64, u64)] = &[(0, 360_000), (100, 720_000)];
        for (billing, prices, start, end, dollars) in [
            (by_second, flat, 0, 0, "0.006000"),
            (by_second, flat, 5_000, 6_000, "0.006000"),
            (by_second, flat, 0, 60_000, "0.006000"),
            (by_second, flat, 0, 60_001, "0.006100"),
            (by_second, flat, 0, 3_600_000, "0.360000"),
            (by_second, spot, 0, 100_000, "0.010000"),
            (by_second, spot, 40_000, 160_000, "0.018000"),
            (by_second, spot, 99_500, 159_500, "0.011900"),
            (by_second, spot, 200_000, 300_000, "0.020000"),
            (by_hour, flat, 0, 0, "0.360000"),
            (by_hour, flat, 0, 3_600_000, "0.360000"),
            (by_hour, flat, 0, 3_600_001, "0.720000"),
            (by_hour, spot, 0, 7_200_000, "1.080000"),
        ] {
            let tariff = tariff(billing, prices);
            let cost = tariff.running(Millis(start), Millis(end));
            assert_eq!(cost.to_string(), dollars, "{billing:?} {prices:?} {start} {end}");
        }
        let stopped = tariff(by_hour, flat).stopped(Millis(0), Millis(1_800_000));
        assert_eq!(stopped.to_string(), "0.003600");
    }

    #[test]
    fn sums_are_exact() {
        // A third of a millionth, three times.
        let third = Cost(1200);
        assert_eq!(third.micro_dollars(), 0);
        assert_eq!([third; 3].into_iter().sum::<Cost>().micro_dollars(), 1);
    }

    #[test]
    fn paid_time_ends_on_the_hour() {
        let tariff = tariff(BillingModel::PerStartedHour, &[(0, 1)]);
        let start = Millis(500);
        for (now, hours) in [(500, 1), (3_600_499, 1), (3_600_500, 2)] {
            let next = tariff.next_charge_at(start, Millis(now)).unwrap();
            assert_eq!(next, start + Millis::from_hours(hours));
        }
    }

    #[test]
    fn senseless_prices_are_refused() {
        assert_eq!(PriceSeries::new(vec![]), Err(TariffError::NoFirstPrice));
        assert_eq!(PriceSeries::new(vec![(Millis(1), 1)]), Err(TariffError::NoFirstPrice));
        assert_eq!(
            PriceSeries::new(vec![(Millis(0), 1), (Millis(5), 1), (Millis(5), 2)]),
            Err(TariffError::Unordered { at: Millis(5) })
        );
    }
}

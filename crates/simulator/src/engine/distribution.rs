//! Distributions of durations.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Millis, Random};

/// A distribution of durations, in milliseconds.
///
/// Logarithms come from the `libm` crate, not from the platform's library: by IEEE 754, addition, multiplication,
/// division and square roots are the same everywhere; `ln` is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same value.
    Fixed(Millis),
    /// Every whole number from `min` to `max` is equally likely.
    Uniform {
        /// The minimum.
        min: Millis,
        /// The maximum.
        max: Millis,
    },
    /// Exponential.
    Exponential {
        /// The mean.
        mean: Millis,
    },
    /// The logarithm is normally distributed, as for most build times.
    LogNormal {
        /// The median.
        median: Millis,
        /// Standard deviation of the natural logarithm; at least 0.
        sigma: f64,
    },
    /// A heavy tail: a duration above `x` has the probability `(min / x) ^ alpha`.
    Pareto {
        /// The minimum.
        min: Millis,
        /// Above 0; at 1 or below, the mean is infinite.
        alpha: f64,
        /// Longer durations are cut to this.
        max: Millis,
    },
    /// Recorded values with equal probability; at least one. A value recorded twice is listed twice.
    Recorded(Vec<Millis>),
    /// Recorded values, repeated in this order: the first machine of a type gets the first value, and so on; after the
    /// last, the first again. Without machines to count, same as [`Self::Recorded`].
    InOrder(Vec<Millis>),
}

/// An invalid parameter.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DistributionError {
    /// The bounds are in the wrong order.
    #[error("min {min} is above max {max}")]
    MinAboveMax {
        /// The lower bound.
        min: Millis,
        /// The upper bound.
        max: Millis,
    },
    /// A parameter out of its range.
    #[error("{name} is {value}, must be {range}")]
    OutOfRange {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The allowed range.
        range: &'static str,
    },
    /// No values.
    #[error("there are no values, at least one is needed")]
    Empty,
}

impl Distribution {
    /// Always `seconds`.
    pub const fn fixed_seconds(seconds: u64) -> Self {
        Self::Fixed(Millis::from_seconds(seconds))
    }

    /// Exponential with a mean of `seconds`.
    pub const fn exponential_seconds(seconds: u64) -> Self {
        Self::Exponential { mean: Millis::from_seconds(seconds) }
    }

    /// Checks the parameters; [`Self::sample`] accepts any, but only these are meaningful.
    ///
    /// # Errors
    /// The parameter that is out of its range.
    pub fn check(&self) -> Result<(), DistributionError> {
        match *self {
            Self::Recorded(ref values) | Self::InOrder(ref values) if values.is_empty() => {
                Err(DistributionError::Empty)
            }
            Self::Fixed(_) | Self::Exponential { .. } | Self::Recorded(_) | Self::InOrder(_) => {
                Ok(())
            }
            Self::Uniform { min, max } => ordered(min, max),
            Self::LogNormal { sigma, .. } => {
                in_range("sigma", sigma, (0.0..=20.0).contains(&sigma), "from 0 to 20")
            }
            Self::Pareto { min, alpha, max } => {
                ordered(min, max)?;
                in_range("alpha", alpha, alpha > 0.0 && alpha <= 100.0, "above 0, at most 100")
            }
        }
    }

    /// The minimum of all draws.
    pub fn least(&self) -> Millis {
        match self {
            Self::Fixed(length) => *length,
            Self::Uniform { min, .. } | Self::Pareto { min, .. } => *min,
            Self::Exponential { .. } | Self::LogNormal { .. } => Millis::ZERO,
            Self::Recorded(values) | Self::InOrder(values) => {
                values.iter().min().copied().unwrap_or_default()
            }
        }
    }

    /// The mean, in seconds.
    pub fn mean_seconds(&self) -> f64 {
        let millis = match self {
            Self::Fixed(length) | Self::Exponential { mean: length } => to_f64(*length),
            Self::Uniform { min, max } => f64::midpoint(to_f64(*min), to_f64(*max)),
            Self::LogNormal { median, sigma } => to_f64(*median) * libm::exp(sigma * sigma / 2.0),
            Self::Pareto { min, alpha, max } => {
                // Of a distribution that is cut to `max`.
                let (min, ratio) = (to_f64(*min), to_f64(*max) / to_f64(*min).max(1.0));
                if (alpha - 1.0).abs() < 1e-9 {
                    min * (1.0 + libm::log(ratio))
                } else {
                    min * (alpha - libm::pow(ratio, 1.0 - alpha)) / (alpha - 1.0)
                }
            }
            Self::Recorded(values) | Self::InOrder(values) => {
                let count = u32::try_from(values.len()).unwrap_or(u32::MAX).max(1);
                values.iter().map(|value| to_f64(*value)).sum::<f64>() / f64::from(count)
            }
        };
        millis / 1000.0
    }

    /// The value for the machine with that number, from 0.
    #[must_use]
    pub fn of_machine(&self, number: u64) -> Self {
        match self {
            Self::InOrder(values) => {
                let at = number.checked_rem(values.len() as u64);
                let value = at.and_then(|at| values.get(usize::try_from(at).ok()?));
                Self::Fixed(value.copied().unwrap_or_default())
            }
            other => other.clone(),
        }
    }

    pub(super) fn sample(&self, random: &mut Random) -> Millis {
        match *self {
            Self::Fixed(length) => length,
            Self::Uniform { min, max } => Millis(random.between(min.0, max.0)),
            Self::Exponential { mean } => round(-to_f64(mean) * libm::log(random.unit())),
            Self::LogNormal { median, sigma } => {
                round(to_f64(median) * libm::exp(sigma * normal(random)))
            }
            Self::Pareto { min, alpha, max } => {
                round(to_f64(min) / libm::pow(random.unit(), 1.0 / alpha)).min(max)
            }
            Self::Recorded(ref values) | Self::InOrder(ref values) => {
                random.pick(values).copied().unwrap_or_default()
            }
        }
    }
}

/// A number from the standard normal distribution (Box and Muller 1958).
fn normal(random: &mut Random) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(random.unit()));
    radius * libm::cos(TAU * random.unit())
}

#[allow(clippy::cast_precision_loss, reason = "lengths below 285,000 years are exact")]
fn to_f64(length: Millis) -> f64 {
    length.0 as f64
}

/// To the nearest millisecond; too long values become the maximum.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn round(length: f64) -> Millis {
    Millis(libm::round(length) as u64)
}

fn ordered(min: Millis, max: Millis) -> Result<(), DistributionError> {
    if min <= max { Ok(()) } else { Err(DistributionError::MinAboveMax { min, max }) }
}

fn in_range(
    name: &'static str,
    value: f64,
    holds: bool,
    range: &'static str,
) -> Result<(), DistributionError> {
    if holds { Ok(()) } else { Err(DistributionError::OutOfRange { name, value, range }) }
}

impl Random {
    /// A duration drawn from `distribution`.
    pub fn sample(&mut self, distribution: &Distribution) -> Millis {
        distribution.sample(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Purpose, Seed};

    const N: u64 = 100_000;

    fn draws(distribution: &Distribution) -> Vec<u64> {
        let mut random = Seed(7).stream(Purpose::Test, 0);
        let mut draws: Vec<_> = (0..N).map(|_| random.sample(distribution).0).collect();
        draws.sort_unstable();
        draws
    }

    /// Means and quantiles compared with the textbook, within 2 % (about five standard errors).
    #[test]
    fn draws_follow_their_distribution() {
        let second = Millis(1_000_000);
        let cases = [
            // (distribution, mean, median, 90 % quantile)
            (Distribution::Fixed(second), 1_000_000, 1_000_000, 1_000_000),
            (Distribution::Uniform { min: Millis(0), max: second }, 500_000, 500_000, 900_000),
            (Distribution::Exponential { mean: second }, 1_000_000, 693_147, 2_302_585),
            (
                Distribution::LogNormal { median: second, sigma: 1.0 },
                1_648_721,
                1_000_000,
                3_602_224,
            ),
            (
                Distribution::Pareto { min: second, alpha: 3.0, max: Millis::NEVER },
                1_500_000,
                1_259_921,
                2_154_435,
            ),
            (
                Distribution::Recorded([1, 5, 5, 9].map(|n| Millis(n * 100_000)).to_vec()),
                500_000,
                500_000,
                900_000,
            ),
        ];
        for (distribution, mean, median, ninety) in cases {
            distribution.check().unwrap();
            let draws = draws(&distribution);
            let near = |seen: u64, expected: u64| seen.abs_diff(expected) * 50 <= expected;
            let seen_mean = draws.iter().sum::<u64>() / N;
            let reported = distribution.mean_seconds() * 1000.0;
            assert!(near(round(reported).0, mean), "{distribution:?}: reported {reported}");
            assert!(distribution.least() <= Millis(draws[0]), "{distribution:?}");
            assert!(near(seen_mean, mean), "{distribution:?}: mean {seen_mean}");
            let (seen_median, seen_ninety) = (draws[50_000], draws[90_000]);
            assert!(near(seen_median, median), "{distribution:?}: median {seen_median}");
            assert!(near(seen_ninety, ninety), "{distribution:?}: 90 % {seen_ninety}");
        }
    }

    /// The same bytes on any machine: changing these numbers changes every published result.
    #[test]
    fn draws_are_fixed_for_ever() {
        let sample = |distribution: &Distribution| {
            let mut random = Seed(42).stream(Purpose::Test, 5);
            [random.sample(distribution).0, random.sample(distribution).0]
        };
        let hour = Millis::from_hours(1);
        assert_eq!(sample(&Distribution::Exponential { mean: hour }), [1_733_882, 4_769_029]);
        assert_eq!(
            sample(&Distribution::LogNormal { median: hour, sigma: 1.5 }),
            [3_109_108, 9_997_081]
        );
        assert_eq!(
            sample(&Distribution::Pareto { min: hour, alpha: 1.2, max: Millis::NEVER }),
            [5_377_887, 10_857_715]
        );
    }

    #[test]
    fn recorded_values_come_again_in_order() {
        let distribution = Distribution::InOrder(vec![Millis(3), Millis(1)]);
        let seen = [0, 1, 2, 3].map(|number| distribution.of_machine(number));
        assert_eq!(seen, [3, 1, 3, 1].map(|length| Distribution::Fixed(Millis(length))));
        let other = Distribution::exponential_seconds(1);
        assert_eq!(other.of_machine(7), other);
    }

    #[test]
    fn senseless_parameters_are_refused() {
        for (json, message) in [
            (r#"{"uniform":{"min":2000,"max":1000}}"#, "min 2.000s is above max 1.000s"),
            (r#"{"logNormal":{"median":1,"sigma":-1.0}}"#, "sigma is -1, must be from 0 to 20"),
            (
                r#"{"pareto":{"min":1,"alpha":0.0,"max":9}}"#,
                "alpha is 0, must be above 0, at most 100",
            ),
            (r#"{"recorded":[]}"#, "there are no values, at least one is needed"),
            (r#"{"inOrder":[]}"#, "there are no values, at least one is needed"),
        ] {
            let distribution: Distribution = serde_json::from_str(json).unwrap();
            assert_eq!(distribution.check().unwrap_err().to_string(), message);
        }
    }
}

//! Amounts of money in whole micro-dollars: sums are exact, and no decision depends on floats.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Seconds;

/// An amount in micro-dollars (millionths of a US dollar).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(pub u64);

const MICROS_PER_DOLLAR: u64 = 1_000_000;
const SECONDS_PER_HOUR: u128 = 3600;
/// Decimals of a micro-dollar.
const DECIMALS: usize = 6;

impl Money {
    /// Parses a decimal number of dollars, such as `0.0116`. `None` if `text` is not a number, negative or
    /// too large. More than six decimals are rounded to the nearest.
    pub fn from_dollars(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let kept = &fraction[..fraction.len().min(DECIMALS)];
        let micros: u64 = format!("{kept:0<DECIMALS$}").parse().ok()?;
        let rounded_up = fraction.as_bytes().get(DECIMALS).is_some_and(|digit| *digit >= b'5');
        let whole = whole.parse::<u64>().ok()?.checked_mul(MICROS_PER_DOLLAR)?;
        whole.checked_add(micros)?.checked_add(u64::from(rounded_up)).map(Self)
    }

    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The cost of `length` at this price per hour; rounded up.
    #[must_use]
    pub fn for_time(self, length: Seconds) -> Self {
        let micros = (u128::from(self.0) * u128::from(length.0)).div_ceil(SECONDS_PER_HOUR);
        Self(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// How long this amount lasts at `dollars_per_hour`; `None`: forever.
    pub(crate) fn lasts_for(self, dollars_per_hour: Self) -> Option<Seconds> {
        let micro_seconds = u128::from(self.0) * SECONDS_PER_HOUR;
        let seconds = micro_seconds.checked_div(u128::from(dollars_per_hour.0))?;
        Some(Seconds(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }

    /// `count` times this amount, saturating.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

/// Two decimals, or more if needed: `$0.96`, `$12.00`, `$0.0116`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.0 % MICROS_PER_DOLLAR);
        let beyond_cents = fraction[2..].trim_end_matches('0');
        write!(f, "${}.{}{beyond_cents}", self.0 / MICROS_PER_DOLLAR, &fraction[..2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_parsed_and_printed() {
        for (text, micros, shown) in [
            ("0.96", 960_000, "$0.96"),
            ("12", 12_000_000, "$12.00"),
            ("0.0116", 11_600, "$0.0116"),
            ("0.5", 500_000, "$0.50"),
            ("3.", 3_000_000, "$3.00"),
            ("0.0000005", 1, "$0.000001"),
            ("0.0000004", 0, "$0.00"),
        ] {
            let money = Money::from_dollars(text).unwrap();
            assert_eq!((money, money.to_string().as_str()), (Money(micros), shown), "{text}");
        }
    }

    #[test]
    fn invalid_amounts_are_rejected() {
        for text in ["", ".5", "-1", "+1", "1e-5", "0,96", "$1", "1.2.3", "99999999999999999999"] {
            assert_eq!(Money::from_dollars(text), None, "{text}");
        }
        assert_eq!(Money(u64::MAX).plus(Money(1)).times(3), Money(u64::MAX));
    }
}

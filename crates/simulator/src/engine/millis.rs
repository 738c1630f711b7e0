//! Whole milliseconds.

use std::fmt;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// A duration of virtual time, or the time since a simulation began, in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// Later than any event.
    pub const NEVER: Self = Self(u64::MAX);

    /// `seconds` in milliseconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// `minutes` in milliseconds.
    pub const fn from_minutes(minutes: u64) -> Self {
        Self::from_seconds(minutes.saturating_mul(60))
    }

    /// `hours` in milliseconds.
    pub const fn from_hours(hours: u64) -> Self {
        Self::from_minutes(hours.saturating_mul(60))
    }

    /// Whole seconds, rounded down.
    pub const fn whole_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// From `earlier` to this time; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, length: Self) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl AddAssign for Millis {
    fn add_assign(&mut self, length: Self) {
        *self = *self + length;
    }
}

/// `12.345s`, `7m05.000s`, `2h00m30.000s`.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        match seconds {
            0..60 => write!(f, "{seconds}.{millis:03}s"),
            60..3600 => write!(f, "{}m{:02}.{millis:03}s", seconds / 60, seconds % 60),
            _ => {
                let (hours, rest) = (seconds / 3600, seconds % 3600);
                write!(f, "{hours}h{:02}m{:02}.{millis:03}s", rest / 60, rest % 60)
            }
        }
    }
}

//! Whole seconds; the planner is handed the time and never asks for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time in seconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// A length of time in seconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u64);

impl Timestamp {
    /// Seconds from `earlier` to `self`; zero where `earlier` is in the future (clocks of two machines differ).
    pub fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }

    /// The time `length` after this one, at most the end of time.
    #[must_use]
    pub fn after(self, length: Seconds) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Seconds {
    /// `minutes` in seconds.
    pub const fn from_minutes(minutes: u64) -> Self {
        Self(minutes * 60)
    }

    /// Both lengths together, at most the longest.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// For people: `45s`, `31m05s`, `2h03m`.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s @ 0..60 => write!(f, "{s}s"),
            s @ 60..3600 => write!(f, "{}m{:02}s", s / 60, s % 60),
            s => write!(f, "{}h{:02}m", s / 3600, s % 3600 / 60),
        }
    }
}

//! Whole seconds. The planner gets the time as input and never reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time in seconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// A duration in seconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u64);

impl Timestamp {
    /// Seconds from `earlier` to `self`; zero if `earlier` is later (clocks of two machines differ).
    pub fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }

    /// The time `length` after this one, saturating.
    #[must_use]
    pub fn after(self, length: Seconds) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The beginning of its day, in UTC.
    #[must_use]
    pub fn start_of_day(self) -> Self {
        Self(self.0 - self.0 % SECONDS_PER_DAY)
    }

    /// The beginning of the next day.
    #[must_use]
    pub fn start_of_next_day(self) -> Self {
        self.start_of_day().after(Seconds(SECONDS_PER_DAY))
    }

    /// The beginning of its month, in UTC.
    #[must_use]
    pub fn start_of_month(self) -> Self {
        let (_, _, day) = civil(self.0 / SECONDS_PER_DAY);
        Self(self.start_of_day().0.saturating_sub((day - 1) * SECONDS_PER_DAY))
    }

    /// The beginning of the next month.
    #[must_use]
    pub fn start_of_next_month(self) -> Self {
        self.start_of_month().after(Seconds(32 * SECONDS_PER_DAY)).start_of_month()
    }

    /// This time by a clock that was set by `seconds` (negative: back).
    #[must_use]
    pub fn shifted(self, seconds: i64) -> Self {
        Self(self.0.saturating_add_signed(seconds))
    }
}

impl Seconds {
    /// `minutes` in seconds.
    pub const fn from_minutes(minutes: u64) -> Self {
        Self(minutes * 60)
    }

    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

const SECONDS_PER_DAY: u64 = 86_400;

/// Year, month and day of the day that many days after 1970-01-01; Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, so that a leap day is the last day of its year. An era has 400 years.
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// UTC to the second: `2026-11-25 03:04:05`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / SECONDS_PER_DAY, self.0 % SECONDS_PER_DAY);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// `45s`, `31m05s`, `2h03m`.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s @ 0..60 => write!(f, "{s}s"),
            s @ 60..3600 => write!(f, "{}m{:02}s", s / 60, s % 60),
            s => write!(f, "{}h{:02}m", s / 3600, s % 3600 / 60),
        }
    }
}

/// The earlier of two times that may not come.
pub fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_day() {
        for (seconds, begin, next) in [
            (0, 0, 2_678_400),
            // 2024-02-29 23:59:59.
            (1_709_251_199, 1_706_745_600, 1_709_251_200),
            // 2026-12-31 23:59:59.
            (1_798_761_599, 1_796_083_200, 1_798_761_600),
        ] {
            let time = Timestamp(seconds);
            assert_eq!(time.start_of_month(), Timestamp(begin));
            assert_eq!(time.start_of_next_month(), Timestamp(next));
        }
        assert_eq!(Timestamp(u64::MAX).start_of_next_day(), Timestamp(u64::MAX));
        assert!(Timestamp(u64::MAX).start_of_next_month() <= Timestamp(u64::MAX));
    }

    #[test]
    fn times_are_printed_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_704_067_200, "2024-01-01 00:00:00"),
            (1_798_761_599, "2026-12-31 23:59:59"),
        ] {
            assert_eq!(Timestamp(seconds).to_string(), text);
        }
    }
}

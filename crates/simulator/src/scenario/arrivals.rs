//! When builds arrive.

use serde::{Deserialize, Serialize};

use crate::engine::{Distribution, Millis, Random};

const HOUR: Millis = Millis::from_hours(1);
const DAY: Millis = Millis::from_hours(24);
const WEEK: Millis = Millis::from_hours(24 * 7);

/// When builds arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Arrivals {
    /// At any time with the same probability.
    Poisson {
        /// Builds in an hour, on average.
        per_hour: u32,
    },
    /// As people work: the rate follows the hour of the day and the day of the week.
    Rhythm {
        /// Builds in an hour, on average, at 100 percent.
        per_hour: u32,
        /// Percent of the rate by hour, from midnight.
        day: [u8; 24],
        /// Percent of the rate by day, from Monday.
        week: [u8; 7],
    },
    /// On and off.
    Flapping {
        /// Builds in an hour, on average, while on.
        per_hour: u32,
        /// How long it is on, from the start.
        on: Millis,
        /// How long it is off.
        off: Millis,
    },
    /// Many at once: a merge.
    Burst {
        /// When it begins.
        at: Millis,
        /// How many.
        builds: u32,
        /// They are spread evenly over this time.
        #[serde(default)]
        within: Millis,
        /// From the start of one burst to the start of the next; only one without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every: Option<Millis>,
    },
}

impl Arrivals {
    /// The times before `end`, at most `limit` of them, in order.
    pub(super) fn times(&self, end: Millis, limit: usize, random: &mut Random) -> Vec<Millis> {
        let mut times = match *self {
            Self::Poisson { per_hour }
            | Self::Rhythm { per_hour, .. }
            | Self::Flapping { per_hour, .. } => {
                let candidates = Candidates { gap: gap(per_hour), at: Millis::ZERO, random };
                self.thinned(candidates, end, limit)
            }
            Self::Burst { at, builds, within, every } => {
                bursts(at, builds, within, every).take_while(|at| *at < end).take(limit).collect()
            }
        };
        times.sort_unstable();
        times
    }

    /// Keeps each candidate with the percentage of its time (Lewis and Shedler 1979).
    fn thinned(&self, mut candidates: Candidates<'_>, end: Millis, limit: usize) -> Vec<Millis> {
        let mut times = Vec::new();
        while times.len() < limit {
            let at = candidates.next_time();
            if at >= end {
                break;
            }
            if candidates.random.chance(self.per_million(at)) {
                times.push(at);
            }
        }
        times
    }

    /// The rate at a time, in millionths of the highest.
    fn per_million(&self, at: Millis) -> u32 {
        match self {
            Self::Poisson { .. } | Self::Burst { .. } => 1_000_000,
            Self::Rhythm { day, week, .. } => {
                let hour = percent(day, at.0 % DAY.0 / HOUR.0);
                let weekday = percent(week, at.0 % WEEK.0 / DAY.0);
                hour * weekday * 100
            }
            Self::Flapping { on, off, .. } if at.0 % (*on + *off).0.max(1) < on.0 => 1_000_000,
            Self::Flapping { .. } => 0,
        }
    }
}

/// Arrivals at the highest rate.
struct Candidates<'a> {
    gap: Distribution,
    at: Millis,
    random: &'a mut Random,
}

impl Candidates<'_> {
    /// A millisecond later at least: there are never endlessly many.
    fn next_time(&mut self) -> Millis {
        self.at += self.random.sample(&self.gap).max(Millis(1));
        self.at
    }
}

fn gap(per_hour: u32) -> Distribution {
    Distribution::Exponential { mean: Millis(HOUR.0 / u64::from(per_hour.max(1))) }
}

fn percent(percents: &[u8], at: u64) -> u32 {
    usize::try_from(at).ok().and_then(|at| percents.get(at)).copied().map_or(0, u32::from)
}

fn bursts(
    at: Millis,
    builds: u32,
    within: Millis,
    every: Option<Millis>,
) -> impl Iterator<Item = Millis> {
    let starts = std::iter::successors(Some(at), move |start| every.map(|every| *start + every));
    let place = move |n| Millis(u64::try_from(spread(within, n, builds)).unwrap_or(u64::MAX));
    starts.flat_map(move |start| (0..builds).map(move |n| start + place(n)))
}

fn spread(within: Millis, n: u32, builds: u32) -> u128 {
    u128::from(within.0) * u128::from(n) / u128::from(builds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Purpose, Seed};

    fn by_hour(arrivals: &Arrivals, hours: u64) -> Vec<usize> {
        let mut random = Seed(1).stream(Purpose::Test, 0);
        let times = arrivals.times(Millis::from_hours(hours), usize::MAX, &mut random);
        assert!(times.is_sorted());
        (0..hours).map(|hour| times.iter().filter(|at| at.0 / HOUR.0 == hour).count()).collect()
    }

    #[test]
    fn poisson_has_its_rate() {
        let count: usize = by_hour(&Arrivals::Poisson { per_hour: 100 }, 100).iter().sum();
        assert!((9_700..=10_300).contains(&count), "{count}: three standard deviations are 300");
    }

    #[test]
    fn rhythm_follows_day_and_week() {
        let mut day = [0; 24];
        (day[9], day[10]) = (100, 50);
        let week = [100, 100, 100, 100, 100, 10, 0];
        let hours = by_hour(&Arrivals::Rhythm { per_hour: 10_000, day, week }, 24 * 8);
        let near = |at: usize, expected: usize| hours[at].abs_diff(expected) < expected / 8;
        assert!(near(9, 10_000) && near(10, 5_000), "{hours:?}");
        assert!(near(24 * 5 + 9, 1_000) && hours[24 * 6 + 9] == 0, "{hours:?}");
        assert!(near(24 * 7 + 9, 10_000), "Monday again: {hours:?}");
        assert_eq!(hours.iter().filter(|count| **count > 0).count(), 14);
    }

    #[test]
    fn flapping_is_on_then_off() {
        let on = Millis::from_hours(1);
        let hours = by_hour(&Arrivals::Flapping { per_hour: 500, on, off: on + on }, 7);
        let is_on: Vec<_> = hours.iter().map(|count| *count > 0).collect();
        assert_eq!(is_on, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn bursts_are_spread_and_come_again() {
        let burst = Arrivals::Burst {
            at: Millis(1000),
            builds: 2,
            within: Millis(10),
            every: Some(Millis(5000)),
        };
        let mut random = Seed(1).stream(Purpose::Test, 0);
        let times = burst.times(Millis(6005), 100, &mut random);
        assert_eq!(times, [1000, 1005, 6000].map(Millis));
    }
}

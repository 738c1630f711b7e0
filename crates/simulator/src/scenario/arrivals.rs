//! Arrival times of steps.

use serde::{Deserialize, Serialize};

use crate::engine::{Distribution, Millis, Random};

/// When builds are submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Arrivals {
    /// At these times.
    At(Vec<Millis>),
    /// Poisson, with a mean gap.
    #[serde(rename_all = "camelCase")]
    Poisson {
        /// Start.
        #[serde(default)]
        from: Millis,
        /// End.
        to: Millis,
        /// The mean gap at rate 100, at least 1 ms.
        mean_gap: Millis,
        /// The rate by hour and weekday.
        #[serde(default)]
        rhythm: Option<Rhythm>,
    },
    /// On and off: Poisson while on.
    #[serde(rename_all = "camelCase")]
    Flapping {
        /// Start, in the on state.
        #[serde(default)]
        from: Millis,
        /// End.
        to: Millis,
        /// Duration of the on state.
        on: Millis,
        /// Duration of the off state.
        off: Millis,
        /// The mean gap while on, at least 1 ms.
        mean_gap: Millis,
    },
}

/// The rate in percent, by hour of the day and day of the week; both apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rhythm {
    /// 24 values from midnight on, each at most 100.
    pub hours: Vec<u8>,
    /// 7 values from Monday on, each at most 100.
    pub days: Vec<u8>,
}

impl Rhythm {
    /// In millionths: time zero is midnight before a Monday.
    fn share_at(&self, time: Millis) -> u32 {
        let hours = time.0 / Millis::from_hours(1).0;
        let of = |list: &[u8], at: u64| {
            usize::try_from(at).ok().and_then(|at| list.get(at)).copied().map_or(100, u32::from)
        };
        of(&self.hours, hours % 24) * of(&self.days, hours / 24 % 7) * 100
    }
}

impl Arrivals {
    /// The times, in order of drawing.
    pub(super) fn times(&self, rng: &mut Random) -> Vec<Millis> {
        match self {
            Self::At(times) => times.clone(),
            Self::Poisson { from, to, mean_gap, rhythm } => {
                let keep = |time: Millis, rng: &mut Random| {
                    // Thinning (Lewis and Shedler 1979): the rate is a fraction of the full one.
                    rhythm.as_ref().is_none_or(|rhythm| rng.chance(rhythm.share_at(time)))
                };
                poisson(*from, *to, *mean_gap, rng, keep)
            }
            Self::Flapping { from, to, on, off, mean_gap } => {
                let period = (*on + *off).0.max(1);
                let is_on = |time: Millis, _: &mut Random| time.since(*from).0 % period < on.0;
                poisson(*from, *to, *mean_gap, rng, is_on)
            }
        }
    }

    /// The number of arrivals is very unlikely to exceed this.
    pub(super) fn most(&self) -> u64 {
        match self {
            Self::At(times) => times.len() as u64,
            Self::Poisson { from, to, mean_gap, .. }
            | Self::Flapping { from, to, mean_gap, .. } => {
                (to.since(*from).0 / mean_gap.0.max(1)).saturating_add(1)
            }
        }
    }

    pub(super) fn ends(&self) -> Millis {
        match self {
            Self::At(times) => times.iter().max().copied().unwrap_or_default(),
            Self::Poisson { to, .. } | Self::Flapping { to, .. } => *to,
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Self::Poisson { mean_gap: Millis(0), .. }
        | Self::Flapping { mean_gap: Millis(0), .. } = self
        {
            problems.push("meanGap: must be at least 1 ms".to_owned());
        }
        if let Self::Poisson { from, to, .. } | Self::Flapping { from, to, .. } = self
            && from > to
        {
            problems.push(format!("to: {to} is before from, {from}"));
        }
        if let Self::Poisson { rhythm: Some(Rhythm { hours, days }), .. } = self {
            if hours.len() != 24 || hours.iter().any(|share| *share > 100) {
                problems.push("rhythm.hours: must be 24 numbers from 0 to 100".to_owned());
            }
            if days.len() != 7 || days.iter().any(|share| *share > 100) {
                problems.push("rhythm.days: must be 7 numbers from 0 to 100".to_owned());
            }
        }
        problems
    }
}

fn poisson(
    from: Millis,
    to: Millis,
    mean: Millis,
    rng: &mut Random,
    keep: impl Fn(Millis, &mut Random) -> bool,
) -> Vec<Millis> {
    let gap = Distribution::Exponential { mean };
    let mut times = Vec::new();
    let mut time = from;
    loop {
        time += rng.sample(&gap);
        if time >= to {
            return times;
        }
        if keep(time, rng) {
            times.push(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Purpose, Seed};

    fn times(arrivals: &Arrivals) -> Vec<Millis> {
        assert_eq!(arrivals.problems(), [""; 0]);
        arrivals.times(&mut Seed(3).stream(Purpose::Test, 0))
    }

    #[test]
    fn rates_are_as_told() {
        let to = Millis::from_hours(24 * 7 * 10);
        let mean_gap = Millis::from_minutes(10);
        let poisson = |rhythm| Arrivals::Poisson { from: Millis::ZERO, to, mean_gap, rhythm };
        // Ten weeks, one every ten minutes: 10,080, plus or minus five standard deviations of 100.
        let all = times(&poisson(None)).len();
        assert!(all.abs_diff(10_080) < 500, "{all}");

        // Half the rate, from 8:00 to 20:00, Monday to Friday.
        let hours = (0..24).map(|hour| if (8..20).contains(&hour) { 50 } else { 0 }).collect();
        let days = vec![100, 100, 100, 100, 100, 0, 0];
        let office = times(&poisson(Some(Rhythm { hours, days })));
        let expected = 10_080 / 2 / 2 * 5 / 7;
        assert!(office.len().abs_diff(expected) < 250, "{}", office.len());
        for time in office {
            let hours = time.0 / 3_600_000;
            assert!((8..20).contains(&(hours % 24)) && hours / 24 % 7 < 5, "{time}");
        }

        let flapping = Arrivals::Flapping {
            from: Millis::ZERO,
            to,
            on: Millis::from_minutes(30),
            off: Millis::from_minutes(90),
            mean_gap,
        };
        let flaps = times(&flapping);
        assert!(flaps.len().abs_diff(10_080 / 4) < 250, "{}", flaps.len());
        assert!(flaps.iter().all(|time| time.0 % 7_200_000 < 1_800_000));
    }
}

//! The candidate settings.

use std::fmt;
use std::num::NonZeroU32;

use planner::{IdleTimeout, Policy, Seconds};
use serde::{Deserialize, Serialize};

use crate::engine::{Purpose, Random, Seed};

/// The rule for the number of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SizedBy {
    /// `targetWait`, in seconds.
    TargetWait(u64),
    /// `runnablesPerMachine`.
    RunnablesPerMachine(NonZeroU32),
}

/// `idleTimeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IdleFor {
    /// `"auto"`.
    Auto,
    /// This many seconds.
    Seconds(u64),
}

/// A candidate: replaces the configuration's own settings in every machine type. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The rule for the number of machines.
    pub sized_by: SizedBy,
    /// `idleTimeout`.
    pub idle_timeout: IdleFor,
    /// `keepLast`.
    pub keep_last: u64,
    /// `pollInterval`.
    pub poll_interval: u64,
}

/// Candidate 0 is the current configuration; these follow. All of them are always tried, as anchors.
pub const ANCHORS: [Settings; 5] = [
    anchor(300, IdleFor::Auto, 0),
    anchor(300, IdleFor::Auto, 900),
    anchor(120, IdleFor::Auto, 0),
    anchor(900, IdleFor::Auto, 0),
    anchor(1800, IdleFor::Seconds(0), 0),
];

const fn anchor(target_wait: u64, idle_timeout: IdleFor, keep_last: u64) -> Settings {
    let sized_by = SizedBy::TargetWait(target_wait);
    Settings { sized_by, idle_timeout, keep_last, poll_interval: 30 }
}

const TARGET_WAITS: [u64; 14] =
    [30, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 2700, 3600];
const RUNNABLES_PER_MACHINE: [u32; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
const IDLE_TIMEOUTS: [u64; 9] = [0, 30, 60, 120, 180, 300, 600, 900, 1800];
const KEEP_LASTS: [u64; 5] = [300, 600, 900, 1800, 3600];
const POLL_INTERVALS: [u64; 5] = [10, 20, 30, 60, 120];

/// In millionths.
const MOST: u32 = 700_000;
const HALF: u32 = 500_000;

/// The candidate of that number; `None` for 0, the current configuration. Each has its own stream of `seed`.
pub fn candidate(seed: Seed, number: u64) -> Option<Settings> {
    let number = usize::try_from(number).unwrap_or(usize::MAX).checked_sub(1)?;
    let anchor = ANCHORS.get(number).copied();
    Some(anchor.unwrap_or_else(|| drawn(&mut seed.stream(Purpose::Tuning, number as u64))))
}

fn drawn(random: &mut Random) -> Settings {
    let pick = |random: &mut Random, items: &[u64]| random.pick(items).copied().unwrap_or(0);
    let sized_by = if random.chance(MOST) {
        SizedBy::TargetWait(pick(random, &TARGET_WAITS))
    } else {
        let number = random.pick(&RUNNABLES_PER_MACHINE).copied().unwrap_or(1);
        SizedBy::RunnablesPerMachine(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    };
    let idle_timeout = if random.chance(HALF) {
        IdleFor::Auto
    } else {
        IdleFor::Seconds(pick(random, &IDLE_TIMEOUTS))
    };
    let keep_last = if random.chance(HALF) { 0 } else { pick(random, &KEEP_LASTS) };
    Settings { sized_by, idle_timeout, keep_last, poll_interval: pick(random, &POLL_INTERVALS) }
}

impl Settings {
    /// Replaces the settings of `policy`; the poll interval is the farm's.
    pub fn apply(&self, policy: &mut Policy) {
        for pool in policy.pools.values_mut() {
            match self.sized_by {
                SizedBy::TargetWait(seconds) => pool.target_wait = Some(Seconds(seconds)),
                SizedBy::RunnablesPerMachine(number) => {
                    pool.target_wait = None;
                    pool.runnables_per_machine = number;
                }
            }
            pool.idle_timeout = match self.idle_timeout {
                IdleFor::Auto => IdleTimeout::Auto,
                IdleFor::Seconds(seconds) => IdleTimeout::After(Seconds(seconds)),
            };
            pool.keep_last = Seconds(self.keep_last);
        }
    }

    /// The settings of a machine type as written in `conf.nix`.
    pub fn of_type(&self) -> String {
        let Self { sized_by, idle_timeout, keep_last, poll_interval: _ } = self;
        let sized_by = match sized_by {
            SizedBy::TargetWait(seconds) => format!("targetWait = {seconds}"),
            SizedBy::RunnablesPerMachine(number) => format!("runnablesPerMachine = {number}"),
        };
        let idle_timeout = match idle_timeout {
            IdleFor::Auto => "\"auto\"".to_owned(),
            IdleFor::Seconds(seconds) => seconds.to_string(),
        };
        format!("{sized_by}; idleTimeout = {idle_timeout}; keepLast = {keep_last};")
    }
}

/// As written in `conf.nix`, on one line.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pollInterval = {};", self.of_type(), self.poll_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_do_not_depend_on_each_other() {
        let seed = Seed(7);
        assert_eq!(candidate(seed, 0), None);
        assert_eq!(candidate(seed, 2), Some(ANCHORS[1]));
        let drawn: Vec<_> = (6..200).filter_map(|number| candidate(seed, number)).collect();
        assert_eq!(candidate(seed, 100), drawn.get(94).copied());
        let by_target = drawn.iter().filter(|s| matches!(s.sized_by, SizedBy::TargetWait(_)));
        assert!((100..170).contains(&by_target.count()));
        assert_eq!(
            ANCHORS[1].to_string(),
            "targetWait = 300; idleTimeout = \"auto\"; keepLast = 900; pollInterval = 30;"
        );
    }
}

//! What goes wrong, and when. Data only: the simulated world carries it out.

use planner::MachineType;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use crate::engine::Millis;

/// Something that goes wrong at a time. An empty list of `types` means every machine type; `at` is
/// counted from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Incident {
    /// The queue runner stops; when it is back it knows no machine's history and its uptime is zero.
    QueueRunnerRestart {
        /// When it stops.
        at: Millis,
        /// How long it is away.
        length: Millis,
    },
    /// The queue runner works, but does not answer when it is asked for its status.
    StatusUnavailable {
        /// From when.
        at: Millis,
        /// How long.
        length: Millis,
    },
    /// The provider has no machines to give: requests to create or start fail.
    CapacityDrought {
        /// From when.
        at: Millis,
        /// How long.
        length: Millis,
        /// Of which types.
        #[serde(default)]
        types: Vec<MachineType>,
    },
    /// The provider takes machines away, all at once.
    SpotStorm {
        /// When.
        at: Millis,
        /// How many of those that run, in percent, 1 to 100; drawn from the seed.
        percent: u8,
        /// Of which types.
        #[serde(default)]
        types: Vec<MachineType>,
    },
    /// Machines need longer until they are up.
    SlowBoot {
        /// From when; it is the time of the request that counts.
        at: Millis,
        /// How long.
        length: Millis,
        /// How long they need then, in percent of the usual; above 100.
        percent: u32,
        /// Of which types.
        #[serde(default)]
        types: Vec<MachineType>,
    },
    /// The provider does not answer: neither lists nor actions.
    ProviderOutage {
        /// From when.
        at: Millis,
        /// How long.
        length: Millis,
        /// Of which types.
        #[serde(default)]
        types: Vec<MachineType>,
    },
    /// Machines stop answering and stay so; what was built there is lost.
    Hang {
        /// When.
        at: Millis,
        /// How many of those that run, in percent, 1 to 100; drawn from the seed.
        percent: u8,
        /// Of which types.
        #[serde(default)]
        types: Vec<MachineType>,
    },
}

impl Incident {
    /// When it begins.
    pub fn at(&self) -> Millis {
        match *self {
            Self::QueueRunnerRestart { at, .. }
            | Self::StatusUnavailable { at, .. }
            | Self::CapacityDrought { at, .. }
            | Self::SpotStorm { at, .. }
            | Self::SlowBoot { at, .. }
            | Self::ProviderOutage { at, .. }
            | Self::Hang { at, .. } => at,
        }
    }

    /// When it is over; for what happens at once, when it begins.
    pub fn until(&self) -> Millis {
        match *self {
            Self::QueueRunnerRestart { at, length }
            | Self::StatusUnavailable { at, length }
            | Self::CapacityDrought { at, length, .. }
            | Self::SlowBoot { at, length, .. }
            | Self::ProviderOutage { at, length, .. } => at + length,
            Self::SpotStorm { at, .. } | Self::Hang { at, .. } => at,
        }
    }

    /// Whether it strikes machines of `machine_type`; none is struck by what happens to the queue runner.
    pub fn strikes(&self, machine_type: &MachineType) -> bool {
        match self {
            Self::QueueRunnerRestart { .. } | Self::StatusUnavailable { .. } => false,
            Self::CapacityDrought { types, .. }
            | Self::SpotStorm { types, .. }
            | Self::SlowBoot { types, .. }
            | Self::ProviderOutage { types, .. }
            | Self::Hang { types, .. } => types.is_empty() || types.contains(machine_type),
        }
    }

    pub(super) fn check(&self, path: &str, duration: Millis, problems: &mut Problems) {
        if self.at() >= duration {
            problems.add(path, format!("begins at {}, after the scenario's end", self.at()));
        }
        match *self {
            Self::SpotStorm { percent, .. } | Self::Hang { percent, .. } => {
                if !(1..=100).contains(&percent) {
                    problems.add(path, format!("percent is {percent}, must be from 1 to 100"));
                }
            }
            Self::SlowBoot { percent, .. } => {
                if !(101..=100_000).contains(&percent) {
                    problems.add(path, format!("percent is {percent}, must be from 101 to 100000"));
                }
            }
            Self::QueueRunnerRestart { .. }
            | Self::StatusUnavailable { .. }
            | Self::CapacityDrought { .. }
            | Self::ProviderOutage { .. } => {
                if self.until() == self.at() {
                    problems.add(path, "length is 0, must be above".to_owned());
                }
            }
        }
    }
}

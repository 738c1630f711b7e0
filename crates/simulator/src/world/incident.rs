//! What goes wrong at its own time.

use planner::MachineType;
use serde::{Deserialize, Serialize};

use crate::engine::Millis;

/// One thing that goes wrong from `at` for `length`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Incident {
    /// When it begins.
    pub at: Millis,
    /// How long it lasts.
    #[serde(default)]
    pub length: Millis,
    /// The types it is about; all when none is named.
    #[serde(default)]
    pub types: Vec<MachineType>,
    /// What it is.
    pub kind: IncidentKind,
}

/// The classes of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IncidentKind {
    /// The queue runner is down, and forgets its machines.
    QueueRunnerRestart,
    /// The provider has no machines to give.
    CapacityDrought,
    /// The provider takes machines away at the beginning: this many in a hundred, at least one if any.
    SpotStorm {
        /// How many in a hundred.
        percent: u8,
        /// How long before it is announced; machines that boot are not told.
        #[serde(default)]
        notice: Millis,
    },
    /// Machines that are made or started meanwhile take this many times as long to boot.
    SlowBoot {
        /// How many times.
        factor: u32,
    },
}

impl Incident {
    /// Whether it is about machines of `machine_type`.
    pub fn concerns(&self, machine_type: &MachineType) -> bool {
        self.types.is_empty() || self.types.contains(machine_type)
    }
}

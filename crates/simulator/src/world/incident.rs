//! Incidents: faults at set times.

use planner::MachineType;
use serde::{Deserialize, Serialize};

use crate::engine::Millis;

/// An incident that lasts from `at` for `length`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Incident {
    /// When it begins.
    pub at: Millis,
    /// How long it lasts.
    #[serde(default)]
    pub length: Millis,
    /// The affected types; empty: all.
    #[serde(default)]
    pub types: Vec<MachineType>,
    /// The kind of incident.
    pub kind: IncidentKind,
}

/// Kinds of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IncidentKind {
    /// The queue runner is down, and forgets its machines.
    QueueRunnerRestart,
    /// The provider has no capacity.
    CapacityDrought,
    /// The provider interrupts machines at the start: this percentage, at least one if there are any.
    SpotStorm {
        /// Percentage of machines.
        percent: u8,
        /// How long before the interruption the notice is sent; booting machines get none.
        #[serde(default)]
        notice: Millis,
    },
    /// Machines created or started during the incident take this many times as long to boot.
    SlowBoot {
        /// The factor.
        factor: u32,
    },
}

impl Incident {
    /// Whether it affects `machine_type`.
    pub fn concerns(&self, machine_type: &MachineType) -> bool {
        self.types.is_empty() || self.types.contains(machine_type)
    }
}

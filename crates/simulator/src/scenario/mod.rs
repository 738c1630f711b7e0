//! Scenarios: a synthetic workload, the farm it meets and what goes wrong, fully described by one small
//! file with a seed. Every time and length of time is in milliseconds.

mod arrivals;
mod check;
mod generate;
mod graph;
mod incident;
mod source;

use std::collections::BTreeMap;

use planner::MachineType;
use serde::{Deserialize, Serialize};

use crate::cloud::MachineModel;
use crate::engine::{Millis, Seed};
use crate::queue_runner::{Protocol, Settings};
use crate::workload::{Workload, WorkloadError};
pub use arrivals::Arrivals;
pub use check::{Problem, ScenarioError};
pub use graph::Layer;
pub use incident::Incident;
pub use source::{Kind, Range, Source, WeightedJobset, Work};

/// A whole scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// `hydra-provisioner-scenario`.
    pub format: String,
    /// Of the format; 1.
    pub version: u32,
    /// What it is good for.
    #[serde(default)]
    pub description: String,
    /// The seed to use unless another is asked for.
    #[serde(default)]
    pub seed: u64,
    /// Builds arrive until then; time 0 is a Monday at 00:00.
    pub duration: Millis,
    /// Scheduling shares by `project:jobset`; 1 for those that are not here.
    #[serde(default)]
    pub jobsets: BTreeMap<String, u32>,
    /// Where builds come from. Their order counts: each has its own random streams by its place.
    pub sources: Vec<Source>,
    /// What goes wrong.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// How machines behave and what they cost, by type; others as by default.
    #[serde(default)]
    pub machines: BTreeMap<MachineType, MachineModel>,
    /// The queue runner.
    #[serde(default)]
    pub queue_runner: QueueRunnerModel,
    /// The provisioner.
    #[serde(default)]
    pub cycle: CycleModel,
}

/// The queue runner's own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueRunnerModel {
    /// `classic` or `rest`.
    #[serde(default = "classic")]
    pub protocol: Protocol,
    /// How long a step waits that no machine supports.
    #[serde(default)]
    pub max_unsupported: MaxUnsupported,
    /// From one dispatch to the next when nothing happens (REST).
    #[serde(default = "dispatch_timer")]
    pub dispatch_timer: Millis,
}

/// How long a step waits that no machine supports, before it is aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum MaxUnsupported {
    /// Classic: for ever. REST: its default of 120 s.
    #[default]
    Usual,
    /// For ever.
    Never,
    /// So long.
    After(Millis),
}

/// How the provisioner runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CycleModel {
    /// From the start of one cycle to the start of the next; a longer cycle delays the next.
    pub interval: Millis,
}

fn classic() -> Protocol {
    Protocol::Classic
}

fn dispatch_timer() -> Millis {
    Settings::REST.dispatch_timer
}

impl Default for QueueRunnerModel {
    fn default() -> Self {
        Self {
            protocol: classic(),
            max_unsupported: MaxUnsupported::Usual,
            dispatch_timer: dispatch_timer(),
        }
    }
}

impl QueueRunnerModel {
    /// As the model of the queue runner takes them.
    pub fn settings(self) -> Settings {
        let usual = match self.protocol {
            Protocol::Classic => Settings::CLASSIC,
            Protocol::Rest => Settings::REST,
        };
        let max_unsupported = match self.max_unsupported {
            MaxUnsupported::Usual => usual.max_unsupported,
            MaxUnsupported::Never => None,
            MaxUnsupported::After(length) => Some(length),
        };
        Settings { max_unsupported, dispatch_timer: self.dispatch_timer, ..usual }
    }
}

impl Default for CycleModel {
    fn default() -> Self {
        Self { interval: Millis::from_minutes(5) }
    }
}

impl Scenario {
    /// Reads a scenario and checks it; `file` is the name for messages.
    ///
    /// # Errors
    /// With the first place that is no such JSON, or with everything that makes no sense.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, ScenarioError> {
        check::parse(file, text)
    }

    /// The work: the same scenario and seed give the same steps on any machine.
    ///
    /// # Errors
    /// When there are too many steps.
    pub fn workload(&self, seed: Seed) -> Result<Workload, WorkloadError> {
        generate::workload(self, seed)
    }
}

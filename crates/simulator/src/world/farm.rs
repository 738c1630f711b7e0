//! The environment of a simulation: everything except the policy and the work.

use std::collections::{BTreeMap, BTreeSet};

use planner::{MachineType, Timestamp};
use reconciler::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::faults::Faults;
use super::incident::{Incident, IncidentKind};
use crate::cloud::MachineModel;
use crate::engine::Millis;
use crate::json;
use crate::json::ScenarioError;
use crate::queue_runner::{Epoch, Protocol, Settings};

/// The environment of the provisioner, in a separate file or as part of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Farm {
    /// Behavior and cost of machines, by machine type; types that are not named get the defaults.
    pub machines: BTreeMap<MachineType, MachineModel>,
    /// The queue runner.
    pub queue_runner: Settings,
    /// When the provisioner polls.
    pub cycle: CycleTiming,
    /// Incidents at set times.
    pub incidents: Vec<Incident>,
    /// Whether the provisioner receives interruption notices.
    pub notices: Notices,
    /// Random faults.
    pub faults: Faults,
    /// Which of these the file sets. Where it does not, those of a configuration may apply.
    #[serde(skip)]
    pub given: Given,
}

/// Settings of a farm file that a configuration has, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `cycle.poll`.
    pub poll: bool,
    /// `cycle.listInterval`.
    pub list_interval: bool,
    /// The types with `tariff.price`.
    pub prices: BTreeSet<MachineType>,
    /// The types with `tariff.billing`.
    pub billing: BTreeSet<MachineType>,
}

impl Given {
    /// Of a farm as it is in its file.
    pub(crate) fn of(farm: &Value) -> Self {
        let cycle = |key: &str| farm.get("cycle").is_some_and(|cycle| cycle.get(key).is_some());
        let with = |setting: &str| {
            let machines = farm.get("machines").and_then(Value::as_object).into_iter().flatten();
            let with_it = machines.filter(|(_, model)| model.pointer(setting).is_some());
            with_it.map(|(name, _)| MachineType::new(name)).collect()
        };
        Self {
            poll: cycle("poll") || cycle("interval"),
            list_interval: cycle("listInterval"),
            prices: with("/tariff/price"),
            billing: with("/tariff/billing"),
        }
    }
}

/// Whether the provisioner receives interruption notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Notices {
    /// The provisioner receives them immediately.
    #[default]
    Received,
    /// The provisioner does not receive them.
    Ignored,
}

/// When the provisioner polls, as `run --watch` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CycleTiming {
    /// `pollInterval`: time between queue status requests, in milliseconds, at least 1. `interval` is the old name.
    #[serde(rename = "poll", alias = "interval")]
    pub interval: Millis,
    /// `listInterval`: time between listings of a provider.
    pub list_interval: Millis,
    /// When the provisioner is started.
    pub first: Millis,
}

/// The provisioner's limits, as set in `conf.nix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time limit of a machine's creation or start.
    pub create_timeout: Millis,
    /// Time limit of a machine's boot, and once more of its deployment.
    pub deploy_timeout: Millis,
    /// Time limit of a drain, stop or destruction.
    pub release_timeout: Millis,
    /// Maximum number of concurrent operations, at least 1.
    pub parallelism: u32,
}

impl Default for Farm {
    fn default() -> Self {
        Self {
            machines: BTreeMap::new(),
            queue_runner: Settings::CLASSIC,
            cycle: CycleTiming::default(),
            incidents: Vec::new(),
            notices: Notices::default(),
            faults: Faults::default(),
            given: Given::default(),
        }
    }
}

/// The defaults of `conf.nix`.
impl Default for CycleTiming {
    fn default() -> Self {
        Self {
            interval: Millis::from_seconds(10),
            list_interval: Millis::from_seconds(60),
            first: Millis::ZERO,
        }
    }
}

/// The defaults of `conf.nix`.
impl Default for Limits {
    fn default() -> Self {
        let millis = |length: std::time::Duration| Millis::from_seconds(length.as_secs());
        Self {
            create_timeout: millis(limits::CREATE_TIMEOUT),
            deploy_timeout: millis(limits::DEPLOY_TIMEOUT),
            release_timeout: millis(limits::RELEASE_TIMEOUT),
            parallelism: u32::try_from(limits::PARALLELISM).unwrap_or(u32::MAX),
        }
    }
}

impl Farm {
    /// Virtual time zero by default: midnight of Monday 2024-01-01, UTC, so that weekly patterns begin with a week.
    pub const EPOCH: Epoch = Epoch(Timestamp(1_704_067_200));

    /// Whether nothing in it is random: the same work has the same result with every seed.
    pub fn is_fixed(&self) -> bool {
        self.machines.values().all(MachineModel::is_fixed)
            && self.incidents.is_empty()
            && self.faults == Faults::default()
    }

    /// Reads a farm file.
    ///
    /// # Errors
    /// If it is not JSON of this form (with line and column), or contains invalid values (all of them).
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut farm: Self = json::parse(text).map_err(|error| ScenarioError(vec![error]))?;
        farm.given = json::parse(text).map_or_else(|_| Given::default(), |file| Given::of(&file));
        let problems = farm.problems();
        if problems.is_empty() { Ok(farm) } else { Err(ScenarioError(problems)) }
    }

    /// Whether its queue runner is the REST one.
    pub fn is_rest(&self) -> bool {
        self.queue_runner.protocol == Protocol::Rest
    }

    /// The machine types that it configures.
    pub fn types(&self) -> BTreeSet<&MachineType> {
        let of_incidents = self.incidents.iter().flat_map(|incident| &incident.types);
        self.machines.keys().chain(of_incidents).collect()
    }

    /// All invalid values, each with its path.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, model) in &self.machines {
            for (field, distribution) in model.distributions() {
                if let Err(error) = distribution.check() {
                    problems.push(format!("machines.{name}.{field}: {error}"));
                }
            }
            if model.cores == 0 {
                problems.push(format!("machines.{name}.cores: must be at least 1"));
            }
            if model.copy_percent > 100 {
                problems.push(format!("machines.{name}.copyPercent: at most 100"));
            }
            if let Err(error) = model.tariff.price.check() {
                problems.push(format!("machines.{name}.tariff.price: {error}"));
            }
        }
        for (at, incident) in self.incidents.iter().enumerate() {
            match incident.kind {
                IncidentKind::SpotStorm { percent: 101.., .. } => {
                    problems.push(format!("incidents[{at}].kind.spotStorm.percent: at most 100"));
                }
                IncidentKind::SlowBoot { factor: 0 } => {
                    problems
                        .push(format!("incidents[{at}].kind.slowBoot.factor: must be at least 1"));
                }
                IncidentKind::SpotStorm { .. }
                | IncidentKind::SlowBoot { .. }
                | IncidentKind::QueueRunnerRestart
                | IncidentKind::CapacityDrought => {}
            }
        }
        problems.extend(self.faults.problems());
        if self.cycle.interval == Millis::ZERO {
            problems.push("cycle.poll: must be at least 1 ms".to_owned());
        }
        if self.queue_runner.dispatch_timer == Millis::ZERO {
            problems.push("queueRunner.dispatchTimer: must be at least 1 ms".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_make_no_sense_are_refused() {
        let farm = r#"{"faults":{"until":9000000,"stepFails":1000001,"listedAfter":{"recorded":[]}},"cycle":{"poll":0}}"#;
        assert_eq!(
            Farm::parse(farm).unwrap_err().to_string(),
            "faults.listedAfter: there are no values, at least one is needed\n\
             faults.stepFails: is 1000001, at most 1000000 (per million)\n\
             cycle.poll: must be at least 1 ms"
        );
    }
}

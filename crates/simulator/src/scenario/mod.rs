//! Synthetic work on a synthetic farm, completely described by one file and a seed.

mod arrivals;
mod shape;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Millis, Purpose, Seed};
use crate::json;
pub use crate::json::ScenarioError;
use crate::workload::{MOST_DEPENDENCIES, MOST_STEPS, Workload, WorkloadBuilder};
use crate::world::{Farm, Given};
pub use arrivals::{Arrivals, Rhythm};
pub use shape::{Layer, Shape, WeightedKind};

/// A scenario. Its seed may be overridden; everything else is in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its purpose.
    pub description: String,
    /// The default seed.
    #[serde(default)]
    pub seed: u64,
    /// Machines, queue runner, incidents, faults.
    #[serde(default)]
    pub farm: Farm,
    /// Scheduling shares by jobset; 1 for others.
    #[serde(default)]
    pub jobsets: BTreeMap<String, u32>,
    /// The work.
    pub work: Vec<Work>,
}

/// Builds of one shape, submitted repeatedly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Work {
    /// `project:jobset`.
    pub jobset: String,
    /// When it is submitted.
    pub arrivals: Arrivals,
    /// What each submission contains.
    pub shape: Shape,
    /// `meta.schedulingPriority`.
    #[serde(default)]
    pub priority: i32,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// If it is not JSON of this form (with line and column), or contains invalid values (all of them).
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = json::parse(text).map_err(|error| ScenarioError(vec![error]))?;
        let file = json::parse::<serde_json::Value>(text).unwrap_or_default();
        scenario.farm.given = file.get("farm").map(Given::of).unwrap_or_default();
        let problems = scenario.problems();
        if problems.is_empty() { Ok(scenario) } else { Err(ScenarioError(problems)) }
    }

    /// All invalid values.
    pub fn problems(&self) -> Vec<String> {
        let farm = self.farm.problems().into_iter().map(|problem| format!("farm.{problem}"));
        let mut problems: Vec<_> = farm.collect();
        let (mut steps, mut dependencies) = (0_u64, 0_u64);
        for (at, work) in self.work.iter().enumerate() {
            let of_work = work.arrivals.problems().into_iter().map(|p| format!("arrivals.{p}"));
            let of_work =
                of_work.chain(work.shape.problems().into_iter().map(|p| format!("shape.{p}")));
            problems.extend(of_work.map(|problem| format!("work[{at}].{problem}")));
            let arrivals = work.arrivals.most();
            steps = steps.saturating_add(arrivals.saturating_mul(work.shape.steps()));
            let of_work = arrivals.saturating_mul(work.shape.most_dependencies());
            dependencies = dependencies.saturating_add(of_work);
        }
        if steps > MOST_STEPS {
            problems.push(format!("work: it may be {steps} steps, more than {MOST_STEPS}"));
        }
        if dependencies > MOST_DEPENDENCIES {
            problems.push(format!(
                "work: it may have {dependencies} dependencies, more than {MOST_DEPENDENCIES}; lower shape.needs"
            ));
        }
        problems
    }

    /// The work for `seed`.
    ///
    /// # Errors
    /// If there are more steps, kinds of steps or jobsets than possible.
    pub fn workload(&self, seed: Seed) -> Result<Workload, ScenarioError> {
        let wrong = |error: crate::workload::WorkloadError| ScenarioError(vec![error.to_string()]);
        let mut builder = WorkloadBuilder::new();
        for (jobset, shares) in &self.jobsets {
            builder.set_shares(jobset, *shares).map_err(wrong)?;
        }
        let mut next = shape::Numbers::default();
        for (at, work) in (0_u64..).zip(&self.work) {
            let mut arrivals = seed.stream(Purpose::Arrivals, at);
            let mut rng = shape::Rng {
                durations: seed.stream(Purpose::Durations, at),
                shapes: seed.stream(Purpose::Shapes, at),
            };
            for submit in work.arrivals.times(&mut arrivals) {
                for step in work.shape.draw(submit, work, &mut next, &mut rng) {
                    builder.add(step).map_err(wrong)?;
                }
            }
        }
        builder.finish().map_err(wrong)
    }

    /// Latest time at which work is submitted.
    pub fn ends(&self) -> Millis {
        self.work.iter().map(|work| work.arrivals.ends()).max().unwrap_or_default()
    }
}

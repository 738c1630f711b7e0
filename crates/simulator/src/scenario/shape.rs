//! The steps of one submission.

use planner::{DemandKey, Feature, System};
use serde::{Deserialize, Serialize};

use super::Work;
use crate::engine::{Distribution, Millis, Random};
use crate::workload::{LONGEST_STEP, NewStep};

/// The steps of one submission, in layers as in nixpkgs: few steps at the bottom (the standard environment) are needed
/// by many in the middle (libraries) and most at the top (packages).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shape {
    /// From the bottom up.
    pub layers: Vec<Layer>,
    /// Maximum number of steps of the layer below that a step needs; at least one if there are any.
    #[serde(default = "two")]
    pub needs: u32,
    /// Number of steps per build; 0: all steps of a submission are one build.
    #[serde(default)]
    pub steps_per_build: u32,
}

fn two() -> u32 {
    2
}

/// Steps that do not depend on each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Layer {
    /// Number of steps.
    pub steps: u32,
    /// Their duration.
    pub duration: Distribution,
    /// Their kinds.
    pub kinds: Vec<WeightedKind>,
}

/// A kind of step and its frequency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedKind {
    /// Its system.
    pub system: System,
    /// Required features.
    #[serde(default)]
    pub features: Vec<Feature>,
    /// Relative frequency.
    #[serde(default = "one")]
    pub weight: u32,
    /// Number of cores that it uses. Default: one, or all of the machine with `big-parallel`.
    #[serde(default)]
    pub cores: Option<u16>,
}

fn one() -> u32 {
    1
}

/// The next step id and build id.
#[derive(Default)]
pub(super) struct Numbers {
    step: u64,
    build: u64,
}

pub(super) struct Rng {
    pub(super) durations: Random,
    pub(super) shapes: Random,
}

impl Shape {
    /// Number of steps per submission.
    pub fn steps(&self) -> u64 {
        self.layers.iter().map(|layer| u64::from(layer.steps)).sum()
    }

    /// Maximum number of dependencies per submission.
    pub(super) fn most_dependencies(&self) -> u64 {
        let above_another = self.layers.iter().skip(1).map(|layer| u64::from(layer.steps));
        above_another.sum::<u64>().saturating_mul(u64::from(self.needs))
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            if let Err(error) = layer.duration.check() {
                problems.push(format!("layers[{at}].duration: {error}"));
            }
            if layer.kinds.iter().all(|kind| kind.weight == 0) {
                problems.push(format!("layers[{at}].kinds: none has a weight above 0"));
            }
        }
        let kinds = self.layers.iter().enumerate().flat_map(|(at, layer)| {
            layer.kinds.iter().enumerate().map(move |(kind_at, kind)| (at, kind_at, kind))
        });
        for (at, kind_at, kind) in kinds {
            let place = format!("layers[{at}].kinds[{kind_at}]");
            if kind.cores == Some(0) {
                problems.push(format!("{place}.cores: must be at least 1"));
            }
            if kind.system.as_str().is_empty() {
                problems.push(format!("{place}.system: is empty"));
            }
        }
        if self.steps() == 0 {
            problems.push("layers: there are no steps".to_owned());
        }
        problems
    }

    pub(super) fn draw(
        &self,
        submit: Millis,
        work: &Work,
        next: &mut Numbers,
        rng: &mut Rng,
    ) -> Vec<NewStep> {
        let first = next.step;
        let mut steps: Vec<NewStep> = Vec::new();
        let mut below = 0..0;
        for layer in &self.layers {
            let begin = next.step;
            for _ in 0..layer.steps {
                let id = next.step;
                next.step += 1;
                let build = match self.steps_per_build {
                    0 => 0,
                    size => (id - first) / u64::from(size),
                };
                let (kind, cores) = layer.draw_kind(&mut rng.shapes);
                steps.push(NewStep {
                    id,
                    submit,
                    duration: rng.durations.sample(&layer.duration).clamp(Millis(1), LONGEST_STEP),
                    kind,
                    jobset: work.jobset.clone(),
                    build: next.build + build,
                    global_priority: 0,
                    local_priority: work.priority,
                    dependencies: self.draw_needs(&below, &mut rng.shapes),
                    cores,
                    cancel: None,
                });
            }
            below = begin..next.step;
        }
        next.build = steps.last().map_or(next.build, |step| step.build + 1);
        steps
    }

    fn draw_needs(&self, below: &std::ops::Range<u64>, rng: &mut Random) -> Vec<u64> {
        if below.is_empty() || self.needs == 0 {
            return Vec::new();
        }
        let count = rng.between(1, u64::from(self.needs));
        (0..count).map(|_| rng.between(below.start, below.end - 1)).collect()
    }
}

impl Layer {
    fn draw_kind(&self, rng: &mut Random) -> (DemandKey, Option<u16>) {
        let total: u64 = self.kinds.iter().map(|kind| u64::from(kind.weight)).sum();
        let mut left = rng.below(total);
        let kind = self.kinds.iter().find(|kind| {
            let weight = u64::from(kind.weight);
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it
        });
        let Some(kind) = kind else {
            return (DemandKey { system: System::new("builtin"), features: [].into() }, None);
        };
        let features = kind.features.iter().cloned().collect();
        (DemandKey { system: kind.system.clone(), features }, kind.cores)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::{Millis, Seed};
    use crate::scenario::Scenario;

    const SCENARIO: &str = r#"{
      "description": "two layers",
      "work": [{
        "jobset": "p:j",
        "arrivals": { "at": [0, 60000] },
        "shape": {
          "needs": 3, "stepsPerBuild": 4,
          "layers": [
            { "steps": 2, "duration": { "fixed": 1000 }, "kinds": [{ "system": "a" }] },
            { "steps": 6, "duration": { "fixed": 5000 },
              "kinds": [{ "system": "a", "weight": 3 }, { "system": "b", "features": ["kvm"] }] }
          ]
        }
      }]
    }"#;

    #[test]
    fn layers_need_the_layer_below() {
        let scenario = Scenario::parse(SCENARIO).unwrap();
        let workload = scenario.workload(Seed(1)).unwrap();
        assert_eq!(workload.steps().len(), 16);
        let counts = workload.dependency_counts();
        for (at, step) in workload.steps().iter().enumerate() {
            let bottom = step.id() % 8 < 2;
            assert_eq!(counts[at] == 0, bottom, "{step:?}");
            assert_eq!(step.duration(), Millis::from_seconds(if bottom { 1 } else { 5 }));
            assert_eq!(step.build(), step.id() / 4);
            // No step depends on a step of another submission.
            assert!(workload.dependents_of(at).all(|id| id / 8 == step.id() / 8));
        }
        assert_eq!(workload, scenario.workload(Seed(1)).unwrap());
        assert_ne!(workload, scenario.workload(Seed(2)).unwrap());
    }

    #[test]
    fn every_problem_is_told_with_its_path() {
        let broken = SCENARIO
            .replace(
                r#"{ "at": [0, 60000] }"#,
                r#"{ "poisson": { "from": 5, "to": 4, "meanGap": 0 } }"#,
            )
            .replace(r#"{ "fixed": 1000 }"#, r#"{ "uniform": { "min": 2, "max": 1 } }"#)
            .replace(r#"{ "system": "a" }"#, r#"{ "system": "a", "weight": 0 }"#);
        let odd = SCENARIO.replace(r#"{ "system": "a" }"#, r#"{ "system": "", "cores": 0 }"#);
        assert_eq!(
            Scenario::parse(&odd).unwrap_err().to_string(),
            "work[0].shape.layers[0].kinds[0].cores: must be at least 1\n\
             work[0].shape.layers[0].kinds[0].system: is empty"
        );
        // Four billion draws for each step would fill the memory.
        let greedy = SCENARIO.replace(r#""needs": 3"#, r#""needs": 4294967295"#);
        assert_eq!(
            Scenario::parse(&greedy).unwrap_err().to_string(),
            "work: it may have 51539607540 dependencies, more than 200000000; lower shape.needs"
        );
        assert_eq!(
            Scenario::parse(&broken).unwrap_err().to_string(),
            "work[0].arrivals.meanGap: must be at least 1 ms\n\
             work[0].arrivals.to: 0.004s is before from, 0.005s\n\
             work[0].shape.layers[0].duration: min 0.002s is above max 0.001s\n\
             work[0].shape.layers[0].kinds: none has a weight above 0"
        );
        let error = Scenario::parse("{\n\"descripton\": 1 }").unwrap_err().to_string();
        assert!(error.starts_with("line 2, column 12: unknown field `descripton`"), "{error}");
        assert!(error.ends_with("; did you mean `description`?"), "{error}");
    }
}

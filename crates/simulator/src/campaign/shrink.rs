//! Shrinks a seed that violates a rule to a short history: removes faults, incidents, limits and steps one by one while
//! the same rule is still violated.

use std::collections::BTreeSet;
use std::fmt;

use planner::{CostLimits, Filling, IdleTimeout, Policy, PoolPolicy, RotationPolicy, Seconds};
use serde_json::{Map, Value};

use super::{Knobs, Trial, run};
use crate::world::{Farm, Faults, Planted, Rule};

/// Maximum number of trials per seed.
const MOST_TRIALS: u32 = 2000;

/// The smallest trial found that violates the rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// The rule.
    pub rule: Rule,
    /// The violation.
    pub trial: Trial,
    /// Number of trials.
    pub trials: u32,
}

/// Removes what is not needed to violate the same rule as `knobs`. `None` if they violate none.
pub fn shrink(knobs: Knobs, planted: Planted) -> Option<Shrunk> {
    let trial = run(knobs, planted);
    let rule = trial.violations.first()?.rule;
    let mut shrinking = Shrinking { planted, shrunk: Shrunk { rule, trial, trials: 1 } };
    // Something that could not be removed at first may be removable later.
    while shrinking.remove_settings() | shrinking.remove_steps() {}
    Some(shrinking.shrunk)
}

/// Simpler policies.
const SIMPLER: [fn(&mut Policy); 11] = [
    |policy| policy.max_machines = None,
    |policy| policy.cost_limits = CostLimits::default(),
    |policy| each_pool(policy, |pool| pool.cost_limits = CostLimits::default()),
    |policy| each_pool(policy, |pool| pool.rotation = RotationPolicy::default()),
    |policy| each_pool(policy, |pool| pool.fallback = Some(Vec::new())),
    |policy| each_pool(policy, |pool| pool.target_wait = None),
    |policy| each_pool(policy, |pool| pool.idle_timeout = IdleTimeout::default()),
    |policy| each_pool(policy, |pool| pool.keep_last = Seconds(0)),
    |policy| each_pool(policy, |pool| pool.filling = Filling::Spread),
    |policy| each_pool(policy, |pool| pool.creates_per_5_minutes = None),
    |policy| each_pool(policy, |pool| pool.min_machines = 0),
];

fn each_pool(policy: &mut Policy, change: fn(&mut PoolPolicy)) {
    policy.pools.values_mut().for_each(change);
}

struct Shrinking {
    planted: Planted,
    shrunk: Shrunk,
}

impl Shrinking {
    /// Keeps `knobs` if they violate the rule too. Returns whether they do.
    fn try_with(&mut self, knobs: Knobs) -> bool {
        if self.shrunk.trials >= MOST_TRIALS || knobs == self.shrunk.trial.knobs {
            return false;
        }
        self.shrunk.trials += 1;
        let mut trial = run(knobs, self.planted);
        let rule = self.shrunk.rule;
        trial.violations.retain(|violation| violation.rule == rule);
        let breaks = !trial.violations.is_empty();
        if breaks {
            self.shrunk.trial = trial;
        }
        breaks
    }

    /// Removes faults, incidents, limits and machine types one at a time.
    fn remove_settings(&mut self) -> bool {
        let mut has_removed = false;
        for name in changed_faults(&self.shrunk.trial.knobs.farm.faults) {
            let mut knobs = self.shrunk.trial.knobs.clone();
            if let Some(faults) = without(&knobs.farm.faults, &name) {
                knobs.farm.faults = faults;
                has_removed |= self.try_with(knobs);
            }
        }
        for at in (0..self.shrunk.trial.knobs.farm.incidents.len()).rev() {
            has_removed |= self.try_change(|knobs| {
                knobs.farm.incidents.remove(at);
            });
        }
        // The last configuration has all machine types again, so it goes last.
        let changes = self.shrunk.trial.knobs.changes.len();
        has_removed |= (1..=changes).rev().any(|count| {
            self.try_change(|knobs| {
                knobs.changes.drain(..count);
            })
        });
        for machine_type in self.shrunk.trial.knobs.policy.pools.clone().into_keys() {
            if self.shrunk.trial.knobs.policy.pools.len() == 1 {
                break;
            }
            has_removed |= self.try_change(|knobs| {
                knobs.policy.pools.remove(&machine_type);
                for (_, policy) in &mut knobs.changes {
                    policy.pools.remove(&machine_type);
                }
            });
        }
        let changes: [fn(&mut Knobs); 4] = [
            |knobs| knobs.begin = Farm::EPOCH.0,
            |knobs| knobs.farm.machines.values_mut().for_each(|model| model.room = None),
            |knobs| knobs.canceled = 0,
            |knobs| knobs.dependencies = 0,
        ];
        for change in changes {
            has_removed |= self.try_change(change);
        }
        for change in SIMPLER {
            has_removed |= self.try_change(|knobs| {
                change(&mut knobs.policy);
                knobs.changes.iter_mut().for_each(|(_, policy)| change(policy));
            });
        }
        has_removed
    }

    /// Removes steps: first half of them, finally single ones.
    fn remove_steps(&mut self) -> bool {
        let mut has_removed = false;
        let mut length = self.steps().len().div_ceil(2);
        while length > 0 {
            for part in self.steps().chunks(length) {
                has_removed |= self.try_change(|knobs| knobs.left_out.extend(part));
            }
            length /= 2;
        }
        has_removed
    }

    fn try_change(&mut self, change: impl FnOnce(&mut Knobs)) -> bool {
        let mut knobs = self.shrunk.trial.knobs.clone();
        change(&mut knobs);
        self.try_with(knobs)
    }

    /// The remaining steps.
    fn steps(&self) -> Vec<u64> {
        self.shrunk.trial.knobs.step_ids().collect()
    }
}

fn fields(faults: &Faults) -> Map<String, Value> {
    match serde_json::to_value(faults) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Names of the faults that are set.
fn changed_faults(faults: &Faults) -> BTreeSet<String> {
    let by_default = fields(&Faults::default());
    let changed =
        fields(faults).into_iter().filter(|(name, value)| by_default.get(name) != Some(value));
    changed.map(|(name, _)| name).filter(|name| name != "until").collect()
}

fn without(faults: &Faults, name: &str) -> Option<Faults> {
    let mut left = fields(faults);
    left.remove(name);
    serde_json::from_value(Value::Object(left)).ok()
}

/// What remains, then the violation.
impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, trial, trials } = self;
        let knobs = &trial.knobs;
        writeln!(
            f,
            "seed {}, shrunk in {trials} trials: what still breaks \"{rule}\"",
            knobs.seed
        )?;
        let faults = fields(&knobs.farm.faults);
        for name in changed_faults(&knobs.farm.faults) {
            writeln!(f, "  fault {name}: {}", faults.get(&name).unwrap_or(&Value::Null))?;
        }
        for incident in &knobs.farm.incidents {
            writeln!(
                f,
                "  incident at {} for {}: {:?}",
                incident.at, incident.length, incident.kind
            )?;
        }
        for (at, _) in &knobs.changes {
            writeln!(f, "  another configuration at {at}")?;
        }
        for machine_type in knobs.policy.pools.keys() {
            writeln!(f, "  machine type {machine_type}")?;
        }
        let ids: Vec<_> = knobs.step_ids().map(|id| id.to_string()).collect();
        writeln!(f, "  {} steps: {}", ids.len(), ids.join(" "))?;
        trial.violations.iter().take(1).try_for_each(|first| write!(f, "{first}"))
    }
}

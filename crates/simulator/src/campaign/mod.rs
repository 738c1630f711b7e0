//! The fault campaign: farms, work and faults are drawn from one seed, and all rules are checked throughout.

mod knobs;
mod policies;
mod shrink;

use std::fmt;

use reconciler::Planner;

use crate::engine::{Millis, Seed};
use crate::queue_runner::Epoch;
use crate::simulation::Simulation;
use crate::world::{Planted, Rule, SimWorld, Violation};
pub use knobs::Knobs;
pub use shrink::{Shrunk, shrink};

/// Time that a farm has to come to rest after the last fault and the last submission, in addition to the work itself:
/// the queue runner's longest back-off is 81 minutes for each of four tries.
const REST_WITHIN: Millis = Millis::from_hours(96);

/// The result of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What was drawn.
    pub knobs: Knobs,
    /// Violations.
    pub violations: Vec<Violation>,
    /// When it came to rest or was stopped.
    pub ended_at: Millis,
    /// Number of cycles of the provisioner's loop.
    pub turns: u64,
    /// Number of machines created.
    pub created: u64,
}

/// Runs the trial of `seed` with `planner`.
pub fn trial(seed: Seed, planner: Planner) -> Trial {
    trial_with(seed, Planted { planner, ..Planted::NOTHING })
}

/// Runs the trial of `seed` with a planted bug.
pub fn trial_with(seed: Seed, planted: Planted) -> Trial {
    run(Knobs::draw(seed), planted)
}

/// Runs the trial of `knobs` with a planted bug.
pub fn run(knobs: Knobs, planted: Planted) -> Trial {
    let mut simulation = Simulation::new(knobs.setup()).with(planted);
    simulation.world_mut().begin_at(Epoch(knobs.begin));
    for (at, policy) in &knobs.changes {
        simulation.world_mut().reconfigure_at(*at, policy.clone());
    }
    let trouble_ends = knobs.farm.faults.until;
    simulation.advance(trouble_ends);
    let limit = trouble_ends.max(knobs.submitted_within) + REST_WITHIN + knobs.longest_work();
    if !simulation.run_until_with(limit, SimWorld::check_machines) {
        let plan = simulation.world().reconciler().map(|it| it.plan().to_string());
        let plan = plan.unwrap_or_default();
        let what = format!("still waits for: {}\n{plan}", simulation.what_it_waits_for());
        simulation.world_mut().report_violation(Rule::Converge, what);
    }
    let world = simulation.world();
    Trial {
        violations: world.violations().to_vec(),
        ended_at: world.now(),
        turns: simulation.turns(),
        created: world.usage().values().map(|usage| usage.created).sum(),
        knobs,
    }
}

/// The seed comes first: it is enough to reproduce the trial.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { knobs, violations, ended_at, turns, created } = self;
        writeln!(
            f,
            "seed {}: {} steps, {turns} turns, {created} machines made, ended at {ended_at}, {} violations",
            knobs.seed,
            knobs.steps,
            violations.len()
        )?;
        // The first violation is the most useful: later ones may follow from it.
        if let Some(first) = violations.first() {
            write!(f, "{first}")?;
            writeln!(
                f,
                "to see it again: hydra-provisioner sim campaign --seed {0}\nto shorten it: hydra-provisioner sim campaign --seed {0} --shrink",
                knobs.seed
            )?;
        }
        Ok(())
    }
}

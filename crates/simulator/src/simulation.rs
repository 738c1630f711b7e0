//! A simulation: the provisioner, the queue runner and the cloud in virtual time.

use std::fmt::Write as _;
use std::sync::Arc;

use planner::Policy;

use crate::cloud::Lifecycle;
use crate::comparators::Comparator;
use crate::engine::{Millis, Seed};
use crate::workload::Workload;
use crate::world::{Farm, Limits, Planted, SimWorld};

/// Interval of the checks whether the farm is at rest.
const REST_LOOK_INTERVAL: Millis = Millis::from_seconds(60);

/// The input of a simulation. The same setup gives identical results on every platform.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The random seed.
    pub seed: Seed,
    /// The policy.
    pub policy: Policy,
    /// Time limits and parallelism.
    pub limits: Limits,
    /// The farm.
    pub farm: Farm,
    /// The work.
    pub workload: Arc<Workload>,
}

/// A running simulation.
#[derive(Clone, Debug)]
pub struct Simulation {
    policy: Policy,
    first: Millis,
    world: SimWorld,
}

impl Simulation {
    /// At time zero, before the provisioner is started.
    pub fn new(setup: Setup) -> Self {
        let Setup { seed, policy, limits, farm, workload } = setup;
        Self {
            first: farm.cycle.first,
            world: SimWorld::new(seed, policy.clone(), limits, farm, workload),
            policy,
        }
    }

    /// At time zero, with another provisioner instead of ours.
    pub fn compared(comparator: Comparator, mut setup: Setup) -> Self {
        comparator.apply_to(&mut setup.policy);
        let mut simulation = Self::new(setup);
        if let Some(planner) = comparator.planner() {
            return simulation.with(Planted { planner, ..Planted::NOTHING });
        }
        simulation.world.use_original(comparator);
        simulation
    }

    /// As it is, with a planted bug.
    #[must_use]
    pub fn with(mut self, planted: Planted) -> Self {
        self.world.plant(planted);
        self
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The current world.
    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    /// Like [`Self::world`], but mutable, for external checks.
    pub fn world_mut(&mut self) -> &mut SimWorld {
        &mut self.world
    }

    /// When the provisioner was started.
    pub fn first_look(&self) -> Millis {
        self.first
    }

    /// Number of iterations of the provisioner's control loop.
    pub fn turns(&self) -> u64 {
        self.world.turns()
    }

    /// Advances by `length`.
    pub fn advance(&mut self, length: Millis) {
        self.world.advance_to(self.world.now() + length);
    }

    /// Runs until the farm is at rest, at `limit` at the latest. Returns whether it is at rest.
    pub fn run_until(&mut self, limit: Millis) -> bool {
        self.run_until_with(limit, |_| ())
    }

    /// Like [`Self::run_until`], with a check of the world at each look.
    pub(crate) fn run_until_with(&mut self, limit: Millis, check: impl Fn(&mut SimWorld)) -> bool {
        while self.world.now() < limit {
            let next = self.world.now() + REST_LOOK_INTERVAL;
            // There may be long times without any event.
            let next = next.max(self.world.next_event_at().unwrap_or(limit)).min(limit);
            self.world.advance_to(next);
            check(&mut self.world);
            if self.is_at_rest() {
                return true;
            }
        }
        self.is_at_rest()
    }

    /// Whether all work is done, no machine runs beyond `minMachines`, and no operation is running.
    pub fn is_at_rest(&self) -> bool {
        self.world.queue_runner().unfinished() == 0
            && self.world.recorded_intents().is_empty()
            && self.world.policy().pools.iter().all(|(name, pool)| {
                let of_pool = self.world.machines().filter(|machine| machine.kind == *name);
                let (at_rest, other): (Vec<_>, Vec<_>) =
                    of_pool.partition(|machine| machine.lifecycle() == Lifecycle::Stopped);
                other.len() <= pool.min_machines as usize
                    && at_rest.len() + other.len() <= pool.max_machines as usize
            })
    }

    /// What it waits for, if it is not at rest.
    pub fn what_it_waits_for(&self) -> String {
        let mut text = String::new();
        let unfinished = self.world.queue_runner().unfinished();
        if unfinished > 0 {
            let _ = write!(text, "{unfinished} steps to end");
            let workload = self.world.workload();
            let records = self.world.queue_runner().records().iter().zip(workload.steps());
            let first = records.into_iter().find(|(record, _)| !record.phase.is_final());
            if let Some((record, step)) = first {
                let kind = workload.kind_of(step);
                let _ = write!(text, " (first: {} of {kind}, {:?})", step.id(), record.phase);
            }
        }
        for machine in self.world.machines() {
            let _ = write!(text, ", {} to go ({:?})", machine.name, machine.lifecycle());
        }
        for intent in self.world.recorded_intents() {
            let _ = write!(text, ", the intent {intent}");
        }
        text.trim_start_matches(", ").to_owned()
    }
}

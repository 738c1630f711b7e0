//! The provisioner in the virtual world: cycle after cycle, each as long as what it does takes.

use std::fmt::Write as _;
use std::sync::Arc;

use planner::{Plan, Policy, Snapshot};
use reconciler::Report;

use crate::cloud::Life;
use crate::engine::{Millis, Seed};
use crate::workload::Workload;
use crate::world::{Farm, Limits, SimWorld};

/// What a simulation is about. The same setup gives the same bytes on any machine.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where all chance comes from.
    pub seed: Seed,
    /// What the operator wants.
    pub policy: Policy,
    /// What he allows its parts.
    pub limits: Limits,
    /// The surroundings.
    pub farm: Farm,
    /// The work.
    pub workload: Arc<Workload>,
}

/// A running simulation.
#[derive(Clone, Debug)]
pub struct Simulation {
    policy: Policy,
    interval: Millis,
    first_cycle: Millis,
    next_cycle: Millis,
    cycles: u64,
    world: SimWorld,
}

impl Simulation {
    /// At time zero, before the first cycle.
    pub fn new(setup: Setup) -> Self {
        let Setup { seed, policy, limits, farm, workload } = setup;
        Self {
            interval: Millis(farm.cycle.interval.0.max(1)),
            first_cycle: farm.cycle.first,
            next_cycle: farm.cycle.first,
            cycles: 0,
            world: SimWorld::new(seed, policy.clone(), limits, farm, workload),
            policy,
        }
    }

    /// What the operator wants.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The world as it is now.
    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    /// As [`Self::world`], for onlookers that have something to add.
    pub fn world_mut(&mut self) -> &mut SimWorld {
        &mut self.world
    }

    /// When the next cycle begins.
    pub fn next_cycle(&self) -> Millis {
        self.next_cycle
    }

    /// When the first cycle began.
    pub fn first_cycle(&self) -> Millis {
        self.first_cycle
    }

    /// How many cycles there were.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Goes on to the end of the next cycle. `None`: it was killed, or could not read its log.
    pub fn cycle(&mut self) -> Option<Report> {
        self.cycle_with(planner::plan)
    }

    /// As [`Self::cycle`] with another planner.
    pub fn cycle_with(&mut self, plan: impl FnOnce(&Policy, &Snapshot) -> Plan) -> Option<Report> {
        let began = self.next_cycle;
        self.world.advance_to(began);
        self.world.begin_cycle();
        let report = reconciler::cycle_with(plan, &self.policy, &mut self.world).ok();
        self.cycles += 1;
        self.next_cycle = (began + self.interval).max(self.world.now());
        report.filter(|_| !self.world.cycle_was_killed())
    }

    /// Runs cycles until the farm is at rest, or the next cycle would begin after `limit`. Returns whether it
    /// is at rest.
    pub fn run_until(&mut self, limit: Millis) -> bool {
        while self.next_cycle <= limit {
            self.cycle();
            if self.is_at_rest() {
                return true;
            }
        }
        self.world.advance_to(limit);
        self.is_at_rest()
    }

    /// Whether all work is done, no machine runs beyond `minMachines`, and nothing is under way.
    pub fn is_at_rest(&self) -> bool {
        self.world.queue_runner().unfinished() == 0
            && self.world.recorded_intents().is_empty()
            && self.policy.pools.iter().all(|(name, pool)| {
                let of_pool = self.world.machines().filter(|machine| machine.kind == *name);
                let (at_rest, other): (Vec<_>, Vec<_>) =
                    of_pool.partition(|machine| machine.life() == Life::Stopped);
                other.len() <= pool.min_machines as usize
                    && at_rest.len() + other.len() <= pool.max_machines as usize
            })
    }

    /// What it waits for, while it is not at rest.
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
            let _ = write!(text, ", {} to go ({:?})", machine.name, machine.life());
        }
        for intent in self.world.recorded_intents() {
            let _ = write!(text, ", the intent {}", intent.name);
        }
        text.trim_start_matches(", ").to_owned()
    }
}

//! What came of a simulation, in whole numbers: the same bytes on any machine.

use std::collections::BTreeMap;

use planner::MachineType;
use serde::Serialize;

use crate::cloud::Usage;
use crate::engine::Millis;
use crate::queue_runner::{Phase, StepRecord};
use crate::simulation::Simulation;
use crate::workload::StepSpec;
use crate::world::Provisioning;

/// A step shorter than this counts as this long for its slowdown, lest a second's wait of a tiny step weigh
/// like an hour's: Feitelson and Rudolph, "Metrics and Benchmarking for Parallel Job Scheduling", 1998.
const SLOWDOWN_BOUND: Millis = Millis::from_seconds(10);

/// What came of one simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// The seed.
    pub seed: u64,
    /// Virtual time at the end.
    pub ended_at: Millis,
    /// Whether the farm came to rest: all steps ended, no machine left to release.
    pub at_rest: bool,
    /// Cycles of the provisioner.
    pub cycles: u64,
    /// Rules that were broken; there should be none, ever.
    pub violations: usize,
    /// Builds whose steps have all ended.
    pub builds: u64,
    /// From a build's submission until its last step ended.
    pub build_times: Spread,
    /// All types together; steps that never began count only here.
    pub total: Metrics,
    /// By machine type: its machines, and the steps that they built.
    pub types: BTreeMap<MachineType, Metrics>,
}

/// The numbers of one machine type or of all. Times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Steps that were built.
    pub built: u64,
    /// Steps that were given up: tried too often, supported by no machine for too long, or needing such a step.
    pub failed: u64,
    /// Steps that have not ended.
    pub unfinished: u64,
    /// From when a step could be built until its last try began.
    pub wait: Spread,
    /// (wait + build time) / build time in thousandths, build times below 10 s counted as 10 s; at least 1000.
    pub bounded_slowdown: Spread,
    /// From the first submission to the end of the last step.
    pub makespan: Millis,
    /// Millionths of a dollar.
    pub cost_micro_dollars: u128,
    /// Machines made.
    pub created: u64,
    /// Machines that went away or broke by themselves.
    pub lost: u64,
    /// Machines made, started, stopped or destroyed.
    pub churn: u64,
    /// Machine time that was paid for.
    pub paid: Millis,
    /// Of that: building.
    pub busy: Millis,
    /// Of that: ready, without work.
    pub idle: Millis,
    /// Of that: booting and being deployed.
    pub booting: Millis,
    /// Time that steps took of the time that machines offered for steps, in thousandths.
    pub utilisation: u64,
    /// Time in which steps waited and no machine that could build them was without work (in total: summed
    /// over the types).
    pub under_provisioned: Millis,
    /// Time in which a machine was without work and nothing waited for it (in total: summed over the types).
    pub over_provisioned: Millis,
}

/// How values are spread; all zero when there are none. Percentiles are by nearest rank, of all values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The mean, rounded down.
    pub mean: u64,
    /// The median.
    pub p50: u64,
    /// Percentile 95.
    pub p95: u64,
    /// Percentile 99.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

impl Spread {
    /// Of `values`, which are put in order.
    pub fn of(values: &mut [u64]) -> Self {
        values.sort_unstable();
        let Some(max) = values.last().copied() else { return Self::default() };
        let count = values.len();
        let percentile = |percent: usize| values[(count * percent).div_ceil(100).max(1) - 1];
        let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
        let mean = u64::try_from(sum / count as u128).unwrap_or(u64::MAX);
        Self { mean, p50: percentile(50), p95: percentile(95), p99: percentile(99), max }
    }
}

/// The steps of one type, as far as they were looked at.
#[derive(Default)]
struct Tally {
    metrics: Metrics,
    waits: Vec<u64>,
    slowdowns: Vec<u64>,
    first: Option<Millis>,
    last: Millis,
}

impl Results {
    /// Of `simulation`, as far as it has come.
    pub fn of(seed: u64, simulation: &Simulation) -> Self {
        let world = simulation.world();
        let mut total = Tally::default();
        let mut by_type: BTreeMap<&MachineType, Tally> =
            simulation.policy().pools.keys().map(|name| (name, Tally::default())).collect();
        let names: Vec<_> = simulation.policy().pools.keys().collect();
        let steps = world.workload().steps();
        for (at, (step, record)) in steps.iter().zip(world.queue_runner().records()).enumerate() {
            total.count(step, record);
            let pool = world.built_on(at).and_then(|pool| names.get(pool));
            if let Some(tally) = pool.and_then(|name| by_type.get_mut(name)) {
                tally.count(step, record);
            }
        }
        let (builds, build_times) = build_times(steps, world.queue_runner().records());
        let usage = world.usage();
        let mut whole = Usage::default();
        for usage in usage.values() {
            whole.add(usage);
        }
        let provisioning = world.provisioning();
        let mut both = Provisioning::default();
        for one in provisioning.values() {
            both.under += one.under;
            both.over += one.over;
        }
        let none = (Usage::default(), Provisioning::default());
        let types = by_type.into_iter().map(|(name, tally)| {
            let usage = usage.get(name).unwrap_or(&none.0);
            let provisioning = provisioning.get(name).unwrap_or(&none.1);
            (name.clone(), tally.finish(usage, provisioning))
        });
        Self {
            seed,
            ended_at: world.now(),
            at_rest: simulation.is_at_rest(),
            cycles: simulation.cycles(),
            violations: world.violations().len(),
            builds,
            build_times,
            types: types.collect(),
            total: total.finish(&whole, &both),
        }
    }
}

impl Tally {
    fn count(&mut self, step: &StepSpec, record: &StepRecord) {
        self.first = Some(self.first.map_or(step.submit, |first| first.min(step.submit)));
        match record.phase {
            Phase::Succeeded => self.count_built(record),
            Phase::Aborted | Phase::Unsupported | Phase::DependencyFailed => {
                self.metrics.failed += 1;
                self.last = self.last.max(record.ended_at);
            }
            Phase::Waiting | Phase::Runnable | Phase::Delayed | Phase::Running => {
                self.metrics.unfinished += 1;
            }
        }
    }

    fn count_built(&mut self, record: &StepRecord) {
        self.metrics.built += 1;
        self.last = self.last.max(record.ended_at);
        let wait = record.started_at.since(record.runnable_at);
        let length = record.ended_at.since(record.started_at);
        self.waits.push(wait.0);
        let bounded = length.max(SLOWDOWN_BOUND);
        self.slowdowns.push(((wait + length).0.saturating_mul(1000) / bounded.0).max(1000));
    }

    fn finish(mut self, usage: &Usage, provisioning: &Provisioning) -> Metrics {
        let mut metrics = self.metrics;
        metrics.wait = Spread::of(&mut self.waits);
        metrics.bounded_slowdown = Spread::of(&mut self.slowdowns);
        metrics.makespan = self.first.map_or(Millis::ZERO, |first| self.last.since(first));
        metrics.cost_micro_dollars = usage.cost.micro_dollars();
        metrics.created = usage.created;
        metrics.lost = usage.lost;
        metrics.churn = usage.created + usage.started + usage.stopped + usage.destroyed;
        metrics.paid = usage.paid;
        metrics.busy = usage.busy;
        metrics.idle = usage.idle();
        metrics.booting = usage.booting;
        metrics.utilisation = usage.building.0.saturating_mul(1000) / usage.offered.0.max(1);
        metrics.under_provisioned = provisioning.under;
        metrics.over_provisioned = provisioning.over;
        metrics
    }
}

/// How many builds have ended, and how long these took.
fn build_times(steps: &[StepSpec], records: &[StepRecord]) -> (u64, Spread) {
    // (first submission, last end), `None` for a build that goes on.
    let mut builds: BTreeMap<u64, Option<(Millis, Millis)>> = BTreeMap::new();
    for (step, record) in steps.iter().zip(records) {
        let build = builds.entry(step.build).or_insert(Some((Millis::NEVER, Millis::ZERO)));
        *build = match build {
            Some((first, last)) if record.phase.is_final() => {
                Some(((*first).min(step.submit), (*last).max(record.ended_at)))
            }
            _ => None,
        };
    }
    let ended = builds.into_values().flatten();
    let mut times: Vec<_> = ended.map(|(first, last)| last.since(first).0).collect();
    (times.len() as u64, Spread::of(&mut times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut hundred: Vec<_> = (1..=100).rev().collect();
        let spread = Spread::of(&mut hundred);
        assert_eq!(spread, Spread { mean: 50, p50: 50, p95: 95, p99: 99, max: 100 });
        assert_eq!(Spread::of(&mut [7]), Spread { mean: 7, p50: 7, p95: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of(&mut []), Spread::default());
    }
}

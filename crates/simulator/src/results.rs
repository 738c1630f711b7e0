//! The results of a simulation, in integers: identical on every platform.

use std::collections::BTreeMap;

use planner::MachineType;
use serde::Serialize;

use crate::cloud::Usage;
use crate::engine::Millis;
use crate::queue_runner::{Phase, StepRecord};
use crate::simulation::Simulation;
use crate::statistics::mser5;
use crate::workload::StepSpec;
use crate::world::Provisioning;

/// Shorter steps count as this long for their slowdown, so that a short wait of a tiny step does not dominate:
/// Feitelson and Rudolph, "Metrics and Benchmarking for Parallel Job Scheduling", 1998.
const SLOWDOWN_BOUND: Millis = Millis::from_seconds(10);

/// The warm-up, excluded from waits and slowdowns: a farm starts without machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WarmUp {
    /// No warm-up.
    #[default]
    Nothing,
    /// Excludes steps submitted before then.
    Until(Millis),
    /// Determined by MSER-5 from the waits, in the order of submission.
    Mser5,
}

/// The results of one simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// The seed.
    pub seed: u64,
    /// The time of the provisioner's first poll, which does not depend on the seed.
    pub first_look: Millis,
    /// Virtual time at the end.
    pub ended_at: Millis,
    /// Whether the farm came to rest: all steps ended, no machine left to release.
    pub at_rest: bool,
    /// Waits and slowdowns include steps submitted from then on.
    pub warm_up: Millis,
    /// Cycles of the provisioner.
    pub turns: u64,
    /// Violated rules; must be empty.
    pub violations: usize,
    /// Builds with no unfinished steps.
    pub builds: u64,
    /// From a build's submission until its last step ended.
    pub build_times: Spread,
    /// All types together; steps that never started count only here.
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
    /// Steps that were aborted: canceled, tried too often, supported by no machine for too long, or needing such a step.
    pub failed: u64,
    /// Of these: supported by no machine for longer than the queue runner waits.
    pub unsupported: u64,
    /// Of these: their build was canceled.
    pub canceled: u64,
    /// Steps that have not ended.
    pub unfinished: u64,
    /// From when a step became runnable until its last try started.
    pub wait: Spread,
    /// (wait + build time) / build time in thousandths, build times below 10 s counted as 10 s; at least 1000.
    pub bounded_slowdown: Spread,
    /// From the first submission to the end of the last step.
    pub makespan: Millis,
    /// Micro-dollars.
    pub cost_micro_dollars: u128,
    /// Of that: the disks of stopped machines.
    pub stopped_micro_dollars: u128,
    /// Machines created.
    pub created: u64,
    /// Machines that were lost or failed.
    pub lost: u64,
    /// Machines created, started, stopped or destroyed.
    pub churn: u64,
    /// Machine time that was paid for.
    pub paid: Millis,
    /// Of that: building.
    pub busy: Millis,
    /// Of that: ready and idle.
    pub idle: Millis,
    /// Of that: booting and being deployed.
    pub booting: Millis,
    /// Step time divided by the time that ready machines offer, in thousandths.
    pub utilization: u64,
    /// Time in which steps waited and no machine that could build them was idle (in total: summed over the types).
    pub under_provisioned: Millis,
    /// Time in which a machine was idle and no step waited for it (in total: summed over the types).
    pub over_provisioned: Millis,
}

/// The distribution of values; all zero if there are none. Percentiles are by nearest rank, of all values.
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
    /// The maximum.
    pub max: u64,
}

impl Spread {
    /// The distribution of `values`, which are sorted.
    pub fn of<T: Copy + Ord + Into<u64>>(values: &mut [T]) -> Self {
        values.sort_unstable();
        let Some(max) = values.last().copied() else { return Self::default() };
        let count = values.len();
        let percentile = |percent: usize| values[(count * percent).div_ceil(100).max(1) - 1].into();
        let sum: u128 = values.iter().map(|value| u128::from((*value).into())).sum();
        let mean = u64::try_from(sum / count as u128).unwrap_or(u64::MAX);
        let (p50, p95, p99) = (percentile(50), percentile(95), percentile(99));
        Self { mean, p50, p95, p99, max: max.into() }
    }

    /// The same in half the memory if every value has 32 bits, as nearly all waits do (49 days).
    fn of_many<I: Iterator<Item = u64>>(values: impl Fn() -> I) -> Self {
        let small: Result<Vec<_>, _> = values().map(u32::try_from).collect();
        small.map_or_else(|_| Self::of(&mut values().collect::<Vec<_>>()), |mut v| Self::of(&mut v))
    }
}

impl Results {
    /// Whether `other` has the same results with another seed.
    pub fn is_same_but_for_seed(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.seed = self.seed;
        *self == other
    }

    /// The results of `simulation` so far.
    pub fn of(seed: u64, simulation: &Simulation) -> Self {
        Self::after(WarmUp::Nothing, seed, simulation)
    }

    /// Like [`Self::of`], without the waits and slowdowns of the warm-up. Costs cover the whole run.
    pub fn after(warm_up: WarmUp, seed: u64, simulation: &Simulation) -> Self {
        let world = simulation.world();
        let (specs, records) = (world.workload().steps(), world.queue_runner().records());
        let mut steps = Steps { specs, records, from: Millis::ZERO };
        steps.from = steps.end_of(warm_up);
        let (builds, build_times) = steps.build_times();
        let usage = world.usage();
        let provisioning = world.provisioning();
        let types = simulation.policy().pools.keys().enumerate().map(|(pool, name)| {
            let mut metrics = steps.metrics(|step| world.built_on(step) == Some(pool));
            if let Some(usage) = usage.get(name) {
                metrics.set_usage(usage);
            }
            if let Some(provisioning) = provisioning.get(name) {
                metrics.set_provisioning(provisioning);
            }
            (name.clone(), metrics)
        });
        Self {
            seed,
            first_look: simulation.first_look(),
            ended_at: world.now(),
            at_rest: simulation.is_at_rest(),
            warm_up: steps.from,
            turns: simulation.turns(),
            violations: world.violations().len(),
            builds,
            build_times,
            types: types.collect(),
            total: {
                let mut total = steps.metrics(|_| true);
                total.set_usage(&sum(usage.values()));
                total.set_provisioning(&Provisioning {
                    under: provisioning.values().fold(Millis::ZERO, |sum, one| sum + one.under),
                    over: provisioning.values().fold(Millis::ZERO, |sum, one| sum + one.over),
                });
                total
            },
        }
    }
}

fn sum<'a>(usage: impl Iterator<Item = &'a Usage>) -> Usage {
    let mut sum = Usage::default();
    for one in usage {
        sum.add(one);
    }
    sum
}

/// The steps and their records. There may be tens of millions: derived lists are made one after the other, and dropped.
struct Steps<'a> {
    specs: &'a [StepSpec],
    records: &'a [StepRecord],
    /// Waits and slowdowns include steps submitted from then on.
    from: Millis,
}

impl Steps<'_> {
    fn end_of(&self, warm_up: WarmUp) -> Millis {
        match warm_up {
            WarmUp::Nothing => Millis::ZERO,
            WarmUp::Until(time) => time,
            WarmUp::Mser5 => {
                let built = || {
                    let steps = self.specs.iter().zip(self.records);
                    steps.filter(|(_, record)| record.phase == Phase::Succeeded)
                };
                let cut = mser5(built().map(|(_, record)| wait(record).0));
                let first = built().nth(cut).filter(|_| cut > 0);
                first.map_or(Millis::ZERO, |(spec, _)| spec.submit())
            }
        }
    }

    /// Of the steps with an index for which `belongs` is true.
    fn metrics(&self, belongs: impl Fn(usize) -> bool) -> Metrics {
        let mut metrics = Metrics::default();
        let (mut first, mut last) = (Millis::NEVER, Millis::ZERO);
        let chosen = || {
            let steps = self.specs.iter().zip(self.records).enumerate();
            steps.filter(|(at, _)| belongs(*at)).map(|(_, step)| step)
        };
        for (spec, record) in chosen() {
            first = first.min(spec.submit());
            metrics.unsupported += u64::from(record.phase == Phase::Unsupported);
            metrics.canceled += u64::from(record.phase == Phase::Canceled);
            match record.phase {
                Phase::Succeeded => metrics.built += 1,
                phase if phase.is_final() => metrics.failed += 1,
                _ => metrics.unfinished += 1,
            }
            if record.phase.is_final() {
                last = last.max(record.ended_at());
            }
        }
        metrics.makespan = last.since(first);
        let built = || {
            let counted = chosen().filter(|(spec, _)| spec.submit() >= self.from);
            counted.map(|(_, record)| record).filter(|r| r.phase == Phase::Succeeded)
        };
        metrics.wait = Spread::of_many(|| built().map(|record| wait(record).0));
        metrics.bounded_slowdown = Spread::of_many(|| built().map(bounded_slowdown));
        metrics
    }

    /// Number of builds that have ended, and their durations.
    fn build_times(&self) -> (u64, Spread) {
        let build_of = |step: u32| self.specs[step as usize].build();
        let mut by_build: Vec<u32> = (0..u32::MAX).take(self.specs.len()).collect();
        by_build.sort_unstable_by_key(|&step| (build_of(step), step));
        let duration = |build: &[u32]| {
            let steps = || build.iter().map(|&step| step as usize);
            if !steps().all(|step| self.records[step].phase.is_final()) {
                return None;
            }
            let first = steps().map(|step| self.specs[step].submit()).min()?;
            let last = steps().map(|step| self.records[step].ended_at()).max()?;
            Some(last.since(first).0)
        };
        let times = || by_build.chunk_by(|&a, &b| build_of(a) == build_of(b)).filter_map(duration);
        (times().count() as u64, Spread::of_many(times))
    }
}

pub(crate) fn wait(record: &StepRecord) -> Millis {
    record.started_at().since(record.runnable_at())
}

/// In thousandths.
pub(crate) fn bounded_slowdown(record: &StepRecord) -> u64 {
    let length = record.ended_at().since(record.started_at());
    let bounded = length.max(SLOWDOWN_BOUND);
    ((wait(record) + length).0.saturating_mul(1000) / bounded.0).max(1000)
}

impl Metrics {
    fn set_usage(&mut self, usage: &Usage) {
        self.cost_micro_dollars = usage.cost.micro_dollars();
        self.stopped_micro_dollars = usage.stopped_cost.micro_dollars();
        self.created = usage.created;
        self.lost = usage.lost;
        self.churn = usage.created + usage.started + usage.stopped + usage.destroyed;
        self.paid = usage.paid;
        self.busy = usage.busy;
        self.idle = usage.idle();
        self.booting = usage.booting;
        self.utilization = usage.building.0.saturating_mul(1000) / usage.offered.0.max(1);
    }

    fn set_provisioning(&mut self, provisioning: &Provisioning) {
        self.under_provisioned = provisioning.under;
        self.over_provisioned = provisioning.over;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut hundred: Vec<_> = (1..=100_u64).rev().collect();
        let spread = Spread::of(&mut hundred);
        assert_eq!(spread, Spread { mean: 50, p50: 50, p95: 95, p99: 99, max: 100 });
        assert_eq!(Spread::of(&mut [7_u64]), Spread { mean: 7, p50: 7, p95: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of::<u64>(&mut []), Spread::default());
        for largest in [7, u64::MAX] {
            let values = [5, largest, 6];
            assert_eq!(Spread::of_many(|| values.into_iter()), Spread::of(&mut values.clone()));
        }
    }
}

//! Details of a simulation for the HTML report: samples over time, and waits by group.

use std::collections::BTreeMap;

use crate::cloud::Lifecycle;
use crate::engine::Millis;
use crate::queue_runner::{Phase, StepRecord};
use crate::results::{Spread, bounded_slowdown, wait};
use crate::simulation::Simulation;
use crate::workload::{StepSpec, Workload};
use crate::world::Peaks;

/// More points than this are merged in pairs.
const MOST_POINTS: usize = 600;
/// Points of the distribution of waits.
const PERMILLES: u64 = 200;

/// Counts of machines and steps, summed over the merged samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The time of the first sample.
    pub at: Millis,
    /// Number of samples.
    pub looks: u64,
    /// Machines with at least one step.
    pub building: u64,
    /// Machines that are ready, or do not answer, without a step.
    pub idle: u64,
    /// Machines being created, booting or being deployed.
    pub booting: u64,
    /// Stopped machines.
    pub stopped: u64,
    /// Runnable steps.
    pub waiting: u64,
    /// Running steps.
    pub running: u64,
}

impl Point {
    fn add(&mut self, other: &Self) {
        self.looks += other.looks;
        self.building += other.building;
        self.idle += other.idle;
        self.booting += other.booting;
        self.stopped += other.stopped;
        self.waiting += other.waiting;
        self.running += other.running;
    }
}

/// Records samples at increasing intervals: a year takes no more memory than a day.
#[derive(Clone, Debug)]
pub struct Recorder {
    points: Vec<Point>,
    /// Samples per point.
    looks: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { points: Vec::new(), looks: 1 }
    }
}

impl Recorder {
    /// Takes a sample of the simulation.
    pub fn look(&mut self, simulation: &Simulation) {
        let now = point(simulation);
        match self.points.last_mut() {
            Some(last) if last.looks < self.looks => last.add(&now),
            _ => self.points.push(now),
        }
        if self.points.len() > MOST_POINTS {
            let merge = |pair: &[Point]| {
                let mut sum = pair[0];
                pair[1..].iter().for_each(|other| sum.add(other));
                sum
            };
            self.points = self.points.chunks(2).map(merge).collect();
            self.looks *= 2;
        }
    }
}

fn point(simulation: &Simulation) -> Point {
    let world = simulation.world();
    let mut point = Point { at: world.now(), looks: 1, ..Point::default() };
    for machine in world.machines() {
        let capacity = machine.capacity();
        match machine.lifecycle() {
            Lifecycle::Up | Lifecycle::Unreachable if capacity.busy => point.building += 1,
            Lifecycle::Up | Lifecycle::Unreachable if capacity.ready => point.idle += 1,
            Lifecycle::Creating | Lifecycle::Starting | Lifecycle::Up | Lifecycle::Unreachable => {
                point.booting += 1;
            }
            Lifecycle::Stopped => point.stopped += 1,
            Lifecycle::Stopping | Lifecycle::Failed | Lifecycle::Terminating | Lifecycle::Gone => {}
        }
    }
    (point.waiting, point.running) = world.queue_runner().waiting_and_running();
    point
}

/// The waits of some steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The name of the group.
    pub name: String,
    /// How many were built.
    pub steps: u64,
    /// How long they waited.
    pub wait: Spread,
    /// How many waited longer than the target.
    pub late: u64,
    /// The mean bounded slowdown, in thousandths.
    pub slowdown: u64,
}

/// All details.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The target that waits are compared with.
    pub target: Millis,
    /// Samples over time.
    pub course: Vec<Point>,
    /// The largest farm and the longest queue, at any time, not only when a sample was taken.
    pub peaks: Peaks,
    /// Waits by machine type, jobset and priority; each in the order of their names.
    pub by_type: Vec<Waits>,
    /// See [`Self::by_type`].
    pub by_jobset: Vec<Waits>,
    /// See [`Self::by_type`].
    pub by_priority: Vec<Waits>,
    /// All steps.
    pub all: Waits,
    /// The shortest wait that so many thousandths of the steps do not exceed, evenly spaced from 0 to 1000.
    pub quantiles: Vec<(u64, Millis)>,
}

impl Detail {
    /// The details of a simulation sampled by `recorder`.
    pub fn of(
        recorder: Recorder,
        target: Millis,
        warm_up: Millis,
        simulation: &Simulation,
    ) -> Self {
        let world = simulation.world();
        let workload = world.workload();
        let steps = Steps { workload, records: world.queue_runner().records(), target, warm_up };
        let types: Vec<_> = simulation.policy().pools.keys().map(ToString::to_string).collect();
        let type_of = |at: usize, _: &StepSpec| {
            world.built_on(at).and_then(|pool| types.get(pool)).cloned().unwrap_or_default()
        };
        let jobset_of = |_: usize, spec: &StepSpec| workload.jobset_of(spec).name.clone();
        let priority_of = |_: usize, spec: &StepSpec| {
            let class = workload.class_of(spec);
            match class.global_priority {
                0 => class.local_priority.to_string(),
                global => format!("{} (bumped by {global})", class.local_priority),
            }
        };
        let mut waits: Vec<u64> = steps.built().map(|(_, _, record)| wait(record).0).collect();
        waits.sort_unstable();
        let all = steps.by(|_, _| "all".to_owned()).pop();
        Self {
            target,
            course: recorder.points,
            peaks: world.peaks(),
            by_type: steps.by(type_of),
            by_jobset: steps.by(jobset_of),
            by_priority: steps.by(priority_of),
            all: all.unwrap_or_else(|| steps.waits("all".to_owned(), &[])),
            quantiles: quantiles(&waits),
        }
    }

    /// Jain's index of the jobsets' mean slowdowns: 1 if all are served equally, near 0 if one is served far worse than
    /// many others (Jain, Chiu and Hawe 1984). `None` for fewer than two.
    #[allow(clippy::cast_precision_loss, reason = "for people to read")]
    pub fn fairness(&self) -> Option<f64> {
        let slowdowns: Vec<f64> = self.by_jobset.iter().map(|one| one.slowdown as f64).collect();
        let sum: f64 = slowdowns.iter().sum();
        let squares: f64 = slowdowns.iter().map(|one| one * one).sum();
        (slowdowns.len() > 1 && squares > 0.0)
            .then(|| sum * sum / (slowdowns.len() as f64 * squares))
    }
}

fn quantiles(sorted: &[u64]) -> Vec<(u64, Millis)> {
    let Some(last) = sorted.len().checked_sub(1) else { return Vec::new() };
    let at = |permille: u64| {
        let place = last as u64 * permille / 1000;
        Millis(usize::try_from(place).ok().and_then(|at| sorted.get(at)).copied().unwrap_or(0))
    };
    (0..=PERMILLES).map(|step| step * 1000 / PERMILLES).map(|p| (p, at(p))).collect()
}

struct Steps<'a> {
    workload: &'a Workload,
    records: &'a [StepRecord],
    target: Millis,
    warm_up: Millis,
}

impl Steps<'_> {
    /// The steps that were built and count: index, step, result.
    fn built(&self) -> impl Iterator<Item = (usize, &StepSpec, &StepRecord)> {
        let steps = self.workload.steps().iter().zip(self.records).enumerate();
        steps
            .filter(|(_, (spec, record))| {
                record.phase == Phase::Succeeded && spec.submit() >= self.warm_up
            })
            .map(|(at, (spec, record))| (at, spec, record))
    }

    fn by(&self, name: impl Fn(usize, &StepSpec) -> String) -> Vec<Waits> {
        let mut groups: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for (at, spec, record) in self.built() {
            let one = (wait(record).0, bounded_slowdown(record));
            groups.entry(name(at, spec)).or_default().push(one);
        }
        groups.into_iter().map(|(name, steps)| self.waits(name, &steps)).collect()
    }

    fn waits(&self, name: String, steps: &[(u64, u64)]) -> Waits {
        let mut waits: Vec<u64> = steps.iter().map(|one| one.0).collect();
        let slowdowns: u128 = steps.iter().map(|one| u128::from(one.1)).sum();
        Waits {
            name,
            steps: steps.len() as u64,
            late: waits.iter().filter(|wait| **wait > self.target.0).count() as u64,
            wait: Spread::of(&mut waits),
            slowdown: u64::try_from(slowdowns / steps.len().max(1) as u128).unwrap_or(u64::MAX),
        }
    }
}

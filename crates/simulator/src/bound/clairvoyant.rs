//! The upper bound: a schedule computed with knowledge of the future.
//!
//! Machines are ready exactly when they are needed. A step is built by the type on which it is cheapest, and takes one of
//! a machine's places for each core that it needs, so that steps never slow each other down; or for each two or four
//! cores, and then all steps take as long as they do while the machine is full. Steps are assigned in the order in which
//! they can be built: to the fullest machine that has enough free places now; otherwise to the one that has them soonest,
//! if that is within the step's wait; otherwise to a new machine, which may start later so that more steps fit. A machine
//! that will not be used for longer than a start takes is not kept. It may be created before time zero, and
//! `maxMachines` is ignored.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::work::Work;
use super::{Kind, seconds};
use crate::engine::Millis;
use crate::simulation::Setup;
use crate::workload::StepClass;

/// A time in seconds that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The part of the wait that a step may use: for a place to become free, and for other steps to come before a machine
/// starts.
#[derive(Clone, Copy, Debug)]
struct Patience {
    place: f64,
    machine: f64,
}

/// Where steps of one class are built.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// The index of the type.
    kind: usize,
    /// How many places of the machine a step takes.
    places: usize,
    /// Seconds per second of recorded step time.
    stretch: f64,
}

/// A machine.
#[derive(Clone, Debug)]
struct Machine {
    /// When each place becomes free, in this order.
    free: Vec<f64>,
    /// When its last step ends.
    until: f64,
    /// Starts and ends of its steps.
    busy: Vec<(f64, f64)>,
}

/// The machines of one type.
struct Machines<'a> {
    kind: &'a Kind,
    /// Machines that are not off permanently.
    on: Vec<Machine>,
    /// The cost of those that are off.
    spent: f64,
}

/// The lowest cost of such schedules, in dollars. Steps use only part of the allowed `wait` (in seconds) if that is
/// cheaper.
pub(super) fn cost(setup: &Setup, kinds: &[Kind], work: &Work, wait: f64) -> f64 {
    let parts = [0.0, 0.25, 0.5, 1.0];
    let patience = parts.into_iter().flat_map(|place| parts.map(|machine| (place, machine)));
    let patience: Vec<_> = patience
        .map(|(place, machine)| Patience { place: place * wait, machine: machine * wait })
        .collect();
    let mut least = f64::INFINITY;
    for crowding in [1.0, 2.0, 4.0] {
        let choices = choices(setup, kinds, work, crowding);
        let costs = patience.iter().map(|one| schedule(setup, kinds, work, &choices, *one));
        least = costs.fold(least, f64::min);
        // Steps of one core only: fuller machines do the same more slowly.
        if choices.iter().flatten().all(|choice| choice.places == 1) {
            break;
        }
    }
    least
}

/// By class of steps: the type that is cheapest when its machines are full, with a place for so many cores.
fn choices(setup: &Setup, kinds: &[Kind], work: &Work, crowding: f64) -> Vec<Option<Choice>> {
    let workload = &setup.workload;
    let choice = |class: &StepClass| {
        let cores = workload.cores_of_class(class);
        let own = work.builders[usize::from(class.kind)].iter().copied();
        let kind = own.min_by_key(|at| Time(kinds[*at].price_of(cores, crowding)))?;
        let places = kinds[kind].places_of(cores, crowding);
        Some(Choice { kind, places, stretch: kinds[kind].stretch_of(cores, crowding) })
    };
    workload.classes.iter().map(choice).collect()
}

fn schedule(
    setup: &Setup,
    kinds: &[Kind],
    work: &Work,
    choices: &[Option<Choice>],
    patience: Patience,
) -> f64 {
    let workload = &setup.workload;
    let mut machines: Vec<_> = kinds.iter().map(Machines::new).collect();
    let mut open = workload.dependency_counts();
    let mut ready: Vec<f64> = workload.steps().iter().map(|step| seconds(step.submit())).collect();
    let mut heap = BinaryHeap::new();
    // The steps that a step needs count if it counts.
    let roots = (0..ready.len()).filter(|at| open[*at] == 0 && work.counts[*at]);
    heap.extend(roots.map(|at| Reverse((Time(ready[at]), at))));
    while let Some(Reverse((Time(from), at))) = heap.pop() {
        let spec = &workload.steps()[at];
        let Some(choice) = choices[usize::from(spec.class)] else { continue };
        let length = seconds(spec.duration()) * choice.stretch;
        let done = machines[choice.kind].build(from, length, choice.places, patience);
        for dependent in workload.dependents_at(at).iter().map(|step| step.position()) {
            ready[dependent] = ready[dependent].max(done);
            open[dependent] -= 1;
            if open[dependent] == 0 && work.counts[dependent] {
                heap.push(Reverse((Time(ready[dependent]), dependent)));
            }
        }
    }
    machines.into_iter().map(Machines::cost).sum()
}

impl Machine {
    /// When so many places are free, not before `from`.
    fn begin(&self, places: usize, from: f64) -> Time {
        let free = places.checked_sub(1).and_then(|last| self.free.get(last));
        Time(free.map_or(f64::INFINITY, |free| free.max(from)))
    }

    /// On a new machine, the other places are free from `begin` on.
    fn add(&mut self, begin: f64, end: f64, places: usize) {
        for free in self.free.iter_mut().take(places) {
            *free = end;
        }
        for free in self.free.iter_mut().filter(|free| free.is_infinite()) {
            *free = begin;
        }
        self.free.sort_by(f64::total_cmp);
        self.until = self.until.max(end);
        self.busy.push((begin, end));
    }
}

impl<'a> Machines<'a> {
    fn new(kind: &'a Kind) -> Self {
        Self { kind, on: Vec::new(), spent: 0.0 }
    }

    /// Returns the end of the step. Never called with an earlier `from` than before.
    fn build(&mut self, from: f64, length: f64, places: usize, patience: Patience) -> f64 {
        self.switch_off(from);
        // The soonest; of these the one that runs the longest anyway.
        let best = self.on.iter().enumerate().min_by_key(|(at, machine)| {
            (machine.begin(places, from), Reverse(Time(machine.until)), *at)
        });
        let best = best.map(|(at, machine)| (at, machine.begin(places, from).0));
        let (at, begin) = best
            .filter(|(_, begin)| *begin <= from + patience.place)
            .unwrap_or_else(|| (self.add(), from + patience.machine));
        let end = begin + length;
        self.on[at].add(begin, end, places);
        end
    }

    /// A machine that has been idle for longer than a start takes costs no more to start again.
    fn switch_off(&mut self, now: f64) {
        let start = self.kind.usual_start;
        let (on, off): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.on).into_iter().partition(|one| one.until + start >= now);
        self.on = on;
        for machine in off {
            self.spent += self.cost_of(&machine.busy);
        }
    }

    /// The index of a new machine.
    fn add(&mut self) -> usize {
        let free = vec![f64::NEG_INFINITY; self.kind.places];
        self.on.push(Machine { free, until: 0.0, busy: Vec::new() });
        self.on.len() - 1
    }

    fn cost(self) -> f64 {
        let on = self.on.iter().map(|machine| self.cost_of(&machine.busy));
        self.spent + on.sum::<f64>()
    }

    fn cost_of(&self, busy: &[(f64, f64)]) -> f64 {
        let start = self.kind.usual_start;
        let mut busy = busy.to_vec();
        busy.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut runs: Vec<(f64, f64)> = Vec::new();
        for (begin, end) in busy {
            match runs.last_mut() {
                Some(run) if begin - run.1 <= start => run.1 = run.1.max(end),
                _ => runs.push((begin, end)),
            }
        }
        // Shifts all times so that none is before zero.
        let cost = runs.into_iter().map(|(begin, end)| {
            let cost = self.kind.tariff.running(millis(begin), millis(end + start));
            micro_dollars(cost.micro_dollars())
        });
        cost.sum()
    }
}

#[allow(clippy::cast_precision_loss, reason = "amounts below a billion dollars are exact")]
fn micro_dollars(amount: u128) -> f64 {
    amount as f64 / 1e6
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn millis(seconds: f64) -> Millis {
    Millis((seconds * 1000.0) as u64)
}

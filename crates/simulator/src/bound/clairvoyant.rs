//! The upper bound: a schedule computed with knowledge of the future.
//!
//! Machines are ready exactly when they are needed. Steps are assigned in the order in which they can be built: to the
//! fullest machine that has a free place now; otherwise to the place that is free soonest, if that is within the step's
//! wait; otherwise to a new machine, which may start later so that more steps fit. A machine that will not be used for
//! longer than a start takes is not kept. It may be created before time zero, and `maxMachines` is ignored.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::work::Group;
use super::{Kind, seconds};
use crate::engine::Millis;
use crate::simulation::Setup;

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

/// A machine.
#[derive(Clone, Debug)]
struct Machine {
    /// When each place becomes free.
    free: Vec<f64>,
    /// When its last step ends.
    until: f64,
    /// Starts and ends of its steps.
    busy: Vec<(f64, f64)>,
}

/// The machines of one group.
struct Machines<'a> {
    kind: &'a Kind,
    /// Machines that are not off permanently.
    on: Vec<Machine>,
    /// The cost of those that are off.
    spent: f64,
}

/// The lowest cost of such schedules, in dollars. Steps use only part of the allowed `wait` (in seconds) if that is
/// cheaper.
pub(super) fn cost(setup: &Setup, groups: &[Group], wait: f64) -> f64 {
    let parts = [0.0, 0.25, 0.5, 1.0];
    let patience = parts.into_iter().flat_map(|place| parts.map(|machine| (place, machine)));
    patience
        .map(|(place, machine)| Patience { place: place * wait, machine: machine * wait })
        .map(|patience| schedule(setup, groups, patience))
        .fold(f64::INFINITY, f64::min)
}

fn schedule(setup: &Setup, groups: &[Group], patience: Patience) -> f64 {
    let workload = &setup.workload;
    let mut machines: Vec<_> = groups.iter().filter_map(Machines::new).collect();
    let mut group_of = vec![None; workload.steps().len()];
    for (at, group) in groups.iter().enumerate() {
        for step in &group.steps {
            group_of[step.place] = Some(at);
        }
    }
    let mut open = workload.dependency_counts();
    let mut ready: Vec<f64> = workload.steps().iter().map(|step| seconds(step.submit())).collect();
    let mut heap = BinaryHeap::new();
    let roots = (0..ready.len()).filter(|at| open[*at] == 0);
    heap.extend(roots.map(|at| Reverse((Time(ready[at]), at))));
    while let Some(Reverse((Time(from), at))) = heap.pop() {
        let length = seconds(workload.steps()[at].duration());
        let machines = group_of[at].and_then(|group| machines.get_mut(group));
        let done = machines.map_or(from, |machines| machines.build(from, length, patience));
        for dependent in workload.dependents_at(at).iter().map(|step| step.position()) {
            ready[dependent] = ready[dependent].max(done);
            open[dependent] -= 1;
            if open[dependent] == 0 {
                heap.push(Reverse((Time(ready[dependent]), dependent)));
            }
        }
    }
    machines.into_iter().map(Machines::cost).sum()
}

impl<'a> Machines<'a> {
    /// Of the type that is cheapest when fully used.
    fn new(group: &'a Group) -> Option<Self> {
        let price = |kind: &&Kind| Time(kind.price * kind.stretch / places(kind));
        let kind = group.kinds.iter().min_by_key(price)?;
        Some(Self { kind, on: Vec::new(), spent: 0.0 })
    }

    /// Returns the end of the step. Never called with an earlier `from` than before.
    fn build(&mut self, from: f64, length: f64, patience: Patience) -> f64 {
        self.switch_off(from);
        let begins_at = |machine: &Machine| {
            machine
                .free
                .iter()
                .map(|free| Time(free.max(from)))
                .min()
                .unwrap_or(Time(f64::INFINITY))
        };
        // The soonest; of these the one that runs the longest anyway.
        let best =
            self.on.iter().enumerate().min_by_key(|(at, machine)| {
                (begins_at(machine), Reverse(Time(machine.until)), *at)
            });
        let best = best.map(|(at, machine)| (at, begins_at(machine).0));
        let (at, begin) = best
            .filter(|(_, begin)| *begin <= from + patience.place)
            .unwrap_or_else(|| (self.add(), from + patience.machine));
        let end = begin + length * self.kind.stretch;
        let machine = &mut self.on[at];
        let place = machine.free.iter_mut().min_by_key(|free| Time(**free));
        if let Some(free) = place {
            *free = end;
        }
        for free in machine.free.iter_mut().filter(|free| free.is_infinite()) {
            *free = begin;
        }
        machine.until = machine.until.max(end);
        machine.busy.push((begin, end));
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
        let free = vec![f64::NEG_INFINITY; self.kind.free_slots];
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

#[allow(clippy::cast_precision_loss, reason = "there are never 2^53 places")]
fn places(kind: &Kind) -> f64 {
    kind.free_slots as f64
}

#[allow(clippy::cast_precision_loss, reason = "amounts below a billion dollars are exact")]
fn micro_dollars(amount: u128) -> f64 {
    amount as f64 / 1e6
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn millis(seconds: f64) -> Millis {
    Millis((seconds * 1000.0) as u64)
}

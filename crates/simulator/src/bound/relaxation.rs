//! The lower bound: a linear program that every schedule satisfies, and that no schedule may reach.
//!
//! Time is divided into slots. `x` is the step time per second that the ready machines can do, on average over a slot;
//! `done` is the step time done by the slot's end. Machines may be divided into fractions, steps may be built in pieces
//! at the same time, and the steps that may wait longer are chosen optimally, in fractions.

use good_lp::{
    Expression, ProblemVariables, Solution as _, SolverModel as _, Variable, constraint, microlp,
    variable,
};

use super::work::{Group, Root};

/// More slots give a better bound and a slower program.
const SLOTS: usize = 160;
/// The solver's relative rounding error.
const ROUNDING: f64 = 1e-6;

/// Steps that are submitted in the same slot and have a similar duration.
#[derive(Clone, Copy, Debug)]
struct Class {
    count: f64,
    /// When the last of them is submitted.
    release: f64,
    /// The shortest duration.
    length: f64,
}

/// The minimum cost of the steps, in dollars; `wait` in seconds, `exempt` steps may wait longer.
pub(super) fn least(group: &Group, wait: f64, exempt: usize) -> f64 {
    let Some(program) = Program::new(group, wait, exempt) else { return 0.0 };
    // The cost of the work without starts: still a lower bound if the program cannot be solved.
    let work = program.total * program.price_of_work;
    program.solve().map_or(work, |cost| (cost * (1.0 - ROUNDING)).max(work * (1.0 - ROUNDING)))
}

struct Program<'a> {
    group: &'a Group,
    wait: f64,
    exempt: f64,
    slot: f64,
    total: f64,
    /// Dollars per second of step time.
    price_of_work: f64,
    /// Dollars for starting a capacity of one second of step time per second.
    price_of_start: f64,
    /// Seconds per second of step time, at best and at worst.
    stretch: (f64, f64),
}

impl<'a> Program<'a> {
    #[allow(clippy::cast_precision_loss, reason = "there are never 2^53 steps")]
    fn new(group: &'a Group, wait: f64, exempt: usize) -> Option<Self> {
        let newest = group.steps.iter().map(|step| step.release).fold(None, |last, release| {
            Some(last.map_or(release, |last: f64| last.max(release)))
        })?;
        let least = |value: fn(&super::Kind) -> f64| {
            group.kinds.iter().map(value).fold(f64::INFINITY, f64::min)
        };
        let slowest = group.kinds.iter().map(|kind| kind.slowest).fold(0.0, f64::max);
        let longest = group.steps.iter().map(|step| step.length).fold(0.0, f64::max);
        // What remains after the last slot costs only the work.
        let span = newest + wait + longest.min(newest + wait) + 1.0;
        Some(Self {
            group,
            wait,
            exempt: exempt as f64,
            slot: span / SLOTS as f64,
            total: group.steps.iter().map(|step| step.length).sum(),
            price_of_work: least(|kind| kind.price / kind.throughput),
            price_of_start: least(|kind| kind.price * kind.start / kind.throughput),
            stretch: (least(|kind| kind.stretch), slowest),
        })
    }

    fn solve(&self) -> Option<f64> {
        let mut variables = ProblemVariables::new();
        let free = || variable().min(0.0);
        let ready = variables.add_vector(free(), SLOTS);
        let started = variables.add_vector(free(), SLOTS);
        let done = variables.add_vector(free(), SLOTS);
        let owed = variables.add_vector(free(), SLOTS);
        let after = variables.add(free());
        let classes = self.classes();
        let longer: Vec<_> = classes
            .iter()
            .map(|class| variables.add(variable().min(0.0).max(class.count)))
            .collect();
        let sum = |of: &[Variable]| of.iter().copied().sum::<Expression>();
        let cost = self.price_of_work * self.slot * sum(&ready)
            + self.price_of_start * sum(&started)
            + self.price_of_work * after;
        let mut model = variables.minimise(cost.clone()).using(microlp);
        let mut add = |constraint| {
            model.add_constraint(constraint);
        };
        add(constraint!(sum(&longer) <= self.exempt));
        for at in 0..SLOTS {
            let before =
                |of: &[Variable]| at.checked_sub(1).map_or(0.into(), |b| Expression::from(of[b]));
            let end = self.end(at);
            add(constraint!(started[at] >= ready[at] - before(&ready)));
            add(constraint!(done[at] - before(&done) <= self.slot * ready[at]));
            add(constraint!(done[at] >= before(&done)));
            add(constraint!(done[at] <= self.possible(end)));
            add(constraint!(done[at] >= owed[at]));
            let mut grows = before(&owed);
            for (class, longer) in classes.iter().zip(&longer) {
                let part = self.due(class, end) - self.due(class, end - self.slot);
                if part > 0.0 {
                    grows += part * (class.count - *longer);
                }
            }
            add(constraint!(owed[at] >= grows));
        }
        add(constraint!(done[SLOTS - 1] + after >= self.total));
        Some(model.solve().ok()?.eval(cost))
    }

    #[allow(clippy::cast_precision_loss, reason = "there are few slots")]
    fn end(&self, slot: usize) -> f64 {
        (slot + 1) as f64 * self.slot
    }

    /// Maximum step time that can be done by then: a step takes its full duration, and cannot start early.
    fn possible(&self, time: f64) -> f64 {
        let steps = self.group.steps.iter();
        steps.map(|step| ((time - step.release) / self.stretch.0).clamp(0.0, step.length)).sum()
    }

    /// Step time of the class that must be done by then: steps start within the wait.
    fn due(&self, class: &Class, time: f64) -> f64 {
        ((time - class.release - self.wait) / self.stretch.1).clamp(0.0, class.length)
    }

    /// Only steps without dependencies: waits of earlier steps may delay the others.
    #[allow(clippy::cast_possible_truncation, reason = "it saturates")]
    fn classes(&self) -> Vec<Class> {
        let mut classes: std::collections::BTreeMap<(i64, i64), Class> =
            std::collections::BTreeMap::new();
        for step in self.group.steps.iter().filter(|step| step.is_root == Root::Yes) {
            // Durations within a factor of the square root of two.
            let size = libm::floor(2.0 * libm::log2(step.length.max(1e-3))) as i64;
            let key = (libm::floor(step.release / self.slot) as i64, size);
            let class = classes.entry(key).or_insert(Class {
                count: 0.0,
                release: 0.0,
                length: f64::INFINITY,
            });
            class.count += 1.0;
            class.release = class.release.max(step.release);
            class.length = class.length.min(step.length);
        }
        classes.into_values().collect()
    }
}

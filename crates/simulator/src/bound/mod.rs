//! A lower bound of the cost, and the cost of a clairvoyant schedule as an upper bound; the optimum is between them.
//!
//! Method and proof are in `docs/simulator.md`. All numbers here are `f64`: no decision uses a bound.

mod clairvoyant;
mod kind;
mod relaxation;
mod work;

use serde::Serialize;

use crate::cloud::MachineModel;
use crate::engine::Millis;
use crate::queue_runner::Offer;
use crate::simulation::Setup;
use kind::Kind;
use work::{Group, Work};

/// Bounds of the cost in dollars if at most one step in twenty waits longer than `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bracket {
    /// The 95th percentile of the waits.
    pub wait: Millis,
    /// The lower bound.
    pub least: f64,
    /// The cost of a clairvoyant schedule: the upper bound.
    pub clairvoyant: f64,
    /// Steps that are left out: no machine type builds them, they are canceled, or they need such a step.
    pub left_out: u64,
}

/// Bounds the cost of the setup's work for any provisioner. Only these constraints hold: prices and performance of
/// machines, the limit on waits, and that a step runs after its submission and its dependencies.
pub fn bracket(setup: &Setup, wait: Millis) -> Bracket {
    let kinds = kinds(setup);
    let work = Work::new(setup, &kinds);
    let wait_seconds = seconds(wait);
    // Steps that are left out count here: some of them may be built, and be those that wait longer.
    let exempt = exempt(work.supported);
    let least = work.groups.iter().map(|group| {
        let relaxed = relaxation::least(group, wait_seconds, exempt);
        relaxed.max(chain(group))
    });
    let clairvoyant = clairvoyant::cost(setup, &kinds, &work, wait_seconds);
    // The sum of nothing is -0.
    let (least, clairvoyant) = (least.sum::<f64>() + 0.0, clairvoyant + 0.0);
    Bracket { wait, least, clairvoyant, left_out: work.left_out }
}

/// How many of `steps` may wait longer: percentiles are by nearest rank.
fn exempt(steps: usize) -> usize {
    steps - (steps * 95).div_ceil(100)
}

/// While the steps of the longest chain are built, at least one machine runs, which was started before.
fn chain(group: &Group) -> f64 {
    let longest = group.steps.iter().map(|step| step.chain).fold(0.0, f64::max);
    let least =
        |value: fn(&Kind) -> f64| group.kinds.iter().map(value).fold(f64::INFINITY, f64::min);
    if group.steps.is_empty() {
        return 0.0;
    }
    longest * least(|kind| kind.price * kind.stretch) + least(|kind| kind.price * kind.start)
}

/// By type, in the order of the policy.
fn kinds(setup: &Setup) -> Vec<Kind> {
    let usual = MachineModel::default();
    let workload = &setup.workload;
    let pools = setup.policy.pools.iter();
    pools
        .map(|(name, pool)| {
            let model = setup.farm.machines.get(name).unwrap_or(&usual);
            let offer = Offer::from(pool);
            let classes = workload.classes.iter();
            let own =
                classes.filter(|class| offer.supports(&workload.kinds[usize::from(class.kind)]));
            let cores = own.map(|class| workload.cores_of_class(class));
            Kind::new(pool, model, &setup.farm.queue_runner, cores)
        })
        .collect()
}

#[allow(clippy::cast_precision_loss, reason = "amounts below a billion dollars are exact")]
fn dollars(micro_dollars: u64) -> f64 {
    micro_dollars as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "lengths below 285,000 years are exact")]
fn seconds(length: Millis) -> f64 {
    length.0 as f64 / 1000.0
}

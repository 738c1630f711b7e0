//! A lower bound of the cost, and the cost of a clairvoyant schedule as an upper bound; the optimum is between them.
//!
//! Method and proof are in `docs/simulator.md`. All numbers here are `f64`: no decision uses a bound.

mod clairvoyant;
mod relaxation;
mod work;

use std::collections::BTreeMap;

use planner::{MachineType, Policy};
use serde::Serialize;

use crate::cloud::{MachineModel, Tariff};
use crate::engine::{Distribution, Millis};
use crate::simulation::Setup;
use work::{Group, groups};

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
    /// Steps that no machine type builds, which are left out.
    pub left_out: u64,
}

/// The best performance of a machine of one type.
#[derive(Clone, Debug)]
struct Kind {
    /// Minimum dollars per second.
    price: f64,
    /// Real dollars per second.
    tariff: Tariff,
    /// Minimum paid seconds before its first step.
    start: f64,
    /// The same, as expected of a new machine.
    usual_start: f64,
    /// Concurrent steps that do not slow each other down.
    free_slots: usize,
    /// Seconds of recorded step time per second, all slots together.
    throughput: f64,
    /// Seconds that it takes for a second of recorded step time.
    stretch: f64,
}

/// Bounds the cost of the setup's work for any provisioner. Only these constraints hold: prices and performance of
/// machines, the limit on waits, and that a step runs after its submission and its dependencies.
pub fn bracket(setup: &Setup, wait: Millis) -> Bracket {
    let kinds = kinds(setup);
    let (groups, left_out) = groups(setup, &kinds);
    let wait_seconds = seconds(wait);
    let exempt = exempt(groups.iter().map(|group| group.steps.len()).sum());
    let least = groups.iter().map(|group| {
        let relaxed = relaxation::least(group, wait_seconds, exempt);
        relaxed.max(chain(group))
    });
    let clairvoyant = clairvoyant::cost(setup, &groups, wait_seconds);
    // The sum of nothing is -0.
    Bracket { wait, least: least.sum::<f64>() + 0.0, clairvoyant: clairvoyant + 0.0, left_out }
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

fn kinds(setup: &Setup) -> BTreeMap<MachineType, Kind> {
    let Policy { pools, .. } = &setup.policy;
    let usual = MachineModel::default();
    pools
        .iter()
        .map(|(name, pool)| {
            let model = setup.farm.machines.get(name).unwrap_or(&usual);
            let copies = f64::from(model.copy_percent.min(100)) / 100.0;
            let speed = f64::from(pool.speed_factor.thousandths.max(1)) / 1000.0;
            let (slots, cores) = (f64::from(pool.max_jobs.max(1)), f64::from(model.cores.max(1)));
            // Steps of one core each; others only need more.
            let crowded = (cores / (slots * (1.0 - copies)).max(f64::MIN_POSITIVE)).min(1.0);
            let stretch = |speed: f64| copies + (1.0 - copies) / speed;
            let frees_early = setup.farm.queue_runner.frees_slot_early();
            let early = if frees_early { 1.0 - copies / 2.0 } else { 1.0 };
            let free = cores / (1.0 - copies).max(f64::MIN_POSITIVE);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it saturates"
            )]
            let free_slots = slots.min(free.floor()).max(1.0) as usize;
            let kind = Kind {
                price: dollars(model.tariff.price.least()) / 3600.0,
                tariff: model.tariff.clone(),
                start: start(model),
                usual_start: model.boot.mean_seconds() + model.first_deploy.mean_seconds(),
                free_slots,
                throughput: slots / stretch(speed * crowded) / early,
                stretch: stretch(speed),
            };
            (name.clone(), kind)
        })
        .collect()
}

/// The minimum paid time of a machine before it builds.
fn start(model: &MachineModel) -> f64 {
    let boot = [Some(&model.boot), model.restart.as_ref()];
    let deploy = [Some(&model.first_deploy), Some(&model.redeploy), model.restart_deploy.as_ref()];
    let least = |times: &[Option<&Distribution>]| {
        let times = times.iter().flatten().map(|time| seconds(time.least()));
        times.fold(f64::INFINITY, f64::min)
    };
    // A machine that is never stopped is deployed as new; one that was stopped is at least deployed again.
    least(&boot) + least(&deploy)
}

#[allow(clippy::cast_precision_loss, reason = "amounts below a billion dollars are exact")]
fn dollars(micro_dollars: u64) -> f64 {
    micro_dollars as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "lengths below 285,000 years are exact")]
fn seconds(length: Millis) -> f64 {
    length.0 as f64 / 1000.0
}

//! Bounds compared with every possible schedule of small work.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use planner::{DemandKey, MachineType, Policy, PoolPolicy, System, Tag};
use simulator::bound::bracket;
use simulator::cloud::{MachineModel, PriceSeries, Tariff};
use simulator::engine::{Distribution, Millis, Purpose, Seed};
use simulator::simulation::Setup;
use simulator::workload::{NewStep, WorkloadBuilder};
use simulator::world::{Farm, Limits};

/// Paid seconds before a machine can build.
const START: u64 = 4;

/// A step in whole seconds: its arrival, its duration, its dependency (an earlier step).
#[derive(Clone, Copy, Debug)]
struct Step {
    submit: u64,
    length: u64,
    needs: Option<usize>,
}

/// One machine type that does one step at a time, at a dollar per second.
fn setup(steps: &[Step]) -> Setup {
    let name = MachineType::new("s");
    let tariff = Tariff {
        price: PriceSeries::constant(3_600_000_000),
        billing: simulator::cloud::BillingModel::PerSecond { minimum_seconds: 0 },
        ..Tariff::default()
    };
    let model = MachineModel {
        boot: Distribution::fixed_seconds(START),
        first_deploy: Distribution::fixed_seconds(0),
        redeploy: Distribution::fixed_seconds(0),
        tariff,
        ..MachineModel::default()
    };
    let pool = PoolPolicy::new(vec![System::new("s")]);
    let policy = Policy::new(Tag::new("t"), [(name.clone(), pool)].into());
    let mut farm = Farm::default();
    farm.machines.insert(name, model);
    let mut builder = WorkloadBuilder::new();
    for (id, step) in (0..).zip(steps) {
        let new = NewStep {
            id,
            submit: Millis::from_seconds(step.submit),
            duration: Millis::from_seconds(step.length),
            kind: DemandKey { system: System::new("s"), features: [].into() },
            jobset: "p:j".to_owned(),
            build: id,
            global_priority: 0,
            local_priority: 0,
            dependencies: step.needs.iter().map(|need| *need as u64).collect(),
            cores: None,
            cancel: None,
        };
        builder.add(new).unwrap();
    }
    let workload = Arc::new(builder.finish().unwrap());
    Setup { seed: Seed(1), policy, limits: Limits::default(), farm, workload }
}

/// The minimum cost of all schedules on up to as many machines as steps: every order of whole-second starts within the
/// wait, every assignment of machines; between two steps a machine is kept or started again, whichever is cheaper.
fn best(steps: &[Step], wait: u64) -> u64 {
    fn go(steps: &[Step], wait: u64, at: usize, placed: &mut Vec<(usize, u64, u64)>) -> u64 {
        let Some(step) = steps.get(at) else { return cost(placed) };
        let ready = step.needs.map_or(step.submit, |need| step.submit.max(placed[need].2));
        let machines = placed.iter().map(|place| place.0 + 1).max().unwrap_or(0);
        let mut least = u64::MAX;
        for begin in ready..=ready + wait {
            let end = begin + step.length;
            for machine in 0..=machines {
                let fits = |(other, from, to): &(usize, u64, u64)| {
                    *other != machine || end <= *from || *to <= begin
                };
                if placed.iter().all(fits) {
                    placed.push((machine, begin, end));
                    least = least.min(go(steps, wait, at + 1, placed));
                    placed.pop();
                }
            }
        }
        least
    }
    fn cost(placed: &[(usize, u64, u64)]) -> u64 {
        let machines = placed.iter().map(|place| place.0).max().map_or(0, |last| last + 1);
        let of = |machine| {
            let mut own: Vec<_> =
                placed.iter().filter(|place| place.0 == machine).map(|p| (p.1, p.2)).collect();
            own.sort_unstable();
            let busy: u64 = own.iter().map(|(from, to)| to - from).sum();
            let gaps = own.windows(2).map(|pair| (pair[1].0 - pair[0].1).min(START));
            START + busy + gaps.sum::<u64>()
        };
        (0..machines).map(of).sum()
    }
    go(steps, wait, 0, &mut Vec::new())
}

/// With fewer than twenty steps none is exempt: the 95th percentile is the maximum wait.
#[test]
fn every_schedule_is_between_the_bounds() {
    let mut rng = Seed(11).stream(Purpose::Test, 0);
    let (mut tight, mut cases) = (0, 0);
    for case in 0..60 {
        let count = usize::try_from(rng.between(1, 4)).unwrap();
        let mut submits: Vec<_> = (0..count).map(|_| rng.below(12)).collect();
        submits.sort_unstable();
        let mut steps: Vec<_> = submits
            .into_iter()
            .map(|submit| Step { submit, length: rng.between(1, 9), needs: None })
            .collect();
        if count > 1 && case % 2 == 0 {
            steps[count - 1].needs = Some(0);
        }
        for wait in [0, 3] {
            let bracket = bracket(&setup(&steps), Millis::from_seconds(wait));
            #[allow(clippy::cast_precision_loss, reason = "a small number")]
            let best = best(&steps, wait) as f64;
            assert!(bracket.least <= best + 1e-6, "{steps:?} {wait}: {bracket:?}, best {best}");
            assert!(
                bracket.clairvoyant >= best - 1e-6,
                "{steps:?} {wait}: {bracket:?}, best {best}"
            );
            tight += usize::from(bracket.least >= 0.8 * best && bracket.clairvoyant <= 1.25 * best);
            cases += 1;
        }
    }
    assert!(tight * 2 > cases, "most bounds are near: {tight} of {cases}");
}

//! Bounds compared with every possible schedule of small work.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use planner::{DemandKey, Feature, MachineType, Policy, PoolPolicy, System, Tag};
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

/// A machine type.
struct Type {
    name: &'static str,
    supported_features: &'static [&'static str],
    dollars_per_second: u64,
    max_jobs: u32,
    cores: u32,
}

/// One step at a time, at a dollar per second.
const ONE: Type =
    Type { name: "s", supported_features: &[], dollars_per_second: 1, max_jobs: 1, cores: 4 };

/// A step without features.
fn new_step(id: u64, submit: u64, length: u64) -> NewStep {
    let [submit, length] = [submit, length].map(Millis::from_seconds);
    let kind = DemandKey { system: System::new("s"), features: [].into() };
    NewStep::new(id, submit, length, kind, "p:j")
}

fn setup_of(types: &[Type], steps: impl IntoIterator<Item = NewStep>) -> Setup {
    let mut farm = Farm::default();
    let mut pools = std::collections::BTreeMap::new();
    for one in types {
        let tariff = Tariff {
            price: PriceSeries::constant(3_600_000_000 * one.dollars_per_second),
            billing: simulator::cloud::BillingModel::PerSecond { minimum_seconds: 0 },
            ..Tariff::default()
        };
        let model = MachineModel {
            boot: Distribution::fixed_seconds(START),
            first_deploy: Distribution::fixed_seconds(0),
            redeploy: Distribution::fixed_seconds(0),
            cores: one.cores,
            copy_percent: 0,
            tariff,
            ..MachineModel::default()
        };
        let mut pool = PoolPolicy::new(vec![System::new("s")]);
        pool.max_jobs = one.max_jobs;
        pool.supported_features = one.supported_features.iter().map(Feature::new).collect();
        farm.machines.insert(MachineType::new(one.name), model);
        pools.insert(MachineType::new(one.name), pool);
    }
    let mut builder = WorkloadBuilder::new();
    for step in steps {
        builder.add(step).unwrap();
    }
    let workload = Arc::new(builder.finish().unwrap());
    let policy = Policy::new(Tag::new("t"), pools);
    Setup { seed: Seed(1), policy, limits: Limits::default(), farm, workload }
}

/// One machine type that does one step at a time.
fn setup(steps: &[Step]) -> Setup {
    let steps = (0..).zip(steps).map(|(id, step)| {
        let dependencies = step.needs.iter().map(|need| *need as u64).collect();
        NewStep { dependencies, ..new_step(id, step.submit, step.length) }
    });
    setup_of(&[ONE], steps)
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

fn requiring(feature: &str, step: NewStep) -> NewStep {
    let kind = DemandKey { features: [Feature::new(feature)].into(), ..step.kind };
    NewStep { kind, ..step }
}

#[track_caller]
fn check(setup: &Setup, best: f64, clairvoyant: f64) {
    let bracket = bracket(setup, Millis::ZERO);
    assert!(bracket.least <= best + 1e-6, "{bracket:?}");
    assert!((bracket.clairvoyant - clairvoyant).abs() < 1e-6, "{bracket:?}");
}

/// By hand: a machine of each type, for 14 s.
#[test]
fn a_step_is_built_by_a_type_that_supports_it() {
    let kvm = Type { name: "kvm", supported_features: &["kvm"], dollars_per_second: 2, ..ONE };
    let steps = [new_step(0, 0, 10), requiring("kvm", new_step(1, 0, 10))];
    check(&setup_of(&[ONE, kvm], steps), 42.0, 42.0);
}

/// As in the machines file: a machine of x86_64-linux builds i686-linux too.
#[test]
fn steps_of_i686_linux_count() {
    let mut setup = setup_of(
        &[ONE],
        (0..2).map(|id| {
            let system = System::new(["x86_64-linux", "i686-linux"][usize::from(id == 1)]);
            NewStep { kind: DemandKey { system, features: [].into() }, ..new_step(id, 0, 10) }
        }),
    );
    let pool = setup.policy.pools.values_mut().next().unwrap();
    pool.systems = vec![System::new("x86_64-linux")];
    check(&setup, 28.0, 28.0);
    assert_eq!(bracket(&setup, Millis::ZERO).left_out, 0);
}

/// Steps of ten seconds that begin at once, on machines with four cores and eight slots.
#[test]
fn a_step_takes_as_many_places_as_cores() {
    let wide = || Type { supported_features: &["big-parallel"], max_jobs: 8, ..ONE };
    let steps = |cores, count| {
        (0..count).map(move |id| NewStep { cores, ..new_step(id, 0, 10) }).collect::<Vec<_>>()
    };
    for (steps, best, clairvoyant) in [
        (steps(None, 4), 14.0, 14.0),
        (steps(Some(2), 2), 14.0, 14.0),
        // Together they take half as long again; the schedule counts twice as long, as for a full machine.
        (steps(Some(2), 3), 19.0, 24.0),
        (steps(Some(4), 2), 24.0, 24.0),
        // Recorded on eight cores, they take twice as long on four.
        (steps(Some(8), 1), 24.0, 24.0),
        // All begin at once and wait for nothing, but take twice as long.
        (steps(None, 8), 24.0, 28.0),
    ] {
        check(&setup_of(&[wide()], steps), best, clairvoyant);
    }
    let big = (0..2).map(|id| requiring("big-parallel", new_step(id, 0, 10)));
    check(&setup_of(&[wide()], big), 24.0, 24.0);
}

/// What may not be built is no work: a canceled step, a step that needs it, and one that no type builds.
#[test]
fn steps_that_may_not_be_built_are_left_out() {
    let canceled = NewStep { cancel: Some(Millis::from_seconds(1)), ..new_step(1, 0, 100) };
    let needs = |id, need| NewStep { dependencies: vec![need], ..new_step(id, 0, 100) };
    let kvm = requiring("kvm", new_step(3, 0, 100));
    let steps = [new_step(0, 0, 10), canceled, needs(2, 1), kvm, needs(4, 3), needs(5, 2)];
    let setup = setup_of(&[ONE], steps);
    assert_eq!(bracket(&setup, Millis::ZERO).left_out, 5);
    check(&setup, 14.0, 14.0);
}

/// One in twenty steps may wait, counted with canceled ones: they may be built before. Nine machines for ten steps.
#[test]
fn canceled_steps_count_for_those_that_may_wait_longer() {
    let cancel = |id| (id >= 10).then(|| Millis::from_seconds(1000));
    let steps = (0..20).map(|id| NewStep { cancel: cancel(id), ..new_step(id, 0, 10) });
    let bracket = bracket(&setup_of(&[ONE], steps), Millis::ZERO);
    assert!((bracket.least - (100.0 + 36.0)).abs() < 0.01, "{bracket:?}");
}

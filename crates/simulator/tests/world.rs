//! The virtual world compared with the contracts of the real one, and calculated examples.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use planner::{
    DemandKey, IdleTimeout, MachineType, Policy, PoolPolicy, RotationPolicy, Seconds, System, Tag,
};
use simulator::cloud::{BillingModel, MachineModel, PriceSeries, Spot, Tariff};
use simulator::engine::{Distribution, Millis, Seed};
use simulator::queue_runner::Settings;
use simulator::simulation::{Setup, Simulation};
use simulator::workload::import::recording;
use simulator::workload::{NewStep, Workload, WorkloadBuilder};
use simulator::world::{Farm, Limits, Rule, SimWorld};

const TYPE: &str = "x86_64-linux";

/// Steps of (submission second, duration in seconds), numbered from 0.
fn workload(steps: &[(u64, u64)]) -> Arc<Workload> {
    workload_of(steps, |_| TYPE)
}

/// The same, each with the system that `system` returns.
fn workload_of(steps: &[(u64, u64)], system: impl Fn(u64) -> &'static str) -> Arc<Workload> {
    let mut builder = WorkloadBuilder::new();
    for (id, (submit, duration)) in (0..).zip(steps) {
        let [submit, duration] = [*submit, *duration].map(Millis::from_seconds);
        let kind = DemandKey { system: System::new(system(id)), features: [].into() };
        builder.add(NewStep::new(id, submit, duration, kind, "p:j")).unwrap();
    }
    Arc::new(builder.finish().unwrap())
}

fn policy(change: impl FnOnce(&mut PoolPolicy)) -> Policy {
    let mut pool = PoolPolicy::new(vec![System::new(TYPE)]);
    pool.runnables_per_machine = NonZeroU32::MIN;
    change(&mut pool);
    Policy::new(Tag::new("sim"), BTreeMap::from([(MachineType::new(TYPE), pool)]))
}

/// 10 s to create, 50 s to boot, 60 s to deploy; 0.36 dollars an hour by the second.
fn farm() -> Farm {
    let model = MachineModel {
        tariff: Tariff {
            billing: BillingModel::PerSecond { minimum_seconds: 60 },
            price: PriceSeries::constant(360_000),
            stopped_micro_dollars_per_hour: 0,
        },
        redeploy: Distribution::fixed_seconds(0),
        ..MachineModel::default()
    };
    Farm { machines: BTreeMap::from([(MachineType::new(TYPE), model)]), ..Farm::default() }
}

fn simulation(policy: Policy, farm: Farm, steps: &[(u64, u64)]) -> Simulation {
    let workload = workload(steps);
    Simulation::new(Setup { seed: Seed(1), policy, limits: Limits::default(), farm, workload })
}

/// Calculated by hand: the poll at 10 s is the first that sees the step, which arrives at 1 s: 10 s to create, up at 70
/// s, deployed at 130 s, published; read at 150 s. As soon as the step has started nothing waits, and the machine
/// leaves the file again. The poll at 250 s, when the step ends, sees it idle and unpublished: it is destroyed.
#[test]
fn a_step_on_a_farm_at_zero() {
    let mut simulation = simulation(policy(|_| ()), farm(), &[(1, 100)]);
    assert!(simulation.run_until(Millis::from_hours(2)));
    let world = simulation.world();
    let step = &world.queue_runner().records()[0];
    assert_eq!(step.runnable_at(), Millis::from_seconds(1));
    assert_eq!(step.started_at(), Millis::from_seconds(150));
    assert_eq!(step.ended_at(), Millis::from_seconds(250));
    let usage = &world.usage()[&MachineType::new(TYPE)];
    assert_eq!((usage.created, usage.destroyed), (1, 1));
    // Paid from the boot at 20 s to the destruction at 250 s, at 100 millionths of a dollar a second.
    assert_eq!(usage.paid, Millis::from_seconds(230));
    assert_eq!(usage.cost.to_string(), "0.023000");
    assert_eq!(usage.booting, Millis::from_seconds(110));
    assert_eq!(usage.busy, Millis::from_seconds(100));
    assert_eq!(usage.idle(), Millis::from_seconds(20));
    let provisioning = &world.provisioning()[&MachineType::new(TYPE)];
    // Without an idle machine from 1 s to 130 s; never idle without work.
    assert_eq!(provisioning.under, Millis::from_seconds(129));
    assert_eq!(provisioning.over, Millis::ZERO);
    assert_eq!(world.violations(), []);
}

/// Up at 70 s (see above), for ten minutes; its step is lost with it, and built on the next one.
#[test]
fn a_spot_machine_is_announced_and_taken_away() {
    let mut farm = farm();
    let (life, notice) = (Distribution::fixed_seconds(600), Millis::from_seconds(120));
    farm.machines.values_mut().for_each(|model| {
        model.spot = Some(Spot { life: life.clone(), notice });
    });
    let mut simulation = simulation(policy(|_| ()), farm, &[(1, 520)]);
    assert!(!simulation.run_until(Millis::from_seconds(1000)));
    assert_eq!(simulation.world().usage()[&MachineType::new(TYPE)].lost, 1);
    let world = simulation.world_mut();
    world.report_violation(Rule::Converge, "only to see the history".to_owned());
    let history = &world.violations()[0].history;
    let is_told = |time: &str, what: &str| {
        history.iter().any(|line| line.starts_with(time) && line.ends_with(what))
    };
    assert!(is_told("9m10.000s", "gets an interruption notice: 2m00.000s left"), "{history:#?}");
    assert!(is_told("11m10.000s", "is Gone"), "{history:#?}");
}

/// Two types with work at the same time; one of them boots for 28 minutes: the other is ready at the same time as when
/// it is alone.
#[test]
fn a_slow_type_delays_no_other() {
    const SLOW: &str = "aarch64-linux";
    let mut farm = farm();
    let slow = MachineModel { boot: Distribution::fixed_seconds(1680), ..MachineModel::default() };
    farm.machines.insert(MachineType::new(SLOW), slow);
    let mut policy = policy(|pool| pool.max_machines = 2);
    let pool = PoolPolicy::new(vec![System::new(SLOW)]);
    policy.pools.insert(MachineType::new(SLOW), pool);
    let kinds = |id| if id % 2 == 0 { SLOW } else { TYPE };
    let workload = workload_of(&[(0, 300), (0, 300), (400, 300), (900, 300)], kinds);
    let limits = Limits::default();
    let mut simulation = Simulation::new(Setup { seed: Seed(1), policy, limits, farm, workload });
    assert!(simulation.run_until(Millis::from_hours(6)));
    let records = simulation.world().queue_runner().records();
    let waits =
        |id: usize| records[id].started_at().since(records[id].runnable_at()).whole_seconds();
    // Requested at 10 s, up at 70 s, deployed at 130 s; the queue runner reads the machines file at 150 s.
    assert_eq!(waits(1), 150);
    assert!(waits(3) <= 160, "{}", waits(3));
    assert!(waits(0) > 1680, "{}", waits(0));
    assert_eq!(simulation.world().violations(), []);
}

/// With `maxAge` of two hours, and one machine wanted all day: each is replaced in time, and no step notices.
#[test]
fn a_machine_at_its_age_limit_is_replaced_first() {
    let steps: Vec<_> = (0..70).map(|n| (600 + n * 300, 200)).collect();
    let run = |rotation: RotationPolicy| {
        let policy = policy(|pool| {
            (pool.min_machines, pool.max_machines) = (1, 2);
            (pool.idle_timeout, pool.rotation) = (IdleTimeout::After(Seconds(3600)), rotation);
            pool.runnables_per_machine = NonZeroU32::new(10).unwrap();
        });
        let mut simulation = simulation(policy, farm(), &steps);
        simulation.run_until(Millis::from_hours(7));
        let world = simulation.world();
        assert_eq!(world.violations(), []);
        let records = world.queue_runner().records().iter();
        let longest =
            records.map(|one| one.started_at().since(one.runnable_at()).whole_seconds()).max();
        (world.usage()[&MachineType::new(TYPE)].created, longest.unwrap())
    };
    let old = RotationPolicy { max_age: Some(Seconds(7200)), ..RotationPolicy::default() };
    let used = RotationPolicy { max_builds: Some(20), ..RotationPolicy::default() };
    let without = run(RotationPolicy::default());
    assert_eq!(without.0, 1);
    assert_eq!(run(old), (3, without.1));
    assert_eq!(run(used), (4, without.1));
}

#[test]
fn a_rest_farm_at_zero_with_the_queue_runners_default_gives_its_steps_up() {
    for (max_unsupported, succeeds) in [(Settings::REST.max_unsupported, false), (None, true)] {
        let queue_runner = Settings { max_unsupported, ..Settings::REST };
        let mut farm = Farm { queue_runner, ..farm() };
        farm.machines.values_mut().for_each(|model| {
            model.boot = Distribution::fixed_seconds(600);
        });
        let mut simulation = simulation(policy(|_| ()), farm, &[(1, 100)]);
        assert!(simulation.run_until(Millis::from_hours(3)));
        let phase = simulation.world().queue_runner().records()[0].phase;
        assert_eq!(phase == simulator::queue_runner::Phase::Succeeded, succeeds, "{phase:?}");
        assert_eq!(simulation.world().violations(), []);
    }
}

#[test]
fn the_simulated_provider_keeps_the_contract() {
    let policy = policy(|pool| pool.max_machines = 5);
    let mut farm = farm();
    // Nobody else operates the machines.
    farm.cycle.first = Millis::NEVER;
    let mut world =
        SimWorld::new(Seed(1), policy, Limits::default(), farm, Arc::new(Workload::default()));
    reconciler::conformance::check(&mut world, "sim", &MachineType::new(TYPE)).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_machines() {
    let run = |seed| {
        let mut farm = farm();
        let model = farm.machines.get_mut(&MachineType::new(TYPE)).unwrap();
        model.boot = Distribution::exponential_seconds(50);
        let steps: Vec<_> = (0..50).map(|n| (n * 60, 100)).collect();
        let mut simulation = Simulation::new(Setup {
            seed: Seed(seed),
            policy: policy(|pool| pool.max_machines = 3),
            limits: Limits::default(),
            farm,
            workload: workload(&steps),
        });
        simulation.run_until(Millis::from_hours(24));
        format!("{:?}", simulation.world())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Statuses that were recorded every 10 s contain every step, and its duration to the second.
#[test]
fn a_recording_contains_the_work() {
    let steps: Vec<_> = (0..60).map(|n| (n * 97, 60 + n * 13 % 240)).collect();
    let mut simulation = simulation(policy(|pool| pool.max_machines = 4), farm(), &steps);
    let mut snapshots = Vec::new();
    while simulation.world().now() < Millis::from_hours(12) {
        simulation.advance(Millis::from_seconds(10));
        let seen = simulation.world().reconciler().and_then(reconciler::Reconciler::seen);
        snapshots.extend(seen.cloned());
    }
    let imported = recording(snapshots).unwrap();
    assert_eq!(imported.left_out, [""; 0]);
    let sorted = |mut durations: Vec<u64>| {
        durations.sort_unstable();
        durations
    };
    let found = imported.workload.steps().iter().map(|step| step.duration().whole_seconds());
    let found = sorted(found.collect());
    let real = sorted(steps.iter().map(|(_, duration)| *duration).collect());
    assert_eq!(found.len(), real.len());
    let differs = found.iter().zip(&real).filter(|(one, other)| one.abs_diff(**other) > 1).count();
    assert!(differs <= 6, "two that end between two polls get their mean: {found:?}");
}

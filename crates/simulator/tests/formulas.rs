//! The whole simulator compared with closed formulas of queueing theory, with policies that make it such a queue.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a test may; its own numbers need not be the same on any machine"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use planner::{DemandKey, MachineType, Policy, PoolPolicy, System, Tag};
use simulator::cloud::MachineModel;
use simulator::engine::{Distribution, Millis, Purpose, Seed};
use simulator::queue_runner::Phase;
use simulator::simulation::{Setup, Simulation};
use simulator::statistics::Estimate;
use simulator::workload::{NewStep, Workload, WorkloadBuilder};
use simulator::world::{CycleTiming, Farm, Limits, SimWorld};

const TYPE: &str = "x86_64-linux";
/// Replications: independent runs, one estimate each.
const SEEDS: u64 = 30;

/// Poisson arrivals and exponential build times, means in seconds.
fn workload(seed: Seed, steps: u64, gap: u64, service: u64) -> Arc<Workload> {
    let mut arrivals = seed.stream(Purpose::Arrivals, 0);
    let mut durations = seed.stream(Purpose::Durations, 0);
    let mut builder = WorkloadBuilder::new();
    let mut submit = Millis::ZERO;
    for id in 0..steps {
        submit += arrivals.sample(&Distribution::exponential_seconds(gap));
        let duration = durations.sample(&Distribution::exponential_seconds(service));
        let kind = DemandKey { system: System::new(TYPE), features: [].into() };
        builder.add(NewStep::new(id, submit, duration, kind, "p:j")).unwrap();
    }
    Arc::new(builder.finish().unwrap())
}

fn policy(min_machines: u32, max_machines: u32) -> Policy {
    let mut pool = PoolPolicy::new(vec![System::new(TYPE)]);
    pool.runnables_per_machine = NonZeroU32::MIN;
    pool.min_machines = min_machines;
    pool.max_machines = max_machines;
    pool.max_creating = max_machines;
    Policy::new(Tag::new("sim"), BTreeMap::from([(MachineType::new(TYPE), pool)]))
}

/// Machines that need no time except to boot.
fn farm(boot: Distribution, interval: Millis) -> Farm {
    let zero = || Distribution::Fixed(Millis::ZERO);
    let model = MachineModel {
        create: zero(),
        boot,
        first_deploy: zero(),
        redeploy: zero(),
        stop: zero(),
        destroy: zero(),
        drain: zero(),
        ..MachineModel::default()
    };
    Farm {
        machines: BTreeMap::from([(MachineType::new(TYPE), model)]),
        cycle: CycleTiming { interval, list_interval: interval, first: Millis::ZERO },
        ..Farm::default()
    }
}

fn setup(seed: Seed, policy: Policy, farm: Farm, workload: Arc<Workload>) -> Setup {
    let ages = Millis::from_hours(1_000_000);
    let limits = Limits {
        create_timeout: ages,
        deploy_timeout: ages,
        release_timeout: ages,
        parallelism: 1000,
    };
    Setup { seed, policy, limits, farm, workload }
}

/// Mean wait in seconds; the first tenth is the warm-up.
fn mean_wait(world: &SimWorld) -> f64 {
    let records = world.queue_runner().records();
    let steady = &records[records.len() / 10..];
    assert!(steady.iter().all(|record| record.phase == Phase::Succeeded));
    let waits = steady.iter().map(|record| record.started_at().since(record.runnable_at()).0);
    waits.sum::<u64>() as f64 / steady.len() as f64 / 1000.0
}

/// The probability of waiting in M/M/c (Erlang 1917) for a load of `load` servers.
fn erlang_c(servers: u32, load: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 0.0;
    for busy in 0..servers {
        sum += term;
        term *= load / f64::from(busy + 1);
    }
    let waiting = term / (1.0 - load / f64::from(servers));
    waiting / (sum + waiting)
}

#[test]
fn a_fixed_fleet_is_m_m_c() {
    for (servers, gap, service) in [(1, 1000, 700), (3, 1000, 2400), (8, 1000, 7000)] {
        let mut waits = Vec::new();
        let mut utilizations = Vec::new();
        for seed in (0..SEEDS).map(Seed) {
            let workload = workload(seed, 20_000, gap, service);
            let last = workload.last_submission();
            let boot = Distribution::Fixed(Millis::ZERO);
            let farm = farm(boot, Millis::from_hours(24));
            let mut simulation =
                Simulation::new(setup(seed, policy(servers, servers), farm, workload));
            simulation.run_until(last + Millis::from_hours(24 * 30));
            let world = simulation.world();
            waits.push(mean_wait(world));
            let usage = &world.usage()[&MachineType::new(TYPE)];
            utilizations.push(usage.busy.0 as f64 / usage.paid.0 as f64);
            assert_eq!(world.violations(), []);
        }
        let load = service as f64 / gap as f64;
        let expected_wait = erlang_c(servers, load) * service as f64 / (f64::from(servers) - load);
        let wait = Estimate::of(&waits);
        assert!(wait.holds(expected_wait), "M/M/{servers}: {wait:?}, expected {expected_wait}");
        assert!(wait.half_width.unwrap() < expected_wait / 15.0, "{wait:?} is too vague");
        let utilization = Estimate::of(&utilizations);
        let expected = load / f64::from(servers);
        assert!(utilization.holds(expected), "M/M/{servers}: {utilization:?}, expected {expected}");
    }
}

/// One machine that is created when work arrives and destroyed when it is done: M/M/1 with setup; its mean wait exceeds
/// that of M/M/1 by (2 E[S] + l E[S^2]) / (2 (1 + l E[S])) (Welch, "On a generalized M/G/1 queuing process in which the
/// first customer of each busy period receives exceptional service", 1964).
///
/// S is up to 60 s until the provisioner sees the step, then the deployment (exponential), then up to 30 s until the
/// queue runner reads the machines file. (Not a long boot: that is listed every 2 s.)
#[test]
fn a_farm_at_zero_is_m_m_1_with_setup() {
    let (gap, service, boot) = (10_000, 5_000, 8_000);
    let mut waits = Vec::new();
    let mut off = Vec::new();
    for seed in (0..SEEDS).map(Seed) {
        let workload = workload(seed, 2_000, gap, service);
        let last = workload.last_submission();
        let mut farm = farm(Distribution::Fixed(Millis::ZERO), Millis::from_seconds(60));
        farm.cycle.list_interval = Millis::from_hours(1);
        let model = farm.machines.entry(MachineType::new(TYPE)).or_default();
        model.first_deploy = Distribution::exponential_seconds(boot);
        let setup = setup(seed, policy(0, 1), farm, workload);
        let mut simulation = Simulation::new(setup);
        simulation.run_until(last + Millis::from_hours(24 * 30));
        let world = simulation.world();
        waits.push(mean_wait(world));
        let usage = &world.usage()[&MachineType::new(TYPE)];
        off.push(1.0 - usage.paid.0 as f64 / last.0 as f64);
        assert_eq!(world.violations(), []);
    }
    let (gap, service, boot) = (gap as f64, service as f64, boot as f64);
    let (poll, read) = (60.0, 30.0);
    let mean = boot + poll / 2.0 + read / 2.0;
    let variance = boot * boot + poll * poll / 12.0 + read * read / 12.0;
    let square = variance + mean * mean;
    let (rate, load) = (1.0 / gap, service / gap);
    let expected_wait =
        load * service / (1.0 - load) + (2.0 * mean + rate * square) / (2.0 * (1.0 + rate * mean));
    let wait = Estimate::of(&waits);
    assert!(wait.holds(expected_wait), "{wait:?}, expected {expected_wait}");
    assert!(wait.half_width.unwrap() < expected_wait / 20.0, "{wait:?} is too vague");
    // Idle times of mean 1/l, each followed by a setup: the machine is off for (1 - rho) / (1 + l E[S]).
    let expected_off = (1.0 - load) / (1.0 + rate * mean);
    let off = Estimate::of(&off);
    assert!(
        (off.mean - expected_off).abs() < off.half_width.unwrap() + 0.005,
        "{off:?}, expected {expected_off}"
    );
}

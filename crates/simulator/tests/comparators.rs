//! Each comparator behaves in the virtual world as its original.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use planner::{DemandKey, MachineType, Policy, PoolPolicy, System, Tag};
use simulator::comparators::Comparator;
use simulator::engine::{Millis, Seed};
use simulator::results::Results;
use simulator::simulation::{Setup, Simulation};
use simulator::workload::{NewStep, WorkloadBuilder};
use simulator::world::{Farm, Limits};

const TYPE: &str = "x86_64-linux";

/// Ten steps of ten minutes at the start, and one after an hour; machines build two at a time, at most five machines.
fn setup(comparator: Comparator) -> Setup {
    let mut builder = WorkloadBuilder::new();
    for id in 0..11 {
        let submit = Millis::from_seconds(if id < 10 { 0 } else { 3600 });
        let kind = DemandKey { system: System::new(TYPE), features: [].into() };
        builder.add(NewStep::new(id, submit, Millis::from_minutes(10), kind, "p:j")).unwrap();
    }
    let mut pool = PoolPolicy::new(vec![System::new(TYPE)]);
    pool.runnables_per_machine = NonZeroU32::MIN;
    (pool.max_machines, pool.max_jobs) = (5, 2);
    let policy = Policy::new(Tag::new("sim"), BTreeMap::from([(MachineType::new(TYPE), pool)]));
    let mut farm = Farm::default();
    if let Some(interval) = comparator.usual_interval() {
        farm.cycle.interval = interval;
    }
    let workload = Arc::new(builder.finish().unwrap());
    Setup { seed: Seed(1), policy, limits: Limits::default(), farm, workload }
}

/// The number of machines after this many minutes.
fn machines_at(comparator: Comparator, minutes: &[u64]) -> Vec<usize> {
    let mut simulation = Simulation::compared(comparator, setup(comparator));
    let at = |minute: &u64| {
        simulation.advance(Millis::from_minutes(*minute).since(simulation.world().now()));
        simulation.world().machines().count()
    };
    minutes.iter().map(at).collect()
}

fn results(comparator: Comparator) -> Results {
    let mut simulation = Simulation::compared(comparator, setup(comparator));
    assert!(simulation.run_until(Millis::from_hours(48)), "{}", simulation.what_it_waits_for());
    let results = Results::of(1, &simulation);
    assert_eq!((results.total.built, results.violations), (11, 0), "{comparator:?}");
    results
}

#[test]
fn the_original_makes_one_machine_every_five_minutes() {
    for original in [Comparator::Original, Comparator::OriginalBySecond] {
        assert_eq!(machines_at(original, &[1, 4, 6, 11]), [1, 1, 2, 3]);
        results(original);
    }
}

/// NixOps counts started hours on EC2: idle machines stay until ten minutes before the hour ends.
#[test]
fn the_original_keeps_machines_for_the_hour_on_ec2() {
    assert_eq!(machines_at(Comparator::Original, &[40]), [3]);
    assert_eq!(machines_at(Comparator::OriginalBySecond, &[40]), [0]);
}

/// A slot for each step, and one more idle machine if allowed.
#[test]
fn ci_runners_keep_an_idle_machine() {
    assert_eq!(machines_at(Comparator::CiRunners, &[2, 55]), [5, 1]);
    let wait = results(Comparator::CiRunners).total.wait;
    assert_eq!(wait.mean, 10 * wait.max / 11, "the last step does not wait: {wait:?}");
}

#[test]
fn a_machine_a_job_builds_nothing_else() {
    assert_eq!(machines_at(Comparator::MachinePerJob, &[2, 50]), [10, 0]);
    assert_eq!(results(Comparator::MachinePerJob).total.created, 11);
}

/// The steps end after 13 minutes; an unneeded node stays for ten more.
#[test]
fn the_cluster_autoscaler_is_slow_to_scale_down() {
    assert_eq!(machines_at(Comparator::ClusterAutoscaler, &[2, 22, 30]), [5, 5, 0]);
    results(Comparator::ClusterAutoscaler);
}

#[test]
fn a_fixed_farm_stands() {
    assert_eq!(machines_at(Comparator::FixedFarm, &[2, 50]), [5, 5]);
    results(Comparator::FixedFarm);
}

//! Measurements of earlier machines.

use planner::{IdleTimeout, MachineType, Operation, QueueMachine, Seconds};

use crate::harness::{Harness, TYPE, configuration, name, pool, up};

/// A machine that took 40 s to create and 50 s more to be ready.
#[test]
fn how_long_a_machine_took_is_remembered() {
    let mut pool = pool();
    pool.idle_timeout = IdleTimeout::Auto;
    let mut harness = Harness::new(pool.clone());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.pass(40);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    harness.pass(50);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    let known = harness.disk.experience[&MachineType::new(TYPE)];
    assert_eq!((known.start_time.number, known.start_time.total), (1, Seconds(90)));

    // With two minutes as the prior it is 105 s, also after a restart.
    let mut harness = harness.restarted(configuration(&[(TYPE, pool)]));
    harness.list(&[up(0)]);
    harness.queue(0, &[Harness::listed(0, 0)]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("idle timeout 1m45s"), "{plan}");
}

/// The provisioner was off for two days while the machine booted.
#[test]
fn an_outage_is_no_measurement() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    let before = harness.disk.experience.clone();
    harness.now += 2 * 24 * 3600;
    harness.act();
    harness.list(&[up(0)]);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
    assert_eq!(harness.disk.experience, before);
}

#[test]
fn a_deployment_of_a_machine_that_was_ready_is_no_measurement() {
    let mut harness = Harness::with_ready_machine(pool());
    let before = harness.disk.experience.clone();
    let mut changed = configuration(&[(TYPE, pool())]);
    changed.deployment_digests.insert(MachineType::new(TYPE), "other".to_owned());
    harness.tell(reconciler::Event::Configured(Box::new(changed)));
    harness.act();
    harness.pass(30);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.disk.experience, before);
}

/// A machine at an old address continues the counts of its predecessor.
#[test]
fn how_long_steps_take_is_learned_from_what_is_built_meanwhile() {
    let mut harness = Harness::with_ready_machine(pool());
    let counts = |steps, seconds| QueueMachine {
        steps_done: Some(steps),
        total_step_time: Some(Seconds(seconds)),
        ..Harness::listed(0, 1)
    };
    let mut known_after = |steps, seconds| {
        harness.queue(1, &[counts(steps, seconds)]);
        let known = harness.disk.experience.get(&MachineType::new(TYPE));
        known.map_or((0, 0), |known| (known.step_time.number, known.step_time.total.0))
    };
    assert_eq!(known_after(70, 9000), (0, 0));
    assert_eq!(known_after(70, 9040), (0, 0), "no step has ended");
    assert_eq!(known_after(73, 9340), (3, 300));
    assert_eq!(known_after(1, 50), (3, 300), "the queue runner was restarted");
    assert_eq!(known_after(2, 70), (4, 320));
    assert_eq!(harness.disk.records[&name(0)].machine.memory.steps_built, 4);
}

//! Recorded state, and what happens when it cannot be recorded.

use planner::{MachineState, Operation};
use reconciler::OperationErrorKind;

use crate::harness::{Answers, Harness, TYPE, configuration, error, name, pool, up};

#[test]
fn what_cannot_be_recorded_is_not_created() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.records = Answers::Fail;
    harness.queue(1, &[]);
    harness.pass(9);
    assert!(harness.operations.is_empty());
    assert!(harness.reconciler.plan().to_string().contains("state cannot be written"));
    assert!(harness.reconciler.is_settled(), "a single run ends");
    harness.records = Answers::AtOnce;
    harness.pass(1);
    assert_eq!(harness.under_way(), ["create farm-0"]);
    let history: Vec<_> = harness.disk.history.iter().map(|(_, what)| what.to_string()).collect();
    assert!(history.iter().any(|line| line.contains("disk full")), "{history:?}");
    assert!(history.contains(&"state can be written again".to_owned()));
}

/// Otherwise the loop would busy-loop until it is written.
#[test]
fn what_is_being_written_again_is_waited_for() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.records = Answers::Fail;
    harness.queue(1, &[]);
    harness.records = Answers::Later;
    harness.now += 11;
    harness.reconciler.act(planner::Timestamp(harness.now));
    let retry = std::iter::from_fn(|| harness.reconciler.poll_effect());
    let retry: Vec<_> =
        retry.filter(|it| matches!(it, reconciler::Effect::Record { .. })).collect();
    assert_eq!(retry.len(), 1);
    harness.reconciler.act(planner::Timestamp(harness.now));
    assert!(harness.reconciler.poll_timeout().is_none_or(|at| at.0 > harness.now));
}

#[test]
fn nothing_is_released_while_the_state_cannot_be_written() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.records = Answers::Fail;
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.pass(1);
    let first = harness.operations.len();
    harness.operations.clear();
    for _ in 0..5 {
        harness.queue(0, &[Harness::disabled(0, 0)]);
    }
    assert!(harness.operations.is_empty() && first <= 1);
}

#[test]
fn an_intent_survives_a_crash_and_is_requested_again_with_its_token() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let before = harness.operations[0].1.clone();
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.pass(3);
    harness.list(&[]);
    harness.queue(1, &[]);
    let task = harness.end(Operation::Create, 0, Ok(up(0)));
    assert_eq!((task.token, task.machine.name), (before.token, before.machine.name));
    assert_eq!(harness.reconciler.records().count(), 1);
}

#[test]
fn an_intent_that_is_no_longer_needed_is_destroyed_to_be_sure() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[]);
    harness.queue(0, &[]);
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.list(&[]);
    harness.list(&[]);
    assert_eq!(harness.reconciler.records().count(), 0);
    assert!(harness.disk.records.is_empty());
}

#[test]
fn a_machine_whose_creation_was_not_confirmed_is_found_again() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[planner::Machine { state: MachineState::Starting, ..up(0) }]);
    harness.queue(1, &[]);
    assert!(harness.operations.is_empty(), "it boots: {:?}", harness.under_way());
    harness.pass(2);
    harness.list(&[up(0)]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
}

#[test]
fn a_ready_machine_is_published_and_not_deployed_after_a_restart() {
    let harness = Harness::with_ready_machine(pool());
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[up(0)]);
    harness.queue(1, &[Harness::listed(0, 1)]);
    assert_eq!(harness.file, ["farm-0"]);
    assert!(harness.operations.is_empty());
}

#[test]
fn the_state_may_be_deleted_without_losing_a_machine() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.disk.records.clear();
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    assert_eq!(harness.file, ["farm-0"], "nothing is published before the providers have answered");
    harness.list(&[up(0)]);
    harness.queue(1, &[Harness::listed(0, 1)]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
    harness.pass(10);
    harness.queue(0, &[Harness::listed(0, 0)]);
    for _ in 0..3 {
        harness.queue(0, &[Harness::disabled(0, 0)]);
    }
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

/// The database was replaced: nothing that was recorded before is in the new file.
#[test]
fn all_is_recorded_again_when_it_was_lost() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.disk.records.clear();
    let lost = reconciler::Event::Recorded {
        batch: reconciler::BatchId::default(),
        result: Err("it was replaced".to_owned()),
    };
    harness.reconciler.handle(planner::Timestamp(harness.now), lost);
    harness.pass(11);
    assert_eq!(harness.disk.records.len(), 1);
}

#[test]
fn failures_of_one_machine_are_remembered() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.end(Operation::Deploy, 0, Err(error(OperationErrorKind::Failed, "refused")));
    assert!(harness.file.is_empty(), "a machine that does not answer over ssh is not ready");
    let failing = harness.disk.records[&name(0)].machine.memory.failing.clone().unwrap();
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    assert_eq!(failing.error, "refused");
    harness.list(&[up(0)]);
    harness.queue(1, &[]);
    assert!(harness.operations.is_empty(), "its back-off is not over");
    harness.pass(6);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
}

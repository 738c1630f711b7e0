//! When a single run ends: nothing is left to wait for.

use planner::{MachineState, Operation, OrderKind};
use reconciler::Event;

use crate::harness::{Answers, Harness, TYPE, configuration, name, pool, up};
use crate::orders::order;

/// One ready machine, and all answers are there.
fn at_rest() -> Harness {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    assert!(harness.reconciler.is_settled());
    harness
}

#[test]
fn a_run_does_not_end_before_everyone_has_answered() {
    let mut harness = Harness::new(pool());
    assert!(!harness.reconciler.is_settled());
    harness.list(&[]);
    assert!(!harness.reconciler.is_settled(), "the queue runner has not answered");
    assert!(!harness.reconciler.has_looked());
    harness.queue(0, &[]);
    assert!(harness.reconciler.is_settled() && harness.reconciler.has_looked());
}

#[test]
fn each_open_question_is_waited_for() {
    let mut harness = at_rest();
    harness.pass(10);
    assert_eq!(harness.questions.len(), 1);
    assert!(!harness.reconciler.is_settled(), "the queue runner is being asked");
    harness.queue(1, &[Harness::listed(0, 1)]);
    assert!(harness.reconciler.is_settled());
    harness.tell(Event::Configured(Box::new(configuration(&[(TYPE, pool())]))));
    assert!(!harness.reconciler.is_settled(), "it has not planned for it yet");
    harness.act();
    assert!(harness.reconciler.is_settled());
}

#[test]
fn a_publication_is_waited_for() {
    let mut harness = at_rest();
    harness.pass(10);
    harness.queue(2, &[Harness::listed(0, 1)]);
    harness.end(Operation::Create, 1, Ok(up(1)));
    harness.list(&[up(0), up(1)]);
    harness.publications = Answers::Later;
    harness.end(Operation::Deploy, 1, Ok(up(1)));
    assert_eq!((harness.pending_files.len(), harness.questions.len()), (1, 0));
    assert!(!harness.reconciler.is_settled());
    harness.publications = Answers::AtOnce;
    harness.answer_files();
    harness.act();
    assert!(harness.reconciler.is_settled());
}

#[test]
fn what_is_being_recorded_is_waited_for() {
    let mut harness = at_rest();
    harness.records = Answers::Later;
    harness.tell(Event::Configured(Box::new(configuration(&[(TYPE, pool())]))));
    harness.act();
    assert_eq!(harness.pending_records.len(), 1, "the history");
    assert!(!harness.reconciler.is_settled());
    harness.records = Answers::AtOnce;
    harness.answer_records();
    harness.act();
    assert!(harness.reconciler.is_settled());
}

#[test]
fn a_boot_is_waited_for_until_it_is_too_long() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let booting = planner::Machine { state: MachineState::Starting, ..up(0) };
    harness.end(Operation::Create, 0, Ok(booting.clone()));
    let since = harness.now;
    while harness.now < since + 1700 {
        harness.list(std::slice::from_ref(&booting));
        harness.queue(1, &[]);
        assert!(!harness.reconciler.is_settled(), "after {} s", harness.now - since);
    }
    harness.pass(100);
    harness.list(std::slice::from_ref(&booting));
    harness.queue(1, &[]);
    let history = harness.happened(0);
    assert!(history.iter().any(|line| line.contains("it was not up within 30m")), "{history:?}");
}

/// A planner of its own decides, as in the tests of the simulator's checkers.
#[test]
fn another_planner_decides() {
    let configuration = configuration(&[(TYPE, pool())]);
    let state = reconciler::State::default();
    let mut harness = Harness::of(configuration, state);
    harness.reconciler = harness.reconciler.with_planner(|_, _| planner::Plan::default());
    harness.list(&[]);
    harness.queue(3, &[]);
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
}

/// What the log and the event stream of a service get: each entry once, with its type.
#[test]
fn each_entry_of_the_history_is_reported_once() {
    let mut harness = at_rest();
    let entries = harness.reconciler.take_history();
    let of_machine: Vec<_> = entries
        .iter()
        .filter(|entry| entry.machine.is_some())
        .map(|entry| (entry.machine_type.clone().unwrap().to_string(), entry.what.to_string()))
        .collect();
    let whats: Vec<_> = of_machine.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(whats[..2], ["requested", "created in 0s"]);
    assert!(of_machine.iter().all(|(machine_type, _)| machine_type == TYPE));
    assert!(harness.reconciler.take_history().is_empty());
    harness.order(&[order(OrderKind::Forget(name(0)))]);
    assert_eq!(harness.reconciler.take_history().len(), 1);
}

//! What begins and fails, as it is recorded and shown.

use planner::{Host, Machine, MachineState, MachinesFile, Operation, OrderKind};
use reconciler::{Event, OperationErrorKind, ProviderId, Published};

use crate::harness::{Answers, Harness, TYPE, configuration, error, name, pool, up};
use crate::orders::order;

fn recorded(harness: &Harness) -> Option<Operation> {
    harness.disk.records[&name(0)].machine.memory.under_way.map(|it| it.operation)
}

/// After a crash it is not known how far an operation came. A touch of `/run/keep-alive` changes nothing.
#[test]
fn what_begins_is_recorded_and_shown_except_keep_alive() {
    let mut configuration = configuration(&[(TYPE, pool())]);
    configuration.timing.keep_alive_interval = Some(planner::Seconds(300));
    let mut harness = Harness::of(configuration, reconciler::State::default());
    let shown = |harness: &Harness| {
        let seen = harness.reconciler.seen().unwrap();
        seen.machines[0].memory.under_way.map(|it| it.operation)
    };
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    for expected in [Some(Operation::Deploy), None] {
        assert_eq!((recorded(&harness), shown(&harness)), (expected, expected));
        if expected.is_some() {
            harness.end(Operation::Deploy, 0, Ok(up(0)));
        }
    }
    while harness.operations.is_empty() {
        harness.list(&[up(0)]);
        harness.queue(1, &[Harness::listed(0, 1)]);
    }
    assert_eq!(harness.under_way(), ["keep-alive farm-0"]);
    assert_eq!(recorded(&harness), None);
}

/// It may be off or gone in spite of the error.
#[test]
fn a_machine_that_could_not_be_destroyed_is_deployed_before_it_is_published_again() {
    let mut harness = Harness::with_ready_machine(pool());
    let mut configuration = configuration(&[(TYPE, pool())]);
    configuration.timing.poll_interval = planner::Seconds(1);
    harness.tell(Event::Configured(Box::new(configuration)));
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.end(Operation::Destroy, 0, Err(error(OperationErrorKind::Failed, "no answer")));
    harness.queue(1, &[Harness::disabled(0, 0)]);
    assert!(harness.operations.is_empty() && harness.file.is_empty(), "its back-off is not over");
    harness.pass(6);
    assert_eq!((harness.under_way(), harness.file.len()), (vec!["deploy farm-0".to_owned()], 0));
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
}

/// Only the deployment of the machine that leaves is ended.
#[test]
fn a_deployment_of_another_machine_goes_on() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(3, &[Harness::listed(0, 1)]);
    for number in [1, 2] {
        harness.end(Operation::Create, number, Ok(up(number)));
    }
    harness.list(&[up(0), up(1), up(2)]);
    harness.order(&[order(OrderKind::Release(name(2)))]);
    for _ in 0..3 {
        harness.queue(3, &[Harness::listed(0, 1)]);
    }
    let abandoned = harness.abandoned.clone();
    let of: Vec<_> = harness
        .operations
        .iter()
        .filter(|(id, _)| abandoned.contains(id))
        .map(|(_, task)| task.machine.name.clone())
        .collect();
    assert_eq!(of, [name(2)]);
}

/// A machine that was found and not published by us may be known to the queue runner by an address that it had.
#[test]
fn a_machine_that_the_queue_runner_knew_is_known_by_its_previous_address() {
    let mut harness = Harness::new(pool());
    harness.list(&[up(0)]);
    harness.queue(0, &[Harness::listed(0, 4)]);
    harness.queue(0, &[Harness::listed(0, 4)]);
    harness.pass(60);
    harness.list(&[Machine { address: Some(Host::new("10.0.0.50")), ..up(0) }]);
    harness.queue(0, &[Harness::listed(0, 4)]);
    let verdict = harness.reconciler.plan().verdicts[&name(0)].to_string();
    assert!(verdict.contains("4 builds") || verdict.contains("4 steps"), "{verdict}");
}

/// Its provider is asked every two seconds, as for each machine that boots.
#[test]
fn a_machine_without_an_address_still_boots() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let no_address = Machine { address: None, ..up(0) };
    harness.end(Operation::Create, 0, Ok(no_address.clone()));
    for _ in 0..3 {
        harness.list(std::slice::from_ref(&no_address));
        harness.pass(2);
        assert_eq!(harness.listings.len(), 1);
    }
    harness.list(&[up(0)]);
    harness.pass(2);
    assert!(harness.listings.is_empty(), "it has booted");
}

#[test]
fn a_machine_that_powers_itself_off_has_not_rebooted_and_an_interruption_is_noted_once() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    for _ in 0..2 {
        let provider = ProviderId("cloud".to_owned());
        harness.tell(Event::Interrupted { provider, machine: name(0) });
        harness.act();
    }
    harness.pass(60);
    harness.list(&[Machine { state: MachineState::Stopped, ..up(0) }]);
    let history = harness.happened(0);
    let count = |text: &str| history.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("interrupts"), count("reboot")), (1, 0), "{history:?}");
}

/// Until the time is over, an earlier attempt may have created it: then its token stays the same.
#[test]
fn a_creation_with_an_unknown_outcome_counts_as_failed_after_half_an_hour() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::TimedOut, "no answer")));
    let since = harness.now;
    let state = |harness: &Harness| {
        let record = &harness.disk.records[&name(0)];
        (record.attempt, record.unknown_since.is_some())
    };
    let step = |harness: &mut Harness| {
        harness.list(&[]);
        harness.queue(1, &[]);
        if !harness.operations.is_empty() {
            harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "no")));
        }
    };
    while harness.now < since + 1780 {
        step(&mut harness);
        assert_eq!(state(&harness), (0, true), "after {} s", harness.now - since);
    }
    while harness.now < since + 2000 {
        step(&mut harness);
    }
    let (attempt, is_unknown) = state(&harness);
    assert!(attempt > 0 && !is_unknown, "a new attempt has a new token");
}

/// What the operator sees of the machines file, and that it is written again under another policy.
#[test]
fn the_published_file_is_shown_and_follows_the_policy() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    let entries = |file: &MachinesFile| {
        file.entries.iter().map(|entry| (entry.machine.name.clone(), entry.max_jobs)).collect()
    };
    let shown = |harness: &Harness| -> (Vec<_>, Published) {
        let (file, published) = harness.reconciler.published_file().unwrap();
        (entries(file), published)
    };
    assert_eq!(shown(&harness), (vec![(name(0), 1)], Published::Changed));
    let more_jobs = planner::PoolPolicy { max_jobs: 4, ..pool() };
    harness.tell(Event::Configured(Box::new(configuration(&[(TYPE, more_jobs)]))));
    harness.act();
    assert_eq!(shown(&harness).0, [(name(0), 4)]);
    assert!(harness.reconciler.publication_error().is_none());
    harness.publications = Answers::Fail;
    harness.tell(Event::Configured(Box::new(configuration(&[(TYPE, pool())]))));
    harness.act();
    assert!(harness.reconciler.publication_error().is_some());
}

/// Names in the log and in exported data.
#[test]
fn kinds_of_failure_and_providers_have_names() {
    use OperationErrorKind::{Capacity, Failed, TimedOut, Unreachable};
    let names = [Capacity, TimedOut, Unreachable, Failed].map(|kind| kind.to_string());
    assert_eq!(names, ["capacity", "timed-out", "unreachable", "failed"]);
    assert_eq!(ProviderId("cloud".to_owned()).to_string(), "cloud");
}

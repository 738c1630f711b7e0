//! A machine from the request to its first build.

use planner::{Attempt, MachineState, Operation, Seconds};
use reconciler::{Happening, OperationErrorKind};

use crate::harness::{Answers, Harness, TYPE, configuration, error, name, pool, up};

#[test]
fn it_is_recorded_created_booted_deployed_and_published() {
    let mut harness = Harness::new(pool());
    assert_eq!(harness.listings.len(), 1);
    assert_eq!(harness.questions.len(), 1);
    harness.records = Answers::Later;
    harness.list(&[]);
    harness.queue(1, &[]);
    assert!(harness.operations.is_empty(), "its intent is not recorded yet");
    harness.records = Answers::AtOnce;
    harness.answer_records();
    harness.act();
    assert_eq!(harness.under_way(), ["create farm-0"]);
    assert!(harness.disk.records.contains_key(&name(0)));

    harness.pass(5);
    let booting = planner::Machine { state: MachineState::Starting, ..up(0) };
    let task = harness.end(Operation::Create, 0, Ok(booting.clone()));
    assert_eq!(task.token, "farm-0-1000000-0");
    assert_eq!(task.limit, Seconds(900));
    harness.list(std::slice::from_ref(&booting));
    harness.pass(2);
    harness.list(&[booting]);
    assert!(harness.operations.is_empty() && !harness.reconciler.is_settled());
    harness.pass(2);
    assert_eq!(harness.listings.len(), 1, "it is asked every 2 s while it boots");
    harness.list(&[up(0)]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    assert_eq!(harness.file, [""; 0], "it is not ready yet");
    harness.pass(3);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
    assert_eq!(harness.happened(0), ["requested", "created in 5s", "ready after 7s", "published"]);
}

#[test]
fn no_machine_waits_for_another() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(2, &[]);
    assert_eq!(harness.under_way(), ["create farm-0", "create farm-1"]);
    harness.end(Operation::Create, 1, Ok(up(1)));
    assert_eq!(harness.under_way(), ["create farm-0", "deploy farm-1"]);
    harness.end(Operation::Deploy, 1, Ok(up(1)));
    assert_eq!(harness.file, ["farm-1"], "farm-0 hangs and delays no other");
    harness.queue(3, &[]);
    harness.pass(10);
    harness.queue(3, &[]);
    assert_eq!(harness.under_way(), ["create farm-0", "create farm-2"]);
}

#[test]
fn what_hangs_is_ended_and_resolved_by_a_listing() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.pass(900 + 14);
    assert!(harness.abandoned.is_empty());
    harness.pass(1);
    assert_eq!(harness.abandoned.len(), 1);
    harness.pass(30);
    assert_eq!(harness.abandoned.len(), 1, "once");
    assert_eq!(harness.under_way(), ["create farm-0"], "until it has ended");
    harness.list(&[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::TimedOut, "ended")));
    harness.list(&[]);
    assert_eq!(harness.listings.len(), 1, "it is not known whether it was created: listed again");
    harness.list(&[up(0)]);
    harness.pass(10);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
}

#[test]
fn a_creation_that_failed_is_tried_again_later_with_another_token() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "quota")));
    assert!(harness.operations.is_empty());
    harness.pass(8);
    assert!(harness.operations.is_empty(), "10 s, plus or minus 10 %");
    harness.pass(4);
    assert_eq!(harness.under_way(), ["create farm-0"]);
    let again = harness.reconciler.plan().provision.iter().find(|p| p.name == name(0)).cloned();
    assert!(again.is_none_or(|provision| provision.attempt == Attempt::Again));
    let task =
        harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "quota again")));
    assert_eq!(task.token, "farm-0-1000000-1");
    harness.pass(17);
    assert!(harness.operations.is_empty(), "twice as long");
    harness.pass(6);
    harness.end(Operation::Create, 0, Ok(up(0)));
    assert!(harness.disk.back_off.is_empty(), "success forgets the failures");
    assert!(harness.disk.records[&name(0)].machine.memory.failing.is_none());
}

#[test]
fn a_type_without_capacity_waits_for_minutes_and_the_plan_says_so() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(3, &[]);
    assert_eq!(harness.operations.len(), 3);
    for number in 0..3 {
        let full = error(OperationErrorKind::Capacity, "no capacity in zone a");
        harness.end(Operation::Create, number, Err(full));
    }
    let back_off = harness.disk.back_off.values().next().unwrap().clone();
    assert_eq!(back_off.failures, 1, "three at once failed for one reason");
    let wait = back_off.until.0 - harness.now;
    assert!((54..=67).contains(&wait), "{wait}");
    harness.pass(wait - 1);
    assert!(harness.operations.is_empty());
    harness.queue(4, &[]);
    harness.pass(1);
    assert!(!harness.operations.is_empty());

    let configuration = configuration(&[(TYPE, pool())]);
    let mut harness = harness.restarted(configuration);
    harness.now = back_off.until.0 - 10;
    harness.list(&[]);
    harness.queue(3, &[]);
    assert!(harness.operations.is_empty(), "the back-off survives a restart");
}

#[test]
fn a_boot_that_takes_too_long_is_a_failure_and_is_not_waited_for() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let booting = planner::Machine { state: MachineState::Starting, ..up(0) };
    harness.end(Operation::Create, 0, Ok(booting.clone()));
    for _ in 0..1799 {
        harness.pass(1);
        harness.list(std::slice::from_ref(&booting));
    }
    assert!(harness.disk.records[&name(0)].machine.memory.failing.is_none());
    harness.pass(1);
    let failing = harness.disk.records[&name(0)].machine.memory.failing.clone().unwrap();
    assert_eq!(
        failing.error,
        "it was not up within 30m00s (its state is starting); see deployTimeout"
    );
    let retries = |(_, what): &(_, Happening)| matches!(what, Happening::Failed { retry_at, .. } if *retry_at == failing.retry_at);
    assert!(harness.disk.history.iter().any(retries), "{:?}", harness.disk.history);
    assert_eq!(harness.listings.len(), 0);
    harness.pass(3);
    assert!(harness.listings.is_empty(), "the usual interval is enough");
}

#[test]
fn a_machine_without_an_address_is_not_deployed() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(planner::Machine { address: None, ..up(0) }));
    assert!(harness.operations.is_empty());
    harness.list(&[up(0)]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
}

#[test]
fn other_settings_deploy_a_ready_machine_again() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.pass(60);
    assert!(harness.operations.is_empty(), "deploying is not polling");
    let mut other = configuration(&[(TYPE, pool())]);
    other.deployment_digests = [(planner::MachineType::new(TYPE), "digest".to_owned())].into();
    harness.tell(reconciler::Event::Configured(Box::new(other.clone())));
    harness.act();
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    assert_eq!(harness.file, [""; 0], "it gets no builds while it changes");
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
    harness.tell(reconciler::Event::Configured(Box::new(other)));
    harness.act();
    assert!(harness.operations.is_empty());
}

#[test]
fn a_machine_made_from_other_settings_is_replaced_when_it_is_idle() {
    let with = |settings: &str| {
        let mut pool = planner::PoolPolicy { min_machines: 1, max_machines: 1, ..pool() };
        pool.rotation.settings = Some(settings.to_owned());
        pool
    };
    let harness = Harness::with_ready_machine(with("a"));
    assert_eq!(harness.disk.records[&name(0)].machine.memory.made_from.as_deref(), Some("a"));
    let mut harness = harness.restarted(configuration(&[(TYPE, with("b"))]));
    harness.list(&[up(0)]);
    harness.queue(0, &[Harness::listed(0, 1)]);
    assert_eq!(harness.file, ["farm-0"], "it builds");
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert_eq!(harness.file, [""; 0]);
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_stopped_machine_is_started_before_a_new_one_is_created() {
    let stopped = planner::Machine { state: MachineState::Stopped, ..up(4) };
    let mut harness = Harness::new(pool());
    harness.list(std::slice::from_ref(&stopped));
    harness.queue(1, &[]);
    assert_eq!(harness.under_way(), ["start farm-4"]);
    harness.list(std::slice::from_ref(&stopped));
    harness.end(Operation::Start, 4, Ok(stopped.clone()));
    assert_eq!(harness.listings.len(), 1, "it boots");
    harness.pass(1);
    harness.list(&[up(4)]);
    harness.end(Operation::Deploy, 4, Ok(up(4)));
    assert_eq!(harness.file, ["farm-4"]);
    assert_eq!(harness.happened(4)[..2], ["found by its tag", "started in 0s"]);
}

#[test]
fn a_warning_does_not_keep_a_machine_from_being_ready() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    let (id, task) = harness.operations.remove(0);
    assert_eq!(task.operation, Operation::Deploy);
    let done = reconciler::Done {
        machine: Box::new(up(0)),
        warnings: vec!["cannot touch".to_owned()],
        name_is_unconfirmed: false,
    };
    harness.tell(reconciler::Event::Ended { operation: id, result: Ok(done) });
    harness.act();
    assert_eq!(harness.file, ["farm-0"]);
    let warned = |(_, what): &(_, Happening)| matches!(what, Happening::Warning { .. });
    assert!(harness.disk.history.iter().any(warned));
}

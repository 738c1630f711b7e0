//! Machines that are ready but unhealthy.

use planner::{QueueMachine, QueueStatus, Seconds, Timestamp};
use reconciler::{OperationErrorKind, State, Timing};

use crate::harness::{Harness, TYPE, configuration, error, name, pool, up};
use planner::Operation;

fn disabled_by_hydra(number: u32, until: u64) -> QueueMachine {
    QueueMachine { disabled_until: Some(Timestamp(until)), ..Harness::listed(number, 0) }
}

#[test]
fn one_that_hydra_has_disabled_is_warned_of_then_replaced_and_given_up() {
    let mut pool = pool();
    pool.max_machines = 2;
    pool.give_up_after = Seconds(1200);
    let mut harness = Harness::with_ready_machine(pool);
    let hours_ahead = harness.now + 9000;
    harness.queue(1, &[disabled_by_hydra(0, hours_ahead)]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("farm-0 is unhealthy: the queue runner gives it no builds"), "{plan}");
    let since = harness.now;
    while harness.now < since + 590 {
        harness.queue(1, &[disabled_by_hydra(0, hours_ahead)]);
    }
    assert!(harness.operations.is_empty(), "it still counts");
    while harness.now < since + 600 {
        harness.queue(1, &[disabled_by_hydra(0, hours_ahead)]);
    }
    assert_eq!(harness.under_way(), ["create farm-1"]);
    harness.end(Operation::Create, 1, Ok(up(1)));
    harness.end(Operation::Deploy, 1, Ok(up(1)));
    let works = Harness::listed(1, 1);
    while harness.now < since + 1250 {
        harness.queue(1, &[disabled_by_hydra(0, hours_ahead), works.clone()]);
        harness.list(&[up(0), up(1)]);
    }
    assert_eq!(harness.file, ["farm-1"]);
    let gone = [
        QueueMachine {
            accepts_jobs: planner::AcceptsJobs::No,
            ..disabled_by_hydra(0, hours_ahead)
        },
        works,
    ];
    harness.queue(1, &gone);
    harness.queue(1, &gone);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_missed_status_does_not_begin_the_time_anew() {
    let mut pool = pool();
    pool.max_machines = 2;
    let mut harness = Harness::with_ready_machine(pool);
    let since = harness.now;
    let hours_ahead = harness.now + 9000;
    while harness.now < since + 590 {
        harness.queue(1, &[disabled_by_hydra(0, hours_ahead)]);
    }
    harness.queue_is(&QueueStatus::Unavailable("restarts".to_owned()));
    while harness.now < since + 620 {
        harness.queue(1, &[disabled_by_hydra(0, hours_ahead)]);
    }
    assert_eq!(harness.under_way(), ["create farm-1"]);
}

#[test]
fn one_that_does_not_answer_is_not_published_when_the_status_is_missed() {
    let mut harness = Harness::with_ready_machine(pool());
    let paused = planner::Machine { state: planner::MachineState::Unreachable, ..up(0) };
    harness.pass(60);
    harness.list(std::slice::from_ref(&paused));
    assert_eq!(harness.file, [""; 0]);
    harness.queue_is(&QueueStatus::Unavailable("restarts".to_owned()));
    assert_eq!(harness.file, [""; 0]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
}

#[test]
fn what_half_of_the_machines_have_is_their_fault() {
    let mut pool = pool();
    pool.max_machines = 3;
    let mut harness = Harness::with_ready_machine(pool);
    harness.queue(2, &[Harness::listed(0, 1)]);
    harness.end(Operation::Create, 1, Ok(up(1)));
    harness.end(Operation::Deploy, 1, Ok(up(1)));
    let since = harness.now;
    let hours_ahead = harness.now + 9000;
    while harness.now < since + 620 {
        harness.queue(2, &[disabled_by_hydra(0, hours_ahead), Harness::listed(1, 1)]);
        harness.list(&[up(0), up(1)]);
    }
    assert_eq!(harness.under_way(), ["create farm-2"], "the other one works");
}

#[test]
fn what_most_machines_have_is_not_their_fault() {
    let mut pool = pool();
    pool.give_up_after = Seconds(600);
    let mut harness = Harness::new(pool);
    harness.list(&[]);
    harness.queue(3, &[]);
    for number in 0..3 {
        harness.end(Operation::Create, number, Ok(up(number)));
        harness.end(Operation::Deploy, number, Ok(up(number)));
    }
    let since = harness.now;
    while harness.now < since + 4000 {
        harness.queue(3, &[]);
        harness.list(&[up(0), up(1), up(2)]);
    }
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
    assert_eq!(harness.file.len(), 3);
    let plan = harness.reconciler.plan().to_string();
    assert!(
        plan.contains("most machines of type x86_64-linux are unhealthy in the same way"),
        "{plan}"
    );
    assert!(plan.contains("the queue runner does not know it"), "{plan}");
}

/// Then the queue runner and our network are not the cause. Seen with a real queue runner: both machines of a type
/// had been killed, and its steps waited without end.
#[test]
fn those_that_their_provider_calls_unreachable_are_all_replaced() {
    let mut pool = pool();
    pool.give_up_after = Seconds(600);
    let mut harness = Harness::new(pool);
    harness.list(&[]);
    harness.queue(3, &[]);
    for number in 0..3 {
        harness.end(Operation::Create, number, Ok(up(number)));
        harness.end(Operation::Deploy, number, Ok(up(number)));
    }
    let dead =
        |number| planner::Machine { state: planner::MachineState::Unreachable, ..up(number) };
    let since = harness.now;
    while harness.now < since + 700 {
        for (_, task) in harness.operations.clone() {
            let refused = error(OperationErrorKind::Unreachable, "no route");
            harness.end(task.operation, number_of(&task), Err(refused));
        }
        harness.queue(3, &[]);
        harness.list(&[dead(0), dead(1), dead(2)]);
    }
    for number in 0..3 {
        let happened = harness.happened(number);
        assert!(happened.iter().any(|line| line.starts_with("to destroy")), "{happened:?}");
    }
}

fn number_of(task: &reconciler::Task) -> u32 {
    task.machine.name.to_string().trim_start_matches("farm-").parse().unwrap()
}

fn with_keep_alive() -> Harness {
    let mut configuration = configuration(&[(TYPE, pool())]);
    configuration.timing = Timing::default();
    let mut harness = Harness::of(configuration, State::default());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    harness
}

#[test]
fn keep_alive_is_touched_at_its_own_interval() {
    let mut harness = with_keep_alive();
    harness.pass(299);
    assert!(harness.operations.is_empty());
    harness.pass(1);
    assert_eq!(harness.under_way(), ["keep-alive farm-0"]);
    harness.pass(20);
    harness.end(Operation::KeepAlive, 0, Ok(up(0)));
    harness.pass(299);
    assert!(harness.operations.is_empty());
    harness.pass(1);
    assert_eq!(harness.under_way(), ["keep-alive farm-0"]);
    harness.end(Operation::KeepAlive, 0, Err(error(OperationErrorKind::Failed, "read-only")));
    assert_eq!(harness.file, ["farm-0"], "no reason to stop building");
}

#[test]
fn one_that_does_not_answer_is_unlisted_and_deployed_until_it_does() {
    let mut harness = with_keep_alive();
    harness.pass(300);
    harness.end(Operation::KeepAlive, 0, Err(error(OperationErrorKind::Unreachable, "refused")));
    assert_eq!(harness.file, [""; 0]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    harness.end(Operation::Deploy, 0, Err(error(OperationErrorKind::Unreachable, "refused")));
    harness.pass(3);
    assert!(harness.operations.is_empty());
    harness.pass(3);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
    let memory = &harness.disk.records[&name(0)].machine.memory;
    assert!(memory.unreachable_since.is_none() && memory.failing.is_none());
    assert!(harness.happened(0).contains(&"does not answer: refused".to_owned()));
}

#[test]
fn one_that_its_provider_calls_unreachable_is_unlisted_and_deployed_until_it_answers() {
    let mut harness = Harness::with_ready_machine(pool());
    let paused = planner::Machine { state: planner::MachineState::Unreachable, ..up(0) };
    harness.pass(60);
    harness.list(std::slice::from_ref(&paused));
    assert_eq!(harness.file, [""; 0]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    harness.end(Operation::Deploy, 0, Err(error(OperationErrorKind::Unreachable, "paused")));
    harness.pass(10);
    assert_eq!(harness.under_way(), ["deploy farm-0"], "tried again");
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
}

/// What the queue runner reports about a machine that builds one step forever, after it has finished `done`.
fn building(done: u64) -> QueueMachine {
    let total_step_time = Some(Seconds(60 * done));
    QueueMachine { steps_done: Some(done), total_step_time, ..Harness::listed(0, 1) }
}

#[test]
fn one_that_finishes_no_step_is_warned_of_and_does_not_count() {
    let mut pool = pool();
    pool.max_machines = 2;
    pool.progress_timeout = Seconds(7200);
    let mut harness = Harness::with_ready_machine(pool);
    let stalled = "farm-0 is unhealthy: it has built since";
    harness.queue(1, &[building(4)]);
    harness.pass(7100);
    harness.queue(1, &[building(5)]);
    harness.pass(7100);
    harness.queue(1, &[building(5)]);
    assert!(!harness.reconciler.plan().to_string().contains(stalled), "it has finished one");
    harness.pass(100);
    harness.queue(1, &[building(5)]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains(stalled), "{plan}");
    harness.pass(600);
    harness.queue(1, &[building(5)]);
    assert_eq!(harness.under_way(), ["create farm-1"], "in its place");
    let history = harness.happened(0);
    assert!(!history.iter().any(|line| line.contains("to destroy")), "it builds: {history:?}");

    harness.queue(1, &[building(6)]);
    assert!(!harness.reconciler.plan().to_string().contains(stalled));
}

/// Seen with a real queue runner: it disables what does not answer, and tried its steps there again after its restart.
#[test]
fn one_that_does_not_answer_stays_unlisted_though_the_queue_runner_disables_it_too() {
    let mut harness = Harness::with_ready_machine(pool());
    let dead = planner::Machine { state: planner::MachineState::Unreachable, ..up(0) };
    harness.pass(60);
    harness.list(&[dead]);
    assert_eq!(harness.file, [""; 0]);
    harness.queue(1, &[disabled_by_hydra(0, harness.now + 9000)]);
    assert_eq!(harness.file, [""; 0]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("farm-0 is unhealthy: it does not answer over ssh"), "{plan}");
}

#[test]
fn one_that_never_becomes_ready_is_replaced() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    let since = harness.now;
    while harness.now < since + 3600 {
        if !harness.operations.is_empty() {
            let refused = error(OperationErrorKind::Unreachable, "refused");
            harness.end(Operation::Deploy, 0, Err(refused));
        }
        harness.queue(1, &[]);
        harness.list(&[up(0)]);
    }
    harness.queue(1, &[]);
    harness.queue(1, &[]);
    assert!(
        harness.under_way().contains(&"destroy farm-0".to_owned()),
        "{:?}",
        harness.under_way()
    );
}

/// The state database may be older than the machine: its builder may have been stopped meanwhile.
#[test]
fn a_machine_that_is_unknown_to_the_queue_runner_after_a_restart_is_deployed_once_more() {
    let harness = Harness::with_ready_machine(pool());
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    while harness.operations.is_empty() && harness.now < 1_000_600 {
        harness.list(&[up(0)]);
        harness.queue(1, &[]);
    }
    assert!(harness.now >= 1_000_120);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    for _ in 0..10 {
        harness.list(&[up(0)]);
        harness.queue(1, &[]);
        harness.pass(10);
    }
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
}

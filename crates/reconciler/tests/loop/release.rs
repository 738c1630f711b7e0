//! The release of a machine: unpublished, confirmed by a newer status, drained, destroyed.

use planner::{
    AwaitReason, IdleAction, Machine, MachineKeys, MachineState, Operation, Queue, QueueMachine,
    QueueStatus, ReleaseStep, Seconds, Timestamp,
};
use reconciler::OperationErrorKind;

use crate::harness::{Answers, Harness, TYPE, configuration, error, name, pool, up};

#[test]
fn it_is_unpublished_confirmed_and_destroyed() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.pass(10);
    harness.publications = Answers::Later;
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert_eq!(harness.pending_files.len(), 1);
    assert!(harness.questions.is_empty(), "a status requested now would not count");
    harness.pass(10);
    assert_eq!(harness.questions.len(), 1);
    harness.publications = Answers::AtOnce;
    harness.answer_files();
    harness.act();
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert!(harness.operations.is_empty(), "it was requested before the publication ended");
    assert_eq!(harness.questions.len(), 1, "a newer one is requested at once");
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert!(harness.operations.is_empty(), "the queue runner has not read the file yet");
    assert!(harness.reconciler.is_settled(), "a single run ends here");
    harness.pass(10);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
    assert!(!harness.reconciler.is_settled());
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.list(&[]);
    assert_eq!(harness.reconciler.records().count(), 0);
    assert!(harness.disk.records.is_empty());
    assert_eq!(
        harness.happened(0)[4..],
        [
            "to destroy: not needed, idle for 20s",
            "taken out of the machines file",
            "destroyed",
            "gone"
        ]
    );
}

#[test]
fn one_that_the_queue_runner_never_knew_is_destroyed_after_the_newer_status() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[]);
    assert!(harness.operations.is_empty() && harness.file.is_empty());
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_build_that_starts_meanwhile_keeps_it() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 1)]);
    assert!(harness.operations.is_empty());
    harness.pass(10);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_machine_that_is_needed_again_is_back_in_use() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert_eq!(harness.file, [""; 0]);
    harness.queue(1, &[Harness::disabled(0, 0)]);
    assert!(harness.operations.is_empty());
    assert_eq!(harness.file, ["farm-0"]);
    assert!(harness.happened(0).contains(&"back in use".to_owned()));
    // Its next release needs another publication and another status.
    harness.pass(10);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert!(harness.operations.is_empty());
}

#[test]
fn nothing_is_released_while_the_machines_file_cannot_be_written() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.publications = Answers::Fail;
    harness.queue(0, &[Harness::listed(0, 0)]);
    for _ in 0..5 {
        harness.pass(10);
        harness.queue(0, &[Harness::disabled(0, 0)]);
    }
    assert!(harness.operations.is_empty());
    let error = harness.reconciler.publication_error().unwrap();
    assert_eq!(error, "no space left on device");
    let failures =
        harness.disk.history.iter().filter(|(_, what)| what.to_string().contains("no space"));
    assert_eq!(failures.count(), 1, "it is reported once");
    harness.publications = Answers::AtOnce;
    harness.pass(10);
    assert!(harness.file.is_empty());
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_failed_destroy_is_no_release() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.end(Operation::Destroy, 0, Err(error(OperationErrorKind::Failed, "no")));
    assert_eq!(harness.reconciler.records().count(), 1);
    assert!(!harness.happened(0).contains(&"destroyed".to_owned()));
    harness.pass(4);
    assert!(harness.operations.is_empty(), "5 s, plus or minus 10 %");
    harness.pass(2);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    assert_eq!(harness.reconciler.records().count(), 1, "it is still listed");
    assert!(harness.operations.is_empty() && harness.file.is_empty(), "it is never used again");
    harness.queue(3, &[]);
    let created: Vec<_> = harness.under_way();
    assert_eq!(created, ["create farm-1", "create farm-2"], "it still counts");
}

#[test]
fn a_destroyed_machine_that_stays_listed_is_destroyed_again() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    for _ in 0..60 {
        harness.list(&[up(0)]);
        harness.pass(10);
        harness.queue(0, &[Harness::disabled(0, 0)]);
    }
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_stopped_machine_keeps_its_record_and_its_disk() {
    let mut pool = pool();
    pool.idle_action = IdleAction::Stop;
    let mut harness = Harness::with_ready_machine(pool);
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["stop farm-0"]);
    harness.end(Operation::Stop, 0, Ok(up(0)));
    let off = Machine { state: MachineState::Stopped, ..up(0) };
    harness.list(std::slice::from_ref(&off));
    assert!(harness.operations.is_empty());
    harness.pass(10);
    harness.queue(1, &[]);
    assert_eq!(harness.under_way(), ["start farm-0"]);
}

/// The outcome of a start is not known: the machine may run, and counts as running until a listing shows that it does not.
#[test]
fn a_machine_whose_start_timed_out_may_run() {
    let mut pool = pool();
    pool.idle_action = IdleAction::Stop;
    let mut harness = Harness::with_ready_machine(pool);
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.end(Operation::Stop, 0, Ok(up(0)));
    let off = Machine { state: MachineState::Stopped, ..up(0) };
    harness.list(std::slice::from_ref(&off));
    harness.pass(10);
    harness.queue(1, &[]);
    harness.end(Operation::Start, 0, Err(error(OperationErrorKind::TimedOut, "no answer")));
    let state = |harness: &Harness| harness.disk.records[&name(0)].machine.state;
    assert_eq!(state(&harness), MachineState::Starting);
    harness.list(&[off]);
    assert_eq!(state(&harness), MachineState::Stopped);
}

#[test]
fn a_release_continues_after_a_restart() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[up(0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert!(harness.operations.is_empty(), "this run asked before it had published");
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn an_idle_timeout_ends_by_itself() {
    let mut pool = pool();
    pool.idle_timeout = planner::IdleTimeout::After(Seconds(60));
    let mut harness = Harness::with_ready_machine(pool);
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert_eq!(harness.file, ["farm-0"]);
    let wake_at = harness.reconciler.plan().wake_at.unwrap();
    assert_eq!(wake_at.0, 1_000_060);
    assert!(harness.reconciler.poll_timeout().unwrap() <= wake_at);
    harness.pass(wake_at.0 - harness.now - 1);
    assert_eq!(harness.file, ["farm-0"]);
    harness.pass(1);
    assert_eq!(harness.file, [""; 0]);
}

fn rest(jobs: u64) -> QueueMachine {
    QueueMachine { current_jobs: jobs, ..QueueMachine::new(planner::Host::new("builder-0")) }
}

fn builder() -> Machine {
    Machine { host_name: Some(planner::Host::new("builder-0")), ..up(0) }
}

/// A builder of the REST queue runner that is no longer needed.
fn rest_harness() -> Harness {
    let mut harness = Harness::new(pool());
    harness.keys = MachineKeys::HostName;
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.end(Operation::Deploy, 0, Ok(builder()));
    harness.list(&[up(0)]);
    harness.queue(1, &[rest(0)]);
    harness.pass(10);
    harness.queue(0, &[rest(0)]);
    harness
}

#[test]
fn a_builder_is_stopped_after_a_newer_status_and_destroyed_when_a_status_lacks_it() {
    let mut harness = rest_harness();
    assert!(harness.operations.is_empty(), "a status from before the decision is not enough");
    harness.queue(0, &[rest(0)]);
    assert_eq!(harness.under_way(), ["drain farm-0"]);
    harness.end(Operation::Drain, 0, Ok(builder()));
    assert!(harness.operations.is_empty());
    assert_eq!(harness.questions.len(), 1, "asked at once");
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

/// Nothing shows that the first answer is live. If our clock was set back before the restart, an old one does not look old.
#[test]
fn after_a_restart_no_builder_is_stopped_before_the_time_in_the_status_advances() {
    let mut harness = rest_harness().restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[builder()]);
    for time in [1_000_000, 1_000_000, 1_000_001] {
        assert!(harness.operations.is_empty(), "before {time}");
        let QueueStatus::Up(queue) = harness.status(0, &[rest(0)]) else { panic!("it is up") };
        harness.queue_is(&QueueStatus::Up(Queue { time: Some(Timestamp(time)), ..queue }));
    }
    assert_eq!(harness.under_way(), ["drain farm-0"]);
}

#[test]
fn a_builder_that_began_to_build_is_not_stopped() {
    let mut harness = rest_harness();
    harness.queue(0, &[rest(1)]);
    assert!(harness.operations.is_empty());
    harness.pass(10);
    harness.queue(0, &[rest(0)]);
    harness.queue(0, &[rest(0)]);
    assert_eq!(harness.under_way(), ["drain farm-0"]);
}

#[test]
fn a_builder_that_stays_connected_is_drained_again_and_not_released() {
    let mut harness = rest_harness();
    harness.queue(0, &[rest(0)]);
    harness.end(Operation::Drain, 0, Err(error(OperationErrorKind::Unreachable, "no route")));
    harness.queue(0, &[rest(0)]);
    assert!(harness.operations.is_empty());
    harness.pass(6);
    harness.queue(0, &[rest(0)]);
    assert_eq!(harness.under_way(), ["drain farm-0"]);
    harness.end(Operation::Drain, 0, Err(error(OperationErrorKind::Unreachable, "no route")));
    harness.pass(12);
    harness.queue(0, &[]);
    assert_eq!(
        harness.under_way(),
        ["destroy farm-0"],
        "the queue runner does not list it any more"
    );
}

/// It may have started a build while the answer was on its way. Stopping it would abort the build.
#[test]
fn a_builder_is_not_stopped_after_a_late_answer() {
    let mut harness = rest_harness();
    assert_eq!(harness.questions.len(), 1);
    harness.pass(8);
    harness.queue(0, &[rest(0)]);
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
    let release = &harness.reconciler.plan().release[0];
    assert_eq!(release.step, ReleaseStep::Await(AwaitReason::FreshStatus));
    harness.pass(1);
    assert_eq!(harness.questions.len(), 1, "the question is repeated soon");
    harness.queue(0, &[rest(1)]);
    assert!(harness.operations.is_empty(), "it builds");
    harness.pass(10);
    harness.queue(0, &[rest(0)]);
    harness.queue(0, &[rest(0)]);
    assert_eq!(harness.under_way(), ["drain farm-0"]);
}

/// Otherwise it would never be stopped.
#[test]
fn a_builder_is_stopped_after_the_answer_of_a_queue_runner_that_is_always_slow() {
    let mut harness = rest_harness();
    for _ in 0..8 {
        while harness.questions.is_empty() {
            harness.pass(1);
        }
        harness.pass(6);
        harness.queue(0, &[rest(0)]);
        if !harness.operations.is_empty() {
            break;
        }
    }
    assert_eq!(harness.under_way(), ["drain farm-0"]);
}

/// The answer that justified the first attempt is old by the time of the next one.
#[test]
fn a_builder_that_could_not_be_stopped_is_stopped_after_another_answer() {
    let mut harness = rest_harness();
    harness.queue(0, &[rest(0)]);
    harness.end(Operation::Drain, 0, Err(error(OperationErrorKind::Failed, "no")));
    harness.queue(0, &[rest(0)]);
    harness.pass(9);
    assert!(harness.operations.is_empty(), "its back-off is over, and it may build again");
    assert_eq!(harness.questions.len(), 1, "a new status is requested");
    harness.queue(0, &[rest(1)]);
    assert_eq!(harness.under_way(), ["deploy farm-0"], "it builds and stays");
}

/// It may have booted again in between, and its builder may have registered.
#[test]
fn a_machine_that_could_not_be_destroyed_is_destroyed_after_another_answer() {
    let mut harness = rest_harness();
    harness.queue(0, &[rest(0)]);
    harness.end(Operation::Drain, 0, Ok(builder()));
    harness.queue(0, &[]);
    harness.end(Operation::Destroy, 0, Err(error(OperationErrorKind::Failed, "no")));
    harness.pass(9);
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
    harness.queue(0, &[rest(0)]);
    harness.queue(0, &[rest(0)]);
    assert_eq!(harness.under_way(), ["drain farm-0"], "it is back");
}

/// An unknown idle builder may be one that could not be stopped and has registered under another name.
#[test]
fn a_builder_that_could_not_be_stopped_is_not_destroyed_beside_an_unknown_one_for_ten_minutes() {
    let mut harness = rest_harness();
    let unknown = QueueMachine { host: planner::Host::new("renamed"), ..rest(0) };
    harness.queue(0, &[rest(0)]);
    harness.end(Operation::Drain, 0, Err(error(OperationErrorKind::Failed, "no")));
    let failed_at = harness.now;
    let destroys = |harness: &Harness| harness.under_way().contains(&"destroy farm-0".to_owned());
    while !destroys(&harness) && harness.now < failed_at + 900 {
        harness.queue(0, std::slice::from_ref(&unknown));
        harness.list(&[builder()]);
        if harness.under_way() == ["drain farm-0"] {
            harness.end(Operation::Drain, 0, Err(error(OperationErrorKind::Failed, "no")));
        }
    }
    let waited = harness.now - failed_at;
    assert!(destroys(&harness) && waited >= 600, "{waited} {:?}", harness.under_way());
}

/// Otherwise its name would be free, and another machine would be created with it while an operation on the first is under way.
#[test]
fn a_machine_that_is_gone_keeps_its_record_until_its_operation_ends() {
    let mut harness = rest_harness();
    harness.queue(0, &[rest(0)]);
    harness.end(Operation::Drain, 0, Ok(builder()));
    harness.queue(0, &[]);
    harness.end(Operation::Destroy, 0, Ok(builder()));
    for _ in 0..70 {
        harness.list(&[builder()]);
        harness.pass(10);
        harness.queue(0, &[]);
    }
    assert_eq!(harness.under_way(), ["drain farm-0"], "it is still listed: drained once more");
    harness.pass(60);
    harness.list(&[]);
    assert_eq!(harness.reconciler.records().count(), 1);
    harness.end(Operation::Drain, 0, Ok(builder()));
    harness.pass(60);
    harness.list(&[]);
    assert_eq!(harness.reconciler.records().count(), 0);
}

/// After a restart of the queue runner a builder registers again, possibly under another name.
#[test]
fn a_builder_that_may_have_registered_under_another_name_is_not_stopped() {
    let renamed =
        QueueMachine { current_jobs: 1, ..QueueMachine::new(planner::Host::new("builder-0-1")) };
    let mut harness = rest_harness();
    for _ in 0..120 {
        harness.queue(0, std::slice::from_ref(&renamed));
        harness.pass(10);
    }
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
    harness.queue(0, &[]);
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["drain farm-0"]);
}

#[test]
fn a_drained_builder_that_is_wanted_again_is_deployed_again() {
    let mut harness = rest_harness();
    harness.queue(0, &[rest(0)]);
    harness.end(Operation::Drain, 0, Ok(builder()));
    harness.queue(1, &[]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    harness.end(Operation::Deploy, 0, Ok(builder()));
    assert!(harness.disk.records[&name(0)].machine.memory.leaving.is_none());
}

/// A deployment waits up to `deployTimeout` for a machine that does not answer. Seen with a real queue runner: a dead
/// builder that nobody needed stayed for 30 minutes.
#[test]
fn a_deployment_that_waits_for_a_dead_machine_does_not_delay_its_release() {
    let dead = Machine { state: MachineState::Unreachable, ..builder() };
    let mut harness = rest_harness();
    harness.queue(1, &[rest(0)]);
    harness.pass(60);
    harness.list(std::slice::from_ref(&dead));
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    harness.queue(0, &[]);
    harness.queue(0, &[]);
    assert_eq!(harness.abandoned.len(), 1, "its deployment is ended");
    harness.queue(0, &[]);
    assert_eq!(harness.abandoned.len(), 1, "once");
    harness.end(Operation::Deploy, 0, Err(error(OperationErrorKind::TimedOut, "ended")));
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["drain farm-0"]);
    harness.end(Operation::Drain, 0, Err(error(OperationErrorKind::Unreachable, "no route")));
    harness.pass(10);
    harness.queue(0, &[]);
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
    let happened = harness.happened(0);
    assert!(happened.contains(&"deployment ended: it is not needed".to_owned()), "{happened:?}");
    assert!(!happened.iter().any(|line| line.starts_with("cannot deploy")), "{happened:?}");
}

/// Which file is there after an error is not known, even if the last one that was written is wanted again.
#[test]
fn a_failed_publication_is_retried_without_a_busy_loop() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.publications = Answers::Fail;
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert!(harness.reconciler.publication_error().is_some());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.pass(20);
    assert!(
        harness.reconciler.poll_timeout().is_some_and(|at| at.0 > harness.now),
        "it does not busy-loop"
    );
    assert!(harness.reconciler.publication_error().is_some());
    harness.publications = Answers::AtOnce;
    harness.pass(10);
    assert_eq!(harness.reconciler.publication_error(), None);
}

/// The file that names it could not be written, or was and the answer is an error: only a file that does not name it
/// ends the uncertainty, even if it has the same lines as the last one that was written.
#[test]
fn a_machine_whose_publication_failed_is_unpublished_when_it_leaves() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert!(harness.file.is_empty());
    harness.publications = Answers::Fail;
    harness.queue(1, &[Harness::disabled(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.publications = Answers::AtOnce;
    harness.pass(60);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

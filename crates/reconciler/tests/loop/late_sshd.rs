//! Machines that their provider reports as up before they answer over ssh.

use planner::{Machine, MachineState, Operation, OrderKind};
use reconciler::OperationErrorKind;

use crate::harness::{Harness, TYPE, configuration, error, name, pool, up};
use crate::orders::order;

/// A machine that its provider reports as up, with an sshd that does not answer yet.
fn without_sshd() -> Harness {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    harness
}

impl Harness {
    /// Passes `seconds`, in which no deployment can connect; returns how many were tried.
    fn refuse_ssh(&mut self, seconds: u64) -> usize {
        let end = self.now + seconds;
        let mut tried = 0;
        while self.now < end {
            self.list(&[up(0)]);
            if !self.questions.is_empty() {
                self.queue(1, &[]);
            }
            if self.under_way() == ["deploy farm-0"] {
                let refused = error(OperationErrorKind::Unreachable, "refused");
                self.end(Operation::Deploy, 0, Err(refused));
                tried += 1;
            }
            self.pass(1);
        }
        tried
    }

    fn said(&self, what: &str) -> usize {
        self.happened(0).iter().filter(|line| line.contains(what)).count()
    }
}

#[test]
fn an_sshd_that_is_late_is_no_failure() {
    let mut harness = without_sshd();
    let tried = harness.refuse_ssh(1200);
    assert!((25..60).contains(&tried), "{tried}");
    let memory = &harness.disk.records[&name(0)].machine.memory;
    assert!(memory.failing.is_none());
    assert_eq!(harness.said("cannot deploy"), 0, "{:?}", harness.happened(0));
    assert_eq!(harness.said("does not answer over ssh yet"), 1);
    assert!(!harness.reconciler.plan().to_string().contains("failed"));
    // Nothing is under way between two attempts. Another run continues the wait.
    assert!(harness.operations.is_empty());
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[up(0)]);
    harness.queue(1, &[]);
    harness.refuse_ssh(300);
    assert_eq!(harness.said("cannot deploy") + harness.said("does not answer over ssh yet"), 0);
    while harness.operations.is_empty() {
        harness.pass(1);
    }
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, ["farm-0"]);
    assert!(harness.disk.records[&name(0)].machine.memory.awaits_ssh.is_none());
}

#[test]
fn an_sshd_that_never_answers_is_a_failure_after_deploy_timeout() {
    let mut harness = without_sshd();
    let began = harness.now;
    harness.refuse_ssh(1790);
    assert_eq!(harness.said("cannot deploy"), 0);
    harness.refuse_ssh(30);
    assert!(harness.said("cannot deploy") > 0, "{:?}", harness.happened(0));
    // As long as a machine with a deployment that fails from the beginning.
    harness.refuse_ssh(began + 3590 - harness.now);
    assert_eq!(harness.said("to destroy"), 0);
    harness.refuse_ssh(15);
    assert_eq!(harness.said("to destroy"), 1, "{:?}", harness.happened(0));
}

#[test]
fn other_failures_are_reported_at_once() {
    let mut harness = without_sshd();
    harness.end(Operation::Deploy, 0, Err(error(OperationErrorKind::Failed, "host key")));
    assert_eq!(harness.said("cannot deploy"), 1, "{:?}", harness.happened(0));
    // One that was ready before.
    let mut harness = Harness::with_ready_machine(pool());
    let unreachable = Machine { state: MachineState::Unreachable, ..up(0) };
    harness.pass(60);
    harness.list(&[unreachable]);
    harness.end(Operation::Deploy, 0, Err(error(OperationErrorKind::Unreachable, "refused")));
    assert_eq!(harness.said("cannot deploy"), 1, "{:?}", harness.happened(0));
}

#[test]
fn a_machine_that_is_awaited_is_released_at_once() {
    let mut harness = without_sshd();
    harness.refuse_ssh(300);
    harness.order(&[order(OrderKind::Release(name(0)))]);
    for _ in 0..2 {
        harness.queue(0, &[]);
    }
    let under_way = harness.under_way();
    assert!(under_way.contains(&"destroy farm-0".to_owned()), "{under_way:?}");
}

//! The operator's orders.

use planner::{
    Host, Machine, MachineKeys, MachineName, MachineType, Operation, Order, OrderKind, PoolPolicy,
    QueueMachine, Timestamp,
};
use reconciler::{Event, OperationErrorKind, State, Timing};

use crate::harness::{Harness, TYPE, configuration, error, name, pool, up};

pub fn order(kind: OrderKind) -> Order {
    Order { kind, at: Timestamp(0), by: "ann".into(), why: "a test".into(), until: None }
}

/// A policy that leaves no room for a successor.
fn only_one() -> PoolPolicy {
    PoolPolicy { max_machines: 1, ..pool() }
}

impl Harness {
    /// The operator gives these orders and no others.
    pub fn order(&mut self, orders: &[Order]) {
        self.disk.orders = orders.to_vec();
        self.tell(Event::Ordered(orders.to_vec()));
        self.act();
    }
}

#[test]
fn a_drained_machine_is_unlisted_stays_and_comes_back() {
    let mut harness = Harness::with_ready_machine(only_one());
    harness.order(&[order(OrderKind::Drain(name(0)))]);
    assert!(harness.file.is_empty(), "it gets no more builds");
    for _ in 0..5 {
        harness.queue(0, &[Harness::disabled(0, 0)]);
        harness.pass(10);
    }
    assert!(harness.operations.is_empty(), "it stays: {:?}", harness.under_way());
    harness.queue(1, &[Harness::disabled(0, 0)]);
    assert!(harness.operations.is_empty() && harness.file.is_empty());
    harness.order(&[]);
    assert_eq!(harness.file, ["farm-0"]);
    assert!(harness.happened(0).contains(&"to drain: ordered by ann: a test".to_owned()));
}

#[test]
fn a_machine_to_be_released_is_destroyed_when_it_is_idle_and_not_before() {
    let mut harness = Harness::with_ready_machine(only_one());
    harness.order(&[order(OrderKind::Release(name(0)))]);
    for _ in 0..3 {
        harness.queue(0, &[Harness::listed(0, 1)]);
        harness.pass(10);
    }
    assert!(harness.operations.is_empty(), "it builds");
    assert!(harness.file.is_empty(), "but gets no new builds");
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.pass(10);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.list(&[]);
    harness.pass(10);
    harness.queue(0, &[]);
    assert!(harness.disk.orders.is_empty(), "orders of a machine that is gone are removed");
}

#[test]
fn a_kept_machine_stays_until_the_order_expires_also_after_a_restart() {
    let mut harness = Harness::with_ready_machine(pool());
    let until = Some(Timestamp(harness.now + 600));
    harness.order(&[Order { until, ..order(OrderKind::Keep(name(0))) }]);
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[up(0)]);
    for _ in 0..10 {
        harness.queue(0, &[Harness::listed(0, 0)]);
        harness.pass(10);
    }
    assert!(harness.operations.iter().all(|(_, task)| task.operation == Operation::Deploy));
    assert_eq!(harness.file, ["farm-0"]);
    harness.pass(600);
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert!(harness.file.is_empty(), "the order has expired");
    assert!(harness.disk.orders.is_empty());
    assert!(
        harness
            .happened(0)
            .iter()
            .any(|what| what.starts_with("order no longer in force: keep farm-0"))
    );
}

#[test]
fn nothing_is_created_while_all_is_paused() {
    let mut harness = Harness::new(pool());
    harness.order(&[order(OrderKind::PauseAll)]);
    harness.list(&[]);
    harness.queue(3, &[]);
    assert!(harness.operations.is_empty() && harness.disk.records.is_empty());
    harness.order(&[order(OrderKind::Pause(MachineType::new("another")))]);
    assert_eq!(harness.under_way().len(), 3);
}

#[test]
fn retry_ends_a_back_off_once() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Capacity, "none left")));
    assert!(harness.operations.is_empty());
    harness.order(&[order(OrderKind::Retry(MachineType::new(TYPE)))]);
    assert_eq!(harness.under_way(), ["create farm-0"]);
    assert!(harness.disk.orders.is_empty() && harness.disk.back_off.is_empty());
}

#[test]
fn only_a_machine_that_is_not_listed_is_forgotten() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.order(&[order(OrderKind::Forget(name(0)))]);
    assert!(harness.happened(0).contains(&"not forgotten: its provider lists it".to_owned()));
    assert!(harness.disk.orders.is_empty() && harness.disk.records.len() == 1);
    for _ in 0..60 {
        if !harness.listings.is_empty() {
            break;
        }
        harness.pass(1);
    }
    harness.list(&[]);
    harness.queue(0, &[Harness::listed(0, 1)]);
    harness.order(&[order(OrderKind::Forget(name(0)))]);
    assert!(harness.happened(0).contains(&"not forgotten: it may be building".to_owned()));
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.order(&[order(OrderKind::Forget(name(0)))]);
    assert!(harness.disk.records.is_empty(), "{:?}", harness.happened(0));
}

/// Without its order it is idle for as long as its grace period allows, and not released at once.
#[test]
fn a_machine_whose_order_to_drain_ends_is_judged_again() {
    let idle_timeout = planner::IdleTimeout::After(planner::Seconds(600));
    let mut harness = Harness::with_ready_machine(PoolPolicy { idle_timeout, ..only_one() });
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert_eq!(harness.file, ["farm-0"]);
    let drain = order(OrderKind::Drain(name(0)));
    harness.order(std::slice::from_ref(&drain));
    assert!(harness.file.is_empty());
    harness.order(&[drain, order(OrderKind::Pause(MachineType::new("other")))]);
    assert!(harness.file.is_empty(), "an order about something else changes nothing");
    harness.order(&[]);
    assert_eq!(harness.file, ["farm-0"]);
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
}

/// Its provider lists it, but neither its name nor a tag says that it is ours.
#[test]
fn a_machine_is_adopted_when_it_is_listed() {
    let called = |it: &str| Machine { name: MachineName::new(it), ..up(7) };
    let mut harness = Harness::new(PoolPolicy { min_machines: 3, ..pool() });
    harness.list(&[]);
    harness.queue(0, &[]);
    harness.pass(2);
    harness.list(&[]);
    assert!(harness.listings.is_empty());
    let adopt = order(OrderKind::Adopt(MachineName::new("pet")));
    harness.order(std::slice::from_ref(&adopt));
    assert_eq!(harness.listings.len(), 1, "its provider is asked at once");
    harness.list(&[]);
    harness.pass(1);
    harness.order(&[adopt.clone(), order(OrderKind::Pause(MachineType::new("other")))]);
    assert!(harness.listings.is_empty(), "an order that is known is no reason to ask again");
    assert!(harness.disk.orders.contains(&adopt), "it is in force until the machine is listed");
    harness.pass(60);
    harness.list(&[called("pet"), called("db-server")]);
    let records: Vec<_> = harness.disk.records.keys().map(MachineName::as_str).collect();
    assert!(records.contains(&"pet") && !records.contains(&"db-server"), "{records:?}");
    assert!(!harness.disk.orders.contains(&adopt), "it is carried out");
    harness.pass(60);
    harness.list(&[called("pet")]);
    assert!(harness.disk.records[&MachineName::new("pet")].exists, "it stays ours");
}

/// It stays, so it must not power itself off, although its builder is stopped (REST).
#[test]
fn keep_alive_is_touched_on_a_drained_machine_that_stays() {
    let mut configuration = configuration(&[(TYPE, only_one())]);
    configuration.timing = Timing::default();
    let mut harness = Harness::of(configuration, State::default());
    harness.keys = MachineKeys::HostName;
    let builder = Machine { host_name: Some(Host::new("builder")), ..up(0) };
    let seen = QueueMachine::new(Host::new("builder"));
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(builder.clone()));
    harness.list(std::slice::from_ref(&builder));
    harness.end(Operation::Deploy, 0, Ok(builder.clone()));
    harness.queue(0, std::slice::from_ref(&seen));
    harness.order(&[order(OrderKind::Drain(name(0)))]);
    while harness.under_way() != ["drain farm-0"] {
        harness.queue(0, std::slice::from_ref(&seen));
    }
    harness.end(Operation::Drain, 0, Ok(builder.clone()));
    assert!(harness.disk.records[&name(0)].machine.memory.ready_since.is_none());
    let touched_within = |harness: &mut Harness, seconds: u64| {
        let end = harness.now + seconds;
        while harness.now < end {
            harness.list(std::slice::from_ref(&builder));
            harness.queue(0, &[]);
            harness.pass(1);
            if harness.under_way() == ["keep-alive farm-0"] {
                return true;
            }
            assert!(harness.operations.is_empty(), "it stays: {:?}", harness.under_way());
        }
        false
    };
    assert!(touched_within(&mut harness, 330));
    // Also when it does not answer for a while, which is said once.
    for _ in 0..2 {
        let refused = error(OperationErrorKind::Unreachable, "refused");
        harness.end(Operation::KeepAlive, 0, Err(refused));
        assert!(touched_within(&mut harness, 330));
    }
    let said = harness.happened(0).into_iter().filter(|line| line.contains("refused")).count();
    assert_eq!(said, 1, "{:?}", harness.happened(0));
    harness.end(Operation::KeepAlive, 0, Ok(builder.clone()));
    assert!(touched_within(&mut harness, 330));
    // Nothing prevents it from ending by itself when we could not end it.
    harness.end(Operation::KeepAlive, 0, Ok(builder.clone()));
    harness.order(&[order(OrderKind::Release(name(0)))]);
    while harness.under_way() != ["destroy farm-0"] {
        if harness.under_way() == ["drain farm-0"] {
            harness.end(Operation::Drain, 0, Ok(builder.clone()));
        }
        harness.queue(0, &[]);
    }
    harness.end(Operation::Destroy, 0, Err(error(OperationErrorKind::Failed, "no permission")));
    for _ in 0..700 {
        harness.pass(1);
        harness.list(std::slice::from_ref(&builder));
        assert!(!harness.under_way().contains(&"keep-alive farm-0".to_owned()));
        if harness.under_way() == ["destroy farm-0"] {
            let refused = error(OperationErrorKind::Failed, "no permission");
            harness.end(Operation::Destroy, 0, Err(refused));
        }
    }
}

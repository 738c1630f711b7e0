//! Limits of what is done at the same time.

use planner::{Machine, MachineType, Operation, PoolPolicy, Resource, System};
use reconciler::{Event, Listing, OperationErrorKind, ProviderId, State, Timing};

use crate::harness::{Harness, TYPE, configuration, error, name, pool, up};

#[test]
fn a_provider_gets_so_many_operations_at_once() {
    let mut pool = pool();
    (pool.max_machines, pool.max_creating) = (9, 9);
    let mut configuration = configuration(&[(TYPE, pool)]);
    configuration.timing = Timing { parallelism: 2, ..configuration.timing };
    let mut harness = Harness::of(configuration, State::default());
    harness.list(&[]);
    harness.queue(4, &[]);
    assert_eq!(harness.under_way(), ["create farm-0", "create farm-1"]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    assert_eq!(harness.operations.len(), 2, "{:?}", harness.under_way());
    harness.end(Operation::Create, 1, Ok(up(1)));
    assert_eq!(harness.operations.len(), 2, "{:?}", harness.under_way());
}

#[test]
fn so_many_machines_of_a_type_are_created_at_once() {
    let mut pool = pool();
    (pool.max_machines, pool.max_creating) = (9, 2);
    let mut harness = Harness::new(pool);
    harness.list(&[]);
    harness.queue(4, &[]);
    assert_eq!(harness.under_way(), ["create farm-0", "create farm-1"]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("2 more later (maxCreating allows 2 at once)"), "{plan}");
    let booting = Machine { state: planner::MachineState::Starting, ..up(0) };
    harness.end(Operation::Create, 0, Ok(booting));
    assert_eq!(harness.under_way(), ["create farm-1"], "it counts until it is ready");
    harness.list(&[up(0)]);
    assert_eq!(harness.under_way().len(), 3, "{:?}", harness.under_way());
}

#[test]
fn the_originals_rate_of_creation_is_kept() {
    let mut pool = pool();
    pool.creates_per_5_minutes = Some(1);
    let mut harness = Harness::new(pool);
    harness.list(&[]);
    harness.queue(3, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    harness.pass(299);
    assert!(harness.operations.is_empty());
    harness.pass(1);
    assert_eq!(harness.under_way(), ["create farm-1"]);
}

#[test]
fn a_silent_provider_delays_no_other_type() {
    let other =
        PoolPolicy { max_machines: 3, ..PoolPolicy::new(vec![System::new("aarch64-linux")]) };
    let mut configuration = configuration(&[(TYPE, pool()), ("aarch64-linux", other)]);
    let arm = ProviderId("arm".to_owned());
    configuration.providers.insert(MachineType::new("aarch64-linux"), arm.clone());
    let mut harness = Harness::of(configuration, State::default());
    let (of_arm, others) = std::mem::take(&mut harness.listings)
        .into_iter()
        .partition::<Vec<_>, _>(|(_, p)| *p == arm);
    for (listing, provider) in others {
        harness.tell(Event::Listed { listing, provider, result: Ok(Listing::default()) });
    }
    harness.act();
    harness.queue(1, &[]);
    assert!(harness.operations.is_empty(), "the first plan waits for the first answers");
    harness.pass(30);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.file, [""; 0], "its machines may be in the file");
    for (listing, provider) in std::mem::take(&mut harness.listings).into_iter().chain(of_arm) {
        let result = if provider == arm {
            Err("no answer".to_owned())
        } else {
            Ok(Listing { machines: vec![up(0)], ..Listing::default() })
        };
        harness.tell(Event::Listed { listing, provider, result });
    }
    harness.act();
    assert_eq!(harness.file, ["farm-0"]);
    harness.pass(60);
    for (listing, provider) in std::mem::take(&mut harness.listings) {
        if provider != arm {
            let result = Ok(Listing { machines: vec![up(0)], ..Listing::default() });
            harness.tell(Event::Listed { listing, provider, result });
        }
    }
    harness.queue(2, &[]);
    assert_eq!(harness.under_way(), ["create farm-1"], "arm hangs and delays no other");
}

/// A listing with so much free memory, of which each machine needs some.
fn with_room(machines: &[Machine], free: u64, need: u64) -> Listing {
    let needs = [(MachineType::new(TYPE), need)].into();
    let resource = Resource { name: "MiB".to_owned(), free, needs };
    Listing { machines: machines.to_vec(), resources: vec![resource], ..Listing::default() }
}

#[test]
fn room_is_not_used_twice_while_a_machine_is_being_created() {
    let mut harness = Harness::new(pool());
    harness.list_as(&Ok(with_room(&[], 2500, 1000)));
    harness.queue(1, &[]);
    harness.queue(3, &[]);
    assert_eq!(harness.under_way(), ["create farm-0", "create farm-1"]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("no room for 1 (each needs 1000, free: 500 MiB)"), "{plan}");
    let booting = Machine { state: planner::MachineState::Starting, ..up(0) };
    harness.end(Operation::Create, 0, Ok(booting));
    assert_eq!(harness.under_way(), ["create farm-1"], "its room is still taken");
}

/// A warm machine is ready long before the next listing counts it.
#[test]
fn room_is_not_used_twice_once_a_machine_is_ready() {
    for outcome in [Ok(up(0)), Err(error(OperationErrorKind::TimedOut, "no answer"))] {
        let mut harness = Harness::new(pool());
        harness.list_as(&Ok(with_room(&[], 1500, 1000)));
        harness.queue(1, &[]);
        let is_ready = outcome.is_ok();
        harness.end(Operation::Create, 0, outcome);
        if is_ready {
            harness.end(Operation::Deploy, 0, Ok(up(0)));
        }
        harness.pass(100);
        harness.queue(2, &[]);
        assert_eq!(harness.under_way(), [""; 0], "its room is still taken: {is_ready}");
        harness.list_as(&Ok(with_room(&[up(0)], 1500, 1000)));
        assert!(harness.under_way().contains(&"create farm-1".to_owned()), "{is_ready}");
    }
}

#[test]
fn needs_that_overflow_leave_no_room() {
    let mut harness = Harness::new(pool());
    harness.list_as(&Ok(with_room(&[], 2500, 1000)));
    harness.queue(2, &[]);
    assert_eq!(harness.under_way(), ["create farm-0", "create farm-1"]);
    harness.pass(60);
    harness.list_as(&Ok(with_room(&[], 2500, u64::MAX)));
    harness.queue(3, &[]);
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("free: 0 MiB"), "{plan}");
}

#[test]
fn a_wait_has_a_known_end() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    let next = harness.reconciler.poll_timeout().unwrap();
    assert!(next.0 > harness.now && next.0 <= harness.now + 10, "{next:?} at {}", harness.now);
    assert_eq!(harness.reconciler.plan().wake_at, None, "nothing changes by itself");
    assert!(harness.reconciler.is_settled());
}

/// A creation timed out. A later attempt that fails says nothing about the first one: its machine may exist.
#[test]
fn a_machine_that_may_exist_counts_against_the_limits_until_it_is_known_not_to() {
    let mut pool = pool();
    (pool.max_machines, pool.max_creating) = (3, 3);
    let other = PoolPolicy { runnables_per_machine: std::num::NonZeroU32::MIN, ..pool.clone() };
    let other = PoolPolicy { systems: vec![System::new("aarch64-linux")], ..other };
    let mut configuration = configuration(&[(TYPE, pool), ("aarch64-linux", other)]);
    configuration.policy.max_machines = Some(1);
    let mut harness = Harness::of(configuration, State::default());
    harness.list(&[]);
    harness.queue(1, &[]);
    let token = harness.operations[0].1.token.clone();
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::TimedOut, "no answer")));
    let paid = |harness: &Harness| harness.disk.records[&name(0)].machine.memory.paid;
    for _ in 0..2 {
        harness.pass(120);
        harness.list(&[]);
        assert_eq!(harness.under_way(), ["create farm-0"]);
        assert_eq!(harness.operations[0].1.token, token, "the same machine is requested again");
        harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "refused")));
        assert!(paid(&harness).is_some(), "it may exist");
    }
    for _ in 0..3 {
        harness.queue(0, &[]);
    }
    assert_eq!(harness.under_way(), ["destroy farm-0"], "it is made sure that it is gone");
}

/// As above. After half an hour of listings without it, it does not exist.
#[test]
fn a_machine_that_is_not_listed_for_half_an_hour_after_an_unknown_outcome_does_not_exist() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let token = harness.operations[0].1.token.clone();
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::TimedOut, "no answer")));
    harness.pass(120);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "refused")));
    let record = |harness: &Harness| harness.disk.records[&name(0)].clone();
    let began = harness.now;
    while record(&harness).unknown_since.is_some() {
        assert!(record(&harness).machine.memory.paid.is_some(), "it counts");
        assert!(harness.now < began + 4000, "it is never known");
        harness.pass(30);
        if !harness.operations.is_empty() {
            assert_eq!(harness.operations[0].1.token, token);
            let refused = error(OperationErrorKind::Failed, "refused");
            harness.end(Operation::Create, 0, Err(refused));
        }
        harness.list(&[]);
    }
    assert!(harness.now >= began + 1600, "{}", harness.now - began);
    assert_eq!(record(&harness).machine.memory.paid, None);
    harness.pass(3600);
    assert_ne!(harness.operations[0].1.token, token, "another attempt has another token");
}

/// The run that requested it was killed: whether its request was sent is unknown.
#[test]
fn an_intent_of_an_earlier_run_counts_against_the_limits() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    let mut record = harness.disk.records[&name(0)].clone();
    // Only the intent was recorded.
    (record.machine.memory.paid, record.machine.memory.under_way) = (None, None);
    harness.disk.records.insert(name(0), record);
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "refused")));
    let record = &harness.disk.records[&name(0)];
    assert!(record.machine.memory.paid.is_some() && record.unknown_since.is_some());
}

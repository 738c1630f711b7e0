//! Cost of machines, and cost limits.

use planner::{Machine, MachineState, MachineType, Money, Operation, OrderKind, Spent, Timestamp};
use reconciler::{Event, Listing, OperationErrorKind, State};

use crate::harness::{Harness, TYPE, configuration, error, name, pool, up};
use crate::orders::order;

const DOLLAR: Money = Money(1_000_000);

fn harness() -> Harness {
    let mut pool = pool();
    pool.dollars_per_hour = Some(DOLLAR);
    let mut configuration = configuration(&[(TYPE, pool)]);
    configuration.policy.cost_limits.daily = Some(Money(1_500_000));
    let mut harness = Harness::of(configuration, State::default());
    harness.list(&[]);
    harness
}

/// The whole life of a machine. Returns since when it cost.
fn create_and_destroy(harness: &mut Harness) -> Timestamp {
    harness.queue(1, &[]);
    harness.pass(60);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    harness.pass(540);
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    let began = harness.disk.records[&name(0)].machine.memory.paid.unwrap().since;
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    began
}

fn spent(harness: &Harness) -> Spent {
    harness.disk.experience[&MachineType::new(TYPE)].spent
}

#[test]
fn the_cost_of_a_machine_is_remembered_when_it_is_gone() {
    let mut harness = harness();
    let began = create_and_destroy(&mut harness);
    let spent = spent(&harness);
    assert_eq!(spent.today, DOLLAR.for_time(Timestamp(harness.now).since(began)));
    assert!((Money(160_000)..Money(180_000)).contains(&spent.today), "{spent:?}");
}

#[test]
fn a_limit_delays_machines_and_says_until_when() {
    let mut harness = harness();
    harness.queue(3, &[]);
    assert_eq!(harness.under_way(), ["create farm-0"]);
    let plan = harness.reconciler.plan().to_string();
    assert!(
        plan.contains("2 more from 1970-01-13 00:00:00 on: maxDailyCost of the farm is $1.50"),
        "{plan}"
    );
}

#[test]
fn a_failed_creation_costs_nothing() {
    let mut harness = harness();
    harness.queue(1, &[]);
    harness.pass(60);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "quota")));
    assert_eq!(harness.disk.records[&name(0)].machine.memory.paid, None);
}

/// 25 hours ahead and back: the limit of the day is neither free again nor reached twice.
#[test]
fn setting_the_clock_makes_no_money_available() {
    let mut harness = harness();
    create_and_destroy(&mut harness);
    let before = spent(&harness);
    assert!(before.today > Money(0));
    for seconds in [25 * 3600, -25 * 3600_i64] {
        harness.now = harness.now.checked_add_signed(seconds).unwrap();
        harness.tell(Event::ClockStepped { seconds });
        harness.act();
        let after = spent(&harness).at(Timestamp(harness.now));
        assert_eq!((after.today, after.this_month), (before.today, before.this_month));
    }
}

/// A machine that someone else started or stopped costs from its own start until a listing shows that it is off.
#[test]
fn a_machine_costs_while_its_provider_lists_it_as_running() {
    let since = Timestamp(1_000_000 - 3600);
    for (state, is_paid) in [
        (MachineState::Up, true),
        (MachineState::Starting, true),
        (MachineState::Stopping, false),
        (MachineState::Stopped, false),
        (MachineState::Failed, false),
    ] {
        let mut harness = harness();
        harness.pass(60);
        let found = Machine { state, started_at: Some(since), ..up(0) };
        harness.list(std::slice::from_ref(&found));
        let paid = |harness: &Harness| harness.disk.records[&name(0)].machine.memory.paid;
        assert_eq!(paid(&harness).map(|paid| paid.since), is_paid.then_some(since), "{state}");
        if !is_paid {
            continue;
        }
        harness.pass(60);
        harness.list(&[Machine { state: MachineState::Stopped, ..found }]);
        assert_eq!(paid(&harness), None, "{state}");
        let spent = spent(&harness).today;
        assert_eq!(spent, DOLLAR.for_time(Timestamp(harness.now).since(since)), "{state}");
    }
}

/// Providers list a machine for a while after it was destroyed, and may report its creation as its start.
#[test]
fn no_hour_is_booked_twice() {
    let mut harness = harness();
    let began = create_and_destroy(&mut harness);
    let booked = spent(&harness).today;
    let ended = Timestamp(harness.now);
    let listed = Machine { started_at: Some(began), ..up(0) };
    // What was asked before it ended says nothing.
    harness.list(&[]);
    harness.pass(60);
    harness.list(std::slice::from_ref(&listed));
    let paid = harness.disk.records[&name(0)].machine.memory.paid;
    assert_eq!(paid.map(|paid| paid.since), Some(ended), "it still costs");
    harness.pass(60);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    let since = DOLLAR.for_time(Timestamp(harness.now).since(ended));
    assert_eq!(spent(&harness).today, booked.plus(since));
}

#[test]
fn what_a_forgotten_machine_cost_still_counts() {
    let mut harness = harness();
    harness.pass(60);
    harness.list(&[up(0)]);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    let began = harness.disk.records[&name(0)].machine.memory.paid.unwrap().since;
    harness.pass(600);
    harness.list_as(&Err("no answer".to_owned()));
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.order(&[order(OrderKind::Forget(name(0)))]);
    assert!(harness.disk.records.is_empty());
    let cost = DOLLAR.for_time(Timestamp(harness.now).since(began));
    assert_eq!(spent(&harness).today, cost);
}

/// Nothing is configured: the provider's price of the type counts before a machine is created, its price of the machine
/// after it.
#[test]
fn prices_that_the_provider_reports_are_limited_and_remembered() {
    let mut configuration = configuration(&[(TYPE, pool())]);
    configuration.policy.cost_limits.daily = Some(Money(1_500_000));
    let mut harness = Harness::of(configuration, State::default());
    let prices = [(MachineType::new(TYPE), DOLLAR)].into();
    harness.list_as(&Ok(Listing { prices, ..Listing::default() }));
    harness.queue(3, &[]);
    assert_eq!(harness.under_way(), ["create farm-0"], "two may exceed the limit");
    harness.pass(60);
    let cheaper = Money(400_000);
    let made = Machine { dollars_per_hour: Some(cheaper), ..up(0) };
    harness.end(Operation::Create, 0, Ok(made.clone()));
    assert_eq!(harness.disk.prices, [cheaper]);
    harness.list(std::slice::from_ref(&made));
    harness.end(Operation::Deploy, 0, Ok(made.clone()));
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.pass(540);
    for _ in 0..3 {
        harness.queue(0, &[Harness::disabled(0, 0)]);
    }
    let began = harness.disk.records[&name(0)].machine.memory.paid.unwrap().since;
    harness.end(Operation::Destroy, 0, Ok(made));
    let expected = cheaper.for_time(Timestamp(harness.now).since(began));
    assert_eq!(spent(&harness).today, expected);
}

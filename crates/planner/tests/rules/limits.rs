//! Limits in dollars: what counts against them, and when they have room again.

use planner::{
    Experience, Machine, MachineName, MachineState, MachineType, Money, Paid, PoolPolicy, Seconds,
    Spent, Timestamp,
};

use crate::farm::{Farm, HOUR, NOW, TYPE, ago, name, pool, remembers, up};

const DOLLAR: Money = Money(1_000_000);

fn priced() -> PoolPolicy {
    PoolPolicy { dollars_per_hour: Some(DOLLAR), ..pool() }
}

/// Two steps wait, the hour may cost two dollars, and there is one other machine.
#[test]
fn what_runs_or_may_run_counts_against_the_hourly_limit() {
    let paid = |machine| {
        let paid = Paid { since: ago(60), dollars_per_hour: Some(DOLLAR) };
        remembers(machine, |memory| memory.paid = Some(paid))
    };
    let is = |state| Machine { state, ..up(0) };
    let cases = [
        ("it runs", paid(is(MachineState::Unreachable)), 1),
        ("it is off", is(MachineState::Stopped), 2),
        ("it was destroyed", remembers(paid(up(0)), |it| it.destroyed_at = Some(ago(60))), 2),
        (
            "it is listed after that",
            remembers(paid(up(0)), |it| it.destroyed_at = Some(ago(300))),
            1,
        ),
        ("it was requested, and the answer was lost", paid(is(MachineState::Requested)), 1),
        ("it is only requested", is(MachineState::Requested), 2),
    ];
    for (what, machine, begun) in cases {
        let mut farm = Farm::new(PoolPolicy { max_machines: 9, ..priced() }, 5, &[machine]);
        farm.pool().cost_limits.hourly = Some(Money(2 * DOLLAR.0));
        let plan = farm.plan();
        let others = plan.provision.iter().filter(|it| it.name != name(0)).count();
        let comes_up = usize::from(
            plan.start.contains(&name(0)) || plan.provision.iter().any(|it| it.name == name(0)),
        );
        let is_new = comes_up == 1 && begun == 2;
        assert_eq!(others + usize::from(is_new), begun, "{what}:\n{plan}");
    }
}

/// `minMachines` machines are requested again in spite of a limit; more are not.
#[test]
fn a_lost_request_is_repeated_if_it_is_wanted_anyway() {
    let lost = Machine { state: MachineState::Requested, address: None, ..up(0) };
    let paid = Paid { since: ago(60), dollars_per_hour: Some(DOLLAR) };
    let lost = remembers(lost, |memory| {
        memory.paid = Some(paid);
        memory.ready_since = None;
    });
    for (min_machines, asked) in [(0, 0), (1, 1)] {
        let mut farm = Farm::new(priced(), 1, std::slice::from_ref(&lost));
        farm.pool().min_machines = min_machines;
        farm.pool().cost_limits.hourly = Some(Money(DOLLAR.0 / 2));
        assert_eq!(farm.created(), asked, "{min_machines}");
    }
}

fn with_spent(today: Money, limit: Money, machines: &[Machine], runnable: u64) -> Farm {
    let mut farm = Farm::new(priced(), runnable, machines);
    farm.policy.cost_limits.daily = Some(limit);
    let spent = Spent { today, ..Spent::default().at(NOW) };
    let spent = Spent { today, this_month: today, ..spent };
    let known = Experience { spent, ..Experience::default() };
    farm.snapshot.experience.insert(MachineType::new(TYPE), known);
    farm
}

#[test]
fn a_limit_may_be_reached_and_not_passed() {
    for (limit, created) in [(Money(3 * DOLLAR.0), 1), (Money(3 * DOLLAR.0 - 1), 0)] {
        let farm = with_spent(Money(2 * DOLLAR.0), limit, &[], 1);
        assert_eq!(farm.created(), created, "{limit}");
    }
}

/// The day ends at 24:00 UTC. Before, a running machine comes within an hour of the limit.
#[test]
fn the_plan_changes_when_a_limit_has_no_more_or_new_room() {
    let running = {
        let paid = Paid { since: NOW, dollars_per_hour: Some(DOLLAR) };
        let machine = Machine { started_at: Some(NOW), ..up(0) };
        remembers(machine, |memory| {
            memory.paid = Some(paid);
            memory.ready_since = Some(NOW);
        })
    };
    let midnight = NOW.start_of_next_day().since(NOW);
    let cases = [
        ("nothing runs", vec![], 0, Money(5 * DOLLAR.0), midnight),
        // An hour ahead is counted: $1.50 of today's $3 are spent, so $0.50 are left for half an hour.
        ("one runs", vec![running], 1, Money(3 * DOLLAR.0), Seconds(HOUR / 2 + 1)),
    ];
    for (what, machines, runnable, limit, expected) in cases {
        let plan = with_spent(Money(DOLLAR.0 * 3 / 2), limit, &machines, runnable).plan();
        let wakes_in = plan.wake_at.map(|at: Timestamp| at.since(NOW));
        assert_eq!(wakes_in, Some(expected), "{what}:\n{plan}");
    }
}

/// An hour that is billed in advance is spent as soon as a machine is requested, also before a listing shows its next charge.
#[test]
fn the_first_hour_of_a_machine_that_is_billed_by_the_hour_counts_at_once() {
    let requested = {
        let machine = Machine { state: MachineState::Requested, address: None, ..up(0) };
        remembers(machine, |memory| {
            memory.paid = Some(Paid { since: NOW, dollars_per_hour: Some(DOLLAR) });
            memory.ready_since = None;
        })
    };
    // Each machine counts with the hour ahead and, where that is billed at once, with its first hour.
    let cases = [
        (vec![], false, 1, 1),
        (vec![], true, 1, 0),
        (vec![], true, 2, 1),
        (vec![requested.clone()], false, 2, 1),
        (vec![requested.clone()], true, 3, 0),
        (vec![requested], true, 4, 1),
    ];
    for (machines, is_billed_by_hour, dollars, created) in cases {
        let mut farm = with_spent(Money(0), DOLLAR.times(dollars), &machines, 1000);
        farm.pool().max_machines = u32::try_from(machines.len()).unwrap() + 1;
        let known = farm.snapshot.experience.get_mut(&MachineType::new(TYPE)).unwrap();
        known.is_billed_by_hour = is_billed_by_hour;
        let what = format!("{} machines, by hour: {is_billed_by_hour}, ${dollars}", machines.len());
        let plan = farm.plan();
        let is_new = |name: &MachineName| machines.iter().all(|machine| machine.name != *name);
        let begun = plan.provision.iter().filter(|machine| is_new(&machine.name));
        assert_eq!(begun.count(), created, "{what}:\n{plan}");
    }
}

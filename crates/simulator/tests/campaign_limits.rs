//! Planted bugs in limits and `minMachines`: the fault campaign finds each of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod planted;

use planner::{
    CostLimits, Machine, MachineState, Money, Plan, Policy, PoolPolicy, Snapshot, Timestamp,
};
use simulator::world::{Planted, Rule};

use crate::planted::expect_bug_found_within;

type Planner = fn(&Policy, &Snapshot) -> Plan;

const DAY: u64 = 86_400;

/// Limits of days and months bind seldom.
#[track_caller]
fn expect_found(planner: Planner, rule: Rule) {
    expect_bug_found_within(300, Planted { planner, ..Planted::NOTHING }, rule);
}

fn with_policy(policy: &Policy, snapshot: &Snapshot, change: impl Fn(&mut Policy)) -> Plan {
    let mut policy = policy.clone();
    change(&mut policy);
    planner::plan(&policy, snapshot)
}

fn with_pools(policy: &Policy, snapshot: &Snapshot, change: fn(&mut PoolPolicy)) -> Plan {
    with_policy(policy, snapshot, |policy| policy.pools.values_mut().for_each(change))
}

fn with_machines(policy: &Policy, snapshot: &Snapshot, change: fn(&mut Machine)) -> Plan {
    let mut snapshot = snapshot.clone();
    snapshot.machines.iter_mut().for_each(change);
    planner::plan(policy, &snapshot)
}

#[test]
fn a_planner_without_the_hourly_limit_of_the_farm_is_found() {
    let planner: Planner =
        |policy, snapshot| with_policy(policy, snapshot, |it| it.cost_limits.hourly = None);
    expect_found(planner, Rule::Limits);
}

#[test]
fn a_planner_without_the_daily_limit_of_the_farm_is_found() {
    let planner: Planner =
        |policy, snapshot| with_policy(policy, snapshot, |it| it.cost_limits.daily = None);
    expect_found(planner, Rule::Limits);
}

#[test]
fn a_planner_without_the_monthly_limit_of_the_farm_is_found() {
    let planner: Planner =
        |policy, snapshot| with_policy(policy, snapshot, |it| it.cost_limits.monthly = None);
    expect_found(planner, Rule::Limits);
}

#[test]
fn a_planner_without_max_machines_of_the_farm_is_found() {
    let planner: Planner =
        |policy, snapshot| with_policy(policy, snapshot, |it| it.max_machines = None);
    expect_found(planner, Rule::Limits);
}

#[test]
fn a_planner_without_the_hourly_limits_of_types_is_found() {
    let planner: Planner =
        |policy, snapshot| with_pools(policy, snapshot, |it| it.cost_limits.hourly = None);
    expect_found(planner, Rule::Limits);
}

#[test]
fn a_planner_without_the_daily_limits_of_types_is_found() {
    let planner: Planner =
        |policy, snapshot| with_pools(policy, snapshot, |it| it.cost_limits.daily = None);
    expect_found(planner, Rule::Limits);
}

#[test]
fn a_planner_without_the_monthly_limits_of_types_is_found() {
    let planner: Planner =
        |policy, snapshot| with_pools(policy, snapshot, |it| it.cost_limits.monthly = None);
    expect_found(planner, Rule::Limits);
}

/// Machines that are requested or being created cost nothing.
#[test]
fn a_planner_that_does_not_count_what_is_being_created_is_found() {
    let planner: Planner = |policy, snapshot| {
        with_machines(policy, snapshot, |machine| {
            use MachineState::{Creating, Requested, Starting};
            let paid = machine.memory.paid.as_mut();
            if let Some(paid) =
                paid.filter(|_| matches!(machine.state, Requested | Creating | Starting))
            {
                paid.dollars_per_hour = Some(Money(0));
            }
        })
    };
    expect_found(planner, Rule::Limits);
}

/// Machines that are being released cost nothing.
#[test]
fn a_planner_that_does_not_count_what_leaves_is_found() {
    let planner: Planner = |policy, snapshot| {
        with_machines(policy, snapshot, |machine| {
            if machine.memory.leaving.is_some()
                && let Some(paid) = &mut machine.memory.paid
            {
                paid.dollars_per_hour = Some(Money(0));
            }
        })
    };
    expect_found(planner, Rule::Limits);
}

/// Only machines that exist count, not what earlier ones have cost.
#[test]
fn a_planner_that_forgets_what_was_spent_is_found() {
    let planner: Planner = |policy, snapshot| {
        let mut snapshot = snapshot.clone();
        for known in snapshot.experience.values_mut() {
            known.spent = planner::Spent::default();
        }
        planner::plan(policy, &snapshot)
    };
    expect_found(planner, Rule::Limits);
}

/// An hour that is paid in advance counts only as far as it is over.
#[test]
fn a_planner_that_does_not_count_paid_time_is_found() {
    let planner: Planner = |policy, snapshot| {
        let mut snapshot = snapshot.clone();
        for known in snapshot.experience.values_mut() {
            known.is_billed_by_hour = false;
        }
        with_machines(policy, &snapshot, |machine| machine.next_charge_at = None)
    };
    expect_found(planner, Rule::Limits);
}

/// The limits of the farm apply to each type.
#[test]
fn a_planner_that_counts_by_type_is_found() {
    let planner: Planner = |policy, snapshot| {
        with_policy(policy, snapshot, |policy| {
            let of_farm = std::mem::take(&mut policy.cost_limits);
            let least =
                |one: Option<Money>, other: Option<Money>| one.into_iter().chain(other).min();
            for pool in policy.pools.values_mut() {
                let of_type = pool.cost_limits;
                pool.cost_limits = CostLimits {
                    hourly: least(of_type.hourly, of_farm.hourly),
                    daily: least(of_type.daily, of_farm.daily),
                    monthly: least(of_type.monthly, of_farm.monthly),
                };
            }
        })
    };
    expect_found(planner, Rule::Limits);
}

/// Forgets what was spent before `begin`, as if a day or month had begun then. Machines that are gone are forgotten
/// altogether.
fn from(begin: Timestamp, policy: &Policy, snapshot: &Snapshot, is_month: bool) -> Plan {
    let mut snapshot = snapshot.clone();
    for known in snapshot.experience.values_mut() {
        known.spent.today = if is_month { known.spent.today } else { Money(0) };
        known.spent.this_month = if is_month { Money(0) } else { known.spent.this_month };
    }
    for machine in &mut snapshot.machines {
        if let Some(paid) = &mut machine.memory.paid {
            paid.since = paid.since.max(begin);
        }
    }
    planner::plan(policy, &snapshot)
}

/// The day begins at 18:00, as by a clock that shows another time zone.
#[test]
fn a_planner_with_days_of_another_time_zone_is_found() {
    let planner: Planner = |policy, snapshot| {
        let evening = Timestamp(snapshot.taken_at.start_of_day().0 + DAY * 3 / 4);
        if snapshot.taken_at < evening {
            return planner::plan(policy, snapshot);
        }
        from(evening, policy, snapshot, false)
    };
    expect_found(planner, Rule::Limits);
}

/// The month begins a day early.
#[test]
fn a_planner_with_months_that_begin_early_is_found() {
    let planner: Planner = |policy, snapshot| {
        let last_day = Timestamp(snapshot.taken_at.start_of_next_month().0 - DAY);
        if snapshot.taken_at < last_day {
            return planner::plan(policy, snapshot);
        }
        from(last_day, policy, snapshot, true)
    };
    expect_found(planner, Rule::Limits);
}

/// `minMachines` are limited like all others.
#[test]
fn a_planner_that_limits_min_machines_is_found() {
    let planner: Planner = |policy, snapshot| {
        let mut plan = planner::plan(policy, snapshot);
        let unlimited = with_pools(policy, snapshot, |pool| pool.min_machines = 0);
        plan.provision = unlimited.provision;
        plan
    };
    expect_found(planner, Rule::MinMachines);
}

//! Paid time, while our clock and the provider's disagree.

use planner::{Machine, Operation, PoolPolicy, Timestamp};

use crate::harness::{Harness, pool, up};

const HOUR: i64 = 3600;

/// A machine that is charged by the hour, listed by a provider with a clock that is `ahead` seconds ahead of ours.
fn charged(harness: &Harness, began: u64, ahead: i64) -> Machine {
    let hours = (harness.now - began) / 3600;
    let theirs = |at: u64| Some(Timestamp(at).shifted(ahead));
    Machine {
        started_at: theirs(began),
        next_charge_at: theirs(began + (hours + 1) * 3600),
        ..up(0)
    }
}

/// How long an idle machine that is charged by the hour stays, in seconds from its creation.
fn stays_for(ahead: i64, is_known_from_the_start: bool) -> u64 {
    let mut harness = Harness::new(pool());
    let began = harness.now;
    if is_known_from_the_start {
        harness.list(&[]);
        harness.queue(1, &[]);
        harness.pass(30);
        harness.end(Operation::Create, 0, Ok(up(0)));
    }
    harness.list(&[charged(&harness, began, ahead)]);
    harness.queue(1, &[]);
    harness.pass(1);
    harness.end(Operation::Deploy, 0, Ok(charged(&harness, began, ahead)));
    while harness.now < began + 5 * 3600 {
        harness.pass(10);
        harness.list(&[charged(&harness, began, ahead)]);
        let machine =
            if harness.file.is_empty() { Harness::disabled(0, 0) } else { Harness::listed(0, 0) };
        harness.queue(0, &[machine]);
        if harness.under_way() == ["destroy farm-0"] {
            return harness.now - began;
        }
    }
    u64::MAX
}

#[test]
fn an_idle_machine_is_released_at_the_end_of_a_paid_hour_whatever_the_clocks_say() {
    for ahead in [0, -2 * HOUR, -HOUR, -1200, 1200, 2400, HOUR, 2 * HOUR] {
        let stays = stays_for(ahead, true);
        assert!((2900..3600).contains(&stays), "created by us, {ahead} s ahead: {stays} s");
    }
}

/// When it started by our clock is not known before it is charged for the second hour.
#[test]
fn a_machine_that_was_found_is_released_after_the_first_charge_that_we_see() {
    for ahead in [2400, HOUR, 2 * HOUR] {
        let stays = stays_for(ahead, false);
        assert!((3600 + 2900..7200).contains(&stays), "found, {ahead} s ahead: {stays} s");
    }
}

/// An hour that is billed in advance is spent when a machine is requested, also while no listing shows it.
#[test]
fn a_listing_shows_that_machines_are_billed_by_the_hour() {
    let mut harness = Harness::new(PoolPolicy { max_machines: 2, ..pool() });
    let began = harness.now;
    let is_billed_by_hour = |harness: &Harness| {
        let known = &harness.disk.experience;
        known.values().any(|known| known.is_billed_by_hour)
    };
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    assert!(!is_billed_by_hour(&harness));
    harness.list(&[charged(&harness, began, 0)]);
    assert!(is_billed_by_hour(&harness));
    harness.pass(60);
    harness.list(&[up(0)]);
    harness.pass(1);
    assert!(!is_billed_by_hour(&harness));
}

/// A provider's clock that is ahead delays no release of a machine that is charged by the second.
#[test]
fn idle_time_counts_from_readiness_by_our_clock() {
    let mut pool = pool();
    pool.idle_timeout = planner::IdleTimeout::After(planner::Seconds(600));
    let mut harness = Harness::new(pool);
    harness.list(&[]);
    harness.queue(1, &[]);
    let started_at = Some(Timestamp(harness.now + 2 * 3600));
    let machine = Machine { started_at, ..up(0) };
    harness.end(Operation::Create, 0, Ok(machine.clone()));
    harness.list(std::slice::from_ref(&machine));
    harness.end(Operation::Deploy, 0, Ok(machine));
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.pass(650);
    assert!(harness.file.is_empty());
}

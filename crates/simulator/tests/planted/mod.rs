//! Planted bugs, and how the fault campaign finds them.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::thread;

use planner::{Plan, Policy, Snapshot};
use simulator::campaign::{Trial, trial_with};
use simulator::engine::Seed;
use simulator::world::{Planted, Rule};

/// How many seeds find a planted bug.
const SEEDS: u64 = 200;

/// The trials of the seeds of `range`, on two threads.
pub(crate) fn trials(range: std::ops::Range<u64>, planted: Planted) -> Vec<Trial> {
    let middle = u64::midpoint(range.start, range.end);
    let run = |seeds: std::ops::Range<u64>| {
        seeds.map(|n| trial_with(Seed(n), planted)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let later = scope.spawn(|| run(middle..range.end));
        let mut all = run(range.start..middle);
        all.extend(later.join().unwrap());
        all
    })
}

/// The first of two hundred seeds that finds a planted bug; the seed alone reproduces it.
#[track_caller]
pub(crate) fn expect_bug_found(planted: Planted, rule: Rule) {
    expect_bug_found_within(SEEDS, planted, rule);
}

/// Like [`expect_bug_found`], for a bug that shows seldom.
#[track_caller]
pub(crate) fn expect_bug_found_within(seeds: u64, planted: Planted, rule: Rule) {
    let breaks = |trial: &Trial| trial.violations.iter().any(|violation| violation.rule == rule);
    let batches = (0..seeds).step_by(20).map(|n| n..(n + 20).min(seeds));
    let found = batches.flat_map(|range| trials(range, planted)).find(breaks);
    let found = found.unwrap_or_else(|| panic!("none of {seeds} seeds finds it"));
    let reported = found.to_string();
    assert!(reported.contains(&format!("sim campaign --seed {}", found.knobs.seed)), "{reported}");
    let again = trial_with(Seed(found.knobs.seed), planted);
    assert_eq!(again.to_string(), reported);
    assert_eq!(again, found);
}

/// Like [`expect_bug_found`], for a bug of the planner.
#[track_caller]
pub(crate) fn expect_found(planner: fn(&Policy, &Snapshot) -> Plan, rule: Rule) {
    expect_bug_found(Planted { planner, ..Planted::NOTHING }, rule);
}

//! All kinds of trouble at once, over many seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use std::thread;

use planner::{AcceptsJobs, Attempt, KeepReason, Plan, Policy, Provision, Snapshot, Verdict};
use simulator::campaign::{Trial, trial};
use simulator::engine::Seed;
use simulator::world::Rule;

/// The trials of the seeds of `range`, on two threads.
fn trials(range: std::ops::Range<u64>, plan: fn(&Policy, &Snapshot) -> Plan) -> Vec<Trial> {
    let middle = u64::midpoint(range.start, range.end);
    let run = |seeds: std::ops::Range<u64>| seeds.map(|n| trial(Seed(n), plan)).collect::<Vec<_>>();
    thread::scope(|scope| {
        let later = scope.spawn(|| run(middle..range.end));
        let mut all = run(range.start..middle);
        all.extend(later.join().unwrap());
        all
    })
}

#[test]
fn a_thousand_seeds_break_no_rule() {
    let trials = trials(0..1000, planner::plan);
    let broken: Vec<_> = trials.iter().filter(|trial| !trial.violations.is_empty()).collect();
    let all: Vec<_> = broken.iter().map(|t| t.knobs.seed).collect();
    let told: String = broken.iter().take(3).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{} seeds broke a rule: {all:?}\n{told}", broken.len());
    // A campaign in which nothing happens finds nothing.
    let created: u64 = trials.iter().map(|trial| trial.created).sum();
    assert!(created > 10_000, "{created}");
}

/// The first of a hundred seeds that finds a planner's bug; its seed alone shows the same again.
#[track_caller]
fn expect_found(plan: fn(&Policy, &Snapshot) -> Plan, rule: Rule) {
    let found = trials(0..100, plan).into_iter().find(|trial| !trial.violations.is_empty());
    let found = found.expect("one of a hundred seeds finds it");
    let told = found.to_string();
    assert!(told.contains(&format!("sim campaign --seed {}", found.knobs.seed)), "{told}");
    assert!(found.violations.iter().any(|violation| violation.rule == rule), "{told}");
    let again = trial(Seed(found.knobs.seed), plan);
    assert_eq!(again.to_string(), told);
    assert_eq!(again, found);
}

/// One machine more than `maxMachines`.
#[test]
fn a_planner_that_counts_wrong_is_found() {
    fn one_too_many(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut policy = policy.clone();
        for pool in policy.pools.values_mut() {
            pool.max_machines += 1;
        }
        planner::plan(&policy, snapshot)
    }
    expect_found(one_too_many, Rule::MaxMachines);
}

/// Machines that are released in the plan stay instead.
#[test]
fn a_planner_that_never_lets_go_is_found() {
    fn keeps_all(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut plan = planner::plan(policy, snapshot);
        for release in std::mem::take(&mut plan.release) {
            let keep = Verdict::Keep {
                reason: KeepReason::StoppedInReserve,
                accepts_jobs: AcceptsJobs::Yes,
            };
            plan.verdicts.insert(release.name, keep);
        }
        plan
    }
    expect_found(keeps_all, Rule::Converge);
}

/// A machine whose creation failed is asked for under a new name, and the old wish is forgotten.
#[test]
fn a_planner_that_forgets_what_it_asked_for_is_found() {
    fn forgets(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut plan = planner::plan(policy, snapshot);
        plan.provision.retain(|Provision { attempt, .. }| *attempt == Attempt::First);
        plan.release.retain(|release| {
            snapshot.machines.iter().any(|machine| {
                machine.name == release.name && machine.state != planner::MachineState::Requested
            })
        });
        plan
    }
    expect_found(forgets, Rule::Converge);
}

/// A machine in the machines file is released, since the planner wants the file to list it.
#[test]
fn a_planner_that_lists_what_it_releases_is_found() {
    fn lists_all(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut plan = planner::plan(policy, snapshot);
        for release in &plan.release {
            plan.verdicts.insert(release.name.clone(), Verdict::InUse);
            let machine = snapshot.machines.iter().find(|machine| machine.name == release.name);
            plan.publish_as_seen.extend(machine.cloned());
        }
        plan
    }
    // The reconciler's second look at the queue keeps the worst from happening: the machine stays.
    expect_found(lists_all, Rule::Converge);
}

#[test]
fn threads_change_nothing() {
    let one_thread: Vec<_> = (0..20).map(|n| trial(Seed(n), planner::plan)).collect();
    assert_eq!(trials(0..20, planner::plan), one_thread);
}

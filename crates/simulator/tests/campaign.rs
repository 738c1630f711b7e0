//! All kinds of faults together, over many seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod planted;

use planner::{
    AcceptsJobs, Attempt, KeepReason, Machine, Plan, Policy, Provision, Queue, QueueStatus,
    Sequence, Snapshot, Verdict,
};
use reconciler::Event;
use simulator::campaign::{Knobs, shrink, trial};
use simulator::engine::Seed;
use simulator::world::{Planted, Rule};

use crate::planted::{expect_bug_found, expect_bug_found_within, expect_found, trials};

#[test]
fn a_thousand_seeds_break_no_rule() {
    let trials = trials(0..1000, Planted::NOTHING);
    let broken: Vec<_> = trials.iter().filter(|trial| !trial.violations.is_empty()).collect();
    let all: Vec<_> = broken.iter().map(|t| t.knobs.seed).collect();
    let reported: String = broken.iter().take(3).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{} seeds broke a rule: {all:?}\n{reported}", broken.len());
    // A campaign without faults finds nothing.
    let created: u64 = trials.iter().map(|trial| trial.created).sum();
    assert!(created > 10_000, "{created}");
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

/// More machines created at once than `maxCreating`.
#[test]
fn a_planner_that_creates_too_many_at_once_is_found() {
    fn hasty(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut policy = policy.clone();
        for pool in policy.pools.values_mut() {
            pool.max_creating += 3;
        }
        planner::plan(&policy, snapshot)
    }
    expect_found(hasty, Rule::MaxCreating);
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

/// A machine with a failed creation is requested under a new name, and the old intent is forgotten.
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

/// A status that was requested before the publication confirms a release.
#[test]
fn a_planner_that_believes_an_older_status_is_found() {
    fn believes(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let snapshot = Snapshot { queue_asked: Sequence(u64::MAX), ..snapshot.clone() };
        planner::plan(policy, &snapshot)
    }
    expect_found(believes, Rule::PublishBeforeRelease);
}

/// Running machines are published, ready or not.
#[test]
fn a_planner_that_publishes_before_ready_is_found() {
    fn publishes(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut plan = planner::plan(policy, snapshot);
        let up = snapshot.machines.iter().filter(|machine| {
            machine.state == planner::MachineState::Up && machine.memory.destroyed_at.is_none()
        });
        let leaving = plan.release.iter().map(|release| &release.name);
        let leaving: std::collections::BTreeSet<_> = leaving.collect();
        let up = up.filter(|machine| !leaving.contains(&machine.name));
        plan.publish = up.map(|machine| machine.name.clone()).collect();
        plan
    }
    expect_found(publishes, Rule::PublishOnlyReady);
}

/// Busy machines count as idle.
#[test]
fn a_planner_that_sees_no_builds_is_found() {
    fn sees_none(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut snapshot = snapshot.clone();
        if let QueueStatus::Up(queue) = &mut snapshot.queue {
            for machine in &mut queue.machines {
                machine.current_jobs = 0;
            }
        }
        planner::plan(policy, &snapshot)
    }
    expect_found(sees_none, Rule::NeverReleaseBusy);
}

/// A queue runner that does not answer counts as one without work and machines.
#[test]
fn a_planner_that_takes_silence_for_rest_is_found() {
    fn hears_nothing(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut snapshot = snapshot.clone();
        if let QueueStatus::Unavailable(_) = &snapshot.queue {
            let uptime = planner::Seconds(1_000_000);
            snapshot.queue = QueueStatus::Up(Queue { uptime, ..Queue::default() });
            snapshot.queue_asked = Sequence(u64::MAX);
        }
        planner::plan(policy, &snapshot)
    }
    expect_found(hears_nothing, Rule::NeverReleaseBlindly);
}

/// Changes reported as durable are not.
#[test]
fn a_loop_that_creates_before_the_intent_is_recorded_is_found() {
    let filter = |_: &mut Option<QueueStatus>, event| match event {
        Event::Recorded { batch, .. } => Event::Recorded { batch, result: Ok(()) },
        event => event,
    };
    expect_bug_found(Planted { filter, ..Planted::NOTHING }, Rule::IntentBeforeCreate);
}

/// A newer request gets an older answer.
#[test]
fn a_loop_that_believes_the_answer_of_an_older_question_is_found() {
    let filter = |older: &mut Option<QueueStatus>, event| match event {
        Event::Queue { question, status } => {
            let stale = older.replace(status.clone()).unwrap_or(status);
            Event::Queue { question, status: stale }
        }
        event => event,
    };
    expect_bug_found(Planted { filter, ..Planted::NOTHING }, Rule::NeverReleaseBusy);
}

/// A failed creation is tried again immediately.
#[test]
fn a_planner_that_forgets_to_back_off_is_found() {
    fn forgets(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut snapshot = snapshot.clone();
        snapshot.back_off.clear();
        for machine in &mut snapshot.machines {
            machine.memory.failing = None;
        }
        planner::plan(policy, &snapshot)
    }
    expect_found(forgets, Rule::BackOff);
}

/// A renamed builder builds under its old name.
#[test]
fn a_planner_that_takes_a_renamed_machine_for_drained_is_found() {
    fn forgets_names(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut snapshot = snapshot.clone();
        for machine in &mut snapshot.machines {
            machine.memory.published.clear();
        }
        let machines = &snapshot.machines;
        let is_name = |host: &planner::Host| {
            machines.iter().any(|it| it.host_name.as_ref().or(it.address.as_ref()) == Some(host))
        };
        if let QueueStatus::Up(queue) = &mut snapshot.queue {
            queue.machines.retain(|builder| is_name(&builder.host));
        }
        planner::plan(policy, &snapshot)
    }
    expect_found(forgets_names, Rule::NeverReleaseBusy);
}

/// A clock that was set is not noticed: remembered times are not moved with it.
#[test]
fn a_loop_that_does_not_notice_that_its_clock_was_set_is_found() {
    let filter = |_: &mut Option<QueueStatus>, event| match event {
        Event::ClockStepped { .. } => Event::ClockStepped { seconds: 0 },
        event => event,
    };
    expect_bug_found_within(2000, Planted { filter, ..Planted::NOTHING }, Rule::BackOff);
}

/// A status is accepted however old it is.
#[test]
fn a_loop_that_believes_a_stored_status_is_found() {
    let filter = |_: &mut Option<QueueStatus>, event| match event {
        Event::Queue { question, status: QueueStatus::Up(mut queue) } => {
            queue.time = None;
            Event::Queue { question, status: QueueStatus::Up(queue) }
        }
        event => event,
    };
    expect_bug_found(Planted { filter, ..Planted::NOTHING }, Rule::NeverReleaseBusy);
}

/// Whatever a provider lists counts as ours.
#[test]
fn a_loop_that_takes_all_machines_for_its_own_is_found() {
    let filter = |_: &mut Option<QueueStatus>, event| match event {
        Event::Listed { listing, provider, result: Ok(mut listed) } => {
            for machine in &mut listed.machines {
                machine.tag = Some(planner::Tag::new("sim"));
            }
            Event::Listed { listing, provider, result: Ok(listed) }
        }
        event => event,
    };
    expect_bug_found(Planted { filter, ..Planted::NOTHING }, Rule::OnlyOurs);
}

/// Machines with lost records are ignored.
#[test]
fn a_planner_that_ignores_machines_without_a_record_is_found() {
    fn ignores(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut snapshot = snapshot.clone();
        snapshot.machines.retain(|machine| machine.memory.requested_at.is_some());
        planner::plan(policy, &snapshot)
    }
    expect_found(ignores, Rule::Converge);
}

/// The configuration is loaded only once.
#[test]
fn a_loop_that_keeps_its_first_configuration_is_found() {
    let filter = |_: &mut Option<QueueStatus>, event| match event {
        Event::Configured(_) => Event::ClockStepped { seconds: 0 },
        event => event,
    };
    expect_bug_found(Planted { filter, ..Planted::NOTHING }, Rule::MaxMachines);
}

/// Machines are created and started without a look at what their host has room for.
#[test]
fn a_planner_that_ignores_the_room_of_hosts_is_found() {
    fn squeezes(policy: &Policy, snapshot: &Snapshot) -> Plan {
        planner::plan(policy, &Snapshot { resources: Vec::new(), ..snapshot.clone() })
    }
    expect_found(squeezes, Rule::HostRoom);
}

/// Idle machines are kept for hours.
#[test]
fn a_planner_that_keeps_idle_machines_for_hours_is_found() {
    fn wastes(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut policy = policy.clone();
        for pool in policy.pools.values_mut() {
            pool.idle_timeout = planner::IdleTimeout::After(planner::Seconds(8 * 3600));
        }
        planner::plan(&policy, snapshot)
    }
    expect_found(wastes, Rule::ReleaseIdle);
}

/// A seed that violates a rule is shrunk to the necessary parts, and to the same each time.
#[test]
fn a_broken_rule_is_shrunk_to_a_short_history() {
    fn one_too_many(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut policy = policy.clone();
        for pool in policy.pools.values_mut() {
            pool.max_machines += 1;
        }
        planner::plan(&policy, snapshot)
    }
    let planted = Planted { planner: one_too_many, ..Planted::NOTHING };
    let found = trials(0..100, planted).into_iter().find(|trial| {
        trial.violations.first().is_some_and(|first| first.rule == Rule::MaxMachines)
    });
    let knobs = found.unwrap().knobs;
    let before = knobs.steps;
    let shrunk = shrink(knobs.clone(), planted).unwrap();
    assert_eq!(shrunk.rule, Rule::MaxMachines);
    let left = shrunk.trial.knobs.step_ids().count() as u64;
    assert!(left < before && left < 30, "{left} of {before} steps are left: {shrunk}");
    let reported = shrunk.to_string();
    // Of two dozen faults only those remain that make the farm want a second machine at the same time.
    assert!(
        reported.matches("  fault ").count() <= 2 && !reported.contains("incident"),
        "{reported}"
    );
    assert!(reported.lines().count() < 30, "{reported}");
    assert!(reported.contains("what still breaks \"maxMachines\""), "{reported}");
    assert_eq!(shrink(knobs, planted), Some(shrunk));
    assert_eq!(shrink(Knobs::draw(Seed(0)), Planted::NOTHING), None);
}

#[test]
fn threads_change_nothing() {
    let one_thread: Vec<_> = (0..20).map(|n| trial(Seed(n), planner::plan)).collect();
    assert_eq!(trials(0..20, Planted::NOTHING), one_thread);
}

/// Limits of the farm are not checked.
#[test]
fn a_planner_that_knows_no_limits_is_found() {
    fn spends(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let policy = Policy {
            max_machines: None,
            cost_limits: planner::CostLimits::default(),
            ..policy.clone()
        };
        planner::plan(&policy, snapshot)
    }
    expect_found(spends, Rule::Limits);
}

/// A type with `minMachines` has no limit on its cost.
#[test]
fn a_planner_that_exempts_types_with_min_machines_is_found() {
    fn exempts(policy: &Policy, snapshot: &Snapshot) -> Plan {
        let mut policy = policy.clone();
        for pool in policy.pools.values_mut().filter(|pool| pool.min_machines > 0) {
            pool.dollars_per_hour = None;
        }
        let mut snapshot = snapshot.clone();
        let exempt = |kind: &planner::MachineType| {
            policy.pools.get(kind).is_some_and(|pool| pool.min_machines > 0)
        };
        for machine in snapshot.machines.iter_mut().filter(|it| exempt(&it.machine_type)) {
            machine.memory.paid = None;
        }
        planner::plan(&policy, &snapshot)
    }
    expect_found(exempts, Rule::Limits);
}

/// A machine being created does not count against the farm's `maxMachines`.
#[test]
fn a_planner_that_counts_only_what_runs_is_found() {
    fn overlooks(policy: &Policy, snapshot: &Snapshot) -> Plan {
        use planner::MachineState::{Creating, Requested, Starting};
        let is_created =
            |machine: &&Machine| matches!(machine.state, Requested | Creating | Starting);
        let created = snapshot.machines.iter().filter(is_created).count();
        let more = u32::try_from(created).unwrap();
        let max_machines = policy.max_machines.map(|most| most + more);
        planner::plan(&Policy { max_machines, ..policy.clone() }, snapshot)
    }
    expect_found(overlooks, Rule::Limits);
}

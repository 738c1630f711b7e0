//! The order rules of a cycle, seen as the calls that the world gets, and what is left undone when a call
//! fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

mod fake;
mod suite;

use fake::{FakeWorld, NOW, TYPE, name, policy, queue, up};
use planner::AcceptsJobs::{No, Yes};
use planner::{Machine, MachineKeys, MachineState, MachineType, Queue, QueueStatus};
use reconciler::world::{Intent, Step};
use reconciler::{Report, cycle};

/// Runs one cycle and compares the calls, one a line.
fn expect_calls(world: &mut FakeWorld, expected: &[&str]) -> Report {
    let report = cycle(&policy(), world).unwrap();
    assert_eq!(world.calls, expected, "{report}");
    report
}

fn gone() -> QueueStatus {
    QueueStatus::Unavailable("stopped".to_owned())
}

fn intent(text: &str) -> Intent {
    Intent { name: name(text), machine_type: MachineType::new(TYPE), requested_at: NOW }
}

#[test]
fn intents_are_recorded_then_machines_made_then_published() {
    let mut world = FakeWorld::new(vec![], vec![queue(2, &[])]);
    let report = expect_calls(
        &mut world,
        &[
            "now",
            "intents",
            "list",
            "queue",
            "record [t-0 t-1]",
            "create t-0",
            "deploy t-0",
            "create t-1",
            "deploy t-1",
            "publish [t-0 t-1]",
        ],
    );
    assert!(report.succeeded());
    assert_eq!(world.intents.len(), 2, "an intent stays until its machine is listed");
}

#[test]
fn an_intent_is_forgotten_once_its_machine_is_listed() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(1, &[])]);
    world.intents.push(intent("t-0"));
    expect_calls(
        &mut world,
        &["now", "intents", "list", "forget [t-0]", "queue", "deploy t-0", "publish [t-0]"],
    );
}

#[test]
fn an_intent_without_a_machine_is_asked_for_again_by_its_name() {
    let mut world = FakeWorld::new(vec![], vec![queue(1, &[])]);
    world.intents.push(intent("t-7"));
    expect_calls(
        &mut world,
        &["now", "intents", "list", "queue", "create t-7", "deploy t-7", "publish [t-7]"],
    );
}

#[test]
fn an_intent_that_is_not_wanted_any_more_is_made_sure_to_be_gone() {
    let mut world = FakeWorld::new(vec![], vec![queue(0, &[])]);
    world.intents.push(intent("t-0"));
    expect_calls(
        &mut world,
        &[
            "now",
            "intents",
            "list",
            "queue",
            "publish []",
            "queue",
            "queue",
            "destroy t-0",
            "forget [t-0]",
        ],
    );
    assert!(world.intents.is_empty());
}

#[test]
fn a_release_waits_for_the_machines_file_the_drain_and_two_more_looks() {
    let mut world = FakeWorld::new(
        vec![up("t-0")],
        vec![
            queue(0, &[("t-0", 0, Yes)]),
            queue(0, &[("t-0", 0, Yes)]),
            queue(0, &[("t-0", 0, No)]),
        ],
    );
    let report = expect_calls(
        &mut world,
        &[
            "now",
            "intents",
            "list",
            "queue",
            "publish []",
            "queue",
            "drain t-0",
            "queue",
            "destroy t-0",
            "forget [t-0]",
        ],
    );
    assert_eq!(report.released.len(), 1);
}

/// What the second and third look at the queue say, and what is then done after publishing.
#[test]
fn a_release_is_put_off_when_a_look_says_so() {
    let idle = || queue(0, &[("t-0", 0, No)]);
    let busy = || queue(0, &[("t-0", 3, No)]);
    let listed = || queue(0, &[("t-0", 0, Yes)]);
    let cases = [
        (busy(), idle(), vec!["queue"], "it has got 3 builds meanwhile"),
        (gone(), idle(), vec!["queue"], "queue status unavailable: stopped"),
        (idle(), busy(), vec!["queue", "drain t-0", "queue"], "it has got 3 builds meanwhile"),
        (idle(), gone(), vec!["queue", "drain t-0", "queue"], "queue status unavailable: stopped"),
        (
            idle(),
            listed(),
            vec!["queue", "drain t-0", "queue"],
            "the queue runner may still give it builds; it goes in a later cycle",
        ),
    ];
    for (second, third, then, reason) in cases {
        let mut world = FakeWorld::new(vec![up("t-0")], vec![listed(), second, third]);
        let calls = [vec!["now", "intents", "list", "queue", "publish []"], then].concat();
        let report = expect_calls(&mut world, &calls);
        assert_eq!(report.postponed[0].reason.to_string(), reason);
        assert!(report.released.is_empty() && report.succeeded());
        assert_eq!(world.machines.len(), 1);
    }
}

/// The current queue runner tells host names: a busy one that is none of ours may be ours after all.
#[test]
fn a_release_is_put_off_while_somebody_unknown_builds() {
    let by_host_name = |jobs: &[_]| match queue(0, jobs) {
        QueueStatus::Up(queue) => QueueStatus::Up(Queue { keys: MachineKeys::HostName, ..queue }),
        down @ QueueStatus::Unavailable(_) => down,
    };
    let quiet = by_host_name(&[("stranger", 0, Yes)]);
    let busy = by_host_name(&[("stranger", 1, Yes)]);
    let mut world = FakeWorld::new(vec![up("t-0")], vec![quiet, busy]);
    let report =
        expect_calls(&mut world, &["now", "intents", "list", "queue", "publish []", "queue"]);
    let reason = report.postponed[0].reason.to_string();
    assert!(reason.contains("it may be stranger.example.org, which is building"), "{reason}");
}

/// The queue runner has the last word: a machine that cannot be reached and that it still knows may build.
#[test]
fn a_failed_drain_ends_the_release_of_a_machine_that_may_get_builds() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(0, &[("t-0", 0, Yes)])]);
    world.broken_steps.push((name("t-0"), Step::Drain));
    let report = expect_calls(
        &mut world,
        &["now", "intents", "list", "queue", "publish []", "queue", "drain t-0", "queue"],
    );
    assert_eq!(report.failures[0].error.to_string(), "cannot drain it: it broke");
    assert_eq!(report.postponed.len(), 1);
    assert!(!report.succeeded() && report.released.is_empty());
}

/// One that neither we nor the queue runner can reach would run, and be paid for, for ever.
#[test]
fn a_machine_that_nobody_can_reach_is_released() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(0, &[])]);
    world.broken_steps.push((name("t-0"), Step::Drain));
    let report = expect_calls(
        &mut world,
        &[
            "now",
            "intents",
            "list",
            "queue",
            "publish []",
            "queue",
            "drain t-0",
            "queue",
            "destroy t-0",
            "forget [t-0]",
        ],
    );
    assert_eq!(report.failures[0].error.to_string(), "cannot drain it: it broke");
    assert_eq!(report.released.len(), 1);
}

#[test]
fn nothing_is_released_when_the_machines_file_cannot_be_published() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(0, &[])]);
    world.broken_sink = true;
    let report = expect_calls(&mut world, &["now", "intents", "list", "queue", "publish []"]);
    assert!(!report.succeeded());
    assert!(report.to_string().contains("FAILED, nothing was released: disk full"), "{report}");
}

#[test]
fn nothing_is_created_whose_intent_cannot_be_recorded_but_the_rest_goes_on() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(2, &[])]);
    world.broken_log = true;
    let report = expect_calls(
        &mut world,
        &["now", "intents", "list", "queue", "record [t-1]", "deploy t-0", "publish [t-0]"],
    );
    assert_eq!(report.intent_log_error.as_deref(), Some("disk full"));
    assert!(!report.succeeded());
}

#[test]
fn one_machine_that_fails_is_not_published_and_does_not_stop_the_others() {
    let mut world = FakeWorld::new(vec![up("t-0"), up("t-1")], vec![queue(4, &[])]);
    world.broken_steps.push((name("t-0"), Step::Deploy));
    world.broken_steps.push((name("t-2"), Step::Create));
    let report = expect_calls(
        &mut world,
        &[
            "now",
            "intents",
            "list",
            "queue",
            "record [t-2 t-3]",
            "deploy t-0",
            "deploy t-1",
            "create t-2",
            "create t-3",
            "deploy t-3",
            "publish [t-1 t-3]",
        ],
    );
    let failed: Vec<_> = report.failures.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(failed, ["t-0", "t-2"]);
    assert!(world.intents.contains(&intent("t-2")), "it may have been made all the same");
}

#[test]
fn a_stopped_machine_is_started_before_it_is_deployed() {
    let stopped = Machine { state: MachineState::Stopped, ..up("t-0") };
    let mut world = FakeWorld::new(vec![stopped], vec![queue(1, &[])]);
    expect_calls(
        &mut world,
        &["now", "intents", "list", "queue", "start t-0", "deploy t-0", "publish [t-0]"],
    );
}

#[test]
fn a_stopped_machine_that_goes_needs_no_drain() {
    let stopped = Machine { state: MachineState::Stopped, ..up("t-0") };
    let mut world = FakeWorld::new(vec![stopped], vec![queue(0, &[])]);
    expect_calls(
        &mut world,
        &[
            "now",
            "intents",
            "list",
            "queue",
            "publish []",
            "queue",
            "queue",
            "destroy t-0",
            "forget [t-0]",
        ],
    );
}

#[test]
fn machines_of_a_provider_that_is_silent_are_published_as_last_seen_and_not_touched() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(0, &[])]);
    world.unlisted.insert(MachineType::new(TYPE), "timed out".to_owned());
    let report = expect_calls(&mut world, &["now", "intents", "list", "queue", "publish [t-0]"]);
    assert!(!report.succeeded(), "someone should look at it");
}

#[test]
fn a_silent_queue_runner_costs_no_machine_its_place() {
    let mut world = FakeWorld::new(vec![up("t-0"), up("t-1")], vec![gone()]);
    expect_calls(
        &mut world,
        &["now", "intents", "list", "queue", "deploy t-0", "deploy t-1", "publish [t-0 t-1]"],
    );
}

#[test]
fn a_busy_machine_without_grace_period_leaves_the_machines_file_but_stays() {
    let mut world = FakeWorld::new(vec![up("t-0")], vec![queue(0, &[("t-0", 1, Yes)])]);
    expect_calls(&mut world, &["now", "intents", "list", "queue", "deploy t-0", "publish []"]);
}

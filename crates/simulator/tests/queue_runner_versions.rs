//! The model of the queue runner where versions differ, and where its status differs from its state.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod bench;

use bench::{Bench, EPOCH, offer, seconds, step};
use simulator::engine::Millis;
use simulator::queue_runner::{Host, Phase, Reservation, Settings, StepOrder};
use simulator::workload::NewStep;

fn status(bench: &Bench) -> serde_json::Value {
    bench.queue_runner.classic_json(bench.now, EPOCH)
}

/// `makeRunnable` after a failed try: the wait starts again, although the step has waited before.
#[test]
fn classic_a_step_that_is_tried_again_waits_anew() {
    let mut bench = Bench::new(Settings::CLASSIC, vec![step(1, "s", &[])], &[]);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    bench.now = seconds(100);
    bench.dispatch();
    bench.now = seconds(110);
    bench.abort(1).unwrap();
    bench.now = seconds(115);
    bench.dispatch();
    assert_eq!(status(&bench)["machineTypes"]["s"]["waitTime"], 5);

    let mut bench = Bench::new(Settings::REST, vec![step(1, "s", &[])], &[]);
    bench.queue_runner.connect(Host(0), &offer("s", "", 1, 1000), Millis::ZERO);
    bench.now = seconds(100);
    bench.dispatch();
    bench.abort(1).unwrap();
    let reported = bench.queue_runner.rest_status_json(bench.now, EPOCH);
    assert_eq!(reported["queueRunner"]["queueStats"]["s"]["waitTimeMs"], 100_000, "REST keeps it");
}

/// The handshake in `State::buildRemote`: it counts as reached, whatever the result of the build.
#[test]
fn classic_failures_are_forgotten_when_a_machine_is_reached() {
    let mut bench = Bench::new(Settings::CLASSIC, vec![step(1, "s", &[])], &[]);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    bench.queue_runner.connection_failed(Host(0), bench.now, &mut bench.random);
    assert_eq!(status(&bench)["machines"]["ssh://root@10.0.0.1"]["consecutiveFailures"], 1);
    bench.now = seconds(1000);
    bench.dispatch();
    bench.queue_runner.connected(Host(0));
    assert_eq!(status(&bench)["machines"]["ssh://root@10.0.0.1"]["consecutiveFailures"], 0);
}

/// Features and dependents came in April 2025.
#[test]
fn steps_go_by_build_alone_in_older_versions() {
    let steps = || vec![step(1, "s", &[]), step(2, "s:kvm", &[]), step(3, "s", &[2])];
    let order = |settings: Settings| {
        let mut bench = Bench::new(settings, steps(), &[]);
        match settings {
            Settings { step_order: _, protocol, .. } if protocol == Settings::REST.protocol => {
                bench.queue_runner.connect(Host(0), &offer("s:kvm", "", 1, 1000), Millis::ZERO);
            }
            _ => bench.list(&[(0, offer("s:kvm", "", 1, 1000))]),
        }
        bench.dispatch()[0].0
    };
    for settings in [Settings::CLASSIC, Settings::REST] {
        assert_eq!(order(settings), 2, "one depends on it");
        assert_eq!(order(Settings { step_order: StepOrder::Legacy, ..settings }), 1);
    }
}

/// Seen with a real one: canceled builds stay "runnable" until the dispatcher wakes up; `nrRunnableSteps` does not.
#[test]
fn classic_canceled_steps_are_told_until_the_dispatcher_wakes() {
    let mut bench = Bench::new(Settings::CLASSIC, vec![step(1, "s", &[]), step(2, "s", &[1])], &[]);
    bench.dispatch();
    bench.queue_runner.take_wake(bench.now);
    let first = bench.step(1);
    assert_eq!(bench.queue_runner.cancel(first, bench.now), None);
    assert_eq!(bench.phase(1), Phase::Canceled);
    assert_eq!(bench.phase(2), Phase::Canceled, "nothing is left of the build");
    assert_eq!(bench.queue_runner.unfinished(), 0);
    let reported = status(&bench);
    assert_eq!(reported["machineTypes"]["s"]["runnable"], 1);
    assert_eq!(reported["nrRunnableSteps"], 0);
    let snapshot = bench.queue_runner.status(bench.now, EPOCH);
    assert_eq!((snapshot.demand[0].runnable, snapshot.runnable_total), (1, Some(0)));
    assert_eq!(bench.queue_runner.take_wake(bench.now), None, "nothing wakes it");
    bench.dispatch();
    assert!(status(&bench)["machineTypes"].as_object().unwrap().is_empty());
}

#[test]
fn a_running_step_is_canceled_on_its_machine() {
    let mut bench = Bench::new(Settings::CLASSIC, vec![step(1, "s", &[])], &[]);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    bench.dispatch();
    let (step, start) = (bench.step(1), bench.running[&1]);
    assert_eq!(bench.queue_runner.cancel(step, seconds(3)), Some(start));
    assert!(!bench.queue_runner.is_current(start));
    assert_eq!(bench.queue_runner.cancel(step, seconds(3)), None);
    assert_eq!(status(&bench)["nrActiveSteps"], 0);
}

/// "Release machine reservation while copying outputs", April 2025: the machine looks idle and is not.
#[test]
fn classic_a_slot_is_free_while_outputs_are_copied() {
    for (reservation, jobs) in [(Reservation::UntilBuilt, 0), (Reservation::UntilCopied, 1)] {
        let settings = Settings { reservation, ..Settings::CLASSIC };
        let mut bench = Bench::new(settings, vec![step(1, "s", &[]), step(2, "s", &[])], &[]);
        bench.list(&[(0, offer("s", "", 1, 1000))]);
        bench.dispatch();
        let start = bench.running[&1];
        let released = bench.queue_runner.copying(start, seconds(5));
        assert_eq!(released, jobs == 0);
        let reported = status(&bench);
        assert_eq!(reported["machines"]["ssh://root@10.0.0.1"]["currentJobs"], jobs);
        assert_eq!(reported["nrStepsCopyingFrom"], 1 - jobs);
        assert_eq!(reported["nrActiveSteps"], 1);
        let next: Vec<_> = bench.dispatch().into_iter().map(|(id, _)| id).collect();
        assert_eq!(next, if released { vec![2] } else { vec![] });
        if released {
            assert_eq!(
                bench.queue_runner.jobs_on(Host(0)).len(),
                2,
                "both are lost with the machine"
            );
        }
        bench.finish(1);
        assert_eq!(bench.phase(1), Phase::Succeeded);
    }
}

/// `preferLocalBuild` shows as a feature; any machine of the system builds it.
#[test]
fn local_steps_are_built_by_any_machine() {
    let mut bench = Bench::new(Settings::CLASSIC, vec![step(1, "s:local", &[])], &[]);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    assert_eq!(bench.dispatch(), [(1, 0)]);
    assert_eq!(status(&bench)["machineTypes"]["s:local"]["running"], 1);
    let reported = bench.queue_runner.derivations_json();
    let env = &reported.as_object().unwrap().values().next().unwrap()["env"];
    assert_eq!(env["requiredSystemFeatures"], "");
    assert_eq!(env["preferLocalBuild"], "1");
}

/// `lastSupported` is set when a build is loaded (classic) or when the step becomes runnable (REST).
#[test]
fn unsupported_time_counts_from_when_a_build_is_loaded() {
    for (settings, phase) in
        [(Settings::CLASSIC, Phase::Unsupported), (Settings::REST, Phase::Runnable)]
    {
        let settings = Settings { max_unsupported: Some(seconds(60)), ..settings };
        let steps = vec![step(1, "s", &[]), NewStep { id: 2, build: 2, ..step(2, "t", &[1]) }];
        let mut bench = Bench::new(settings, steps, &[]);
        if settings.protocol == Settings::CLASSIC.protocol {
            bench.list(&[(0, offer("s", "", 1, 1000))]);
        } else {
            bench.queue_runner.connect(Host(0), &offer("s", "", 1, 1000), Millis::ZERO);
        }
        bench.dispatch();
        bench.now = seconds(100);
        bench.finish(1);
        bench.dispatch();
        assert_eq!(bench.phase(2), phase, "nobody builds t, 100 s after its build was loaded");
        bench.now = seconds(160);
        bench.dispatch();
        assert_eq!(bench.phase(2), Phase::Unsupported);
    }
}

/// "Coalesce trigger bursts": at least half a second between two dispatches, and no trigger is lost.
#[test]
fn rest_dispatches_rest() {
    let mut bench = Bench::new(Settings::REST, vec![step(1, "s", &[])], &[]);
    assert_eq!(bench.queue_runner.take_wake(seconds(1)), Some(seconds(1)));
    bench.now = seconds(1);
    bench.dispatch();
    bench.queue_runner.wake();
    assert_eq!(bench.queue_runner.take_wake(Millis(1100)), Some(Millis(1500)));
    bench.queue_runner.wake();
    assert_eq!(bench.queue_runner.take_wake(Millis(1200)), None, "it is planned already");
    bench.now = Millis(1500);
    bench.queue_runner.wake();
    assert_eq!(bench.queue_runner.take_wake(bench.now), Some(bench.now));
}

/// Queues are sorted when steps are inserted: shares that changed since then do not count.
#[test]
fn rest_queues_are_sorted_only_when_steps_come() {
    let of = |id, jobset: &str| NewStep { jobset: jobset.to_owned(), ..step(id, "s", &[]) };
    let steps = || {
        let late = NewStep { submit: seconds(20), ..of(5, "p:b") };
        vec![of(1, "p:a"), of(2, "p:a"), of(3, "p:a"), of(4, "p:b"), late]
    };
    // Sorted at the start, when no jobset had used anything: by build.
    let mut bench = Bench::new(Settings::REST, steps(), &[]);
    bench.queue_runner.connect(Host(0), &offer("s", "", 1, 1000), Millis::ZERO);
    assert_eq!(bench.dispatch(), [(1, 0)]);
    bench.now = seconds(10);
    bench.finish(1);
    assert_eq!(bench.dispatch(), [(2, 0)], "p:a has used 10 s by now, and is still first");
    // A step arrives: now current shares count.
    let late = bench.step(5);
    bench.queue_runner.submit(late, seconds(20));
    bench.now = seconds(20);
    bench.finish(2);
    assert_eq!(bench.dispatch(), [(4, 0)]);
}

//! The model of the queue runner compared with the real ones.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod bench;

use bench::{Bench, EPOCH, offer, seconds, step};
use planner::AcceptsJobs;
use simulator::engine::Millis;
use simulator::queue_runner::{Host, Phase, Protocol, Settings};
use simulator::workload::NewStep;

#[test]
fn steps_run_when_their_dependencies_are_done() {
    for protocol in [Settings::CLASSIC, Settings::REST] {
        let steps = vec![step(1, "s", &[]), step(2, "s", &[1]), step(3, "s", &[1, 2])];
        let mut bench = Bench::new(protocol, steps, &[]);
        match protocol.protocol {
            Protocol::Classic => bench.list(&[(0, offer("s", "", 4, 1000))]),
            Protocol::Rest => {
                bench.queue_runner.connect(Host(0), &offer("s", "", 4, 1000), Millis::ZERO);
            }
        }
        for id in 1..=3 {
            assert_eq!(bench.dispatch(), [(id, 0)]);
            assert_eq!(bench.dispatch(), [], "no step twice");
            bench.finish(id);
        }
        assert_eq!(bench.queue_runner.unfinished(), 0);
    }
}

#[test]
fn classic_machines_are_taken_by_load_and_speed() {
    let steps = (1..=7).map(|id| step(id, "s", &[])).collect();
    let mut bench = Bench::new(Settings::CLASSIC, steps, &[]);
    // A slow, a normal and a fast one: load divided by speed, rounded; then speed; then the fuller one.
    bench.list(&[
        (0, offer("s", "", 2, 500)),
        (1, offer("s", "", 2, 1000)),
        (2, offer("s", "", 3, 4000)),
    ]);
    let hosts: Vec<_> = bench.dispatch().into_iter().map(|(_, host)| host).collect();
    assert_eq!(hosts, [2, 2, 1, 0, 2, 1, 0]);
}

/// Builders are sorted when one registers, and filled in that order: load is only checked then.
#[test]
fn rest_steps_go_to_the_first_builder_with_room() {
    let steps = (1..=9).map(|id| step(id, "s", &[])).collect();
    let mut bench = Bench::new(Settings::REST, steps, &[]);
    let connect = |bench: &mut Bench, host, max_jobs, speed| {
        bench.queue_runner.connect(Host(host), &offer("s", "", max_jobs, speed), bench.now);
    };
    connect(&mut bench, 0, 2, 1000);
    connect(&mut bench, 1, 1, 2000);
    connect(&mut bench, 2, 2, 1000);
    let hosts = |bench: &mut Bench| -> Vec<_> {
        bench.dispatch().into_iter().map(|(_, host)| host).collect()
    };
    assert_eq!(hosts(&mut bench), [1, 0, 0, 2, 2], "the fast one, then one after the other");
    bench.finish(4);
    bench.finish(5);
    bench.finish(2);
    assert_eq!(hosts(&mut bench), [0, 2, 2], "the first has room again, though another is empty");
    for id in [7, 8, 3] {
        bench.finish(id);
    }
    connect(&mut bench, 3, 1, 1000);
    assert_eq!(hosts(&mut bench), [2], "an empty one comes before a busy one from then on");
}

#[test]
fn the_order_of_steps_is_that_of_each_queue_runner() {
    let with = |id, global, local, build, needs: &str| NewStep {
        global_priority: global,
        local_priority: local,
        build,
        ..step(id, needs, &[])
    };
    let steps = || {
        vec![
            with(1, 0, 0, 9, "s"),
            with(2, 0, 0, 8, "s"),
            with(3, 0, 5, 9, "s"),
            with(4, 1, 0, 9, "s"),
            with(5, 0, 0, 9, "s:f"),
            with(6, 0, 0, 9, "s"),
            step(7, "s", &[6]),
        ]
    };
    let everything = offer("s:f", "", 9, 1000);
    let mut classic = Bench::new(Settings::CLASSIC, steps(), &[]);
    classic.list(&[(0, everything.clone())]);
    let ids: Vec<_> = classic.dispatch().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [4, 3, 5, 6, 2, 1], "global, local, features, dependents, build");

    let mut rest = Bench::new(Settings::REST, steps(), &[]);
    rest.queue_runner.connect(Host(0), &everything, Millis::ZERO);
    let ids: Vec<_> = rest.dispatch().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [4, 6, 3, 2, 1, 5], "global, dependents, local, build");
}

#[test]
fn jobsets_get_their_shares() {
    let steps = (1..=40)
        .map(|id| NewStep {
            jobset: if id <= 20 { "p:small".to_owned() } else { "p:large".to_owned() },
            ..step(id, "s", &[])
        })
        .collect();
    let shares = [("p:small", 1), ("p:large", 3)];
    let mut bench = Bench::new(Settings::CLASSIC, steps, &shares);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    let mut large = 0;
    for _ in 0..20 {
        let (id, _) = bench.dispatch()[0];
        large += u32::from(id > 20);
        bench.now += seconds(10);
        bench.finish(id);
    }
    assert_eq!(large, 15, "three of four");
}

#[test]
fn aborted_steps_are_retried_then_given_up_with_all_that_needs_them() {
    let steps = vec![step(1, "s", &[]), step(2, "s", &[1]), step(3, "s", &[2])];
    let mut bench = Bench::new(Settings::REST, steps, &[]);
    bench.queue_runner.connect(Host(0), &offer("s", "", 1, 1000), Millis::ZERO);
    for delay in [60, 180, 540, 1620] {
        assert_eq!(bench.dispatch(), [(1, 0)]);
        let again = bench.running[&1].step;
        assert_eq!(bench.abort(1), Some(delay));
        assert_eq!(bench.queue_runner.status(bench.now, EPOCH).demand[0].runnable, 1);
        assert_eq!(bench.dispatch(), [], "not before its delay is over");
        bench.now += seconds(delay);
        bench.queue_runner.retry(again, bench.now);
    }
    bench.dispatch();
    assert_eq!(bench.abort(1), None);
    assert_eq!(bench.phase(1), Phase::Aborted);
    assert_eq!(bench.phase(3), Phase::DependencyFailed);
    assert_eq!(bench.queue_runner.unfinished(), 0);
}

#[test]
fn what_no_machine_supports_is_aborted_in_time() {
    let steps = vec![step(1, "s", &[]), step(2, "t", &[])];
    let mut bench = Bench::new(Settings::REST, steps, &[]);
    bench.queue_runner.connect(Host(0), &offer("s", "", 1, 1000), Millis::ZERO);
    bench.dispatch();
    bench.now = seconds(119);
    bench.dispatch();
    assert_eq!(bench.phase(2), Phase::Runnable);
    bench.now = seconds(120);
    bench.dispatch();
    assert_eq!(bench.phase(2), Phase::Unsupported);
    assert_eq!(bench.phase(1), Phase::Running);
}

#[test]
fn a_machine_that_left_the_file_stays_known_and_gets_nothing() {
    let steps = (1..=3).map(|id| step(id, "s", &[])).collect();
    let mut bench = Bench::new(Settings::CLASSIC, steps, &[]);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    let seen = bench.queue_runner.status(bench.now, EPOCH).machines;
    assert_eq!((seen[0].host.to_string(), seen[0].idle_since), ("10.0.0.1".to_owned(), None));
    assert_eq!(bench.dispatch(), [(1, 0)]);
    bench.list(&[]);
    let seen = bench.queue_runner.status(bench.now, EPOCH).machines;
    assert_eq!((seen[0].accepts_jobs, seen[0].current_jobs), (AcceptsJobs::No, 1));
    bench.now = seconds(7);
    bench.finish(1);
    assert_eq!(bench.dispatch(), []);
    let status = bench.queue_runner.status(bench.now, EPOCH);
    assert_eq!(status.machines[0].idle_since, Some(EPOCH.at(seconds(7))));
    assert_eq!(status.demand[0].last_active, Some(EPOCH.at(seconds(7))));
    assert_eq!((status.demand[0].runnable, status.demand[0].running), (2, 0));
}

#[test]
fn a_restart_forgets_machines_and_queues_again_what_ran() {
    let steps = vec![step(1, "s", &[]), step(2, "s", &[1])];
    let mut bench = Bench::new(Settings::CLASSIC, steps, &[]);
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    bench.dispatch();
    bench.now = seconds(5);
    bench.queue_runner.restart(bench.now);
    bench.dispatch();
    let status = bench.queue_runner.status(seconds(8), EPOCH);
    assert_eq!((status.uptime.0, status.machines.len(), status.demand[0].runnable), (3, 0, 1));
    bench.finish(1);
    assert_eq!(bench.phase(1), Phase::Runnable, "news of the try before the restart are stale");
    bench.list(&[(0, offer("s", "", 1, 1000))]);
    assert_eq!(bench.dispatch(), [(1, 0)]);
    bench.finish(1);
    assert_eq!(bench.dispatch(), [(2, 0)]);
}

//! What keeps a machine that is not needed, and the steps of its release.

use planner::{
    AcceptsJobs, AwaitReason, IdleAction, IdleTimeout, InMachinesFile, KeepReason, Leaving,
    Machine, MachineKeys, MachineState, MachineType, Missing, Operation, OrderKind, QueueMachine,
    QueueStatus, ReleaseStep, Seconds, Sequence, UnderWay, Verdict,
};

use crate::farm::{
    Farm, HOUR, NOW, TYPE, ago, failing, is_released, leaving, listed, name, pool, remembers, up,
};

fn idle_timeout(seconds: u64) -> planner::PoolPolicy {
    planner::PoolPolicy { idle_timeout: IdleTimeout::After(Seconds(seconds)), ..pool() }
}

#[test]
fn an_order_to_keep_holds_a_machine_that_exists() {
    let gone = Missing { since: ago(HOUR), patience: Seconds(120) };
    let cases = [
        ("idle", up(0), true),
        ("off", Machine { state: MachineState::Stopped, ..up(0) }, true),
        ("only requested", Machine { state: MachineState::Requested, ..up(0) }, false),
        ("destroyed", remembers(up(0), |memory| memory.destroyed_at = Some(ago(HOUR))), false),
        ("vanished", remembers(up(0), |memory| memory.missing = Some(gone)), false),
    ];
    for (what, machine, is_kept) in cases {
        let farm = Farm::new(pool(), 0, &[machine]).with_order(OrderKind::Keep(name(0)));
        let verdict = &farm.plan().verdicts[&name(0)];
        let by_order = matches!(verdict, Verdict::Keep { reason: KeepReason::Ordered(_), .. });
        assert_eq!(by_order, is_kept, "{what}: {verdict}");
    }
}

/// An order about something else (adopt) does not keep it.
#[test]
fn only_the_order_to_keep_keeps() {
    let farm = Farm::new(pool(), 0, &[up(0)]).with_order(OrderKind::Adopt(name(0)));
    assert!(is_released(&farm.plan().verdicts[&name(0)]), "{}", farm.verdict(0));
}

/// While a provider cannot be listed, its machines stay as they are, and those that end get no builds.
#[test]
fn machines_of_a_provider_that_cannot_list_stay_as_they_are() {
    let destroying = Some(UnderWay { operation: Operation::Destroy, since: ago(5) });
    let unavailable =
        |accepts_jobs| Verdict::Keep { reason: KeepReason::ProviderUnavailable, accepts_jobs };
    let cases = [
        ("in use", up(0), unavailable(AcceptsJobs::Yes)),
        (
            "leaving",
            remembers(up(0), |memory| memory.leaving = Some(leaving())),
            unavailable(AcceptsJobs::No),
        ),
        (
            "destroyed",
            remembers(up(0), |memory| memory.destroyed_at = Some(ago(5))),
            unavailable(AcceptsJobs::No),
        ),
        (
            "being destroyed",
            remembers(up(0), |memory| memory.under_way = destroying),
            Verdict::Ending { operation: Operation::Destroy, since: ago(5) },
        ),
    ];
    for (what, machine, expected) in cases {
        let mut farm = Farm::new(pool(), 2, &[machine]);
        farm.snapshot.unlistable.insert(MachineType::new(TYPE), "no answer".to_owned());
        assert_eq!(farm.plan().verdicts[&name(0)], expected, "{what}");
    }
}

/// A machine that gets no new builds gets none while the queue status or a listing is missing, either; nor does one that
/// is ordered to leave, or about to be interrupted, meanwhile.
#[test]
fn no_builds_begin_again_because_a_question_failed() {
    let held_back = remembers(up(0), |memory| memory.without_builds = true);
    let interrupted = remembers(up(0), |memory| memory.interrupted_at = Some(ago(5)));
    let cases = [
        ("it got builds", Farm::new(pool(), 0, &[up(0)]), true),
        ("it got none", Farm::new(pool(), 0, &[held_back]), false),
        ("interrupted", Farm::new(pool(), 0, &[interrupted]), false),
        (
            "ordered to drain",
            Farm::new(pool(), 0, &[up(0)]).with_order(OrderKind::Drain(name(0))),
            false,
        ),
    ];
    for (what, mut farm, gets_builds) in cases {
        let machine_type = MachineType::new(TYPE);
        farm.snapshot.unlistable.insert(machine_type.clone(), "no answer".to_owned());
        assert_eq!(farm.plan().publish.len(), usize::from(gets_builds), "{what}, not listed");
        farm.snapshot.unlistable.clear();
        farm.snapshot.queue = QueueStatus::Unavailable("no answer".to_owned());
        assert_eq!(farm.plan().publish.len(), usize::from(gets_builds), "{what}, no status");
    }
}

/// Without a status, `minMachines` are those that got builds before.
#[test]
fn without_a_status_min_machines_are_those_in_use() {
    let held_back = remembers(up(0), |memory| memory.without_builds = true);
    let policy = planner::PoolPolicy { min_machines: 1, ..pool() };
    let mut farm = Farm::new(policy, 0, &[held_back, up(1)]);
    farm.snapshot.queue = QueueStatus::Unavailable("no answer".to_owned());
    let plan = farm.plan();
    assert_eq!((plan.publish, &plan.verdicts[&name(1)]), (vec![name(1)], &Verdict::InUse));
}

/// Once it is being released, it gets no new builds, even if its type has a grace period.
#[test]
fn a_busy_machine_that_leaves_gets_no_new_builds() {
    for (machine, accepts_jobs) in [
        (up(0), AcceptsJobs::Yes),
        (remembers(up(0), |memory| memory.leaving = Some(leaving())), AcceptsJobs::No),
    ] {
        let farm = Farm::new(idle_timeout(300), 0, &[machine]).with_queue(&[listed(0, 1)]);
        let expected = Verdict::Keep { reason: KeepReason::Busy { jobs: 1 }, accepts_jobs };
        assert_eq!(farm.plan().verdicts[&name(0)], expected);
    }
}

/// `keepLast` is for the last machine that can serve new steps at once.
#[test]
fn the_last_machine_that_stays_is_one_that_can_build() {
    let idle = |number| remembers(up(number), |memory| memory.ready_since = Some(ago(600)));
    let cases = [
        ("both can", idle(0), "farm-0"),
        ("one leaves", remembers(idle(0), |memory| memory.leaving = Some(leaving())), "farm-1"),
        (
            "one is interrupted",
            remembers(idle(0), |memory| memory.interrupted_at = Some(ago(5))),
            "farm-1",
        ),
        ("one is off", Machine { state: MachineState::Stopped, ..idle(0) }, "farm-1"),
    ];
    for (what, other, stays) in cases {
        let mut farm = Farm::new(pool(), 0, &[other, idle(1)]);
        farm.pool().keep_last = Seconds(2 * HOUR);
        let plan = farm.plan();
        let kept: Vec<_> = plan
            .verdicts
            .iter()
            .filter(|(_, verdict)| !is_released(verdict))
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(kept, [stays], "{what}:\n{plan}");
    }
}

/// `maxMachines` machines exist at most: those in use, those that stay, and those in reserve. Running ones come first.
#[test]
fn the_reserve_has_room_for_what_stays_in_existence() {
    let off = |number| Machine { state: MachineState::Stopped, ..up(number) };
    let ends = |operation| {
        remembers(up(0), |memory| {
            memory.under_way = Some(UnderWay { operation, since: ago(5) });
        })
    };
    let failed = |number| Machine { state: MachineState::Failed, ..up(number) };
    // With room for one: which verdicts they get.
    let cases = [
        (vec![off(0), up(1)], ["destroy", "stop"]),
        (vec![up(0), off(1)], ["stop", "destroy"]),
        (vec![off(0), off(1)], ["keep", "destroy"]),
        (vec![failed(0), off(1)], ["destroy", "keep"]),
        (vec![ends(Operation::Stop), off(1)], ["stopping", "destroy"]),
        (vec![ends(Operation::Destroy), off(1)], ["destroying", "keep"]),
    ];
    for (machines, expected) in cases {
        let mut farm = Farm::new(pool(), 0, &machines);
        farm.pool().idle_action = IdleAction::Stop;
        farm.pool().max_machines = 1;
        let begin = |number| {
            let verdict = farm.verdict(number);
            verdict.split([':', ' ', ';']).next().unwrap_or_default().to_owned()
        };
        let states: Vec<_> = machines.iter().map(|machine| machine.state).collect();
        let expected = expected.map(str::to_owned);
        match expected[0].as_str() {
            "stopping" | "destroying" => assert_eq!(begin(1), expected[1], "{states:?}"),
            _ => assert_eq!([begin(0), begin(1)], expected, "{states:?}"),
        }
    }
}

/// A running machine that does not fit into the reserve is not stopped, but destroyed.
#[test]
fn a_machine_without_a_place_in_the_reserve_is_destroyed() {
    let mut farm = Farm::new(pool(), 1, &[up(0), up(1)]).with_queue(&[listed(0, 1), listed(1, 0)]);
    farm.pool().idle_action = IdleAction::Stop;
    for (max_machines, expected) in [(2, "stop: "), (1, "destroy: ")] {
        farm.pool().max_machines = max_machines;
        assert!(farm.verdict(1).starts_with(expected), "{max_machines}: {}", farm.verdict(1));
    }
}

#[test]
fn nothing_is_released_while_the_state_cannot_be_written() {
    let machine =
        remembers(up(0), |memory| memory.in_machines_file = InMachinesFile::NoMore(Sequence(3)));
    let gone = QueueMachine { accepts_jobs: AcceptsJobs::No, ..listed(0, 0) };
    let mut farm = Farm::new(pool(), 0, &[machine]).with_queue(&[gone]);
    assert_eq!(farm.plan().release[0].step, ReleaseStep::Release);
    farm.snapshot.storage_error = Some("disk full".to_owned());
    assert_eq!(farm.plan().release[0].step, ReleaseStep::Await(AwaitReason::NewerStatus));
}

/// The REST queue runner: a builder is stopped first, and only after a status that was asked for just now.
#[test]
fn a_builder_is_stopped_before_its_machine() {
    use ReleaseStep::{Await, Drain, Release};
    let left = |drained: Option<u64>| {
        Some(Leaving { decided: Sequence(5), drained: drained.map(Sequence) })
    };
    let is = |drained| remembers(up(0), |memory| memory.leaving = left(drained));
    let off = |drained| Machine { state: MachineState::Stopped, ..is(drained) };
    let no_address = |drained| Machine { address: None, ..is(drained) };
    let failed = |drained| {
        remembers(is(drained), |memory| memory.failing = Some(failing(Operation::Stop, ago(900))))
    };
    // What the queue runner shows of it, and the age of the answer in seconds.
    let (runs, gone) = (true, false);
    let cases = [
        ("decided", is(None), runs, 0, Drain),
        ("an old answer", is(None), runs, 4, Await(AwaitReason::FreshStatus)),
        ("it is off", off(None), gone, 0, Release),
        ("it has no address", no_address(None), gone, 0, Release),
        ("drained before the answer", is(Some(9)), runs, 0, Drain),
        ("drained, and gone", is(Some(9)), gone, 0, Release),
        ("drained, and gone, an old answer", is(Some(9)), gone, 60, Release),
        (
            "could not be stopped, an old answer",
            failed(Some(9)),
            gone,
            60,
            Await(AwaitReason::FreshStatus),
        ),
        ("drained after the answer", is(Some(11)), runs, 0, Await(AwaitReason::NewerStatus)),
        ("drained when it was asked", is(Some(10)), runs, 0, Await(AwaitReason::NewerStatus)),
    ];
    for (what, machine, is_listed, age, expected) in cases {
        let machine = Machine { host_name: Some(planner::Host::new("m0")), ..machine };
        let entry = QueueMachine {
            idle_since: Some(ago(HOUR)),
            ..QueueMachine::new(planner::Host::new("m0"))
        };
        let entries = if is_listed { vec![entry] } else { Vec::new() };
        let mut farm = Farm::new(pool(), 0, &[machine]).with_queue(&entries);
        farm.queue().keys = MachineKeys::HostName;
        farm.snapshot.queue_asked_at = Some(ago(age));
        let plan = farm.plan();
        assert_eq!(plan.release[0].step, expected, "{what}:\n{plan}");
    }
}

/// Changes a farm where a case differs.
type Change = fn(&mut Farm);

/// The grace period ends by itself: the plan says when.
#[test]
fn the_plan_says_when_it_changes_by_itself() {
    let since = |seconds| remembers(up(0), |memory| memory.ready_since = Some(ago(seconds)));
    let paid =
        |seconds| Machine { next_charge_at: Some(planner::Timestamp(NOW.0 + seconds)), ..up(0) };
    let warm_up = |farm: &mut Farm| {
        farm.queue().uptime = Seconds(600);
        farm.queue().machines[0].idle_since = None;
    };
    let idle_for_100 = |farm: &mut Farm| farm.queue().machines[0].idle_since = Some(ago(100));
    let no_change = |_: &mut Farm| {};
    let cases: [(&str, Machine, Change, u64); 4] = [
        ("a grace period of 300 s", since(100), idle_for_100, 200),
        ("paid for 40 minutes, released with 30 left", paid(2400), no_change, 601),
        ("paid for 20 minutes, released with 10 left", paid(1200), no_change, 601),
        ("the queue runner was started 10 minutes ago", up(0), warm_up, 30 * 60 + 300 - 600),
    ];
    for (what, machine, change, seconds) in cases {
        let mut farm = Farm::new(idle_timeout(300), 0, &[machine]);
        change(&mut farm);
        let plan = farm.plan();
        let wakes_in = plan.wake_at.map(|at| at.since(NOW));
        assert_eq!(wakes_in, Some(Seconds(seconds)), "{what}:\n{plan}");
    }
}

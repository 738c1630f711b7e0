//! Machines that are unhealthy or never come up.

use planner::{
    IdleTimeout, Machine, MachineState, Operation, QueueMachine, Seconds, Unhealthy, Verdict,
};

use crate::farm::{
    Farm, HOUR, NOW, ago, failing, is_released, later, listed, name, pool, remembers, up,
};

fn disabled(number: u32, until: planner::Timestamp) -> QueueMachine {
    QueueMachine { disabled_until: Some(until), ..listed(number, 0) }
}

#[test]
fn a_machine_is_disabled_until_the_time_that_the_queue_runner_says() {
    for (until, is_unhealthy) in [(NOW, false), (later(1), true)] {
        let farm = Farm::new(pool(), 1, &[up(0)]).with_queue(&[disabled(0, until)]);
        let unhealthy = farm.plan().unhealthy.get(&name(0)).cloned();
        assert_eq!(unhealthy, is_unhealthy.then_some(Unhealthy::Avoided { until }));
    }
}

/// Two different troubles of two of three machines have no common cause.
#[test]
fn only_what_most_machines_share_is_a_common_cause() {
    let unreachable =
        |number| remembers(up(number), |memory| memory.unreachable_since = Some(ago(60)));
    let entry = |number| disabled(number, later(HOUR));
    let cases = [
        ("two are disabled", up(1), [entry(0), entry(1), listed(2, 0)], true),
        (
            "one is disabled, one does not answer",
            unreachable(1),
            [entry(0), listed(1, 0), listed(2, 0)],
            false,
        ),
    ];
    for (what, second, entries, is_common) in cases {
        let farm = Farm::new(pool(), 3, &[up(0), second, up(2)]).with_queue(&entries);
        let text = farm.plan().to_string();
        assert_eq!(text.contains("most"), is_common, "{what}:\n{text}");
    }
}

#[test]
fn one_that_is_unhealthy_for_too_long_is_replaced() {
    for (seconds, is_replaced) in [(HOUR - 1, false), (HOUR, true)] {
        let machine = remembers(up(0), |memory| memory.unhealthy_since = Some(ago(seconds)));
        let others = [up(1), up(2)];
        let machines = [machine, others[0].clone(), others[1].clone()];
        let entries = [disabled(0, later(HOUR)), listed(1, 1), listed(2, 1)];
        let mut farm = Farm::new(pool(), 3, &machines).with_queue(&entries);
        // It is not used any more, but it stays for a while.
        farm.pool().idle_timeout = IdleTimeout::After(Seconds(2 * HOUR));
        let verdict = farm.plan().verdicts[&name(0)].clone();
        assert_eq!(is_released(&verdict), is_replaced, "{seconds}: {verdict}");
        if is_replaced {
            assert!(verdict.to_string().contains("gives it no builds"), "{verdict}");
        }
    }
}

/// Failing operations make a machine hopeless only if it was never ready and exists.
#[test]
fn a_machine_that_was_ready_is_not_given_up_as_never_ready() {
    let fails = |machine| {
        remembers(machine, |memory| {
            memory.failing = Some(failing(Operation::Deploy, ago(2 * HOUR)));
        })
    };
    let never_ready = |number| remembers(up(number), |memory| memory.ready_since = None);
    let requested = Machine { state: MachineState::Requested, ..never_ready(0) };
    for (what, machine, is_given_up) in [
        ("never ready", fails(never_ready(0)), true),
        ("was ready", fails(up(0)), false),
        ("only requested", fails(requested), false),
    ] {
        let farm = Farm::new(pool(), 1, &[machine]);
        let verdict = &farm.plan().verdicts[&name(0)];
        assert_eq!(is_released(verdict), is_given_up, "{what}: {verdict}");
        assert!(is_given_up || *verdict == Verdict::InUse, "{what}: {verdict}");
    }
}

/// The queue runner has stopped reading our machines file, and keeps the entries.
#[test]
fn a_machine_that_stays_disabled_though_published_is_unhealthy() {
    use planner::AcceptsJobs::{No, Yes};
    for (accepts_jobs, published_for, unhealthy) in [
        (No, Some(119), None),
        (No, Some(120), Some(Unhealthy::NotRead)),
        (No, None, None),
        (Yes, Some(HOUR), None),
    ] {
        let machine = remembers(up(0), |memory| memory.published_since = published_for.map(ago));
        let entry = QueueMachine { accepts_jobs, ..listed(0, 0) };
        let plan = Farm::new(pool(), 1, &[machine]).with_queue(&[entry]).plan();
        assert_eq!(plan.unhealthy.get(&name(0)).cloned(), unhealthy, "{published_for:?}");
    }
}

//! Which entry of the queue runner belongs to which machine.

use planner::{
    AcceptsJobs, AwaitReason, Host, InMachinesFile, Leaving, Machine, MachineKeys, Missing,
    Operation, QueueMachine, ReleaseStep, Seconds, Sequence, StepsBuilt, Timestamp,
};

use crate::farm::{Farm, HOUR, NOW, ago, failing, listed, name, pool, remembers, up};

/// In doubt a machine may still get builds: it is released only if no entry of it accepts jobs.
#[test]
fn of_several_entries_of_one_machine_one_that_accepts_jobs_is_enough() {
    use AcceptsJobs::{No, Yes};
    for (entries, step) in [
        ([No, No], ReleaseStep::Release),
        ([Yes, No], ReleaseStep::Await(AwaitReason::StillAcceptsJobs)),
        ([No, Yes], ReleaseStep::Await(AwaitReason::StillAcceptsJobs)),
    ] {
        let machine = remembers(up(0), |memory| {
            memory.in_machines_file = InMachinesFile::NoMore(Sequence(3));
        });
        let entry = |accepts_jobs| QueueMachine { accepts_jobs, ..listed(0, 0) };
        let farm = Farm::new(pool(), 0, &[machine]).with_queue(&entries.map(entry));
        assert_eq!(farm.plan().release[0].step, step, "{entries:?}");
    }
}

/// Without the time of its steps, only a machine that has built none has a known count.
#[test]
fn steps_count_when_their_time_is_known() {
    let count = |steps, time| Some(StepsBuilt { steps, time: Seconds(time) });
    for (steps_done, total, expected) in [
        (None, None, None),
        (Some(0), None, count(0, 0)),
        (Some(5), None, None),
        (Some(5), Some(Seconds(600)), count(5, 600)),
    ] {
        let entry = QueueMachine { steps_done, total_step_time: total, ..listed(0, 1) };
        let plan = Farm::new(pool(), 1, &[up(0)]).with_queue(&[entry]).plan();
        assert_eq!(plan.built.get(&name(0)).copied(), expected, "{steps_done:?} {total:?}");
    }
}

/// A provider gives the address of a machine that is gone to the next one. The jobs there are the new one's.
#[test]
fn an_address_belongs_to_the_machine_that_was_started_last() {
    let gone_since = Missing { since: ago(HOUR), patience: Seconds(120) };
    let started = |number, at| Machine { started_at: Some(at), ..up(number) };
    for (successor_started, is_destroyed) in [
        (ago(2 * HOUR - 1), true),
        // Not later: the machine with these jobs is not known.
        (ago(2 * HOUR), false),
        (ago(2 * HOUR + 1), false),
    ] {
        let gone = remembers(started(2, ago(2 * HOUR)), |memory| memory.missing = Some(gone_since));
        let successor = Machine { address: gone.address.clone(), ..started(5, successor_started) };
        let successor = remembers(successor, |memory| memory.ready_since = Some(successor_started));
        let others = [started(1, ago(HOUR)), started(3, ago(HOUR)), started(4, ago(HOUR))];
        let mut machines = others.to_vec();
        machines.extend([gone, successor]);
        let busy = [listed(1, 1), listed(2, 1), listed(3, 1), listed(4, 1)];
        let farm = Farm::new(pool(), 5, &machines).with_queue(&busy);
        let verdict = farm.verdict(2);
        assert_eq!(verdict.starts_with("destroy"), is_destroyed, "{successor_started}: {verdict}");
    }
}

/// REST: a builder that could not be stopped may register again under another name, for ten minutes.
#[test]
fn a_builder_that_could_not_be_stopped_may_be_an_unknown_one_for_ten_minutes() {
    let drained = Some(Leaving { decided: Sequence(5), drained: Some(Sequence(6)) });
    let cases: [(&str, MachineKeys, Operation, u64, bool); 5] = [
        ("a failed drain", MachineKeys::HostName, Operation::Drain, 599, true),
        ("a failed destruction", MachineKeys::HostName, Operation::Destroy, 599, true),
        ("long ago", MachineKeys::HostName, Operation::Drain, 600, false),
        ("a failed deployment", MachineKeys::HostName, Operation::Deploy, 599, false),
        ("classic", MachineKeys::Address, Operation::Destroy, 599, false),
    ];
    for (what, keys, operation, seconds, may_be) in cases {
        let machine = remembers(up(0), |memory| {
            memory.leaving = drained;
            memory.failing = Some(failing(operation, ago(seconds)));
        });
        let unknown = QueueMachine::new(Host::new("elsewhere"));
        let mut farm = Farm::new(pool(), 0, &[machine]).with_queue(&[unknown]);
        farm.queue().keys = keys;
        let verdict = farm.verdict(0);
        assert_eq!(verdict.contains("elsewhere"), may_be, "{what}: {verdict}");
    }
}

#[test]
fn a_machine_is_recognized_when_the_queue_runner_first_lists_it() {
    let new = remembers(up(1), |memory| memory.was_in_queue_status = false);
    let unseen = remembers(up(2), |memory| memory.was_in_queue_status = false);
    let farm =
        Farm::new(pool(), 3, &[up(0), new, unseen]).with_queue(&[listed(0, 1), listed(1, 1)]);
    let recognized: Vec<_> = farm.plan().recognized.into_iter().collect();
    assert_eq!(recognized, [name(1)]);
}

/// A machine that builds nothing has no progress to lose.
#[test]
fn only_a_building_machine_makes_progress() {
    for (jobs, expected) in [(0, None), (1, Some(NOW))] {
        let entry = QueueMachine {
            steps_done: Some(4),
            total_step_time: Some(Seconds(9)),
            ..listed(0, jobs)
        };
        let plan = Farm::new(pool(), 1, &[up(0)]).with_queue(&[entry]).plan();
        let since: Option<Timestamp> = plan.progress.get(&name(0)).map(|progress| progress.since);
        assert_eq!(since, expected, "{jobs}");
    }
}

//! How many machines a type gets, and what they wait for.

use planner::{
    BackOff, BackOffKind, Deferral, DemandKey, EndsWhen, Machine, MachineState, MachineType,
    Operation, PoolPolicy, QueueMachine, System,
};

use crate::farm::{
    Farm, HOUR, NOW, TYPE, ago, failing, is_released, later, name, pool, remembers, up,
};

fn back_off(kind: BackOffKind, until: planner::Timestamp) -> BackOff {
    BackOff { kind, failures: 2, until, error: "no".to_owned(), ends_when: EndsWhen::Created }
}

#[test]
fn a_back_off_is_over_at_its_end() {
    for (until, created) in [(later(1), 0), (NOW, 1)] {
        let mut farm = Farm::new(pool(), 1, &[]);
        let back_off = back_off(BackOffKind::Failure, until);
        farm.snapshot.back_off.insert(MachineType::new(TYPE), back_off);
        assert_eq!(farm.created(), created, "{until}");
    }
}

/// The original's limit: so many within five minutes.
#[test]
fn creations_count_for_five_minutes() {
    for (seconds, created) in [(299, 0), (300, 1)] {
        let machine = remembers(up(0), |memory| memory.requested_at = Some(ago(seconds)));
        let mut farm = Farm::new(pool(), 2, &[machine]);
        farm.pool().creates_per_5_minutes = Some(1);
        assert_eq!(farm.created(), created, "{seconds}");
    }
}

/// Two machines are not deployed yet, two are ready and too old. The plan after a plan is the same, whichever of the two the
/// first one released.
#[test]
fn what_is_replaced_does_not_change_with_each_plan() {
    let fresh = |number| {
        remembers(up(number), |memory| {
            (memory.known_since, memory.requested_at) = (Some(ago(60)), Some(ago(60)));
            memory.ready_since = None;
            memory.in_machines_file = planner::InMachinesFile::Never;
        })
    };
    let machines = [fresh(0), fresh(1), up(2), up(3)];
    let mut farm =
        Farm::new(PoolPolicy { min_machines: 2, max_machines: 6, ..pool() }, 0, &machines);
    farm.pool().rotation.max_age = Some(planner::Seconds(HOUR));
    let mut released = Vec::new();
    for _ in 0..3 {
        let plan = farm.plan();
        for machine in &mut farm.snapshot.machines {
            let leaves = is_released(&plan.verdicts[&machine.name]);
            machine.memory.leaving = leaves.then(crate::farm::leaving);
        }
        released.push(plan.release.iter().map(|release| release.name.clone()).collect::<Vec<_>>());
    }
    assert_eq!(released[1], released[0], "{}", farm.plan());
    assert_eq!(released[2], released[0], "{}", farm.plan());
}

/// The only machine that a type may have was asked for, and the answer was lost: it is asked for again.
#[test]
fn a_request_without_an_answer_takes_no_place_from_itself() {
    let paid = planner::Paid { since: ago(60), dollars_per_hour: None };
    let lost = Machine { state: MachineState::Requested, address: None, ..up(0) };
    let lost = remembers(lost, |memory| {
        memory.paid = Some(paid);
        memory.ready_since = None;
    });
    let mut farm = Farm::new(PoolPolicy { max_machines: 1, ..pool() }, 5, &[lost]);
    assert_eq!(farm.created(), 1, "{}", farm.plan());
    farm.snapshot.machines.push(Machine { state: MachineState::Requested, ..up(1) });
    assert_eq!(farm.created(), 1, "{}", farm.plan());
}

/// Nothing is created that could not be written down, and the plan says so.
#[test]
fn without_a_place_for_its_state_nothing_is_created() {
    for (runnable, deferred) in [(0, None), (2, Some(2))] {
        let mut farm = Farm::new(pool(), runnable, &[]);
        farm.snapshot.storage_error = Some("disk full".to_owned());
        let plan = farm.plan();
        assert!(plan.provision.is_empty());
        let sizing = &plan.sizing[&MachineType::new(TYPE)];
        let waits = sizing.deferred.as_ref().map(|deferred| {
            assert_eq!(deferred.reason, Deferral::NoStorage);
            deferred.machines
        });
        assert_eq!(waits, deferred, "{runnable}");
    }
}

/// A type without capacity hands its steps to the next that may have machines at all.
#[test]
fn a_type_without_machines_takes_nothing_over() {
    let other = MachineType::new("other");
    for (max_machines, taken) in [(0, 0), (3, 2)] {
        let mut farm = Farm::new(pool(), 2, &[]);
        farm.policy.pools.insert(other.clone(), PoolPolicy { max_machines, ..pool() });
        farm.pool().mandatory_features = [planner::Feature::new("kvm")].into();
        farm.queue().demand[0].kind.features = [planner::Feature::new("kvm")].into();
        let features = farm.policy.pools[&MachineType::new(TYPE)].mandatory_features.clone();
        farm.policy.pools.get_mut(&other).unwrap().supported_features = features;
        farm.pool().fallback = Some(vec![other.clone()]);
        let back_off = back_off(BackOffKind::Capacity, later(600));
        farm.snapshot.back_off.insert(MachineType::new(TYPE), back_off);
        let plan = farm.plan();
        assert_eq!(plan.provision.len(), taken, "{max_machines}:\n{plan}");
        assert!(plan.provision.iter().all(|it| it.machine_type == other));
    }
}

/// An `x86_64` machine builds for i686 too; others do not.
#[test]
fn i686_steps_need_an_x86_64_machine() {
    for (system, created) in [("x86_64-linux", 1), ("aarch64-linux", 0)] {
        let mut farm =
            Farm::new(PoolPolicy { systems: vec![System::new(system)], ..pool() }, 1, &[]);
        let system = System::new("i686-linux");
        farm.queue().demand[0].kind = DemandKey { system, features: [].into() };
        assert_eq!(farm.created(), created);
    }
}

/// `TAG-N` is ours for each number that can be counted on from.
#[test]
fn new_names_take_the_lowest_free_numbers() {
    let called = |it: &str| Machine { name: planner::MachineName::new(it), ..up(9) };
    let machines = [called("farm-0"), called("farm-2"), called("farm-02")];
    let farm = Farm::new(PoolPolicy { max_machines: 9, ..pool() }, 5, &machines)
        .with_queue(&[] as &[QueueMachine]);
    let names: Vec<_> = farm.plan().provision.into_iter().map(|it| it.name).collect();
    assert_eq!(names[..2], [name(1), name(3)]);
}

/// Steps wait for what boots, not for what has failed.
#[test]
fn what_is_being_created_counts_and_what_has_failed_does_not() {
    for (state, created) in [
        (MachineState::Creating, 0),
        (MachineState::Starting, 0),
        (MachineState::Up, 0),
        (MachineState::Failed, 1),
    ] {
        let machine = Machine { state, ..up(0) };
        assert_eq!(Farm::new(pool(), 1, &[machine]).created(), created, "{state}");
    }
}

/// Shown to people. A creation also waits for its type.
#[test]
fn what_failed_is_tried_again_at_a_known_time() {
    for (operation, expected) in [(Operation::Deploy, ago(1)), (Operation::Create, later(600))] {
        let machine = remembers(up(0), |it| it.failing = Some(failing(operation, ago(60))));
        let mut farm = Farm::new(pool(), 1, &[]);
        let back_off = back_off(BackOffKind::Failure, later(600));
        farm.snapshot.back_off.insert(MachineType::new(TYPE), back_off);
        assert_eq!(farm.snapshot.next_try(&machine), Some(expected));
        assert_eq!(farm.snapshot.next_try(&up(0)), None, "nothing failed");
    }
}

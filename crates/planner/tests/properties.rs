//! Properties of every plan, tested with thousands of random farms, including inconsistent ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use planner::{
    AcceptsJobs, BackOff, BackOffKind, Demand, DemandKey, Endpoint, EndsWhen, Failing, Feature,
    Filling, Host, HostPattern, IdleAction, IdleTimeout, InMachinesFile, Leaving, Machine,
    MachineKeys, MachineName, MachineState, MachineType, Memory, Missing, Operation, Plan, Policy,
    PoolPolicy, Queue, QueueMachine, QueueStatus, ReleaseStep, Resource, RotationPolicy, Seconds,
    Sequence, Snapshot, System, Tag, Timestamp, UnderWay, Verdict, jobs_of, plan,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const NOW: Timestamp = Timestamp(1_700_000_000);

fn systems() -> impl Strategy<Value = System> {
    select(vec!["x86_64-linux", "i686-linux", "aarch64-linux", "builtin", "riscv64-linux"])
        .prop_map(System::new)
}

fn features() -> impl Strategy<Value = BTreeSet<Feature>> {
    btree_set(select(vec!["kvm", "big-parallel", "benchmark"]).prop_map(Feature::new), 0..3)
}

fn machine_types() -> impl Strategy<Value = MachineType> {
    select(vec!["x86_64-linux", "x86_64-linux:kvm", "aarch64-linux", "gone"])
        .prop_map(MachineType::new)
}

/// Within an hour before or after now.
fn times() -> impl Strategy<Value = Timestamp> {
    (0..7200_u64).prop_map(|offset| Timestamp(NOW.0 - 3600 + offset))
}

fn pools() -> impl Strategy<Value = PoolPolicy> {
    let limits = (0..4_u32, 0..5_u32, 0..3_u32, 0..8_u64, 1..6_u32);
    let rest = (vec(systems(), 1..3), features(), features(), any::<bool>(), 0..5000_u64);
    (limits, rest).prop_map(
        |(
            (min_machines, max_machines, max_creating, ignored_runnables, per_machine),
            (systems, mandatory_features, supported_features, stops, grace),
        )| PoolPolicy {
            min_machines,
            max_machines,
            max_creating,
            creates_per_5_minutes: (per_machine % 2 == 0).then_some(max_creating),
            ignored_runnables,
            runnables_per_machine: NonZeroU32::new(per_machine).unwrap(),
            mandatory_features,
            supported_features,
            idle_action: if stops { IdleAction::Stop } else { IdleAction::Destroy },
            idle_timeout: IdleTimeout::After(Seconds(grace)),
            filling: if per_machine == 1 { Filling::Pack } else { Filling::Spread },
            give_up_after: Seconds(grace),
            rotation: RotationPolicy {
                max_age: (grace % 2 == 0).then_some(Seconds(grace)),
                ..RotationPolicy::default()
            },
            ..PoolPolicy::new(systems)
        },
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    let configured = machine_types().prop_filter("left the policy", |t| t.as_str() != "gone");
    btree_map(configured, pools(), 0..4).prop_map(|pools| Policy {
        other_machines: vec![HostPattern::new("host-1"), HostPattern::new("10.0.0.7")],
        ..Policy::new(Tag::new("t"), pools)
    })
}

fn states() -> impl Strategy<Value = MachineState> {
    use MachineState::{Creating, Failed, Requested, Starting, Stopped, Stopping, Unreachable, Up};
    select(vec![Requested, Creating, Starting, Up, Up, Up, Unreachable, Stopping, Stopped, Failed])
}

fn sequences() -> impl Strategy<Value = Sequence> {
    (0..6_u64).prop_map(Sequence)
}

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::{Create, Deploy, Destroy, Drain, KeepAlive, Start, Stop};
    select(vec![Create, Start, Deploy, KeepAlive, Drain, Stop, Destroy])
}

/// Mostly of a machine in a normal state.
fn memories() -> impl Strategy<Value = Memory> {
    let times = (
        option::of(times()),
        option::weighted(0.7, times()),
        option::weighted(0.1, times()),
        option::weighted(0.2, times()),
        option::weighted(0.2, times()),
    );
    let listed = prop_oneof![
        2 => Just(InMachinesFile::Never),
        2 => Just(InMachinesFile::Now),
        1 => sequences().prop_map(InMachinesFile::NoMore),
    ];
    let leaving = option::of((sequences(), option::of(sequences())));
    let under_way = option::weighted(0.2, (operations(), times_before()));
    let failing = option::weighted(0.2, (times_before(), 1..5_u32, operations()));
    let missing = option::weighted(0.1, (times_before(), 0..1000_u64));
    (times, listed, leaving, under_way, failing, missing).prop_map(
        |(
            (known_since, ready_since, destroyed_at, unhealthy_since, unreachable_since),
            listed,
            leaving,
            under_way,
            failing,
            missing,
        )| Memory {
            known_since,
            requested_at: known_since,
            ready_since,
            destroyed_at,
            unhealthy_since,
            unreachable_since,
            in_machines_file: listed,
            leaving: leaving.map(|(decided, drained)| Leaving { decided, drained }),
            under_way: under_way.map(|(operation, since)| UnderWay { operation, since }),
            failing: failing.map(|(since, failures, operation)| Failing {
                since,
                failures,
                retry_at: since.after(Seconds(600)),
                operation,
                error: "it failed".to_owned(),
            }),
            missing: missing
                .map(|(since, patience)| Missing { since, patience: Seconds(patience) }),
            ..Memory::default()
        },
    )
}

/// Within the last hour.
fn times_before() -> impl Strategy<Value = Timestamp> {
    (0..3600_u64).prop_map(|before| Timestamp(NOW.0 - before))
}

fn back_offs() -> impl Strategy<Value = BackOff> {
    (1..5_u32, times()).prop_map(|(failures, until)| BackOff {
        kind: BackOffKind::Capacity,
        failures,
        until,
        error: "no room".to_owned(),
        ends_when: EndsWhen::Created,
    })
}

fn machines() -> impl Strategy<Value = Machine> {
    let remembered = prop_oneof![1 => Just(Memory::default()), 2 => memories()];
    let addresses = option::of(0..9_u32);
    (0..9_u32, machine_types(), states(), addresses, option::of(times()), remembered).prop_map(
        |(number, machine_type, state, address, next_charge_at, memory)| Machine {
            state,
            address: address.map(|n| Host::new(format!("10.0.0.{n}"))),
            host_name: (number % 3 == 0).then(|| Host::new(format!("host-{number}"))),
            next_charge_at,
            memory: Memory {
                published: (number % 4 == 0)
                    .then(|| Endpoint::new(format!("10.0.0.{number}:2222")))
                    .into_iter()
                    .collect(),
                was_in_queue_status: number % 5 == 0,
                ..memory
            },
            ..Machine::requested(MachineName::new(format!("t-{number}")), machine_type)
        },
    )
}

fn queue_machines() -> impl Strategy<Value = QueueMachine> {
    let hosts = prop_oneof![
        (0..9_u32).prop_map(|n| Host::new(format!("10.0.0.{n}"))),
        (0..9_u32).prop_map(|n| Host::new(format!("host-{n}"))),
    ];
    (hosts, option::of(select(vec![22_u16, 2222])), any::<bool>(), 0..3_u64, option::of(times()))
        .prop_map(|(host, port, accepts, current_jobs, idle_since)| QueueMachine {
            port,
            accepts_jobs: if accepts { AcceptsJobs::Yes } else { AcceptsJobs::No },
            current_jobs,
            idle_since,
            disabled_until: idle_since,
            ..QueueMachine::new(host)
        })
}

fn demands() -> impl Strategy<Value = Demand> {
    let counts = prop_oneof![0..40_u64, Just(u64::MAX)];
    (systems(), features(), counts, 0..3_u64, option::of(times())).prop_map(
        |(system, features, runnable, running, last_active)| Demand {
            runnable,
            running,
            last_active,
            ..Demand::none_of(DemandKey { system, features })
        },
    )
}

fn queues() -> impl Strategy<Value = QueueStatus> {
    let keys = select(vec![MachineKeys::Address, MachineKeys::HostName]);
    let totals = (option::of(0..40_u64), 0..3_u64);
    let lists = (vec(demands(), 0..6), vec(queue_machines(), 0..10));
    let up = (0..10_000_u64, totals, lists, keys).prop_map(
        |(uptime, (runnable_total, copying_steps), (demand, machines), keys)| {
            let uptime = Seconds(uptime);
            let queue = Queue { uptime, demand, machines, keys, ..Queue::default() };
            QueueStatus::Up(Queue { runnable_total, copying_steps, ..queue })
        },
    );
    prop_oneof![8 => up, 1 => Just(QueueStatus::Unavailable("down".to_owned()))]
}

fn resources() -> impl Strategy<Value = Resource> {
    (0..12_u64, btree_map(machine_types(), 0..5_u64, 0..4)).prop_map(|(free, needs)| Resource {
        name: "of 12".to_owned(),
        free,
        needs,
    })
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let unlistable = btree_map(machine_types(), Just("no answer".to_owned()), 0..2);
    let back_off = btree_map(machine_types(), back_offs(), 0..2);
    let queue = (queues(), sequences());
    (vec(machines(), 0..12), unlistable, vec(resources(), 0..3), queue, back_off).prop_map(
        |(machines, unlistable, resources, (queue, queue_asked), back_off)| Snapshot {
            machines,
            unlistable,
            resources,
            back_off,
            queue_asked,
            ..Snapshot::new(NOW, queue)
        },
    )
}

/// Another machine may have the endpoint of a machine that its provider does not list.
fn may_be_elsewhere(snapshot: &Snapshot, machine: &Machine) -> bool {
    let is_there = |other: &&Machine| other.memory.missing.is_none() && other.state.is_live();
    machine.memory.missing.is_some() && snapshot.machines.iter().filter(is_there).count() > 0
}

fn releases(plan: &Plan) -> BTreeSet<&MachineName> {
    plan.release.iter().map(|release| &release.name).collect()
}

/// The same farm in another order.
fn reversed(snapshot: &Snapshot) -> Snapshot {
    let mut other = snapshot.clone();
    other.machines.reverse();
    if let QueueStatus::Up(queue) = &mut other.queue {
        queue.machines.reverse();
    }
    other
}

/// Whether `entry` has one of the names of `machine`.
fn is_of(entry: &QueueMachine, machine: &Machine) -> bool {
    let place = |host: &Host| Endpoint { host: host.clone(), port: Some(machine.ssh_port) };
    let listed = Endpoint { host: entry.host.clone(), port: entry.port };
    let now = machine.address.iter().chain(&machine.host_name).map(place);
    now.chain(machine.memory.published.iter().cloned()).any(|place| place.may_be(&listed))
}

/// Whether a busy builder is neither one of `machines` nor the operator's.
fn unknown_builder_is_busy(policy: &Policy, queue: &Queue, machines: &[Machine]) -> bool {
    queue.machines.iter().any(|entry| {
        entry.current_jobs > 0
            && !machines.iter().any(|machine| is_of(entry, machine))
            && !policy.other_machines.iter().any(|other| other.matches(&entry.host))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_machine_gets_one_verdict_and_its_phases_agree(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        let names: BTreeSet<_> = snapshot.machines.iter().map(|m| &m.name).collect();
        prop_assert_eq!(plan.verdicts.keys().collect::<BTreeSet<_>>(), names);
        let to_release: BTreeSet<_> = plan
            .verdicts
            .iter()
            .filter_map(|(name, verdict)| matches!(verdict, Verdict::Release { .. }).then_some(name))
            .collect();
        prop_assert_eq!(releases(&plan), to_release);
        prop_assert_eq!(plan.release.len(), releases(&plan).len());
        let deploy: BTreeSet<_> = plan.deploy.iter().collect();
        prop_assert_eq!(deploy.len(), plan.deploy.len());
        prop_assert!(deploy.is_disjoint(&releases(&plan)));
        let published: BTreeSet<_> = plan.publish.iter().collect();
        prop_assert!(published.is_disjoint(&releases(&plan)));
        let machines = snapshot.machines.iter().rev().map(|m| (&m.name, m)).collect::<BTreeMap<_, _>>();
        for name in plan.start.iter().chain(&plan.deploy) {
            prop_assert!(machines[name].memory.under_way.is_none(), "an operation on {name} is under way");
        }
        for name in &plan.publish {
            prop_assert!(machines[name].memory.ready_since.is_some(), "{name} is not ready");
        }
    }

    #[test]
    fn machines_are_released_only_after_a_newer_status(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        let machines = snapshot.machines.iter().rev().map(|m| (&m.name, m)).collect::<BTreeMap<_, _>>();
        for release in plan.release.iter().filter(|release| release.step == ReleaseStep::Release) {
            let memory = &machines[&release.name].memory;
            let taken_out = match memory.in_machines_file {
                InMachinesFile::Now => None,
                InMachinesFile::NoMore(at) => Some(at),
                InMachinesFile::Never => memory.leaving.map(|leaving| leaving.decided),
            };
            let QueueStatus::Up(queue) = &snapshot.queue else { panic!("released without a queue status") };
            let taken_out = match queue.keys {
                MachineKeys::Address => taken_out,
                MachineKeys::HostName => {
                    memory.leaving.map(|leaving| leaving.drained.unwrap_or(leaving.decided))
                }
            };
            prop_assert!(taken_out.is_some_and(|at| snapshot.queue_asked > at), "{}", release.name);
            prop_assert!(memory.under_way.is_none(), "{}", release.name);
        }
    }

    #[test]
    fn a_building_machine_is_never_released(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        if let QueueStatus::Up(queue) = &snapshot.queue {
            for machine in &snapshot.machines {
                let busy = !may_be_elsewhere(&snapshot, machine)
                    && jobs_of(queue, machine).is_some_and(|jobs| jobs > 0);
                let hidden = unknown_builder_is_busy(&policy, queue, &snapshot.machines)
                    && !machine.memory.was_in_queue_status
                    && matches!(machine.state, MachineState::Starting | MachineState::Up | MachineState::Unreachable | MachineState::Stopping | MachineState::Failed)
                    && jobs_of(queue, machine).is_none();
                let may_build = busy || hidden;
                prop_assert!(
                    !(may_build && releases(&plan).contains(&machine.name)),
                    "{}",
                    machine.name
                );
            }
        }
    }

    #[test]
    fn nothing_is_released_without_a_queue_status(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        if matches!(snapshot.queue, QueueStatus::Unavailable(_)) {
            prop_assert!(plan.release.is_empty());
        }
        for (i, machine) in snapshot.machines.iter().enumerate() {
            let namesakes = snapshot.machines.iter().skip(i + 1).any(|m| m.name == machine.name);
            prop_assert!(!(namesakes && releases(&plan).contains(&machine.name)), "{}", machine.name);
        }
    }

    #[test]
    fn types_that_cannot_be_listed_are_not_touched(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        prop_assert!(plan.provision.iter().all(|p| !snapshot.unlistable.contains_key(&p.machine_type)));
        let mut types = BTreeMap::new();
        for machine in &snapshot.machines {
            types.entry(&machine.name).or_insert(&machine.machine_type);
        }
        let touched = plan.start.iter().chain(&plan.deploy).chain(releases(&plan));
        for name in touched {
            let frozen = types.get(name).is_some_and(|t| snapshot.unlistable.contains_key(*t));
            prop_assert!(!frozen, "{name}");
        }
    }

    #[test]
    fn limits_hold_and_new_names_are_new(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        let names: BTreeSet<_> = snapshot.machines.iter().map(|m| &m.name).collect();
        let mut provisioned = BTreeSet::new();
        let mut asked: BTreeMap<&MachineType, u32> = BTreeMap::new();
        for provision in &plan.provision {
            *asked.entry(&provision.machine_type).or_default() += 1;
            prop_assert!(provisioned.insert(&provision.name), "{} twice", provision.name);
            let known = snapshot.machines.iter().find(|machine| machine.name == provision.name);
            prop_assert!(known.is_none_or(|machine| machine.state == MachineState::Requested));
        }
        for (machine_type, pool) in &policy.pools {
            let sizing = plan.sizing.get(machine_type);
            prop_assert!(sizing.is_none_or(|sizing| sizing.allowed <= pool.max_machines));
            let first = plan.provision.iter().filter(|p| {
                p.machine_type == *machine_type && !names.contains(&p.name)
            });
            let first = u32::try_from(first.count()).unwrap();
            prop_assert!(first <= pool.max_creating);
            let distinct = snapshot.machines.iter().rev().map(|m| (&m.name, m)).collect::<BTreeMap<_, _>>();
            let of_type = distinct.values().filter(|m| m.machine_type == *machine_type);
            let running = of_type.filter(|m| m.state.is_live()).count();
            prop_assert!(first == 0 || u32::try_from(running).unwrap() + first <= pool.max_machines);
            prop_assert!(asked.get(machine_type).is_none_or(|&n| n <= pool.max_machines));
        }
    }

    #[test]
    fn shared_resources_are_never_exceeded(policy in policies(), snapshot in snapshots()) {
        let plan = plan(&policy, &snapshot);
        let mut types: BTreeMap<_, _> = plan.provision.iter().map(|p| (&p.name, &p.machine_type)).collect();
        for machine in &snapshot.machines {
            types.entry(&machine.name).or_insert(&machine.machine_type);
        }
        let coming_up: BTreeSet<_> =
            plan.provision.iter().map(|p| &p.name).chain(&plan.start).collect();
        for resource in &snapshot.resources {
            let needs = coming_up.iter().filter_map(|name| resource.needs.get(types[*name])).sum::<u64>();
            prop_assert!(needs <= resource.free, "{needs} of {}", resource.free);
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(policy in policies(), mut snapshot in snapshots()) {
        // Of two machines with one name the first is used, so their order matters.
        snapshot.machines.sort_by(|a, b| a.name.cmp(&b.name));
        snapshot.machines.dedup_by(|a, b| a.name == b.name);
        let there = plan(&policy, &snapshot);
        let back = plan(&policy, &reversed(&snapshot));
        prop_assert_eq!(there.to_string(), back.to_string());
        prop_assert_eq!(there, back);
    }
}

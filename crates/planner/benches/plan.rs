//! How long planning takes as farms grow: 1,000 to 100,000 machines in 200 types, every one known to the
//! queue runner, a quarter of them busy. Must hold (issue 2): 10,000 machines in under 20 ms, and ten times
//! the machines in at most twelve times the time.

#![allow(missing_docs, reason = "criterion's macros make items without")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use planner::{
    Demand, DemandKey, Host, IdleTimeout, Machine, MachineName, MachineState, MachineType, Policy,
    PoolPolicy, Queue, QueueMachine, QueueStatus, Seconds, Snapshot, System, Tag, Timestamp, plan,
};

const TYPES: u64 = 200;
const NOW: Timestamp = Timestamp(1_700_000_000);

fn policy() -> Policy {
    let pool = |number: u64| {
        let mut pool = PoolPolicy::new(vec![System::new(format!("system-{number}"))]);
        pool.max_machines = 1000;
        pool.idle_timeout = IdleTimeout::After(Seconds(600));
        (MachineType::new(format!("system-{number}")), pool)
    };
    Policy::new(Tag::new("farm"), (0..TYPES).map(pool).collect::<BTreeMap<_, _>>())
}

fn snapshot(machines: u64) -> Snapshot {
    let machine = |number: u64| Machine {
        state: if number.is_multiple_of(10) { MachineState::Stopped } else { MachineState::Up },
        address: Some(Host::new(format!("host-{number}.example.org"))),
        next_charge_at: Some(NOW.after(Seconds(number % 3600))),
        ..Machine::requested(
            MachineName::new(format!("farm-{number}")),
            MachineType::new(format!("system-{}", number % TYPES)),
        )
    };
    let queue_machine = |number: u64| QueueMachine {
        current_jobs: u64::from(number % 4 == 1),
        idle_since: (number % 4 != 1).then(|| Timestamp(NOW.0 - number % 5000)),
        ..QueueMachine::new(Host::new(format!("host-{number}.example.org")))
    };
    let demand = |number: u64| Demand {
        runnable: machines / TYPES * 5,
        running: 1,
        ..Demand::none_of(DemandKey {
            system: System::new(format!("system-{number}")),
            features: std::collections::BTreeSet::new(),
        })
    };
    let queue = QueueStatus::Up(Queue {
        uptime: Seconds(1_000_000),
        demand: (0..TYPES).map(demand).collect(),
        machines: (0..machines).map(queue_machine).collect(),
        ..Queue::default()
    });
    Snapshot { machines: (0..machines).map(machine).collect(), ..Snapshot::new(NOW, queue) }
}

fn bench(criterion: &mut Criterion) {
    let policy = policy();
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(20);
    for machines in [1_000, 10_000, 100_000] {
        let snapshot = snapshot(machines);
        group.bench_with_input(
            BenchmarkId::from_parameter(machines),
            &snapshot,
            |bencher, snapshot| {
                bencher.iter(|| plan(black_box(&policy), black_box(snapshot)));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);

//! A small farm that each test changes where it matters.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use planner::{
    Demand, DemandKey, Failing, Host, InMachinesFile, Leaving, Machine, MachineName, MachineState,
    MachineType, Memory, Operation, Order, OrderKind, Plan, Policy, PoolPolicy, Queue,
    QueueMachine, QueueStatus, Seconds, Sequence, Snapshot, System, Tag, Timestamp, Verdict,
};

pub const TYPE: &str = "x86_64-linux";
/// 2023-11-14 22:13:20.
pub const NOW: Timestamp = Timestamp(1_700_000_000);
pub const HOUR: u64 = 3600;

pub fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds)
}

pub fn later(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 + seconds)
}

pub fn name(number: u32) -> MachineName {
    MachineName::new(format!("farm-{number}"))
}

/// Up to three machines, one for each waiting step.
pub fn pool() -> PoolPolicy {
    let mut pool = PoolPolicy::new(vec![System::new(TYPE)]);
    pool.max_machines = 3;
    pool.runnables_per_machine = NonZeroU32::MIN;
    pool
}

/// A machine that has been up, ready and published for two hours.
pub fn up(number: u32) -> Machine {
    let since = Some(ago(2 * HOUR));
    let memory = Memory {
        known_since: since,
        ready_since: since,
        in_machines_file: InMachinesFile::Now,
        was_in_queue_status: true,
        ..Memory::default()
    };
    Machine {
        state: MachineState::Up,
        address: Some(Host::new(format!("10.0.0.{number}"))),
        memory,
        ..Machine::requested(name(number), MachineType::new(TYPE))
    }
}

/// The same machine with other memory.
pub fn remembers(machine: Machine, change: impl FnOnce(&mut Memory)) -> Machine {
    let mut machine = machine;
    change(&mut machine.memory);
    machine
}

pub fn leaving() -> Leaving {
    Leaving { decided: Sequence(5), drained: None }
}

pub fn failing(operation: Operation, since: Timestamp) -> Failing {
    Failing { since, failures: 3, retry_at: ago(1), operation, error: "no".to_owned() }
}

/// As the queue runner reports machine `number`.
pub fn listed(number: u32, jobs: u64) -> QueueMachine {
    QueueMachine {
        current_jobs: jobs,
        idle_since: (jobs == 0).then(|| ago(HOUR)),
        ..QueueMachine::new(Host::new(format!("10.0.0.{number}")))
    }
}

pub fn order(kind: OrderKind) -> Order {
    Order { kind, at: ago(60), by: "ann".into(), why: String::new(), until: None }
}

pub struct Farm {
    pub policy: Policy,
    pub snapshot: Snapshot,
}

impl Farm {
    /// `runnable` steps wait; all machines are idle and known to the queue runner, unless a test changes that.
    pub fn new(pool: PoolPolicy, runnable: u64, machines: &[Machine]) -> Self {
        let policy = Policy::new(Tag::new("farm"), [(MachineType::new(TYPE), pool)].into());
        let kind = DemandKey { system: System::new(TYPE), features: BTreeSet::new() };
        let idle = |machine: &Machine| QueueMachine {
            idle_since: Some(ago(HOUR)),
            ..QueueMachine::new(machine.address.clone().unwrap())
        };
        let queue = Queue {
            uptime: Seconds(1_000_000),
            demand: vec![Demand { runnable, ..Demand::none_of(kind) }],
            machines: machines.iter().filter(|it| it.address.is_some()).map(idle).collect(),
            ..Queue::default()
        };
        let snapshot = Snapshot {
            machines: machines.to_vec(),
            queue_asked: Sequence(10),
            ..Snapshot::new(NOW, QueueStatus::Up(queue))
        };
        Self { policy, snapshot }
    }

    pub fn queue(&mut self) -> &mut Queue {
        match &mut self.snapshot.queue {
            QueueStatus::Up(queue) => queue,
            QueueStatus::Unavailable(reason) => panic!("unavailable: {reason}"),
        }
    }

    pub fn pool(&mut self) -> &mut PoolPolicy {
        self.policy.pools.get_mut(&MachineType::new(TYPE)).unwrap()
    }

    /// What the queue runner knows, instead of idle machines.
    pub fn with_queue(mut self, machines: &[QueueMachine]) -> Self {
        self.queue().machines = machines.to_vec();
        self
    }

    pub fn with_order(mut self, kind: OrderKind) -> Self {
        self.snapshot.orders.push(order(kind));
        self
    }

    pub fn plan(&self) -> Plan {
        planner::plan(&self.policy, &self.snapshot)
    }

    /// As the plan shows it: `in use`, `keep: ...`, `destroy: ...`.
    pub fn verdict(&self, number: u32) -> String {
        self.plan().verdicts[&name(number)].to_string()
    }

    /// How many machines are created.
    pub fn created(&self) -> usize {
        self.plan().provision.len()
    }
}

pub fn is_released(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Release { .. })
}

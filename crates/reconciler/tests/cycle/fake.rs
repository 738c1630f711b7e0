//! A world in memory that writes down every call in order.

use std::collections::{BTreeMap, VecDeque};

use planner::{
    AcceptsJobs, Demand, DemandKey, Host, Machine, MachineName, MachineState, MachineType,
    MachinesFile, Policy, PoolPolicy, Queue, QueueMachine, QueueStatus, Seconds, System, Tag,
    Timestamp,
};
use reconciler::world::{
    Clock, Done, Intent, IntentLog, Inventory, LogError, MachineProvider, MachinesFileSink,
    Outcome, PublishError, Published, QueueSource, Step, StepError, StepErrorKind, Task,
};

pub const NOW: Timestamp = Timestamp(1_700_000_000);
pub const TYPE: &str = "x86_64-linux";

/// What the world is, what goes wrong in it, and what was asked of it.
#[derive(Default)]
pub struct FakeWorld {
    pub machines: BTreeMap<MachineName, Machine>,
    pub unlisted: BTreeMap<MachineType, String>,
    pub intents: Vec<Intent>,
    /// The answers of the queue runner in turn; the last one stays.
    pub queue: VecDeque<QueueStatus>,
    /// Steps that fail, by machine.
    pub broken_steps: Vec<(MachineName, Step)>,
    pub broken_log: bool,
    pub broken_sink: bool,
    pub calls: Vec<String>,
}

pub fn name(text: &str) -> MachineName {
    MachineName::new(text)
}

/// A machine that runs and is paid by the second.
pub fn up(text: &str) -> Machine {
    Machine {
        state: MachineState::Up,
        address: Some(Host::new(format!("{text}.example.org"))),
        ..Machine::requested(name(text), MachineType::new(TYPE))
    }
}

/// The queue runner with `runnable` steps; `jobs` tells the machines that it knows.
pub fn queue(runnable: u64, jobs: &[(&str, u64, AcceptsJobs)]) -> QueueStatus {
    QueueStatus::Up(Queue {
        uptime: Seconds(1_000_000),
        demand: vec![Demand {
            runnable,
            last_active: Some(Timestamp(NOW.0 - 10_000)),
            ..Demand::none_of(DemandKey { system: System::new(TYPE), features: [].into() })
        }],
        machines: jobs
            .iter()
            .map(|(machine, current_jobs, accepts_jobs)| QueueMachine {
                accepts_jobs: *accepts_jobs,
                current_jobs: *current_jobs,
                ..QueueMachine::new(Host::new(format!("{machine}.example.org")))
            })
            .collect(),
        ..Queue::default()
    })
}

/// One pool of at most four machines, two new ones a cycle, one machine for each runnable step.
pub fn policy() -> Policy {
    let mut pool = PoolPolicy::new(vec![System::new(TYPE)]);
    pool.max_machines = 4;
    pool.max_creates_per_cycle = 2;
    pool.runnables_per_machine = std::num::NonZeroU32::MIN;
    Policy::new(Tag::new("t"), [(MachineType::new(TYPE), pool)].into())
}

impl FakeWorld {
    pub fn new(machines: Vec<Machine>, queue: Vec<QueueStatus>) -> Self {
        Self {
            machines: machines.into_iter().map(|m| (m.name.clone(), m)).collect(),
            queue: queue.into(),
            ..Self::default()
        }
    }

    fn step(&mut self, machine: &Machine, step: Step) -> Result<(), StepError> {
        self.calls.push(format!("{step} {}", machine.name));
        if self.broken_steps.contains(&(machine.name.clone(), step)) {
            let message = "it broke".to_owned();
            return Err(StepError { step, kind: StepErrorKind::Failed, message });
        }
        match step {
            Step::Create => {
                let made = Machine {
                    machine_type: machine.machine_type.clone(),
                    ..up(machine.name.as_str())
                };
                self.machines.entry(machine.name.clone()).or_insert(made);
            }
            Step::Start | Step::Deploy => self.set_state(&machine.name, MachineState::Up),
            Step::Drain => {}
            Step::Stop => self.set_state(&machine.name, MachineState::Stopped),
            Step::Destroy => {
                self.machines.remove(&machine.name);
            }
        }
        Ok(())
    }

    fn set_state(&mut self, name: &MachineName, state: MachineState) {
        if let Some(machine) = self.machines.get_mut(name) {
            machine.state = state;
        }
    }
}

impl Clock for FakeWorld {
    fn now(&mut self) -> Timestamp {
        self.calls.push("now".to_owned());
        NOW
    }
}

impl QueueSource for FakeWorld {
    fn queue_status(&mut self) -> QueueStatus {
        self.calls.push("queue".to_owned());
        match self.queue.len() {
            0 => QueueStatus::Unavailable("no answer".to_owned()),
            1 => self.queue[0].clone(),
            _ => self.queue.pop_front().unwrap(),
        }
    }
}

impl MachineProvider for FakeWorld {
    fn list(&mut self) -> Inventory {
        self.calls.push("list".to_owned());
        let machines = self.machines.values().cloned().collect();
        Inventory { machines, unlisted: self.unlisted.clone(), ..Inventory::default() }
    }

    fn perform(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let perform = |task: &Task| {
            for step in &task.steps {
                self.step(&task.machine, *step)?;
            }
            let machine = self.machines.get(&task.machine.name).unwrap_or(&task.machine).clone();
            Ok(Done { machine, warnings: Vec::new() })
        };
        tasks.iter().map(perform).collect()
    }
}

impl MachinesFileSink for FakeWorld {
    fn publish(&mut self, file: &MachinesFile) -> Result<Published, PublishError> {
        let names: Vec<_> = file.entries.iter().map(|e| e.machine.name.to_string()).collect();
        self.calls.push(format!("publish [{}]", names.join(" ")));
        if self.broken_sink {
            return Err(PublishError("disk full".to_owned()));
        }
        Ok(Published::Changed)
    }
}

impl IntentLog for FakeWorld {
    fn intents(&mut self) -> Result<Vec<Intent>, LogError> {
        self.calls.push("intents".to_owned());
        Ok(self.intents.clone())
    }

    fn record(&mut self, intents: &[Intent]) -> Result<(), LogError> {
        let names: Vec<_> = intents.iter().map(|intent| intent.name.to_string()).collect();
        self.calls.push(format!("record [{}]", names.join(" ")));
        if self.broken_log {
            return Err(LogError("disk full".to_owned()));
        }
        self.intents.extend_from_slice(intents);
        Ok(())
    }

    fn forget(&mut self, names: &[MachineName]) -> Result<(), LogError> {
        let told: Vec<_> = names.iter().map(ToString::to_string).collect();
        self.calls.push(format!("forget [{}]", told.join(" ")));
        self.intents.retain(|intent| !names.contains(&intent.name));
        Ok(())
    }
}

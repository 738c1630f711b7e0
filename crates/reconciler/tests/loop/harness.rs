//! A reconciler driven by the test: the test sees each effect and decides when to answer it.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    AcceptsJobs, Demand, DemandKey, Host, Machine, MachineKeys, MachineName, MachineState,
    MachineType, MachinesFile, Operation, Policy, PoolPolicy, Queue, QueueMachine, QueueStatus,
    Seconds, System, Tag, Timestamp,
};
use reconciler::{
    BatchId, Change, Configuration, Done, Effect, Event, Happening, Listing, ListingId,
    OperationError, OperationErrorKind, OperationId, ProviderId, PublicationId, Published,
    QuestionId, Reconciler, Record, State, Task, Timing,
};

pub const TYPE: &str = "x86_64-linux";

/// What is recorded durably.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub records: BTreeMap<MachineName, Record>,
    pub back_off: BTreeMap<MachineType, planner::BackOff>,
    pub experience: BTreeMap<MachineType, planner::Experience>,
    pub orders: Vec<planner::Order>,
    pub history: Vec<(Option<MachineName>, Happening)>,
    /// The prices per hour in the history.
    pub prices: Vec<planner::Money>,
}

/// How publications and records end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Immediately, with success.
    AtOnce,
    /// When the test does it.
    Later,
    /// Immediately, with an error.
    Fail,
}

pub struct Harness {
    pub reconciler: Reconciler,
    pub now: u64,
    pub disk: Disk,
    pub records: Answers,
    pub publications: Answers,
    /// Requested and not answered yet, in order.
    pub questions: Vec<QuestionId>,
    pub listings: Vec<(ListingId, ProviderId)>,
    pub operations: Vec<(OperationId, Task)>,
    pub pending_records: Vec<(BatchId, Vec<Change>)>,
    pub pending_files: Vec<(PublicationId, MachinesFile)>,
    pub abandoned: Vec<OperationId>,
    /// The current machines file.
    pub file: Vec<String>,
    pub keys: MachineKeys,
}

pub fn name(number: u32) -> MachineName {
    MachineName::new(format!("farm-{number}"))
}

pub fn pool() -> PoolPolicy {
    let mut pool = PoolPolicy::new(vec![System::new(TYPE)]);
    pool.max_machines = 3;
    pool.runnables_per_machine = std::num::NonZeroU32::MIN;
    pool
}

/// A second type, see [`two_providers`].
pub const ARM: &str = "aarch64-linux";

/// [`TYPE`] at `cloud`, and [`ARM`] at `other`.
pub fn two_providers() -> Configuration {
    let mut configuration = configuration(&[(TYPE, pool()), (ARM, pool())]);
    configuration.providers.insert(MachineType::new(ARM), ProviderId("other".to_owned()));
    configuration
}

pub fn configuration(pools: &[(&str, PoolPolicy)]) -> Configuration {
    let pools: BTreeMap<_, _> =
        pools.iter().map(|(name, pool)| (MachineType::new(*name), pool.clone())).collect();
    Configuration {
        providers: pools
            .keys()
            .map(|machine_type| (machine_type.clone(), ProviderId("cloud".to_owned())))
            .collect(),
        policy: Policy::new(Tag::new("farm"), pools),
        deployment_digests: BTreeMap::new(),
        timing: Timing { keep_alive_interval: None, ..Timing::default() },
    }
}

/// A machine that is up, as its provider reports it.
pub fn up(number: u32) -> Machine {
    Machine {
        state: MachineState::Up,
        address: Some(Host::new(format!("10.0.0.{number}"))),
        ..Machine::requested(name(number), MachineType::new(TYPE))
    }
}

pub fn error(kind: OperationErrorKind, message: &str) -> OperationError {
    OperationError { kind, message: message.to_owned() }
}

impl Harness {
    pub fn new(pool: PoolPolicy) -> Self {
        Self::of(configuration(&[(TYPE, pool)]), State::default())
    }

    pub fn of(configuration: Configuration, state: State) -> Self {
        let now = 1_000_000;
        let disk = Disk {
            records: state.records.iter().map(|r| (r.machine.name.clone(), r.clone())).collect(),
            back_off: state.back_off.clone(),
            experience: state.experience.clone(),
            orders: state.orders.clone(),
            history: Vec::new(),
            prices: Vec::new(),
        };
        let mut harness = Self {
            reconciler: Reconciler::new(configuration, state, 1, Timestamp(now)),
            now,
            disk,
            records: Answers::AtOnce,
            publications: Answers::AtOnce,
            questions: Vec::new(),
            listings: Vec::new(),
            operations: Vec::new(),
            pending_records: Vec::new(),
            pending_files: Vec::new(),
            abandoned: Vec::new(),
            file: Vec::new(),
            keys: MachineKeys::Address,
        };
        harness.act();
        harness
    }

    /// The same provisioner after `kill -9`: only recorded state is left.
    pub fn restarted(self, configuration: Configuration) -> Self {
        let state = State {
            records: self.disk.records.into_values().collect(),
            back_off: self.disk.back_off,
            experience: self.disk.experience,
            orders: self.disk.orders,
        };
        let mut harness = Self::of(configuration, state);
        harness.file = self.file;
        harness.keys = self.keys;
        harness
    }

    /// Lets the reconciler act until it has nothing to do, and answers effects as `Answers` says.
    pub fn act(&mut self) {
        loop {
            self.reconciler.act(Timestamp(self.now));
            let mut handled = false;
            while let Some(effect) = self.reconciler.poll_effect() {
                handled |= self.carry_out(effect);
            }
            let is_due = self.reconciler.poll_timeout().is_some_and(|at| at.0 <= self.now);
            if !handled && !is_due {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::AskQueue(question) => self.questions.push(question),
            Effect::List { listing, provider } => self.listings.push((listing, provider)),
            Effect::Begin { operation, task } => self.operations.push((operation, *task)),
            Effect::Abandon(operation) => self.abandoned.push(operation),
            Effect::Publish { publication, file } => {
                self.pending_files.push((publication, *file));
                return self.answer_files();
            }
            Effect::Record { batch, changes } => {
                self.pending_records.push((batch, changes));
                return self.answer_records();
            }
        }
        false
    }

    /// Answers publications as [`Answers`] says; returns whether any was answered.
    pub fn answer_files(&mut self) -> bool {
        if self.publications == Answers::Later || self.pending_files.is_empty() {
            return false;
        }
        for (publication, file) in std::mem::take(&mut self.pending_files) {
            let result = if self.publications == Answers::Fail {
                Err("no space left on device".to_owned())
            } else {
                let lines: Vec<_> =
                    file.entries.iter().map(|e| e.machine.name.to_string()).collect();
                let is_same = lines == self.file;
                self.file = lines;
                Ok(if self.keys == MachineKeys::HostName {
                    Published::NotWanted
                } else if is_same {
                    Published::Unchanged
                } else {
                    Published::Changed
                })
            };
            self.tell(Event::Published { publication, result });
        }
        true
    }

    pub fn answer_records(&mut self) -> bool {
        if self.records == Answers::Later || self.pending_records.is_empty() {
            return false;
        }
        for (batch, changes) in std::mem::take(&mut self.pending_records) {
            let result = if self.records == Answers::Fail {
                Err("disk full".to_owned())
            } else {
                self.write(changes);
                Ok(())
            };
            self.tell(Event::Recorded { batch, result });
        }
        true
    }

    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(record) => {
                    self.disk.records.insert(record.machine.name.clone(), *record);
                }
                Change::Remove(name) => {
                    self.disk.records.remove(&name);
                }
                Change::BackOff(machine_type, Some(back_off)) => {
                    self.disk.back_off.insert(machine_type, back_off);
                }
                Change::BackOff(machine_type, None) => {
                    self.disk.back_off.remove(&machine_type);
                }
                Change::Experience(machine_type, experience) => {
                    self.disk.experience.insert(machine_type, experience);
                }
                Change::OrderDone(order) => self.disk.orders.retain(|other| *other != *order),
                Change::History(entry) => {
                    self.disk.prices.extend(entry.dollars_per_hour);
                    self.disk.history.push((entry.machine, entry.what));
                }
            }
        }
    }

    pub fn tell(&mut self, event: Event) {
        self.reconciler.handle(Timestamp(self.now), event);
    }

    /// Answers every open question to the queue runner: `runnable` steps wait, and it knows `machines`.
    pub fn queue(&mut self, runnable: u64, machines: &[QueueMachine]) {
        let status = self.status(runnable, machines);
        self.queue_is(&status);
    }

    pub fn status(&self, runnable: u64, machines: &[QueueMachine]) -> QueueStatus {
        let kind = DemandKey { system: System::new(TYPE), features: BTreeSet::new() };
        QueueStatus::Up(Queue {
            uptime: Seconds(1_000_000),
            demand: vec![Demand { runnable, ..Demand::none_of(kind) }],
            machines: machines.to_vec(),
            keys: self.keys,
            ..Queue::default()
        })
    }

    pub fn queue_is(&mut self, status: &QueueStatus) {
        // The next question may be some seconds away.
        for _ in 0..60 {
            if !self.questions.is_empty() {
                break;
            }
            self.pass(1);
        }
        for question in std::mem::take(&mut self.questions) {
            self.tell(Event::Queue { question, status: status.clone() });
        }
        self.act();
    }

    /// Answers every open listing.
    pub fn list(&mut self, machines: &[Machine]) {
        self.list_as(&Ok(Listing { machines: machines.to_vec(), ..Listing::default() }));
    }

    pub fn list_as(&mut self, result: &Result<Listing, String>) {
        for (listing, provider) in std::mem::take(&mut self.listings) {
            self.tell(Event::Listed { listing, provider, result: result.clone() });
        }
        self.act();
    }

    /// Advances the clock by `seconds`, one second at a time.
    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            self.act();
        }
    }

    /// The operations that are under way, as text.
    pub fn under_way(&self) -> Vec<String> {
        let show =
            |(_, task): &(OperationId, Task)| format!("{} {}", task.operation, task.machine.name);
        self.operations.iter().map(show).collect()
    }

    /// Ends the operation of `number`, which must be `operation`, and returns its task.
    pub fn end(
        &mut self,
        operation: Operation,
        number: u32,
        machine: Result<Machine, OperationError>,
    ) -> Task {
        let is_it = |(_, task): &(OperationId, Task)| {
            task.operation == operation && task.machine.name == name(number)
        };
        let at = self.operations.iter().position(is_it);
        let at =
            at.unwrap_or_else(|| panic!("no {operation} of {number} in {:?}", self.under_way()));
        let (id, task) = self.operations.remove(at);
        let result = machine.map(|machine| Done {
            machine: Box::new(machine),
            warnings: Vec::new(),
            name_is_unconfirmed: false,
        });
        self.tell(Event::Ended { operation: id, result });
        self.act();
        task
    }

    /// One machine that is ready, published and idle, known to the queue runner.
    pub fn with_ready_machine(pool: PoolPolicy) -> Self {
        let mut harness = Self::new(pool);
        harness.list(&[]);
        harness.queue(1, &[]);
        harness.end(Operation::Create, 0, Ok(up(0)));
        harness.list(&[up(0)]);
        harness.end(Operation::Deploy, 0, Ok(up(0)));
        assert_eq!(harness.file, ["farm-0"]);
        harness
    }

    /// As the queue runner reports machine `number`, busy with `jobs`.
    pub fn listed(number: u32, jobs: u64) -> QueueMachine {
        QueueMachine {
            current_jobs: jobs,
            ..QueueMachine::new(Host::new(format!("10.0.0.{number}")))
        }
    }

    /// As it reports a machine that left the machines file.
    pub fn disabled(number: u32, jobs: u64) -> QueueMachine {
        QueueMachine { accepts_jobs: AcceptsJobs::No, ..Self::listed(number, jobs) }
    }

    pub fn happened(&self, number: u32) -> Vec<String> {
        let of_it = self.disk.history.iter().filter(|(machine, _)| *machine == Some(name(number)));
        of_it.map(|(_, what)| what.to_string()).collect()
    }
}

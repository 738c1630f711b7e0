//! The machines and their costs.

mod billing;
mod machine;
mod model;
mod sharing;

use std::collections::{BTreeMap, VecDeque};

use planner::{Machine, MachineName, MachineState, MachineType};

use crate::engine::{Millis, Purpose, Seed};
use crate::queue_runner::{Epoch, Host, Start};
use crate::workload::StepIndex;
pub use billing::{BillingModel, Cost, PriceSeries, Tariff, TariffError};
pub use machine::{Capacity, Lifecycle, SimMachine, Usage};
pub use model::{MachineModel, Spot};
pub use sharing::{Job, Share, Sharing};

/// An address is reused only after this time, as in real clouds.
const ADDRESS_QUARANTINE: Millis = Millis::from_minutes(10);

/// A machine's number; numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineId(u32);

/// A machine ran from `start` to `end`, and was paid `ahead` of its end.
#[derive(Clone, Copy, Debug)]
struct PaidTime {
    start: Millis,
    end: Millis,
    ahead: Millis,
}

impl PaidTime {
    fn new(model: &MachineModel, start: Millis, end: Millis) -> Self {
        Self { start, end, ahead: model.tariff.paid_until(start, end).since(end) }
    }

    fn between(self, from: Millis, to: Millis) -> Millis {
        let ran = self.end.min(to).since(self.start.max(from));
        let is_last_period = from <= self.end && self.end < to;
        if is_last_period { ran + self.ahead } else { ran }
    }
}

/// All machines, including destroyed ones.
#[derive(Clone, Debug)]
pub struct Cloud {
    seed: Seed,
    models: BTreeMap<MachineType, MachineModel>,
    machines: Vec<SimMachine>,
    /// Machines that exist.
    by_name: BTreeMap<MachineName, MachineId>,
    by_host: BTreeMap<Host, MachineId>,
    hosts_used: u32,
    hosts_free: VecDeque<(Millis, Host)>,
    usage: BTreeMap<MachineType, Usage>,
    /// Past times of machines that were paid.
    paid: Vec<(MachineType, PaidTime)>,
}

impl Cloud {
    /// An empty cloud that offers the types of `models`.
    pub fn new(seed: Seed, models: BTreeMap<MachineType, MachineModel>) -> Self {
        Self {
            seed,
            models,
            machines: Vec::new(),
            by_name: BTreeMap::new(),
            by_host: BTreeMap::new(),
            hosts_used: 0,
            hosts_free: VecDeque::new(),
            usage: BTreeMap::new(),
            paid: Vec::new(),
        }
    }

    /// The model of a type, or the default.
    pub fn model(&self, machine_type: &MachineType) -> MachineModel {
        self.models.get(machine_type).cloned().unwrap_or_default()
    }

    /// Creates a machine in state [`Lifecycle::Creating`]. No machine of that name may exist.
    pub fn make(&mut self, name: &MachineName, kind: &MachineType, now: Millis) -> MachineId {
        let id = MachineId(u32::try_from(self.machines.len()).unwrap_or(u32::MAX));
        let host = self.free_host(now);
        let random = self.seed.stream(Purpose::Machine, u64::from(id.0));
        let usage = self.usage.entry(kind.clone()).or_default();
        let number = usage.created;
        usage.created += 1;
        let model = self.model(kind).of_machine(number);
        self.machines.push(SimMachine::new(name.clone(), kind.clone(), host, model, random, now));
        self.by_name.insert(name.clone(), id);
        self.by_host.insert(host, id);
        id
    }

    /// Changes the machine's state and counts its cost.
    pub fn set_lifecycle(&mut self, id: MachineId, lifecycle: Lifecycle, now: Millis) {
        let machine = &mut self.machines[id.0 as usize];
        let usage = self.usage.entry(machine.kind.clone()).or_default();
        let paid_since = machine.paid_since();
        machine.enter(lifecycle, now, usage);
        if let Some(since) = paid_since.filter(|_| machine.paid_since().is_none()) {
            self.paid.push((
                machine.kind.clone(),
                PaidTime { start: since, end: now, ahead: Millis::ZERO },
            ));
        }
        if lifecycle == Lifecycle::Gone {
            let (name, host) = (machine.name.clone(), machine.host);
            if self.by_name.get(&name) == Some(&id) {
                self.by_name.remove(&name);
            }
            self.by_host.remove(&host);
            self.hosts_free.push_back((now + ADDRESS_QUARANTINE, host));
        }
    }

    /// The machine.
    pub fn get(&self, id: MachineId) -> &SimMachine {
        &self.machines[id.0 as usize]
    }

    /// The machine, mutable (change its state with [`Self::set_lifecycle`]).
    pub fn get_mut(&mut self, id: MachineId) -> &mut SimMachine {
        &mut self.machines[id.0 as usize]
    }

    /// Starts a step on the machine. Steps of the machine that now end at another time are added to `due`.
    pub fn begin_job(
        &mut self,
        id: MachineId,
        job: Job,
        now: Millis,
        due: &mut Vec<(Start, Millis)>,
    ) {
        let machine = &mut self.machines[id.0 as usize];
        machine.begin_job(now);
        machine.sharing.begin(machine.model.share(), job, now, due);
    }

    /// Ends a step that had run on the machine for `length`, if it was there. `due` as in [`Self::begin_job`].
    pub fn end_job(
        &mut self,
        id: MachineId,
        step: StepIndex,
        now: Millis,
        length: Millis,
        due: &mut Vec<(Start, Millis)>,
    ) {
        let machine = &mut self.machines[id.0 as usize];
        let usage = self.usage.entry(machine.kind.clone()).or_default();
        if machine.sharing.end(machine.model.share(), step, now, due) {
            machine.end_job(now, length, usage);
        }
    }

    /// Ends all steps on the machine, and returns each with the time that it had run.
    pub fn lose_jobs(&mut self, id: MachineId, now: Millis, lengths: impl Iterator<Item = Millis>) {
        let machine = &mut self.machines[id.0 as usize];
        let usage = self.usage.entry(machine.kind.clone()).or_default();
        machine.sharing.clear();
        for length in lengths {
            machine.end_job(now, length, usage);
        }
    }

    /// The usage of a type, mutable.
    pub fn usage_mut(&mut self, kind: &MachineType) -> &mut Usage {
        self.usage.entry(kind.clone()).or_default()
    }

    /// The machine of that name, if it exists.
    pub fn find(&self, name: &MachineName) -> Option<MachineId> {
        self.by_name.get(name).copied()
    }

    /// The machine at that address, if there is one.
    pub fn at(&self, host: Host) -> Option<MachineId> {
        self.by_host.get(&host).copied()
    }

    /// The machines that exist, by name.
    pub fn existing(&self) -> impl Iterator<Item = (MachineId, &SimMachine)> {
        self.by_name.values().map(|&id| (id, self.get(id)))
    }

    /// The usage of each type until `now`, including machines that still exist.
    pub fn usage(&self, now: Millis) -> BTreeMap<MachineType, Usage> {
        let mut usage = self.usage.clone();
        for (_, machine) in self.existing() {
            let entry = usage.entry(machine.kind.clone()).or_default();
            machine.clone().settle(now, entry);
        }
        usage
    }

    /// For how long machines of a type were paid between `from` and `to`, as of `now`. Time that is paid in advance counts for
    /// machines that run: what a machine that soon ended had paid in advance may never be known.
    pub fn paid_between(
        &self,
        kind: &MachineType,
        (from, to): (Millis, Millis),
        now: Millis,
    ) -> Millis {
        let past = self.paid.iter().filter(|(other, _)| other == kind).map(|(_, paid)| *paid);
        let current = self.existing().filter(|(_, machine)| machine.kind == *kind);
        let current = current.filter_map(|(_, machine)| {
            Some(PaidTime::new(&machine.model, machine.paid_since()?, now))
        });
        Millis(past.chain(current).map(|paid| paid.between(from, to).0).sum())
    }

    /// The machine as its provider describes it.
    pub fn describe(&self, id: MachineId, now: Millis, epoch: Epoch) -> Machine {
        let machine = self.get(id);
        let mut described = Machine::requested(machine.name.clone(), machine.kind.clone());
        described.state = match machine.lifecycle() {
            Lifecycle::Creating => MachineState::Creating,
            Lifecycle::Starting => MachineState::Starting,
            Lifecycle::Up => MachineState::Up,
            Lifecycle::Unreachable => MachineState::Unreachable,
            Lifecycle::Stopping | Lifecycle::Terminating | Lifecycle::Gone => {
                MachineState::Stopping
            }
            Lifecycle::Stopped => MachineState::Stopped,
            Lifecycle::Failed => MachineState::Failed,
        };
        described.interrupted = machine.interrupted;
        if machine.lifecycle() != Lifecycle::Creating {
            described.address = Some(machine.host.ip().into());
            described.host_name = Some(machine.host_name().clone());
        }
        if let Some(since) = machine.paid_since() {
            described.started_at = Some(epoch.at(since));
            let next = machine.model.tariff.next_charge_at(since, now);
            described.next_charge_at = next.map(|at| epoch.at(at));
        }
        described
    }

    fn free_host(&mut self, now: Millis) -> Host {
        match self.hosts_free.front() {
            Some((from, host)) if *from <= now => {
                let host = *host;
                self.hosts_free.pop_front();
                host
            }
            _ => {
                self.hosts_used += 1;
                Host(self.hosts_used - 1)
            }
        }
    }
}

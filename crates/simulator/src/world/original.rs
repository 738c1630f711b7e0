//! The original provisioner in the virtual world: one operation after the other, with the decisions of
//! [`crate::comparators::original`].

use std::collections::{BTreeSet, VecDeque};

use planner::{Machine, MachineName, MachineState, MachineType, Operation, Seconds};
use reconciler::{Event as LoopEvent, OperationId, Task};

use super::SimWorld;
use super::event::Event;
use super::provisioner::provider_of;
use crate::cloud::Lifecycle;
use crate::comparators::Comparator;
use crate::comparators::original::{Cycle, count_hours, cycle};
use crate::engine::Millis;
use crate::queue_runner::Offer;

/// It had no time limits; here a person ends an operation after this time.
const LIMIT: Seconds = Seconds::from_minutes(30);

/// The original, and the progress of its cycle.
#[derive(Clone, Debug, Default)]
pub(super) struct Original {
    /// Whether NixOps counts started hours as paid, whatever the cloud bills.
    counts_hours: bool,
    began: Millis,
    /// Remaining work of this cycle, in order.
    work: VecDeque<Work>,
    /// Current work.
    doing: Option<Work>,
    deployed: BTreeSet<MachineName>,
    unusable: BTreeSet<MachineName>,
    operations: u64,
}

/// One unit of work.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    /// Create it, then deploy it.
    Create(MachineName, MachineType),
    /// Start it if it is off, then deploy it.
    Bring(MachineName),
    Deploy(MachineName),
    Publish,
    Release(MachineName, Operation),
}

impl SimWorld {
    /// The original decides instead of the loop, from the start of the provisioner on. It has other rules, so none is
    /// checked.
    pub fn use_original(&mut self, which: Comparator) {
        let counts_hours = which == Comparator::Original;
        self.original = Some(Original { counts_hours, ..Original::default() });
        self.checker.mute();
    }

    /// A cycle begins.
    pub(super) fn begin_original_cycle(&mut self) {
        let now = self.now();
        let status = self.queue_status();
        let machines = self.cloud.existing();
        let mut machines: Vec<_> =
            machines.map(|(id, _)| self.cloud.describe(id, now, self.epoch())).collect();
        if self.original.as_ref().is_some_and(|original| original.counts_hours) {
            let now = self.epoch().at(now);
            for machine in &mut machines {
                count_hours(machine, now);
            }
        }
        let Cycle { create, deploy, unusable, release } =
            cycle(&self.policy, &status, &machines, self.epoch().at(now));
        let create = create.into_iter().map(|(name, kind)| Work::Create(name, kind));
        let deploy = deploy.into_iter().map(Work::Bring);
        let release = release.into_iter().map(|(name, how)| Work::Release(name, how));
        let Some(original) = &mut self.original else { return };
        original.began = now;
        original.deployed.clear();
        original.unusable = unusable;
        original.work = create.chain(deploy).chain([Work::Publish]).chain(release).collect();
        self.provisioner.turns.count(now);
        self.do_next();
    }

    /// Handles the end of an operation.
    pub(super) fn run_original(&mut self) {
        while let Some(event) = self.take_event() {
            let LoopEvent::Ended { result, .. } = event else { continue };
            let Some(original) = &mut self.original else { return };
            match (original.doing.take(), result) {
                (Some(Work::Create(name, _) | Work::Bring(name)), Ok(_)) => {
                    original.work.push_front(Work::Deploy(name));
                }
                (Some(Work::Deploy(name)), Ok(_)) => {
                    original.deployed.insert(name);
                }
                // "error deploying": continue with the next one.
                (_, _) => {}
            }
            self.do_next();
        }
    }

    /// Begins the next operation, or the next cycle if all are done.
    fn do_next(&mut self) {
        loop {
            let Some(original) = &mut self.original else { return };
            let Some(work) = original.work.pop_front() else { break };
            let (machine, operation) = match &work {
                Work::Create(name, kind) => {
                    (Machine::requested(name.clone(), kind.clone()), Operation::Create)
                }
                Work::Publish => {
                    self.publish_original();
                    continue;
                }
                Work::Bring(name) | Work::Deploy(name) | Work::Release(name, _) => {
                    let Some(machine) = self.described(name) else { continue };
                    let is_off = machine.state == MachineState::Stopped;
                    let operation = match &work {
                        Work::Release(_, operation) => *operation,
                        Work::Bring(_) if is_off => Operation::Start,
                        _ => Operation::Deploy,
                    };
                    (machine, operation)
                }
            };
            let doing = match (work, operation) {
                (Work::Bring(name), Operation::Deploy) => Work::Deploy(name),
                (work, _) => work,
            };
            return self.begin_original_work(doing, machine, operation);
        }
        let interval = self.farm.cycle.interval;
        let began = self.original.as_ref().map_or(Millis::ZERO, |original| original.began);
        let at = (began + interval).max(self.now() + Millis(1));
        self.engine.schedule(at, Event::OriginalCycle);
    }

    fn begin_original_work(&mut self, doing: Work, machine: Machine, operation: Operation) {
        let Some(original) = &mut self.original else { return };
        original.operations += 1;
        original.doing = Some(doing);
        let id = OperationId(original.operations);
        let provider = provider_of(&machine.machine_type);
        let token = machine.name.to_string();
        self.begin_task(id, Task { operation, machine, provider, token, limit: LIMIT });
    }

    fn described(&self, name: &MachineName) -> Option<Machine> {
        let id = self.cloud.find(name)?;
        Some(self.cloud.describe(id, self.now(), self.epoch()))
    }

    /// Writes the machines file: deployed machines that are not left out.
    fn publish_original(&mut self) {
        let Some(original) = &self.original else { return };
        let listed = original.deployed.difference(&original.unusable);
        let lines = listed.filter_map(|name| {
            let machine = self.cloud.get(self.cloud.find(name)?);
            let pool = self.policy.pools.get(&machine.kind)?;
            (machine.lifecycle() != Lifecycle::Creating).then(|| (machine.host, Offer::from(pool)))
        });
        let lines = lines.collect();
        if !self.farm.is_rest() && self.file != lines {
            self.file = lines;
            self.expect_reading();
        }
    }
}

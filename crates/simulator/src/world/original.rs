//! The original provisioner in the virtual world: one thing after the other, with the decisions of
//! [`crate::comparators::original`].

use std::collections::{BTreeSet, VecDeque};

use planner::{Machine, MachineName, MachineState, MachineType, Operation, Seconds};
use reconciler::{Event as Told, OperationId, Task};

use super::event::Event;
use super::probe::offer;
use super::provisioner::provider_of;
use super::{Farm, SimWorld};
use crate::cloud::Lifecycle;
use crate::comparators::original::{Cycle, cycle};
use crate::engine::Millis;

/// It had no time limits; somebody ends what takes this long.
const LIMIT: Seconds = Seconds::from_minutes(30);

/// The original, and how far its cycle has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Original {
    began: Millis,
    /// What is still to be done in this cycle, in this order.
    work: VecDeque<Work>,
    /// What is being done.
    doing: Option<Work>,
    deployed: BTreeSet<MachineName>,
    unusable: BTreeSet<MachineName>,
    operations: u64,
}

/// One thing after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    /// Make it, and deploy it then.
    Create(MachineName, MachineType),
    /// Start it where it is off, and deploy it then.
    Bring(MachineName),
    Deploy(MachineName),
    Publish,
    Release(MachineName, Operation),
}

impl SimWorld {
    /// The original decides from the start of the provisioner on, instead of the loop. It breaks rules that are not its
    /// own, so none is watched.
    pub fn use_original(&mut self) {
        self.original = Some(Original::default());
        self.checker.mute();
    }

    /// A cycle begins.
    pub(super) fn begin_original_cycle(&mut self) {
        let now = self.now();
        let status = self.queue_status();
        let machines = self.cloud.existing();
        let machines: Vec<_> =
            machines.map(|(id, _)| self.cloud.describe(id, now, Farm::EPOCH)).collect();
        let Cycle { create, deploy, unusable, release } =
            cycle(&self.policy, &status, &machines, Farm::EPOCH.at(now));
        let create = create.into_iter().map(|(name, kind)| Work::Create(name, kind));
        let deploy = deploy.into_iter().map(Work::Bring);
        let release = release.into_iter().map(|(name, how)| Work::Release(name, how));
        let Some(original) = &mut self.original else { return };
        original.began = now;
        original.deployed.clear();
        original.unusable = unusable;
        original.work = create.chain(deploy).chain([Work::Publish]).chain(release).collect();
        self.provisioner.count_turn();
        self.do_next();
    }

    /// Hears that what it did has ended.
    pub(super) fn run_original(&mut self) {
        while let Some(told) = self.take_told() {
            let Told::Ended { result, .. } = told else { continue };
            let Some(original) = &mut self.original else { return };
            match (original.doing.take(), result) {
                (Some(Work::Create(name, _) | Work::Bring(name)), Ok(_)) => {
                    original.work.push_front(Work::Deploy(name));
                }
                (Some(Work::Deploy(name)), Ok(_)) => {
                    original.deployed.insert(name);
                }
                // "error deploying": the next one.
                (_, _) => {}
            }
            self.do_next();
        }
    }

    /// Begins the next thing that takes time; the next cycle when all is done.
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
        Some(self.cloud.describe(id, self.now(), Farm::EPOCH))
    }

    /// Writes the machines file: what was deployed and is not to be left out.
    fn publish_original(&mut self) {
        let Some(original) = &self.original else { return };
        let listed = original.deployed.difference(&original.unusable);
        let lines = listed.filter_map(|name| {
            let machine = self.cloud.get(self.cloud.find(name)?);
            let pool = self.policy.pools.get(&machine.kind)?;
            (machine.lifecycle() != Lifecycle::Creating).then(|| (machine.host, offer(pool)))
        });
        let lines = lines.collect();
        if !self.farm.is_rest() && self.file != lines {
            self.file = lines;
            self.expect_reading();
        }
    }
}

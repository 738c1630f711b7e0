//! The provisioner's operations, in virtual time.

use std::collections::BTreeMap;

use planner::{Machine, Operation};
use reconciler::{Done, OperationError, OperationErrorKind, OperationId, Task};

use super::checker::LogEntry;
use super::event::{Event, Transition};
use super::{Farm, SimWorld};
use crate::cloud::{Lifecycle, MachineId};
use crate::engine::Millis;

/// How often the provider checks whether it is done.
const POLL: Millis = Millis::from_seconds(2);
/// Response time of a provider.
const ANSWER: Millis = Millis::from_seconds(1);

/// Running operations.
pub(super) type Tasks = BTreeMap<OperationId, TaskRun>;

/// A running operation.
#[derive(Clone, Debug)]
pub(super) struct TaskRun {
    pub(super) machine: Machine,
    pub(super) operation: Operation,
    deadline: Millis,
    waits: Option<Wait>,
}

/// What an operation waits for.
#[derive(Clone, Debug)]
struct Wait {
    serial: u32,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    /// It succeeds.
    Done,
    /// A deployment succeeds, if the machine is still up.
    Deployed,
    /// It checks again.
    Again,
    /// It fails.
    Fail(OperationErrorKind, String),
    /// It never answers.
    Never,
}

/// How an operation continues, and when.
type Next = (Millis, Then);

/// The fault of an operation.
enum Fault {
    Fails,
    /// It ends at its time limit, without effect.
    Hangs,
    /// It never ends by itself.
    HangsForEver,
    AnswerLost,
}

impl SimWorld {
    /// Begins an operation.
    pub(super) fn begin_task(&mut self, id: OperationId, task: Task) {
        let now = self.now();
        let limit = Millis(task.limit.0.saturating_mul(1000));
        let Task { machine, operation, .. } = task;
        if operation == Operation::Create {
            self.provisioner.creations.insert(id, machine.machine_type.clone());
        }
        self.checker.log(now, LogEntry::Operation(machine.name.clone(), operation));
        let run = TaskRun { machine, operation, deadline: now + limit, waits: None };
        self.tasks.insert(id, run);
        self.check_operation(id);
        let next = match self.fault() {
            None => self.effect_of(id),
            Some(Fault::Fails) => fail(ANSWER, "the provider had an error"),
            Some(Fault::Hangs) => (limit, Then::Done),
            Some(Fault::HangsForEver) => (Millis::ZERO, Then::Never),
            Some(Fault::AnswerLost) => {
                self.effect_of(id);
                (limit, Then::Done)
            }
        };
        self.wait(id, next);
    }

    /// Ends an operation that exceeds its time limit, as the driver does.
    pub(super) fn abandon(&mut self, id: OperationId) {
        if self.tasks.contains_key(&id) {
            self.end_badly(id, OperationErrorKind::TimedOut, "it was ended".to_owned());
        }
    }

    pub(super) fn resume(&mut self, id: OperationId, serial: u32) {
        let Some(run) = self.tasks.get_mut(&id) else { return };
        let Some(wait) = run.waits.take_if(|wait| wait.serial == serial) else { return };
        match wait.then {
            Then::Done => self.end_well(id),
            Then::Deployed => match self.deployed(id) {
                Ok(()) => self.end_well(id),
                Err(message) => self.end_badly(id, OperationErrorKind::Failed, message),
            },
            Then::Again => {
                let next = self.effect_of(id);
                self.wait(id, next);
            }
            Then::Fail(kind, message) => self.end_badly(id, kind, message),
            Then::Never => {}
        }
    }

    fn fault(&mut self) -> Option<Fault> {
        if !self.in_trouble() {
            return None;
        }
        let Farm { faults, .. } = &self.farm;
        let rng = &mut self.provisioner.rng;
        if rng.chance(faults.step_fails) {
            Some(Fault::Fails)
        } else if rng.chance(faults.step_hangs) {
            Some(if rng.chance(300_000) { Fault::HangsForEver } else { Fault::Hangs })
        } else if rng.chance(faults.answer_lost) {
            Some(Fault::AnswerLost)
        } else {
            None
        }
    }

    fn wait(&mut self, id: OperationId, (delay, then): Next) {
        if matches!(then, Then::Never) {
            return;
        }
        self.serial += 1;
        let serial = self.serial;
        let now = self.now();
        let Some(run) = self.tasks.get_mut(&id) else { return };
        let (at, then) = if now + delay < run.deadline {
            (now + delay, then)
        } else {
            let message = "it took longer than it may".to_owned();
            (run.deadline, Then::Fail(OperationErrorKind::TimedOut, message))
        };
        run.waits = Some(Wait { serial, then });
        self.engine.schedule(at, Event::Task { task: id, serial });
    }

    fn end_well(&mut self, id: OperationId) {
        let now = self.now();
        let Some(run) = self.tasks.remove(&id) else { return };
        let (name, operation) = (run.machine.name.clone(), run.operation);
        self.checker.log(now, LogEntry::OperationEnds(name.clone(), operation, Ok(())));
        let mut machine = run.machine;
        if let Some(id) = self.find(&machine) {
            self.provisioner.hosts.insert(self.cloud.get(id).host);
            machine = self.cloud.describe(id, now, self.epoch());
        }
        self.end_operation(
            id,
            Ok(Done {
                machine: Box::new(machine),
                warnings: Vec::new(),
                name_is_unconfirmed: false,
            }),
        );
    }

    fn end_badly(&mut self, id: OperationId, kind: OperationErrorKind, message: String) {
        let now = self.now();
        let Some(run) = self.tasks.remove(&id) else { return };
        let ended = LogEntry::OperationEnds(run.machine.name, run.operation, Err(message.clone()));
        self.checker.log(now, ended);
        self.end_operation(id, Err(OperationError { kind, message }));
    }

    /// The machine of that name, if it is of the same type: each type has its own provider.
    pub(super) fn find(&self, machine: &Machine) -> Option<MachineId> {
        let id = self.cloud.find(&machine.name)?;
        (self.cloud.get(id).kind == machine.machine_type).then_some(id)
    }

    /// The operation's effect on the world, and what to wait for. May be called repeatedly.
    fn effect_of(&mut self, task: OperationId) -> Next {
        let Some(run) = self.tasks.get(&task) else { return (Millis::ZERO, Then::Never) };
        let operation = run.operation;
        let id = self.find(&run.machine);
        match (operation, id) {
            (Operation::Create, None) => self.create(task),
            (Operation::Create, Some(id)) => self.created_already(id),
            (Operation::Start, Some(id)) => self.start(id),
            (Operation::Deploy, Some(id)) => self.deploy(id),
            (Operation::Start | Operation::Deploy, None) => {
                fail(ANSWER, "there is no such machine")
            }
            (Operation::Drain, Some(id)) if self.farm.is_rest() => self.drain(id),
            (Operation::Stop, Some(id)) => self.stop(id),
            (Operation::Destroy, Some(id)) => self.destroy(id),
            // Nothing to do: it is already in that state, or gone.
            (Operation::Drain | Operation::KeepAlive, _)
            | (Operation::Stop | Operation::Destroy, None) => (Millis::ZERO, Then::Done),
        }
    }

    fn create(&mut self, task: OperationId) -> Next {
        let now = self.now();
        let Some(run) = self.tasks.get(&task) else { return (Millis::ZERO, Then::Never) };
        let Machine { name, machine_type, .. } = run.machine.clone();
        if self.cloud.find(&name).is_some() {
            return fail(ANSWER, "another type has a machine of that name");
        }
        let in_trouble = self.in_trouble();
        let faults = &self.farm.faults;
        let refused = in_trouble && self.provisioner.rng.chance(faults.no_capacity);
        if refused || self.has_drought(&machine_type) || !self.has_room(&machine_type) {
            return no_capacity();
        }
        let listed_after = if in_trouble {
            self.provisioner.rng.sample(&self.farm.faults.listed_after)
        } else {
            Millis::ZERO
        };
        let id = self.cloud.make(&name, &machine_type, now);
        self.probe.created();
        let machine = self.cloud.get_mut(id);
        machine.visible_from = now + listed_after;
        let delay = machine.random.sample(&machine.model.create.clone());
        self.expect(id, delay, Transition::Boots);
        self.check_number_of(&machine_type);
        (delay, Then::Again)
    }

    fn created_already(&mut self, id: MachineId) -> Next {
        match self.cloud.get(id).lifecycle() {
            Lifecycle::Creating => (POLL, Then::Again),
            Lifecycle::Starting
            | Lifecycle::Up
            | Lifecycle::Unreachable
            | Lifecycle::Stopped
            | Lifecycle::Failed => (Millis::ZERO, Then::Done),
            lifecycle @ (Lifecycle::Stopping | Lifecycle::Terminating | Lifecycle::Gone) => {
                fail(ANSWER, &format!("the machine of that name is {lifecycle:?}"))
            }
        }
    }

    fn start(&mut self, id: MachineId) -> Next {
        let machine = self.cloud.get(id);
        match machine.lifecycle() {
            Lifecycle::Stopped if self.has_drought(&machine.kind) => no_capacity(),
            Lifecycle::Stopped => {
                let kind = machine.kind.clone();
                if !self.has_room(&kind) {
                    return no_capacity();
                }
                self.cloud.usage_mut(&kind).started += 1;
                self.boot(id);
                self.check_number_of(&kind);
                (ANSWER, Then::Done)
            }
            Lifecycle::Starting | Lifecycle::Up | Lifecycle::Unreachable => {
                (Millis::ZERO, Then::Done)
            }
            lifecycle => fail(ANSWER, &format!("it is {lifecycle:?}")),
        }
    }

    fn deploy(&mut self, id: MachineId) -> Next {
        let machine = self.cloud.get_mut(id);
        match machine.lifecycle() {
            Lifecycle::Up => (machine.draw_deploy(), Then::Deployed),
            Lifecycle::Creating | Lifecycle::Starting | Lifecycle::Unreachable => {
                (POLL, Then::Again)
            }
            lifecycle => fail(ANSWER, &format!("it is {lifecycle:?}")),
        }
    }

    fn deployed(&mut self, task: OperationId) -> Result<(), String> {
        let now = self.now();
        let run = self.tasks.get(&task).ok_or("nobody deploys it")?;
        let id = self.find(&run.machine).ok_or("it is gone")?;
        let machine = self.cloud.get(id);
        if machine.lifecycle() != Lifecycle::Up {
            return Err(format!("it is {:?}", machine.lifecycle()));
        }
        let (host, kind) = (machine.host, machine.kind.clone());
        let max_jobs = self.policy.pools.get(&kind).map_or(1, |pool| pool.max_jobs);
        self.change(id, |cloud| {
            let machine = cloud.get_mut(id);
            machine.make_ready(now, max_jobs);
            machine.drained = false;
        });
        if self.farm.is_rest() {
            self.join(host);
        }
        Ok(())
    }

    /// Stops the builder of a REST queue runner.
    fn drain(&mut self, id: MachineId) -> Next {
        let machine = self.cloud.get_mut(id);
        if !matches!(machine.lifecycle(), Lifecycle::Up) {
            return fail(ANSWER, &format!("it is {:?}", machine.lifecycle()));
        }
        let length = machine.random.sample(&machine.model.drain.clone());
        machine.drained = true;
        self.lose_builds(id);
        (length, Then::Done)
    }

    fn stop(&mut self, id: MachineId) -> Next {
        match self.cloud.get(id).lifecycle() {
            Lifecycle::Starting | Lifecycle::Up | Lifecycle::Unreachable => {
                self.lose_builds(id);
                let kind = self.cloud.get(id).kind.clone();
                self.cloud.usage_mut(&kind).stopped += 1;
                self.enter(id, Lifecycle::Stopping);
                let machine = self.cloud.get_mut(id);
                let delay = machine.random.sample(&machine.model.stop.clone());
                self.expect(id, delay, Transition::Off);
                (delay, Then::Again)
            }
            Lifecycle::Stopping => (POLL, Then::Again),
            Lifecycle::Stopped => (Millis::ZERO, Then::Done),
            lifecycle => fail(ANSWER, &format!("it is {lifecycle:?}")),
        }
    }

    fn destroy(&mut self, id: MachineId) -> Next {
        if self.cloud.get(id).lifecycle() == Lifecycle::Terminating {
            return (POLL, Then::Again);
        }
        self.lose_builds(id);
        let kind = self.cloud.get(id).kind.clone();
        self.cloud.usage_mut(&kind).destroyed += 1;
        self.enter(id, Lifecycle::Terminating);
        let machine = self.cloud.get_mut(id);
        let delay = machine.random.sample(&machine.model.destroy.clone());
        self.expect(id, delay, Transition::Gone);
        (delay, Then::Again)
    }
}

fn no_capacity() -> Next {
    let message = "the provider has no capacity".to_owned();
    (ANSWER, Then::Fail(OperationErrorKind::Capacity, message))
}

fn fail(delay: Millis, message: &str) -> Next {
    (delay, Then::Fail(OperationErrorKind::Failed, message.to_owned()))
}

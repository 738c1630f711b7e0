//! What the provisioner has done with machines, step by step, in virtual time.

use planner::{Machine, MachineState};
use reconciler::world::{Done, Outcome, Step, StepError, StepErrorKind, Task};

use super::checker::{Note, Rule};
use super::event::{Event, Turn};
use super::{Farm, SimWorld};
use crate::cloud::{Life, MachineId};
use crate::engine::Millis;

/// How often the provisioner looks whether a machine is up.
const POLL: Millis = Millis::from_seconds(2);
/// How long a provider takes to say yes or no.
const ANSWER: Millis = Millis::from_seconds(1);

/// A task of the running cycle.
#[derive(Clone, Debug)]
pub(super) struct TaskRun {
    machine: Machine,
    steps: Vec<Step>,
    /// Which step it is at.
    at: usize,
    deadline: Millis,
    waits: Option<Wait>,
    outcome: Option<Outcome>,
}

/// What a step waits for.
#[derive(Clone, Debug)]
struct Wait {
    serial: u32,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    /// The step is done.
    Done,
    /// A deployment is done, if the machine is still up.
    Deployed,
    /// Looks again.
    Again,
    /// The step fails.
    Fail(StepErrorKind, String),
}

/// How a step goes on, and when.
type Next = (Millis, Then);

/// What goes wrong with a step.
enum Mishap {
    Fails,
    Hangs,
    AnswerLost,
}

impl SimWorld {
    /// Carries out tasks until the last has ended, while everything else happens too.
    pub(super) fn carry_out(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        self.tasks = tasks.iter().map(TaskRun::new).collect();
        for task in 0..self.tasks.len().min(self.limits.parallelism.max(1) as usize) {
            self.begin_step(task);
        }
        while !self.cycle.killed && self.tasks.iter().any(|task| task.outcome.is_none()) {
            if !self.advance() {
                break;
            }
        }
        if self.cycle.killed {
            let now = self.now();
            self.checker.note(now, Note::CycleKilled(self.cycle.number));
        }
        let tasks = std::mem::take(&mut self.tasks);
        tasks.into_iter().map(TaskRun::into_outcome).collect()
    }

    pub(super) fn resume(&mut self, task: u32, serial: u32) {
        let at = task as usize;
        let Some(run) = self.tasks.get_mut(at) else { return };
        if run.waits.as_ref().is_none_or(|wait| wait.serial != serial) {
            return;
        }
        let Some(wait) = run.waits.take() else { return };
        match wait.then {
            Then::Done => self.end_step(at),
            Then::Deployed => match self.deployed(at) {
                Ok(()) => self.end_step(at),
                Err(message) => self.fail_step(at, StepErrorKind::Failed, message),
            },
            Then::Again => {
                let next = self.effect_of_step(at);
                self.wait(at, next);
            }
            Then::Fail(kind, message) => self.fail_step(at, kind, message),
        }
    }

    /// Asks for the step that the task is at.
    fn begin_step(&mut self, task: usize) {
        if !self.may_act() {
            return;
        }
        let now = self.now();
        let limit = self.limit_of(self.tasks[task].step());
        let run = &mut self.tasks[task];
        run.deadline = now + limit;
        let (name, step) = (run.machine.name.clone(), run.step());
        self.checker.note(now, Note::Step(name, step));
        self.check_step(task);
        let next = match self.mishap() {
            None => self.effect_of_step(task),
            Some(Mishap::Fails) => fail(ANSWER, "the provider had an error"),
            Some(Mishap::Hangs) => (limit, Then::Done),
            Some(Mishap::AnswerLost) => {
                self.effect_of_step(task);
                (limit, Then::Done)
            }
        };
        self.wait(task, next);
    }

    fn mishap(&mut self) -> Option<Mishap> {
        if !self.in_trouble() {
            return None;
        }
        let Farm { faults, .. } = &self.farm;
        let dice = &mut self.cycle.dice;
        if dice.chance(faults.step_fails) {
            Some(Mishap::Fails)
        } else if dice.chance(faults.step_hangs) {
            Some(Mishap::Hangs)
        } else if dice.chance(faults.answer_lost) {
            Some(Mishap::AnswerLost)
        } else {
            None
        }
    }

    fn limit_of(&self, step: Step) -> Millis {
        match step {
            Step::Create | Step::Start => self.limits.create_timeout,
            Step::Deploy => self.limits.deploy_timeout,
            Step::Drain | Step::Stop | Step::Destroy => self.limits.release_timeout,
        }
    }

    fn wait(&mut self, task: usize, (delay, then): Next) {
        self.serial += 1;
        let serial = self.serial;
        let now = self.now();
        let run = &mut self.tasks[task];
        let (at, then) = if now + delay < run.deadline {
            (now + delay, then)
        } else {
            let message = "it took longer than it may".to_owned();
            (run.deadline, Then::Fail(StepErrorKind::TimedOut, message))
        };
        run.waits = Some(Wait { serial, then });
        let task = u32::try_from(task).unwrap_or(u32::MAX);
        self.engine.schedule(at, Event::Task { task, serial });
    }

    fn end_step(&mut self, task: usize) {
        let now = self.now();
        let run = &mut self.tasks[task];
        let (name, step) = (run.machine.name.clone(), run.step());
        self.checker.note(now, Note::StepEnds(name.clone(), step, Ok(())));
        if let Some(id) = self.cloud.find(&name) {
            // The contract: what was answered for is listed from then on.
            let machine = self.cloud.get_mut(id);
            machine.visible_from = machine.visible_from.min(now);
            self.cycle.hosts.insert(machine.host);
            run.machine = self.cloud.describe(id, now, Farm::EPOCH);
        }
        run.at += 1;
        if run.at < run.steps.len() {
            self.begin_step(task);
        } else {
            let machine = run.machine.clone();
            run.outcome = Some(Ok(Done { machine, warnings: Vec::new() }));
            self.begin_next_task();
        }
    }

    fn fail_step(&mut self, task: usize, kind: StepErrorKind, message: String) {
        let now = self.now();
        let run = &mut self.tasks[task];
        let (name, step) = (run.machine.name.clone(), run.step());
        if let (Step::Deploy, Some(id)) = (step, self.cloud.find(&name)) {
            let machine = self.cloud.get_mut(id);
            let is_first = run.at > 0;
            machine.failing_since = machine.failing_since.filter(|_| !is_first).or(Some(now));
        }
        self.checker.note(now, Note::StepEnds(name, step, Err(message.clone())));
        run.outcome = Some(Err(StepError { step, kind, message }));
        self.begin_next_task();
    }

    fn begin_next_task(&mut self) {
        let next = self
            .tasks
            .iter()
            .position(|task| task.outcome.is_none() && task.waits.is_none() && task.at == 0);
        if let Some(task) = next {
            self.begin_step(task);
        }
    }

    /// What the step does to the world, and what is to be waited for. May be asked again and again.
    fn effect_of_step(&mut self, task: usize) -> Next {
        let run = &self.tasks[task];
        let step = run.step();
        let id = self.cloud.find(&run.machine.name);
        match (step, id) {
            (Step::Create, None) => self.create(task),
            (Step::Create, Some(id)) => self.created_already(id),
            (Step::Start, Some(id)) => self.start(id),
            (Step::Deploy, Some(id)) => self.deploy(id),
            (Step::Start | Step::Deploy, None) => fail(ANSWER, "there is no such machine"),
            (Step::Drain, Some(id)) if self.farm.is_rest() => self.drain(id),
            (Step::Stop, Some(id)) => self.stop(id),
            (Step::Destroy, Some(id)) => self.destroy(id),
            // Nothing has to be done, or what is gone is gone.
            (Step::Drain, _) | (Step::Stop | Step::Destroy, None) => (Millis::ZERO, Then::Done),
        }
    }

    fn create(&mut self, task: usize) -> Next {
        let now = self.now();
        let Machine { name, machine_type, .. } = self.tasks[task].machine.clone();
        let in_trouble = self.in_trouble();
        let faults = &self.farm.faults;
        let refused = in_trouble && self.cycle.dice.chance(faults.no_capacity);
        if refused || self.has_drought(&machine_type) {
            let message = "the provider has no capacity".to_owned();
            return (ANSWER, Then::Fail(StepErrorKind::Capacity, message));
        }
        let listed_after = if in_trouble {
            self.cycle.dice.sample(&self.farm.faults.listed_after)
        } else {
            Millis::ZERO
        };
        let id = self.cloud.make(&name, &machine_type, now);
        let machine = self.cloud.get_mut(id);
        machine.visible_from = now + listed_after;
        let delay = machine.random.sample(&machine.model.create.clone());
        self.expect(id, delay, Turn::Boots);
        self.check_number_of(&machine_type);
        (delay, Then::Again)
    }

    fn created_already(&mut self, id: MachineId) -> Next {
        match self.cloud.get(id).life() {
            Life::Creating => (POLL, Then::Again),
            Life::Starting | Life::Up | Life::Unreachable | Life::Stopped | Life::Failed => {
                (Millis::ZERO, Then::Done)
            }
            life @ (Life::Stopping | Life::Terminating | Life::Gone) => {
                fail(ANSWER, &format!("the machine of that name is {life:?}"))
            }
        }
    }

    fn start(&mut self, id: MachineId) -> Next {
        let machine = self.cloud.get(id);
        match machine.life() {
            Life::Stopped if self.has_drought(&machine.kind) => {
                let message = "the provider has no capacity".to_owned();
                (ANSWER, Then::Fail(StepErrorKind::Capacity, message))
            }
            Life::Stopped => {
                let kind = machine.kind.clone();
                self.cloud.usage_mut(&kind).started += 1;
                self.boot(id);
                self.check_number_of(&kind);
                (ANSWER, Then::Done)
            }
            Life::Starting | Life::Up | Life::Unreachable => (Millis::ZERO, Then::Done),
            life => fail(ANSWER, &format!("it is {life:?}")),
        }
    }

    fn deploy(&mut self, id: MachineId) -> Next {
        let machine = self.cloud.get_mut(id);
        match machine.life() {
            Life::Up => (machine.draw_deploy(), Then::Deployed),
            Life::Creating | Life::Starting | Life::Unreachable => (POLL, Then::Again),
            life => fail(ANSWER, &format!("it is {life:?}")),
        }
    }

    fn deployed(&mut self, task: usize) -> Result<(), String> {
        let now = self.now();
        let machine = &self.tasks[task].machine;
        let id = self.cloud.find(&machine.name).ok_or("it is gone")?;
        let machine = self.cloud.get(id);
        if machine.life() != Life::Up {
            return Err(format!("it is {:?}", machine.life()));
        }
        let (host, kind) = (machine.host, machine.kind.clone());
        let max_jobs = self.policy.pools.get(&kind).map_or(1, |pool| pool.max_jobs);
        self.change(id, |cloud| {
            let machine = cloud.get_mut(id);
            machine.make_ready(now, max_jobs);
            machine.failing_since = None;
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
        if !matches!(machine.life(), Life::Up) {
            return fail(ANSWER, &format!("it is {:?}", machine.life()));
        }
        let length = machine.random.sample(&machine.model.drain.clone());
        machine.drained = true;
        self.lose_builds(id);
        (length, Then::Done)
    }

    fn stop(&mut self, id: MachineId) -> Next {
        match self.cloud.get(id).life() {
            Life::Starting | Life::Up | Life::Unreachable => {
                self.lose_builds(id);
                let kind = self.cloud.get(id).kind.clone();
                self.cloud.usage_mut(&kind).stopped += 1;
                self.enter(id, Life::Stopping);
                let machine = self.cloud.get_mut(id);
                let delay = machine.random.sample(&machine.model.stop.clone());
                self.expect(id, delay, Turn::Off);
                (delay, Then::Again)
            }
            Life::Stopping => (POLL, Then::Again),
            Life::Stopped => (Millis::ZERO, Then::Done),
            life => fail(ANSWER, &format!("it is {life:?}")),
        }
    }

    fn destroy(&mut self, id: MachineId) -> Next {
        if self.cloud.get(id).life() == Life::Terminating {
            return (POLL, Then::Again);
        }
        self.lose_builds(id);
        let kind = self.cloud.get(id).kind.clone();
        self.cloud.usage_mut(&kind).destroyed += 1;
        self.enter(id, Life::Terminating);
        let machine = self.cloud.get_mut(id);
        let delay = machine.random.sample(&machine.model.destroy.clone());
        self.expect(id, delay, Turn::Gone);
        (delay, Then::Again)
    }

    /// What must be true before a machine is asked for, drained, stopped or destroyed.
    fn check_step(&mut self, task: usize) {
        let run = &self.tasks[task];
        let (step, machine) = (run.step(), run.machine.clone());
        match step {
            Step::Create => self.check_create(&machine),
            Step::Drain => self.check_drain(&machine),
            Step::Stop | Step::Destroy => self.check_release(&machine, step),
            Step::Start | Step::Deploy => {}
        }
    }

    fn check_create(&mut self, machine: &Machine) {
        let now = self.now();
        let (name, kind) = (&machine.name, &machine.machine_type);
        let recorded = self.intents.iter().any(|intent| intent.name == *name);
        self.checker.expect(now, recorded, Rule::IntentBeforeCreate, || {
            format!("{name} is asked for and was not recorded")
        });
        if self.cloud.find(name).is_some() || machine.state != MachineState::Requested {
            return;
        }
        let creates = self.cycle.creates.entry(kind.clone()).or_default();
        *creates += 1;
        let creates = *creates;
        let most = self.policy.pools.get(kind).map_or(0, |pool| pool.max_creates_per_cycle);
        self.checker.expect(now, creates <= most, Rule::MaxCreatesPerCycle, || {
            format!("{name} is number {creates} of {kind} in this cycle, {most} are allowed")
        });
    }

    fn check_number_of(&mut self, kind: &planner::MachineType) {
        let now = self.now();
        let most = self.policy.pools.get(kind).map_or(0, |pool| pool.max_machines) as usize;
        let of_kind = self.machines().filter(|machine| machine.kind == *kind);
        let running = of_kind.filter(|machine| {
            matches!(machine.life(), Life::Creating | Life::Starting | Life::Up | Life::Unreachable)
        });
        let running = running.count();
        self.checker.expect(now, running <= most, Rule::MaxMachines, || {
            format!("{running} machines of {kind} run, {most} are allowed")
        });
    }

    fn check_drain(&mut self, machine: &Machine) {
        if self.farm.is_rest() {
            self.check_idle(machine, "drained");
        }
    }

    fn check_idle(&mut self, machine: &Machine, what: &str) {
        let now = self.now();
        let name = &machine.name;
        let Some(id) = self.cloud.find(name) else { return };
        let jobs = self.queue_runner.jobs_on(self.cloud.get(id).host).len();
        self.checker.expect(now, jobs == 0, Rule::NeverReleaseBusy, || {
            format!("{name} is {what} and builds {jobs} steps")
        });
    }

    fn check_release(&mut self, machine: &Machine, step: Step) {
        let now = self.now();
        let name = &machine.name;
        let seen = self.cycle.queue_seen;
        self.checker.expect(now, seen, Rule::NeverReleaseBlindly, || {
            format!("{step} {name}, while the queue runner does not answer")
        });
        let published = self.cycle.published;
        self.checker.expect(now, published, Rule::PublishBeforeRelease, || {
            format!("{step} {name}, and no machines file was published before")
        });
        let Some(id) = self.cloud.find(name) else { return };
        let host = self.cloud.get(id).host;
        let listed = self.file.contains_key(&host);
        self.checker.expect(now, !listed, Rule::DrainBeforeRelease, || {
            format!("{step} {name}, which the machines file lists")
        });
        let may_get_builds = self.queue_runner.lists(host);
        self.checker.expect(now, !may_get_builds, Rule::DrainBeforeRelease, || {
            format!("{step} {name}, which the queue runner may still give builds")
        });
        self.check_idle(machine, "released");
    }
}

impl TaskRun {
    fn new(task: &Task) -> Self {
        Self {
            machine: task.machine.clone(),
            steps: task.steps.clone(),
            at: 0,
            deadline: Millis::NEVER,
            waits: None,
            outcome: None,
        }
    }

    /// The step that it is at: the last one when all are done.
    fn step(&self) -> Step {
        let at = self.at.min(self.steps.len().saturating_sub(1));
        self.steps.get(at).copied().unwrap_or(Step::Deploy)
    }

    fn into_outcome(self) -> Outcome {
        let step = self.step();
        self.outcome.unwrap_or_else(|| {
            let message = "the provisioner was killed".to_owned();
            Err(StepError { step, kind: StepErrorKind::Failed, message })
        })
    }
}

fn fail(delay: Millis, message: &str) -> Next {
    (delay, Then::Fail(StepErrorKind::Failed, message.to_owned()))
}

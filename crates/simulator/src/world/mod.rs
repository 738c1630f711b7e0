//! The virtual world: `provisioner` runs the provisioner, `contract` is what it can see, `lifecycle` and `builds` are
//! what happens without it, `tasks` what it does, and `rules` what it must never do.

mod builds;
mod checker;
mod clocks;
mod contract;
mod event;
mod farm;
mod faults;
mod incident;
mod lifecycle;
mod limit_rules;
mod original;
mod planted;
mod probe;
mod provider;
mod provisioner;
mod rules;
mod stored;
mod tasks;
mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use planner::{MachineType, Policy};

use crate::cloud::{Cloud, MachineId, SimMachine, Usage};
use crate::engine::{Engine, Millis, Purpose, Random, Seed};
use crate::queue_runner::{Host, Offer, QueueRunner, Start};
use crate::workload::Workload;
use checker::Checker;
pub use checker::{Rule, Violation};
use clocks::Clocks;
use event::Event;
pub use farm::{CycleTiming, Farm, Given, Limits, Notices};
pub use faults::Faults;
pub use incident::{Incident, IncidentKind};
use original::Original;
pub use planted::Planted;
use probe::Probe;
pub use probe::{Peak, Peaks, Provisioning};
use provisioner::Provisioner;
use stored::StoredAnswer;
use tasks::Tasks;

/// For steps that no machine got.
const NOWHERE: u16 = u16::MAX;

/// The virtual world of one simulation.
#[derive(Clone, Debug)]
pub struct SimWorld {
    engine: Engine<Event>,
    seed: Seed,
    policy: Policy,
    limits: Limits,
    farm: Farm,
    workload: Arc<Workload>,
    /// Steps before this index are in the queue.
    submitted: usize,
    queue_runner: QueueRunner,
    queue_runner_rng: Random,
    queue_runner_is_up: bool,
    clocks: Clocks,
    stored: StoredAnswer,
    /// Whether the classic queue runner's next check of the changed machines file is scheduled.
    reading: bool,
    /// Reused for every dispatch.
    starts: Vec<Start>,
    /// Reused for every change of a machine's load.
    due: Vec<(Start, Millis)>,
    /// Number of canceled builds so far.
    canceled: usize,
    cloud: Cloud,
    /// By step: index of its last machine's type in the policy.
    built_on: Vec<u16>,
    /// The machines file on disk.
    file: BTreeMap<Host, Offer>,
    incidents_now: BTreeSet<u32>,
    provisioner: Provisioner,
    /// Decides instead of the loop.
    original: Option<Original>,
    tasks: Tasks,
    serial: u32,
    checker: Checker,
    probe: Probe,
    /// Since when types have had fewer machines than `minMachines`.
    too_few_since: BTreeMap<MachineType, Millis>,
    /// Configurations that will be loaded.
    next_policies: VecDeque<Policy>,
}

impl SimWorld {
    /// A farm without machines, before the first step is submitted.
    pub fn new(
        seed: Seed,
        policy: Policy,
        limits: Limits,
        farm: Farm,
        workload: Arc<Workload>,
    ) -> Self {
        let mut world = Self {
            engine: Engine::new(),
            seed,
            submitted: 0,
            queue_runner: QueueRunner::new(farm.queue_runner, Arc::clone(&workload)),
            queue_runner_rng: seed.stream(Purpose::QueueRunner, 0),
            queue_runner_is_up: true,
            clocks: Clocks::default(),
            stored: StoredAnswer::default(),
            reading: false,
            starts: Vec::new(),
            due: Vec::new(),
            canceled: 0,
            built_on: vec![NOWHERE; workload.steps().len()],
            cloud: Cloud::new(seed, farm.machines.clone()),
            file: BTreeMap::new(),
            incidents_now: BTreeSet::new(),
            provisioner: Provisioner::new(seed),
            original: None,
            tasks: Tasks::new(),
            serial: 0,
            checker: Checker::default(),
            probe: Probe::new(&policy, &workload),
            too_few_since: BTreeMap::new(),
            next_policies: VecDeque::new(),
            policy,
            limits,
            farm,
            workload,
        };
        world.schedule_what_is_known();
        world
    }

    /// The virtual time.
    pub fn now(&self) -> Millis {
        self.engine.now()
    }

    /// When the next event happens.
    pub fn next_event_at(&self) -> Option<Millis> {
        match (self.engine.next_at(), self.next_turn_at()) {
            (Some(event), Some(transition)) => Some(event.min(transition.max(self.now()))),
            (event, transition) => event.or(transition),
        }
    }

    /// Processes all events until `time`.
    pub fn advance_to(&mut self, time: Millis) {
        while let Some(at) = self.next_event_at().filter(|at| *at <= time) {
            self.advance_once(at);
        }
        // No more events until then; the clock advances.
        let _none = self.engine.next_until(time);
        self.probe.count_until(time, &self.queue_runner);
    }

    /// Processes the next event, at `at`.
    fn advance_once(&mut self, at: Millis) {
        if let Some(event) = self.engine.next_until(at) {
            self.handle(event);
        }
        // All events of the same moment are processed before the provisioner sees them.
        if self.engine.next_at() != Some(self.now()) {
            self.run_loop();
        }
    }

    /// The queue runner.
    pub fn queue_runner(&self) -> &QueueRunner {
        &self.queue_runner
    }

    /// The work.
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// The index of the policy's type that last tried to build the step at `place`.
    pub fn built_on(&self, place: usize) -> Option<usize> {
        self.built_on.get(place).filter(|pool| **pool != NOWHERE).map(|pool| usize::from(*pool))
    }

    /// The usage of each type until now.
    pub fn usage(&self) -> BTreeMap<MachineType, Usage> {
        self.cloud.usage(self.now())
    }

    /// The provisioning quality of each type until now.
    pub fn provisioning(&self) -> &BTreeMap<MachineType, Provisioning> {
        self.probe.provisioning()
    }

    /// The largest farm and the longest queue until now.
    pub fn peaks(&self) -> Peaks {
        self.probe.peaks()
    }

    /// The machines that exist, whether listed or not.
    pub fn machines(&self) -> impl Iterator<Item = &SimMachine> {
        self.cloud.existing().map(|(_, machine)| machine)
    }

    /// Violations, in order; at most the first hundred.
    pub fn violations(&self) -> &[Violation] {
        self.checker.violations()
    }

    /// The current policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// From `at` on, `policy` is the policy. Calls must be in the order of time.
    pub fn reconfigure_at(&mut self, at: Millis, policy: Policy) {
        self.next_policies.push_back(policy);
        self.engine.schedule(at, Event::Reconfigured);
    }

    /// Adds a violation that was found from outside.
    pub fn report_violation(&mut self, rule: Rule, what: String) {
        let now = self.now();
        self.checker.violated(now, rule, what);
    }

    fn schedule_what_is_known(&mut self) {
        if let Some(first) = self.workload.steps().first() {
            self.engine.schedule(first.submit(), Event::Submit);
        }
        if let Some((first, _)) = self.workload.cancellations().first() {
            self.engine.schedule(*first, Event::Cancel);
        }
        if self.farm.is_rest() {
            let at = self.farm.queue_runner.next_look(Millis::ZERO);
            self.engine.schedule(at, Event::DispatchTimer);
        }
        for (at, incident) in (0_u32..).zip(&self.farm.incidents) {
            self.engine.schedule(incident.at, Event::IncidentBegins(at));
            self.engine.schedule(incident.at + incident.length, Event::IncidentEnds(at));
        }
        self.expect_queue_runner_trouble();
        self.expect_clock_steps();
        self.engine.schedule(self.farm.cycle.first, Event::ProvisionerStarts);
    }

    /// Whether random faults happen now.
    fn in_trouble(&self) -> bool {
        self.now() < self.farm.faults.until
    }

    fn handle(&mut self, event: Event) {
        self.probe.count_until(self.engine.now(), &self.queue_runner);
        match event {
            Event::Submit => self.submit(),
            Event::Finish(start) => self.finish(start),
            Event::Copied(start) => self.copied(start),
            Event::ConnectFails(start) => self.connect_fails(start),
            Event::Retry(step) => {
                let now = self.now();
                self.queue_runner.retry(step, now);
            }
            Event::Dispatch => self.queue_runner.wake(),
            Event::Cancel => self.cancel(),
            Event::ReadFile => self.read_file(),
            Event::DispatchTimer => self.dispatch_timer(),
            Event::QueueRunnerDown(length) => self.queue_runner_down(length),
            Event::QueueRunnerUp => self.queue_runner_up(),
            Event::Machine { id, generation, transition } => {
                self.transition(id, generation, transition);
            }
            Event::Task { task, serial } => self.resume(task, serial),
            Event::ProvisionerStarts if self.original.is_none() => self.start_provisioner(),
            Event::ProvisionerStarts | Event::OriginalCycle => self.begin_original_cycle(),
            Event::MayKill { run } => self.may_kill(run),
            Event::Reconfigured => self.reconfigured(),
            Event::MaySetClock => self.may_set_clock(),
            Event::Answer { number } => self.answer_arrives(number),
            Event::IncidentBegins(at) => self.begin_incident(at),
            Event::IncidentEnds(at) => {
                self.incidents_now.remove(&at);
            }
        }
        self.dispatch_when_due();
    }

    /// Changes a machine and counts the effect on its type.
    fn change(&mut self, id: MachineId, change: impl FnOnce(&mut Cloud)) {
        let before = self.cloud.get(id).capacity();
        change(&mut self.cloud);
        let machine = self.cloud.get(id);
        self.probe.changed(&machine.kind, before, machine.capacity());
    }
}

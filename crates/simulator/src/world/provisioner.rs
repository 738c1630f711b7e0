//! The provisioner in the virtual world: the real reconciler, driven in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use planner::{Machine, MachineName, MachineType, QueueStatus, Seconds, Timestamp};
use reconciler::{
    Change, Configuration, Done, Effect, Event as LoopEvent, OperationError, OperationErrorKind,
    OperationId, ProviderId, Reconciler, Record, State, Timing,
};

use super::checker::{LogEntry, Rule};
use super::event::Event;
use super::turns::Turns;
use super::{Planted, SimWorld};
use crate::engine::{Millis, Purpose, Random, Seed};
use crate::queue_runner::Host;

/// Time from a kill of the provisioner to its restart.
const RESTART_AFTER: Millis = Millis::from_seconds(10);
/// How often it may be killed at random.
const KILL_INTERVAL: Millis = Millis::from_minutes(5);
/// A disk that only claims to have written loses at most the transactions of this time, as Linux writes pages back by then.
const WRITTEN_WITHIN: Millis = Millis::from_seconds(30);
/// Maximum delay of an answer.
const LATEST_ANSWER: Millis = Millis::from_minutes(2);

/// The provisioner, and what survives its restart.
#[derive(Clone, Debug)]
pub(super) struct Provisioner {
    /// `None` while it is down.
    reconciler: Option<Reconciler>,
    /// When its loop wakes up without an event. Asking for it costs more than most events.
    wakes_at: Option<Timestamp>,
    planted: Planted,
    /// Memory of a planted event filter.
    last_status: Option<QueueStatus>,
    /// What is on disk.
    durable: State,
    /// Events that it has not processed yet.
    inbox: Vec<LoopEvent>,
    /// Answers in transit, by number.
    late: BTreeMap<u64, LoopEvent>,
    last_late: u64,
    /// Counts its runs.
    pub(super) run: u64,
    pub(super) rng: Random,
    /// Number of effects before it is killed.
    effects_left: Option<u64>,
    /// Counts requests and publications, which defines what was requested after what.
    moment: u64,
    /// When its current queue status was requested; `None` if that was unavailable.
    pub(super) status_asked: Option<Asked>,
    asked: BTreeMap<u64, Asked>,
    /// How long answers take, at least: each answer adds at most a second.
    pub(super) latency: Millis,
    /// When hosts left the machines file.
    unpublished: BTreeMap<Host, u64>,
    /// Types for which the latest creation was refused: when, and why.
    pub(super) refused: BTreeMap<MachineType, (Millis, OperationErrorKind)>,
    /// Creations with an outcome that it does not know yet.
    pub(super) creations: BTreeMap<OperationId, MachineType>,
    /// All hosts that were ever reported to it.
    pub(super) hosts: BTreeSet<Host>,
    /// The state before each recent transaction, in order.
    earlier: VecDeque<(Millis, State)>,
    /// Machines with lost records that were not listed since.
    forgotten: BTreeSet<MachineName>,
    /// Whether records were ever lost.
    pub(super) has_forgotten: bool,
    pub(super) turns: Turns,
}

/// When the queue status was requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    moment: u64,
    pub(super) at: Millis,
}

impl Provisioner {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            reconciler: None,
            wakes_at: None,
            planted: Planted::NOTHING,
            last_status: None,
            durable: State::default(),
            inbox: Vec::new(),
            late: BTreeMap::new(),
            last_late: 0,
            run: 0,
            rng: seed.stream(Purpose::Cycle, 0),
            effects_left: None,
            moment: 0,
            status_asked: None,
            asked: BTreeMap::new(),
            latency: Millis::ZERO,
            unpublished: BTreeMap::new(),
            refused: BTreeMap::new(),
            creations: BTreeMap::new(),
            hosts: BTreeSet::new(),
            earlier: VecDeque::new(),
            forgotten: BTreeSet::new(),
            has_forgotten: false,
            turns: Turns::default(),
        }
    }

    /// The records on disk.
    pub(super) fn records(&self) -> &[Record] {
        &self.durable.records
    }

    /// Remembers the state before a transaction.
    fn note_transaction(&mut self, now: Millis) {
        self.earlier.retain(|(at, _)| now.since(*at) <= WRITTEN_WITHIN);
        self.earlier.push_back((now, self.durable.clone()));
    }

    /// What was recorded since `from` is not on disk.
    fn lose_transactions(&mut self, from: Millis) {
        let mut earlier = std::mem::take(&mut self.earlier).into_iter();
        let Some((_, state)) = earlier.find(|(at, _)| *at >= from) else { return };
        let lost = std::mem::replace(&mut self.durable, state).records.into_iter();
        let lost = lost.filter(|record| !self.durable.records.contains(record));
        self.forgotten.extend(lost.map(|record| record.machine.name));
        self.has_forgotten = true;
    }

    /// These machines are listed. If the name was given again, to a machine of another type, the old one stays unknown: the
    /// operation on the other one counts.
    pub(super) fn are_known(&mut self, listed: &[Machine]) {
        let records = &self.durable.records;
        let is_reused = |machine: &Machine| {
            let mut known = records.iter().map(|record| &record.machine);
            known.any(|it| it.name == machine.name && it.machine_type != machine.machine_type)
        };
        let shown = |name: &MachineName| listed.iter().any(|it| it.name == *name && !is_reused(it));
        self.forgotten.retain(|name| !shown(name));
    }

    /// Whether it can know the state of a machine.
    pub(super) fn can_know(&self, name: &MachineName) -> bool {
        !self.forgotten.contains(name)
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Whether its current status was requested after `host` left the machines file.
    pub(super) fn has_asked_since_unpublished(&self, host: Host) -> bool {
        let status = self.status_asked.map(|asked| asked.moment);
        self.unpublished.get(&host).is_none_or(|at| status > Some(*at))
    }

    fn write(&mut self, change: Change) {
        let records = &mut self.durable.records;
        match change {
            Change::Put(record) => {
                let name = &record.machine.name;
                match records.binary_search_by(|other| other.machine.name.cmp(name)) {
                    Ok(at) => records[at] = *record,
                    Err(at) => records.insert(at, *record),
                }
            }
            Change::Remove(name) => records.retain(|record| record.machine.name != name),
            Change::BackOff(machine_type, Some(back_off)) => {
                self.durable.back_off.insert(machine_type, back_off);
            }
            Change::BackOff(machine_type, None) => {
                self.durable.back_off.remove(&machine_type);
            }
            Change::Experience(machine_type, experience) => {
                self.durable.experience.insert(machine_type, experience);
            }
            Change::OrderDone(order) => self.durable.orders.retain(|other| *other != *order),
            Change::History(_) => {}
        }
    }
}

impl SimWorld {
    /// Plants a bug, from the provisioner's next start on.
    pub fn plant(&mut self, planted: Planted) {
        self.provisioner.planted = planted;
    }

    /// The provisioner's loop; `None` while it is down.
    pub fn reconciler(&self) -> Option<&Reconciler> {
        self.provisioner.reconciler.as_ref()
    }

    /// Number of cycles of the provisioner's loop.
    pub fn turns(&self) -> u64 {
        self.provisioner.turns.total()
    }

    /// Names of machines that were requested and are not known to exist.
    pub fn recorded_intents(&self) -> Vec<MachineName> {
        let records = self.provisioner.records().iter();
        records.filter(|record| !record.exists).map(|record| record.machine.name.clone()).collect()
    }

    /// When the provisioner's loop wakes up without an event.
    pub(super) fn next_turn_at(&self) -> Option<Millis> {
        let at = self.provisioner.wakes_at?;
        let Timestamp(epoch) = self.provisioner_epoch().0;
        Some(Millis(at.0.saturating_sub(epoch).saturating_mul(1000)))
    }

    /// Starts the provisioner with what is on disk.
    pub(super) fn start_provisioner(&mut self) {
        let run = self.provisioner.run + 1;
        let now = self.now();
        self.checker.log(now, LogEntry::ProvisionerStarts(run));
        let rng = self.seed.stream(Purpose::Cycle, run);
        let configuration = self.configuration();
        let state = self.provisioner.durable.clone();
        let reconciler = Reconciler::new(configuration, state, self.seed.0, self.timestamp());
        let provisioner = &mut self.provisioner;
        provisioner.run = run;
        provisioner.rng = rng;
        provisioner.status_asked = None;
        provisioner.wakes_at = reconciler.poll_timeout();
        provisioner.latency = Millis::ZERO;
        provisioner.reconciler = Some(reconciler.with_planner(provisioner.planted.planner));
        if self.in_trouble() {
            self.engine.schedule_in(KILL_INTERVAL, Event::MayKill { run });
        }
    }

    /// Another configuration is loaded.
    pub(super) fn reconfigured(&mut self) {
        let Some(policy) = self.next_policies.pop_front() else { return };
        let now = self.now();
        self.checker.log(now, LogEntry::Reconfigured);
        self.policy = policy;
        self.probe.reconfigured(&self.policy);
        if self.provisioner.reconciler.is_some() {
            let configuration = Box::new(self.configuration());
            self.tell(LoopEvent::Configured(configuration));
        }
    }

    fn configuration(&self) -> Configuration {
        let seconds = |millis: Millis| Seconds(millis.0.div_ceil(1000).max(1));
        let types = self.policy.pools.keys();
        Configuration {
            policy: self.policy.clone(),
            providers: types.map(|kind| (kind.clone(), provider_of(kind))).collect(),
            deployment_digests: BTreeMap::new(),
            timing: Timing {
                poll_interval: seconds(self.farm.cycle.interval),
                list_interval: seconds(self.farm.cycle.list_interval),
                keep_alive_interval: None,
                create_timeout: seconds(self.limits.create_timeout),
                deploy_timeout: seconds(self.limits.deploy_timeout),
                release_timeout: seconds(self.limits.release_timeout),
                parallelism: self.limits.parallelism as usize,
                ..Timing::default()
            },
        }
    }

    /// May kill it now, or after some more effects.
    pub(super) fn may_kill(&mut self, run: u64) {
        let is_down = self.provisioner.reconciler.is_none();
        if run != self.provisioner.run || is_down || !self.in_trouble() {
            return;
        }
        if self.provisioner.rng.chance(self.farm.faults.killed) {
            if self.provisioner.rng.chance(500_000) {
                self.provisioner.effects_left = Some(self.provisioner.rng.between(1, 12));
            } else {
                self.kill_provisioner();
                return;
            }
        }
        self.engine.schedule_in(KILL_INTERVAL, Event::MayKill { run });
    }

    /// `kill -9`, with all running operations: only what is on disk remains, and providers continue what they have
    /// begun.
    pub(super) fn kill_provisioner(&mut self) {
        let now = self.now();
        self.checker.log(now, LogEntry::ProvisionerKilled(self.provisioner.run));
        if self.by_chance(self.farm.faults.transactions_lost) {
            self.checker.log(now, LogEntry::TransactionsLost);
            let length = Millis(self.provisioner.rng.below(WRITTEN_WITHIN.0));
            self.provisioner.lose_transactions(Millis(now.0.saturating_sub(length.0)));
        }
        self.provisioner.reconciler = None;
        self.provisioner.wakes_at = None;
        self.provisioner.inbox.clear();
        self.provisioner.late.clear();
        self.provisioner.asked.clear();
        self.provisioner.refused.clear();
        self.provisioner.creations.clear();
        self.provisioner.last_status = None;
        self.provisioner.effects_left = None;
        self.tasks.clear();
        self.engine.schedule_in(RESTART_AFTER, Event::ProvisionerStarts);
    }

    /// Runs the loop until it waits.
    pub(super) fn run_loop(&mut self) {
        if self.original.is_some() {
            return self.run_original();
        }
        loop {
            let (moment, now) = (self.now(), self.timestamp());
            let inbox = std::mem::take(&mut self.provisioner.inbox);
            let is_due = self.provisioner.wakes_at.is_some_and(|at| at <= now);
            if self.provisioner.reconciler.is_none() || (inbox.is_empty() && !is_due) {
                return;
            }
            if self.provisioner.turns.count(moment) {
                let what = "the loop turns without end".to_owned();
                self.checker.violated(moment, Rule::Converge, what);
                self.provisioner.reconciler = None;
                self.provisioner.wakes_at = None;
                return;
            }
            let Some(reconciler) = &mut self.provisioner.reconciler else { return };
            for event in inbox {
                reconciler.handle(now, event);
            }
            reconciler.act(now);
            self.provisioner.wakes_at = reconciler.poll_timeout();
            while let Some(effect) =
                self.provisioner.reconciler.as_mut().and_then(Reconciler::poll_effect)
            {
                if self.lives_for_one_more() {
                    self.carry_out(effect);
                } else {
                    self.kill_provisioner();
                    return;
                }
            }
        }
    }

    fn lives_for_one_more(&mut self) -> bool {
        match &mut self.provisioner.effects_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    pub(super) fn tell(&mut self, event: LoopEvent) {
        let provisioner = &mut self.provisioner;
        let event = (provisioner.planted.filter)(&mut provisioner.last_status, event);
        provisioner.inbox.push(event);
    }

    /// Tells an event before those that it has not processed yet.
    pub(super) fn tell_first(&mut self, event: LoopEvent) {
        self.tell(event);
        self.provisioner.inbox.rotate_right(1);
    }

    /// The events that it has not processed yet, the latest first.
    pub(super) fn take_event(&mut self) -> Option<LoopEvent> {
        self.provisioner.inbox.pop()
    }

    /// Delivers the event now, or later if answers are delayed; some are delivered twice.
    fn answer(&mut self, event: LoopEvent) {
        if self.by_chance(self.farm.faults.doubled_answers) {
            self.answer_later(event.clone());
        }
        if self.by_chance(self.farm.faults.slow_answers) {
            self.answer_later(event);
        } else {
            self.answer_now(event);
        }
    }

    fn answer_later(&mut self, event: LoopEvent) {
        let provisioner = &mut self.provisioner;
        let delay = Millis(provisioner.rng.below(LATEST_ANSWER.0));
        provisioner.last_late += 1;
        provisioner.late.insert(provisioner.last_late, event);
        self.engine.schedule_in(delay, Event::Answer { number: provisioner.last_late });
    }

    pub(super) fn answer_arrives(&mut self, number: u64) {
        if let Some(event) = self.provisioner.late.remove(&number) {
            self.answer_now(event);
        }
    }

    fn answer_now(&mut self, event: LoopEvent) {
        self.note_status_moment(&event);
        match &event {
            LoopEvent::Listed { result: Ok(listing), .. } => {
                self.provisioner.are_known(&listing.machines);
            }
            LoopEvent::Ended { operation, result } => self.note_creation(*operation, result),
            _ => {}
        }
        self.tell(event);
    }

    /// A back-off begins when the provisioner receives the failure.
    fn note_creation(&mut self, operation: OperationId, result: &Result<Done, OperationError>) {
        let now = self.engine.now();
        let Some(kind) = self.provisioner.creations.remove(&operation) else { return };
        match result {
            Ok(_) => self.provisioner.refused.remove(&kind),
            Err(error) => self.provisioner.refused.insert(kind, (now, error.kind)),
        };
    }

    /// A status counts for releases from the moment when it is delivered.
    fn note_status_moment(&mut self, event: &LoopEvent) {
        if let LoopEvent::Queue { question, status } = event
            && let Some(asked) = self.provisioner.asked.remove(&question.0)
        {
            let took = self.engine.now().since(asked.at);
            let provisioner = &mut self.provisioner;
            provisioner.latency = took.min(provisioner.latency + Millis::from_seconds(1));
            provisioner.status_asked = matches!(status, QueueStatus::Up(_)).then_some(asked);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::AskQueue(question) => {
                let asked = Asked { moment: self.provisioner.next_moment(), at: self.now() };
                self.provisioner.asked.insert(question.0, asked);
                let status = self.queue_status();
                self.answer(LoopEvent::Queue { question, status });
            }
            Effect::List { listing, provider } => {
                let result = self.list(&provider);
                self.answer(LoopEvent::Listed { listing, provider, result });
            }
            Effect::Begin { operation, task } => self.begin_task(operation, *task),
            Effect::Abandon(operation) => self.abandon(operation),
            Effect::Publish { publication, file } => {
                let result = self.publish(&file);
                self.tell(LoopEvent::Published { publication, result });
            }
            Effect::Record { batch, changes } => {
                if self.in_trouble() && self.farm.faults.transactions_lost > 0 {
                    let now = self.now();
                    self.provisioner.note_transaction(now);
                }
                let fails = self.by_chance(self.farm.faults.log_fails);
                let result = if fails { Err("no space left on device".to_owned()) } else { Ok(()) };
                if !fails {
                    for change in changes {
                        self.provisioner.write(change);
                    }
                }
                self.tell(LoopEvent::Recorded { batch, result });
            }
        }
    }

    pub(super) fn by_chance(&mut self, chance: u32) -> bool {
        self.in_trouble() && self.provisioner.rng.chance(chance)
    }

    /// The machines file was replaced: these hosts are no longer in it.
    pub(super) fn note_unpublished(&mut self, hosts: impl IntoIterator<Item = Host>) {
        let moment = self.provisioner.next_moment();
        for host in hosts {
            self.provisioner.unpublished.insert(host, moment);
        }
    }

    /// An operation ended.
    pub(super) fn end_operation(
        &mut self,
        operation: OperationId,
        result: Result<Done, OperationError>,
    ) {
        let event = LoopEvent::Ended { operation, result };
        if self.original.is_some() { self.tell(event) } else { self.answer(event) }
    }
}

/// Types have separate providers, so that each can fail alone.
pub(super) fn provider_of(kind: &MachineType) -> ProviderId {
    ProviderId(kind.to_string())
}

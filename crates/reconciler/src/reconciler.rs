//! The reconciler: observes, plans, acts.

mod failures;
mod operations;
mod publication;
mod questions;
mod storage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use planner::{
    BackOff, Experience, MachineName, MachineType, Order, Plan, Policy, QueueStatus, Seconds,
    Sequence, Snapshot, Timestamp, earliest, plan,
};

use crate::boundary::{Configuration, Effect, Event};
use crate::history::{Happening, HistoryEntry};
use crate::ids::{OperationId, ProviderId};
use crate::provider::Provider;
use crate::record::{Record, State};
use operations::Operations;
use publication::Publication;
use questions::Questions;
use storage::Storage;

/// How long the first plan waits for the first answers of the queue runner and the providers. A decision made
/// before they answer may have to be undone. Later plans wait for nothing.
const FIRST_ANSWERS_TIMEOUT: Seconds = Seconds(30);

/// The signature of a planner. The simulator's tests pass other planners, with planted bugs that the checkers
/// must find.
pub type Planner = fn(&Policy, &Snapshot) -> Plan;

/// The control loop of one provisioner.
#[derive(Clone, Debug)]
pub struct Reconciler {
    pub(crate) configuration: Configuration,
    pub(crate) planner: Planner,
    /// The seed of all jitter.
    pub(crate) seed: u64,
    pub(crate) now: Timestamp,
    pub(crate) moment: Sequence,
    pub(crate) records: BTreeMap<MachineName, Record>,
    pub(crate) providers: BTreeMap<ProviderId, Provider>,
    pub(crate) back_off: BTreeMap<MachineType, BackOff>,
    pub(crate) experience: BTreeMap<MachineType, Experience>,
    /// The operator's orders.
    pub(crate) orders: Vec<Order>,
    pub(crate) operations: Operations,
    pub(crate) questions: Questions,
    pub(crate) publication: Publication,
    pub(crate) storage: Storage,
    /// Whether an earlier run recorded machines.
    pub(crate) remembers: bool,
    /// The first plan is made at this time at the latest, even if first answers are missing.
    pub(crate) first_plan_at: Timestamp,
    /// When the last plan was made.
    pub(crate) planned_at: Timestamp,
    /// Whether anything that a plan may depend on has changed.
    pub(crate) changed: bool,
    /// The plan that was carried out last.
    pub(crate) plan: Plan,
    /// The snapshot that `plan` was made from.
    pub(crate) seen: Option<Snapshot>,
    pub(crate) effects: VecDeque<Effect>,
}

impl Reconciler {
    /// Creates a reconciler from the `state` that an ended run recorded. `seed` is the seed of all jitter. It
    /// does nothing before [`act`](Self::act) is called.
    pub fn new(configuration: Configuration, state: State, seed: u64, now: Timestamp) -> Self {
        Self::beside_another_run(configuration, state.after_its_run_ended(now), seed, now)
    }

    /// Creates a reconciler while another process may be at work: operations in `state` stay under way. It serves only to
    /// observe: its caller must not carry out effects that change anything.
    pub fn beside_another_run(
        configuration: Configuration,
        state: State,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let remembers = !state.records.is_empty();
        let records = state.records.into_iter().map(Record::restored);
        let mut reconciler = Self {
            remembers,
            planner: plan,
            seed,
            now,
            moment: Sequence(0),
            records: records.map(|record| (record.machine.name.clone(), record)).collect(),
            providers: BTreeMap::new(),
            back_off: state.back_off,
            experience: state.experience,
            orders: state.orders,
            operations: Operations::default(),
            questions: Questions::default(),
            publication: Publication::default(),
            storage: Storage::default(),
            first_plan_at: now.after(FIRST_ANSWERS_TIMEOUT),
            planned_at: now,
            changed: true,
            plan: Plan::default(),
            seen: None,
            effects: VecDeque::new(),
            configuration,
        };
        reconciler.update_providers();
        reconciler
    }

    /// Replaces the planner.
    #[must_use]
    pub fn with_planner(self, planner: Planner) -> Self {
        Self { planner, ..self }
    }

    /// The names of some records, for changes of these records.
    pub(crate) fn names_of(&self, filter: impl Fn(&Record) -> bool) -> Vec<MachineName> {
        let records = self.records.values().filter(|record| filter(record));
        records.map(|record| record.machine.name.clone()).collect()
    }

    /// Records what happened. Effects come from [`act`](Self::act).
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.now = now;
        match event {
            Event::Configured(configuration) => self.configured(*configuration),
            Event::Queue { question, status } => self.queue_answered(question, status),
            Event::Listed { listing, provider, result } => {
                self.listed(listing, &provider, result);
            }
            Event::Ended { operation, result } => self.ended(operation, result),
            Event::Published { publication, result } => self.published(publication, result),
            Event::Recorded { batch, result } => self.recorded(batch, result),
            Event::Interrupted { provider, machine } => self.interrupted(&provider, &machine),
            Event::Ordered(orders) => self.ordered(&orders),
            Event::ClockStepped { seconds } => self.clock_stepped(seconds),
        }
    }

    /// Observes, plans and acts. [`poll_effect`](Self::poll_effect) returns the resulting effects.
    pub fn act(&mut self, now: Timestamp) {
        self.now = now;
        self.abandon_hanging_operations();
        self.fail_slow_boots();
        let due = earliest(self.plan.wake_at, self.publication.retry_at());
        if self.may_plan() && (self.changed || due.is_some_and(|at| at <= now)) {
            self.changed = false;
            self.apply_orders();
            let snapshot = self.snapshot();
            let plan = (self.planner)(&self.configuration.policy, &snapshot);
            self.seen = Some(snapshot);
            self.planned_at = now;
            self.remember_verdicts(&plan);
            self.create(&plan);
            self.start_and_deploy(&plan);
            self.release(&plan);
            self.publish(&plan);
            self.plan = plan;
            self.request_fresh_status();
        }
        self.keep_alive();
        self.ask();
        self.record_changes();
    }

    /// The next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns the history entries since the last call. If there are too many, the oldest are dropped.
    pub fn take_history(&mut self) -> Vec<HistoryEntry> {
        self.storage.take_history()
    }

    /// When to call [`act`](Self::act) next if no event arrives.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let plan_at = if self.may_plan() { self.now } else { self.first_plan_at };
        [
            Some(plan_at).filter(|_| self.changed),
            self.plan.wake_at,
            self.next_abandon(),
            self.next_boot_timeout(),
            self.next_keep_alive(),
            self.next_question(),
            self.publication.retry_at(),
            self.storage.retry_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The time of the last call to [`handle`](Self::handle) or [`act`](Self::act).
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The operator's policy.
    pub fn policy(&self) -> &Policy {
        &self.configuration.policy
    }

    /// The plan that was carried out last.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The snapshot that [`plan`](Self::plan) was made from. `None` before the first plan.
    pub fn seen(&self) -> Option<&Snapshot> {
        self.seen.as_ref()
    }

    /// The last queue status.
    pub fn queue(&self) -> &QueueStatus {
        &self.questions.status
    }

    /// The records of all machines.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Operations that are under way.
    pub fn operations(&self) -> impl Iterator<Item = OperationId> {
        self.operations.ids()
    }

    /// Whether the queue runner and every provider have answered once, or failed to.
    pub fn has_looked(&self) -> bool {
        self.questions.is_answered()
            && self.providers.values().all(|provider| provider.answer.is_some())
    }

    /// Only the first plan waits for answers, and not for long.
    fn may_plan(&self) -> bool {
        self.seen.is_some() || self.first_plan_at <= self.now || self.has_looked()
    }

    /// Whether nothing is left to wait for: no open question, operation, publication, record or boot. A
    /// single run ends then.
    pub fn is_settled(&self) -> bool {
        self.effects.is_empty()
            && !self.changed
            && self.operations.is_empty()
            && self.has_looked()
            && self.questions.are_settled()
            && self.publication.is_settled()
            && self.storage.is_settled()
            && !self.is_booting()
            && !self.awaits_confirmation()
    }

    /// Takes over a new configuration.
    fn configured(&mut self, configuration: Configuration) {
        self.redeploy_changed_settings(&configuration);
        self.configuration = configuration;
        self.publication.policy_changed();
        self.update_providers();
        self.note(None, None, Happening::Configured);
        self.changed = true;
    }

    /// Updates the set of providers: those of the configured types, and those that created the remembered
    /// machines.
    fn update_providers(&mut self) {
        let configured: BTreeSet<_> = self.configuration.providers.values().cloned().collect();
        let remembered = self.records.values().map(|record| record.provider.clone());
        let known: BTreeSet<_> = configured.iter().cloned().chain(remembered).collect();
        self.providers.retain(|id, _| known.contains(id));
        for id in known {
            let is_configured = configured.contains(&id);
            self.providers.entry(id).or_default().is_configured = is_configured;
        }
    }

    /// Machines with changed deployment settings are deployed again.
    fn redeploy_changed_settings(&mut self, new: &Configuration) {
        for record in self.records.values_mut() {
            let digest = new.deployment_digests.get(&record.machine.machine_type);
            if digest.is_some() && record.deployed_with.as_ref() != digest {
                record.machine.memory.ready_since = None;
                self.storage.touch(&record.machine.name);
            }
        }
    }

    /// The system clock was set: shifts all remembered times, so that no wait becomes longer or shorter.
    fn clock_stepped(&mut self, seconds: i64) {
        for record in self.records.values_mut() {
            record.shift(seconds);
            self.storage.touch(&record.machine.name);
        }
        for (machine_type, back_off) in &mut self.back_off {
            back_off.until = back_off.until.shifted(seconds);
            self.storage.touch_back_off(machine_type);
        }
        let before = self.now.shifted(seconds.saturating_neg());
        for (machine_type, known) in &mut self.experience {
            known.spent = known.spent.clock_set(before, self.now);
            self.storage.touch_experience(machine_type);
        }
        for provider in self.providers.values_mut() {
            provider.last_asked = provider.last_asked.map(|at| at.shifted(seconds));
            provider.charges_asked_at = provider.charges_asked_at.map(|at| at.shifted(seconds));
        }
        self.first_plan_at = self.first_plan_at.shifted(seconds);
        self.planned_at = self.planned_at.shifted(seconds);
        self.operations.shift(seconds);
        self.questions.shift(seconds);
        self.publication.shift(seconds);
        self.storage.shift(seconds);
        self.note(None, None, Happening::ClockStepped { seconds });
        self.changed = true;
    }

    /// The next moment in the order of questions, publications and operations.
    pub(crate) fn next_moment(&mut self) -> Sequence {
        self.moment.0 += 1;
        self.moment
    }

    /// Adds to the history.
    pub(crate) fn note(
        &mut self,
        machine: Option<MachineName>,
        machine_type: Option<MachineType>,
        what: Happening,
    ) {
        let record = machine.as_ref().and_then(|name| self.records.get(name));
        let record = record.filter(|_| what.begins_cost() || what.ends_cost());
        let dollars_per_hour = record.and_then(|record| self.price_of(record));
        let at = self.now;
        self.storage.history(HistoryEntry { at, machine, machine_type, what, dollars_per_hour });
    }

    /// Adds to the history of a machine.
    pub(crate) fn note_of(&mut self, name: &MachineName, what: Happening) {
        let machine_type = self.records.get(name).map(|r| r.machine.machine_type.clone());
        self.note(Some(name.clone()), machine_type, what);
    }
}

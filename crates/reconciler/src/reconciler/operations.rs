//! Operations on machines: how they begin, and what their results mean.

use std::collections::BTreeMap;

use planner::{
    BackOffKind, EndsWhen, Experience, Machine, MachineName, MachineState, MachineType, Operation,
    Seconds, Timestamp, UnderWay,
};

use super::Reconciler;
use crate::boundary::{Done, Effect, Task};
use crate::history::Happening;
use crate::ids::{OperationId, ProviderId};
use crate::operation_error::{OperationError, OperationErrorKind};
use crate::record::Record;

/// How far the driver may exceed an operation's own time limit before the operation is abandoned.
const SLACK: Seconds = Seconds(15);

/// The operations that are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operations {
    last: OperationId,
    under_way: BTreeMap<OperationId, Running>,
    by_provider: BTreeMap<ProviderId, usize>,
    /// Whether an operation had to wait because its provider has `parallelism` operations already.
    has_postponed: bool,
}

#[derive(Clone, Debug)]
struct Running {
    name: MachineName,
    provider: ProviderId,
    operation: Operation,
    began: Timestamp,
    limit: Seconds,
    is_abandoned: bool,
    /// It was ended because its machine is being released: its failure is ignored.
    is_unneeded: bool,
}

impl Operations {
    pub(crate) fn ids(&self) -> impl Iterator<Item = OperationId> {
        self.under_way.keys().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    fn number_of(&self, provider: &ProviderId) -> usize {
        self.by_provider.get(provider).copied().unwrap_or(0)
    }

    fn insert(&mut self, running: Running) -> OperationId {
        let id = self.last.advance();
        *self.by_provider.entry(running.provider.clone()).or_default() += 1;
        self.under_way.insert(id, running);
        id
    }

    fn remove(&mut self, id: OperationId) -> Option<Running> {
        let running = self.under_way.remove(&id)?;
        if let Some(number) = self.by_provider.get_mut(&running.provider) {
            *number -= 1;
        }
        Some(running)
    }

    pub(crate) fn shift(&mut self, seconds: i64) {
        for running in self.under_way.values_mut() {
            running.began = running.began.shifted(seconds);
        }
    }
}

impl Running {
    /// When it exceeds its time limit.
    fn hangs_at(&self) -> Timestamp {
        self.began.after(self.limit).after(SLACK)
    }
}

impl Reconciler {
    /// Begins an operation if no other is under way on the machine, and fewer than `parallelism` of its provider are.
    pub(crate) fn begin(&mut self, name: &MachineName, operation: Operation) {
        let Some(record) = self.records.get(name) else { return };
        let parallelism = self.configuration.timing.parallelism.max(1);
        // Many keep-alive touches must not delay creations.
        let at_most =
            if operation == Operation::KeepAlive { parallelism.div_ceil(2) } else { parallelism };
        if record.machine.memory.under_way.is_some() {
            return;
        }
        if self.operations.number_of(&record.provider) >= at_most {
            self.operations.has_postponed = true;
            return;
        }
        let limit = self.configuration.timing.limit(operation);
        let task = Box::new(Task {
            operation,
            machine: record.machine.clone(),
            provider: record.provider.clone(),
            token: record.token(),
            limit,
        });
        let operation_id = self.operations.insert(Running {
            name: name.clone(),
            provider: record.provider.clone(),
            operation,
            began: self.now,
            limit,
            is_abandoned: false,
            is_unneeded: false,
        });
        self.effects.push_back(Effect::Begin { operation: operation_id, task });
        if matches!(operation, Operation::Create | Operation::Start) {
            self.start_billing(name, self.now);
        }
        if let Some(record) = self.records.get_mut(name) {
            record.machine.memory.under_way = Some(UnderWay { operation, since: self.now });
        }
        if operation != Operation::KeepAlive {
            // Recorded for other processes that read the state, and for the next run: after a kill in the
            // middle of it, it is not known how far the operation came.
            self.storage.touch(name);
        }
        self.changed |= operation != Operation::KeepAlive;
    }

    /// Abandons operations that exceed their time limit. The next operation on the machine waits until the
    /// abandoned one has ended.
    pub(crate) fn abandon_hanging_operations(&mut self) {
        let hanging: Vec<_> = self
            .operations
            .under_way
            .iter()
            .filter(|(_, running)| !running.is_abandoned && running.hangs_at() <= self.now)
            .map(|(id, running)| (*id, running.name.clone(), running.operation))
            .collect();
        for (id, name, operation) in hanging {
            if let Some(running) = self.operations.under_way.get_mut(&id) {
                running.is_abandoned = true;
            }
            self.effects.push_back(Effect::Abandon(id));
            self.note_of(&name, Happening::Abandoned { operation });
        }
    }

    /// Ends the deployment of a machine that is being released. It may take as long as `deployTimeout`.
    pub(crate) fn end_deployment(&mut self, name: &MachineName) {
        let running = self.operations.under_way.iter_mut().find(|(_, running)| {
            running.name == *name && running.operation == Operation::Deploy && !running.is_abandoned
        });
        let Some((id, running)) = running else { return };
        (running.is_abandoned, running.is_unneeded) = (true, true);
        self.effects.push_back(Effect::Abandon(*id));
        self.note_of(name, Happening::DeploymentEnded);
    }

    pub(crate) fn next_abandon(&self) -> Option<Timestamp> {
        let running = self.operations.under_way.values();
        running.filter(|running| !running.is_abandoned).map(Running::hangs_at).min()
    }

    pub(crate) fn ended(&mut self, id: OperationId, result: Result<Done, OperationError>) {
        let Some(running) = self.operations.remove(id) else { return };
        let moment = self.next_moment();
        let name = running.name.clone();
        let Some(record) = self.records.get_mut(&name) else { return };
        record.machine.memory.under_way = None;
        record.last_operation_ended = moment;
        let outcome_is_unknown =
            matches!(&result, Err(error) if error.kind == OperationErrorKind::TimedOut);
        let begins = matches!(running.operation, Operation::Create | Operation::Start);
        if begins && (result.is_ok() || outcome_is_unknown) {
            record.begin_ended = moment;
        }
        self.storage.touch(&name);
        self.changed |= running.operation != Operation::KeepAlive || result.is_err();
        self.changed |= std::mem::take(&mut self.operations.has_postponed);
        if outcome_is_unknown && let Some(provider) = self.providers.get_mut(&running.provider) {
            provider.ask_soon = true;
        }
        match result {
            Ok(Done { machine, warnings, name_is_unconfirmed }) => {
                if running.operation == Operation::Deploy {
                    record.machine.memory.name_is_unconfirmed = name_is_unconfirmed;
                }
                for text in warnings {
                    self.note_of(&name, Happening::Warning { text });
                }
                self.succeeded(&running, *machine);
            }
            Err(_) if running.is_unneeded => {}
            Err(error) => self.failed(&running, error),
        }
        // A machine that continues in spite of its drain is drained again at the regular interval.
        let is_first_drain = running.operation == Operation::Drain
            && self.records.get(&name).is_some_and(|record| record.drains <= 1);
        if is_first_drain {
            self.questions.ask_soon();
        }
    }

    fn succeeded(&mut self, running: &Running, machine: Machine) {
        if running.operation.ends_the_machine() {
            self.stop_billing(&running.name);
        }
        let took = self.now.since(running.began);
        let now = self.now;
        let digests = &self.configuration.deployment_digests;
        let Some(record) = self.records.get_mut(&running.name) else { return };
        if running.operation != Operation::KeepAlive {
            record.machine.memory.failing = None;
        }
        let happening = match running.operation {
            Operation::Create => {
                record.describe(machine);
                record.was_confirmed_to_exist();
                record.was_turned_on(now, took);
                Some(Happening::Created { took })
            }
            Operation::Start => {
                record.machine.state = MachineState::Starting;
                record.was_turned_on(now, took);
                Some(Happening::Started { took })
            }
            Operation::Deploy => {
                record.describe(machine);
                record.deployed_with = digests.get(&record.machine.machine_type).cloned();
                record.became_ready(now)
            }
            Operation::KeepAlive => {
                record.kept_alive_at = Some(now);
                record.machine.memory.unreachable_since = None;
                None
            }
            Operation::Drain => {
                record.was_drained();
                Some(Happening::Drained)
            }
            Operation::Stop => {
                record.machine.state = MachineState::Stopped;
                record.was_turned_off();
                Some(Happening::Stopped)
            }
            Operation::Destroy => {
                record.was_turned_off();
                record.machine.memory.destroyed_at = Some(now);
                Some(Happening::Destroyed)
            }
        };
        if let Some(Happening::Ready { after: Some(booted_in) }) = happening
            && let Some(made_in) = record.made_in.take()
        {
            let machine_type = record.machine.machine_type.clone();
            self.learn_start_time(&machine_type, made_in.plus(booted_in));
            self.end_back_off(&machine_type, EndsWhen::Ready);
        } else if running.operation == Operation::Create {
            let machine_type = record.machine.machine_type.clone();
            self.end_back_off(&machine_type, EndsWhen::Created);
        }
        if matches!(running.operation, Operation::Create | Operation::Start | Operation::Destroy)
            && let Some(provider) = self.providers.get_mut(&running.provider)
        {
            provider.ask_soon = true;
        }
        if let Some(happening) = happening {
            self.note_of(&running.name, happening);
        }
        if running.operation == Operation::Create {
            self.note_failed_boot(&running.name);
        }
    }

    /// A time longer than the limits of a start allow contains an outage: of the provider, or of ourselves.
    fn learn_start_time(&mut self, machine_type: &MachineType, took: Seconds) {
        let timing = &self.configuration.timing;
        let deployments = timing.deploy_timeout.plus(timing.deploy_timeout);
        if took <= timing.limit(Operation::Create).plus(deployments) {
            self.learn(machine_type, |known| known.was_ready_after(took));
        }
    }

    /// Updates the measurements of a type.
    pub(crate) fn learn(&mut self, machine_type: &MachineType, what: impl FnOnce(&mut Experience)) {
        let known = self.experience.entry(machine_type.clone()).or_default();
        what(known);
        self.storage.touch_experience(machine_type);
    }

    fn failed(&mut self, running: &Running, error: OperationError) {
        let OperationError { kind, message } = error;
        if running.operation == Operation::KeepAlive {
            if let Some(happening) = self.keep_alive_failed(&running.name, kind, message) {
                self.note_of(&running.name, happening);
            }
            return;
        }
        if running.operation == Operation::Deploy
            && kind == OperationErrorKind::Unreachable
            && self.awaits_ssh(&running.name, running.began, &message)
        {
            return;
        }
        let Some(record) = self.records.get_mut(&running.name) else { return };
        match running.operation {
            Operation::Create if kind == OperationErrorKind::TimedOut => {
                record.unknown_since = Some(self.now);
            }
            Operation::Create => record.creation_failed(),
            // It may run: the next listing shows that.
            Operation::Start if kind == OperationErrorKind::TimedOut => {
                record.machine.state = MachineState::Starting;
            }
            Operation::Drain => record.was_drained(),
            // It may be off or gone in spite of the error: it must be deployed before it is published again.
            Operation::Stop | Operation::Destroy => record.machine.memory.ready_since = None,
            Operation::Deploy if record.machine.memory.ready_since.is_some() => {
                record.machine.memory.unreachable_since.get_or_insert(self.now);
            }
            _ => {}
        }
        let failures = self.note_failure(&running.name, running.operation, &message);
        if running.operation == Operation::Create {
            let kind = match kind {
                OperationErrorKind::Capacity => BackOffKind::Capacity,
                _ => BackOffKind::Failure,
            };
            self.back_off_type(&running.name, kind, EndsWhen::Created, &message);
        }
        let operation = running.operation;
        let retry_at = self.next_try(&running.name);
        self.note_of(
            &running.name,
            Happening::Failed { operation, kind, failures, error: message, retry_at },
        );
    }

    /// Touches `/run/keep-alive` on machines where it is due.
    pub(crate) fn keep_alive(&mut self) {
        let Some(interval) = self.configuration.timing.keep_alive_interval else { return };
        let is_due =
            |record: &Record| record.keep_alive_due(interval).is_some_and(|at| at <= self.now);
        for name in self.names_of(is_due) {
            self.begin(&name, Operation::KeepAlive);
        }
    }

    pub(crate) fn next_keep_alive(&self) -> Option<Timestamp> {
        let interval = self.configuration.timing.keep_alive_interval?;
        // A touch that is due but has to wait (`parallelism`) waits for an operation to end, not for a time.
        let due = self.records.values().filter_map(|record| record.keep_alive_due(interval));
        due.filter(|at| *at > self.now).min()
    }

    fn keep_alive_failed(
        &mut self,
        name: &MachineName,
        kind: OperationErrorKind,
        message: String,
    ) -> Option<Happening> {
        let now = self.now;
        if let Some(record) = self.records.get_mut(name) {
            record.kept_alive_at = Some(now);
            if kind == OperationErrorKind::Unreachable {
                // One that is being released is tried again and again: said once.
                let is_known = record.machine.memory.unreachable_since.is_some();
                record.machine.memory.unreachable_since.get_or_insert(now);
                return (!is_known).then_some(Happening::Unreachable { error: message });
            }
        }
        Some(Happening::Warning { text: format!("keep-alive: {message}") })
    }
}

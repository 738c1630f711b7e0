//! A machine with everything known of it: from its provider, the queue runner, its cost, and our memory.

use crate::endpoint::Host;
use crate::health::{Health, Unhealthy, diagnose};
use crate::matching::{QueueMachines, SeenInQueue};
use crate::memory::{Operation, Progress};
use crate::orders::{Order, OrderKind};
use crate::policy::Policy;
use crate::policy::PoolPolicy;
use crate::progress::progress;
use crate::snapshot::{Machine, MachineState, QueueStatus, Snapshot};
use crate::time::{Seconds, Timestamp};

/// A machine as the rules see it.
pub(crate) struct Observed<'a> {
    /// Its index among all machines, by name.
    pub(crate) index: usize,
    pub(crate) machine: &'a Machine,
    pub(crate) now: Timestamp,
    pub(crate) in_queue: Option<SeenInQueue>,
    /// An unknown builder that could be this machine under another name: a busy one, or (REST, after a failed stop of its
    /// builder) any.
    pub(crate) may_be_builder: Option<&'a Host>,
    pub(crate) paid_time_left: Seconds,
    /// It got no new builds before the queue status became unavailable.
    pub(crate) stays_without_builds: bool,
    pub(crate) name_is: NameIs,
    pub(crate) progress: Option<Progress>,
    pub(crate) unhealthy: Option<Unhealthy>,
    pub(crate) health: Health,
    /// The operator's order for it.
    pub(crate) order: Option<&'a Order>,
    /// The order that pauses its type.
    pub(crate) paused: Option<&'a Order>,
    /// Whether most ready machines of its type are unhealthy in the same way.
    pub(crate) has_common_cause: bool,
}

/// Whether a name is unique.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameIs {
    Unique,
    Duplicate,
}

/// All machines, sorted by name, with their entries in the queue status. Of two with the same name the first
/// is used.
pub(crate) fn observe<'a>(policy: &Policy, snapshot: &'a Snapshot) -> Vec<Observed<'a>> {
    let queue =
        QueueMachines::of_status(&snapshot.queue, &snapshot.machines, &policy.other_machines);
    let orders: Vec<_> = snapshot.orders_in_force().collect();
    let is_unavailable = matches!(snapshot.queue, QueueStatus::Unavailable(_));
    let mut sorted: Vec<_> = snapshot.machines.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    sorted
        .chunk_by(|a, b| a.name == b.name)
        .enumerate()
        .filter_map(|(index, namesakes)| {
            let machine = *namesakes.first()?;
            let in_queue = queue.find(machine);
            let progress = progress(machine.memory.progress, in_queue, snapshot);
            Some(Observed {
                index,
                machine,
                now: snapshot.taken_at,
                in_queue,
                may_be_builder: queue.may_be_builder(machine, in_queue, snapshot.taken_at),
                paid_time_left: machine.paid_time_left(snapshot.taken_at),
                stays_without_builds: is_unavailable && machine.memory.without_builds,
                name_is: if namesakes.len() == 1 { NameIs::Unique } else { NameIs::Duplicate },
                progress,
                unhealthy: diagnose(machine, in_queue, progress, policy, snapshot),
                health: Health::Counts,
                order: orders.iter().find(|o| o.kind.machine() == Some(&machine.name)).copied(),
                paused: orders.iter().find(|o| o.pauses(&machine.machine_type)).copied(),
                has_common_cause: false,
            })
        })
        .collect()
}

impl Observed<'_> {
    /// Steps that it is building, according to the queue runner.
    pub(crate) fn jobs(&self) -> u64 {
        self.in_queue.map_or(0, |seen| seen.jobs)
    }

    /// The operation under way on it.
    pub(crate) fn operation(&self) -> Option<Operation> {
        self.machine.memory.under_way.map(|under_way| under_way.operation)
    }

    /// Whether it is being stopped or destroyed, or was destroyed.
    pub(crate) fn is_ending(&self) -> bool {
        self.machine.memory.destroyed_at.is_some()
            || self.operation().is_some_and(Operation::ends_the_machine)
    }

    /// How long its provider has not listed it, if that is longer than a listing may lag.
    pub(crate) fn vanished_for(&self) -> Option<Seconds> {
        self.machine.memory.missing?.vanished_for(self.now)
    }

    /// How long its operations have failed, if it is not ready, builds nothing, and that is longer than `giveUpAfter`.
    pub(crate) fn failing_too_long(&self, pool: &PoolPolicy) -> Option<Seconds> {
        let failing = self.machine.memory.failing.as_ref()?;
        let failing_for = self.now.since(failing.since);
        let exists = self.machine.state != MachineState::Requested;
        let not_ready = exists && self.machine.memory.ready_since.is_none();
        let idle = not_ready && self.jobs() == 0 && self.may_be_builder.is_none();
        (idle && failing_for >= pool.give_up_after).then_some(failing_for)
    }

    /// Whether it can serve the queue, now or once it is up.
    pub(crate) fn is_usable(&self, pool: &PoolPolicy) -> bool {
        self.machine.state != MachineState::Failed
            && !self.is_ending()
            && self.operation() != Some(Operation::Drain)
            && self.vanished_for().is_none()
            && self.failing_too_long(pool).is_none()
            && self.health == Health::Counts
            && self.ordered_to_leave().is_none()
            && self.machine.memory.interrupted_at.is_none()
            && (self.paused.is_none() || self.is_running())
    }

    /// The order that it gets no more builds (with `Drain` it then stays).
    pub(crate) fn ordered_to_leave(&self) -> Option<&'_ Order> {
        self.order.filter(|order| {
            matches!(order.kind, OrderKind::Drain(_) | OrderKind::Release(_) | OrderKind::Forget(_))
        })
    }

    /// The order to keep it. A machine that is gone cannot be kept.
    pub(crate) fn ordered_to_stay(&self) -> Option<&'_ Order> {
        let is_there = self.machine.state != MachineState::Requested
            && self.machine.memory.destroyed_at.is_none()
            && self.vanished_for().is_none();
        self.order.filter(|order| is_there && matches!(order.kind, OrderKind::Keep(_)))
    }

    /// Whether it may be running and costing money, now or soon.
    pub(crate) fn is_running(&self) -> bool {
        self.machine.state.is_live()
            || matches!(self.operation(), Some(Operation::Create | Operation::Start))
    }

    /// Whether no operation is under way on it and it is not in back-off.
    pub(crate) fn may_be_operated(&self) -> bool {
        let memory = &self.machine.memory;
        let retries = [
            memory.failing.as_ref().map(|failing| failing.retry_at),
            memory.awaits_ssh.map(|awaits_ssh| awaits_ssh.retry_at),
        ];
        let is_too_early = retries.into_iter().flatten().any(|retry_at| retry_at > self.now);
        memory.under_way.is_none() && !is_too_early
    }

    /// As [`Self::may_be_operated`], for its release: the back-off of earlier creations and deployments does
    /// not delay a release.
    pub(crate) fn may_be_released(&self) -> bool {
        let memory = &self.machine.memory;
        let failing = memory.failing.as_ref().filter(|failing| {
            failing.operation == Operation::Drain || failing.operation.ends_the_machine()
        });
        memory.under_way.is_none() && failing.is_none_or(|failing| failing.retry_at <= self.now)
    }

    /// Whether it is being created, or boots after a creation or a start.
    pub(crate) fn is_being_created(&self) -> bool {
        self.operation() == Some(Operation::Create)
            || matches!(self.machine.state, MachineState::Creating | MachineState::Starting)
    }
}

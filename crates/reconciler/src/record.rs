//! The record of one machine, and the state that is recorded.

use std::collections::BTreeMap;

use planner::{
    BackOff, Endpoint, Experience, Host, InMachinesFile, Leaving, Machine, MachineName,
    MachineState, MachineType, Order, Paid, Seconds, Sequence, StepsBuilt, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::history::{Happening, HistoryEntry};
use crate::ids::ProviderId;

/// All that is remembered of one machine. A machine that was only requested so far has the state `Requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// The machine as it was last described, with its memory.
    pub machine: Machine,
    /// Its provider.
    pub provider: ProviderId,
    /// Number of its creations that certainly failed.
    #[serde(default)]
    pub attempt: u32,
    /// Whether its provider has ever confirmed its creation or listed it.
    #[serde(default)]
    pub exists: bool,
    /// Whether its provider has ever listed it.
    #[serde(default)]
    pub was_listed: bool,
    /// When the outcome of its creation became unknown: the machine may exist until a creation succeeds or a listing
    /// long after shows that it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<Timestamp>,
    /// Since when it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booting_since: Option<Timestamp>,
    /// How long its creation or start took, until the measurement is used when it becomes ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_in: Option<Seconds>,
    /// When its cost was last booked: what it cost before is not booked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_until: Option<Timestamp>,
    /// When `/run/keep-alive` was last touched on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_alive_at: Option<Timestamp>,
    /// The digest of the settings that it was last deployed with.
    #[serde(default, alias = "settings", skip_serializing_if = "Option::is_none")]
    pub deployed_with: Option<String>,
    /// Whether the history contains that the machines file names it.
    #[serde(rename = "toldPublished", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_published_in_history: bool,
    /// Since when it is ours by an `adopt` order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_at: Option<Timestamp>,
    /// The moment when the last operation on it ended. Answers to older questions do not describe it any
    /// more.
    #[serde(skip)]
    pub last_operation_ended: Sequence,
    /// The moment when its last creation or start ended, unless that certainly failed: only a newer listing counts what the
    /// machine uses of its host.
    #[serde(skip)]
    pub begin_ended: Sequence,
    /// The steps that the queue runner last counted for it, in this run.
    #[serde(skip)]
    pub built: Option<StepsBuilt>,
    /// How many drains it has had since the decision to release it.
    #[serde(skip)]
    pub drains: u32,
}

impl Record {
    /// The intent to create a machine.
    pub(crate) fn intent(
        name: MachineName,
        machine_type: MachineType,
        provider: ProviderId,
        now: Timestamp,
    ) -> Self {
        let mut machine = Machine::requested(name, machine_type);
        machine.memory.requested_at = Some(now);
        machine.memory.known_since = Some(now);
        Self::of(machine, provider)
    }

    /// A machine that its provider lists and that has no record.
    pub(crate) fn found(mut machine: Machine, provider: ProviderId, now: Timestamp) -> Self {
        machine.memory.known_since = Some(now);
        // An earlier provisioner may have published it. So it must be unpublished before it is released.
        machine.memory.in_machines_file = InMachinesFile::Now;
        let known = machine.host_name.clone().map(|host| Endpoint { host, port: None });
        machine.memory.published.extend(known);
        Self {
            exists: true,
            was_listed: true,
            booting_since: Some(now),
            ..Self::of(machine, provider)
        }
    }

    fn of(machine: Machine, provider: ProviderId) -> Self {
        Self {
            machine,
            provider,
            attempt: 0,
            exists: false,
            was_listed: false,
            unknown_since: None,
            booting_since: None,
            made_in: None,
            billed_until: None,
            kept_alive_at: None,
            deployed_with: None,
            is_published_in_history: false,
            adopted_at: None,
            last_operation_ended: Sequence(0),
            begin_ended: Sequence(0),
            built: None,
            drains: 0,
        }
    }

    /// Its provider has confirmed that it exists.
    pub(crate) fn was_confirmed_to_exist(&mut self) {
        self.exists = true;
        self.unknown_since = None;
    }

    /// An attempt to create it has failed. While an earlier attempt may have created it, it still counts against the
    /// limits, and the token stays the same: this failure says nothing about the earlier attempt.
    pub(crate) fn creation_failed(&mut self) {
        if self.unknown_since.is_none() {
            self.attempt += 1;
            self.machine.memory.paid = None;
        }
    }

    /// The idempotency key of its creation.
    pub(crate) fn token(&self) -> String {
        let requested_at = self.machine.memory.requested_at.unwrap_or_default();
        format!("{}-{}-{}", self.machine.name, requested_at.0, self.attempt)
    }

    /// Takes over a provider's or the machine's own description.
    pub(crate) fn describe(&mut self, machine: Machine) {
        let mut memory = std::mem::take(&mut self.machine.memory);
        // The queue runner may still build on it at its previous address.
        if memory.was_in_queue_status && self.machine.address != machine.address {
            let port = Some(self.machine.ssh_port);
            memory
                .published
                .extend(self.machine.address.take().map(|host| Endpoint { host, port }));
        }
        // Every name is kept from its first report on: after a rename the queue runner may still know the previous one.
        let host_name = machine.host_name.clone();
        memory.published.extend(host_name.map(|host| Endpoint { host, port: None }));
        // A machine that has failed or is off is no longer charged; what was paid in advance stays paid.
        let paid_until = self.machine.next_charge_at;
        let is_paid = memory.paid.is_some() && !machine.state.is_live();
        let next_charge_at = machine.next_charge_at.or(paid_until.filter(|_| is_paid));
        self.machine = Machine { memory, next_charge_at, ..machine };
    }

    /// It can build now. Returns a history entry if it was not ready before.
    pub(crate) fn became_ready(&mut self, now: Timestamp) -> Option<Happening> {
        let memory = &mut self.machine.memory;
        let was_ready = memory.ready_since.is_some() && memory.unreachable_since.is_none();
        memory.ready_since.get_or_insert(now);
        memory.restored = false;
        memory.unreachable_since = None;
        memory.awaits_ssh = None;
        self.kept_alive_at = Some(now);
        let after = self.booting_since.take().map(|since| now.since(since));
        (!was_ready).then_some(Happening::Ready { after })
    }

    /// Its builder was asked to stop. `became_ready` reverts this.
    pub(crate) fn was_drained(&mut self) {
        let last_operation_ended = self.last_operation_ended;
        let memory = &mut self.machine.memory;
        memory.ready_since = None;
        if let Some(leaving) = &mut memory.leaving {
            self.drains = if leaving.drained.is_none() { 1 } else { self.drains + 1 };
            leaving.drained = Some(last_operation_ended);
        }
    }

    /// Its creation or start, which `took` so long, has ended: it boots.
    pub(crate) fn was_turned_on(&mut self, now: Timestamp, took: Seconds) {
        self.booting_since = Some(now);
        self.made_in = Some(took);
        let memory = &mut self.machine.memory;
        memory.ready_since = None;
        memory.awaits_ssh = None;
        memory.was_in_queue_status = false;
    }

    /// Remembers where `other` is, which has the same name. Returns whether that is new.
    pub(crate) fn may_be_at(&mut self, other: &Machine) -> bool {
        let endpoint = |host: &Host, port| Endpoint { host: host.clone(), port };
        let known = &mut self.machine.memory.published;
        let before = known.len();
        known.extend(other.address.iter().map(|host| endpoint(host, Some(other.ssh_port))));
        known.extend(other.host_name.iter().map(|host| endpoint(host, None)));
        known.len() != before
    }

    /// It is off.
    pub(crate) fn was_turned_off(&mut self) {
        let memory = &mut self.machine.memory;
        memory.ready_since = None;
        memory.unreachable_since = None;
        memory.awaits_ssh = None;
        memory.unhealthy_since = None;
        memory.leaving = None;
        memory.interrupted_at = None;
        self.booting_since = None;
        self.made_in = None;
    }

    /// Whether it runs and cannot be deployed yet.
    pub(crate) fn is_booting(&self) -> bool {
        match self.machine.state {
            MachineState::Creating | MachineState::Starting => true,
            MachineState::Up => self.machine.address.is_none(),
            _ => false,
        }
    }

    /// When its boot exceeds the time limit. `None` once it counts as failing.
    pub(crate) fn boot_timeout(&self, limit: Seconds) -> Option<Timestamp> {
        let is_waited_for = self.is_booting() && self.machine.memory.failing.is_none();
        self.booting_since.filter(|_| is_waited_for).map(|since| since.after(limit))
    }

    /// The error message of a boot that exceeds the time limit.
    pub(crate) fn slow_boot(&self, limit: Seconds) -> String {
        match (self.machine.state, &self.machine.address) {
            // The address may be one that cannot be used.
            (MachineState::Up, None) if !self.machine.problems.is_empty() => {
                self.machine.problems.join("; ")
            }
            (MachineState::Up, None) => {
                format!("it has been up for {limit}, but its provider reports no address for it")
            }
            (state, _) => {
                format!("it was not up within {limit} (its state is {state}); see deployTimeout")
            }
        }
    }

    /// When to touch `/run/keep-alive` on it. One that is being released was deployed; with REST it is not ready once it is
    /// drained, but by an order to drain it stays, and must not power itself off.
    pub(crate) fn keep_alive_due(&self, interval: Seconds) -> Option<Timestamp> {
        let memory = &self.machine.memory;
        let may_be_ending =
            memory.failing.as_ref().is_some_and(|failing| failing.operation.ends_the_machine());
        let is_leaving = memory.leaving.is_some() && !may_be_ending;
        let is_served = memory.ready_since.is_some() && memory.unreachable_since.is_none();
        let is_touched = (is_served || is_leaving)
            && self.machine.state == MachineState::Up
            && memory.under_way.is_none()
            && memory.missing.is_none()
            && memory.destroyed_at.is_none();
        let last = self.kept_alive_at.or(memory.ready_since)?;
        is_touched.then(|| last.after(interval))
    }

    /// Shifts all remembered times, because the clock was set.
    pub(crate) fn shift(&mut self, seconds: i64) {
        let shift = |time: Option<Timestamp>| time.map(|time| time.shifted(seconds));
        self.machine.memory.shift(seconds);
        self.booting_since = shift(self.booting_since);
        self.unknown_since = shift(self.unknown_since);
        self.billed_until = shift(self.billed_until);
        self.kept_alive_at = shift(self.kept_alive_at);
    }

    /// The record after the run that wrote it has ended: no operation is under way.
    fn after_its_run_ended(mut self, now: Timestamp) -> Self {
        if !self.exists {
            // The run may have ended before it could write down that the creation had begun.
            let since = self.machine.memory.requested_at.unwrap_or(now);
            self.machine.memory.paid.get_or_insert(Paid { since, dollars_per_hour: None });
            self.unknown_since = Some(now);
        }
        let memory = &mut self.machine.memory;
        let under_way = memory.under_way.take();
        if under_way.is_some_and(|under_way| under_way.operation.stops_builds()) {
            // Whether the operation had an effect is not known: the machine is deployed before it is
            // published again.
            memory.ready_since = None;
        }
        self
    }

    /// Moments of an earlier run mean nothing. A machine that may be published counts as published until a
    /// publication without it has ended.
    pub(crate) fn restored(mut self) -> Self {
        // Moments are counted from zero again: every later listing is newer.
        self.last_operation_ended = Sequence(0);
        let memory = &mut self.machine.memory;
        memory.restored = true;
        if self.exists {
            // Whether it was published may not have been recorded any more.
            memory.in_machines_file = InMachinesFile::Now;
        }
        if memory.leaving.is_some() {
            memory.leaving = Some(Leaving { decided: Sequence(0), drained: None });
        }
        self
    }
}

/// The state that an earlier run recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The machines.
    pub records: Vec<Record>,
    /// The back-off of types after failed creations.
    pub back_off: BTreeMap<MachineType, BackOff>,
    /// The measurements of earlier machines, per type.
    pub experience: BTreeMap<MachineType, Experience>,
    /// The operator's orders.
    pub orders: Vec<Order>,
}

impl State {
    /// The state after the run that wrote it has ended: no operation is under way.
    #[must_use]
    pub fn after_its_run_ended(mut self, now: Timestamp) -> Self {
        let records = self.records.into_iter();
        self.records = records.map(|record| record.after_its_run_ended(now)).collect();
        self
    }
}

/// A change of the recorded state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A machine's record is new or has changed.
    Put(Box<Record>),
    /// A machine is gone.
    Remove(MachineName),
    /// The back-off of a type has changed or ended.
    BackOff(MachineType, Option<BackOff>),
    /// The measurements of a type have changed.
    Experience(MachineType, Experience),
    /// An order was carried out or has expired.
    OrderDone(Box<Order>),
    /// Something happened.
    History(HistoryEntry),
}

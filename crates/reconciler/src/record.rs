//! What is remembered of a machine, and how it is written down.

use std::collections::BTreeMap;

use planner::{
    BackOff, Endpoint, Experience, Leaving, Listed, Machine, MachineName, MachineState,
    MachineType, Order, Seconds, Sequence, StepsBuilt, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::boundary::ProviderId;
use crate::history::{Happening, HistoryEntry};

/// All that is remembered of one machine. One that was only asked for so far has the state `Requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// The machine as it was last described, with its memory.
    pub machine: Machine,
    /// The provider that it is of.
    pub provider: ProviderId,
    /// How often its creation has failed for sure.
    #[serde(default)]
    pub attempt: u32,
    /// Whether its provider has ever answered for it, or listed it.
    #[serde(default)]
    pub exists: bool,
    /// Whether its provider has ever listed it.
    #[serde(default)]
    pub was_listed: bool,
    /// Since when it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booting_since: Option<Timestamp>,
    /// How long its creation or start took, until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_in: Option<Seconds>,
    /// When `/run/keep-alive` was last touched on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_alive_at: Option<Timestamp>,
    /// The digest of the settings that it was last deployed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// Whether the history tells that the machines file names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_published: bool,
    /// The moment when an operation on it last ended: what was asked for before says nothing of it any more.
    #[serde(skip)]
    pub touched: Sequence,
    /// What the queue runner last counted of its steps, in this run.
    #[serde(skip)]
    pub built: Option<StepsBuilt>,
    /// How often it was drained since it is to be released.
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

    /// A machine that its provider lists and we did not know.
    pub(crate) fn found(mut machine: Machine, provider: ProviderId, now: Timestamp) -> Self {
        machine.memory.known_since = Some(now);
        // Whether an earlier provisioner of ours published it is not known: it has to be unlisted first.
        machine.memory.listed = Listed::Now;
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
            booting_since: None,
            made_in: None,
            kept_alive_at: None,
            settings: None,
            told_published: false,
            touched: Sequence(0),
            built: None,
            drains: 0,
        }
    }

    /// The idempotency key of its creation.
    pub(crate) fn token(&self) -> String {
        let requested_at = self.machine.memory.requested_at.unwrap_or_default();
        format!("{}-{}-{}", self.machine.name, requested_at.0, self.attempt)
    }

    /// Takes over how a provider, or the machine itself, describes it.
    pub(crate) fn describe(&mut self, machine: Machine) {
        let mut memory = std::mem::take(&mut self.machine.memory);
        // What is listed by its earlier address may still be building there.
        if memory.known_to_queue && self.machine.address != machine.address {
            let port = Some(self.machine.ssh_port);
            memory
                .published
                .extend(self.machine.address.take().map(|host| Endpoint { host, port }));
        }
        // A machine that was renamed may still be known by its earlier name.
        let host_name = machine.host_name.clone();
        memory.published.extend(host_name.map(|host| Endpoint { host, port: None }));
        self.machine = Machine { memory, ..machine };
    }

    /// It can build now. What happened, unless it was ready before.
    pub(crate) fn became_ready(&mut self, now: Timestamp) -> Option<Happening> {
        let memory = &mut self.machine.memory;
        let was_ready = memory.ready_since.is_some() && memory.unreachable_since.is_none();
        memory.ready_since.get_or_insert(now);
        memory.unreachable_since = None;
        self.kept_alive_at = Some(now);
        let after = self.booting_since.take().map(|since| now.since(since));
        (!was_ready).then_some(Happening::Ready { after })
    }

    /// Its builder was told to stop. `became_ready` takes it back.
    pub(crate) fn was_drained(&mut self) {
        let touched = self.touched;
        let memory = &mut self.machine.memory;
        memory.ready_since = None;
        if let Some(leaving) = &mut memory.leaving {
            self.drains = if leaving.drained.is_none() { 1 } else { self.drains + 1 };
            leaving.drained = Some(touched);
        }
    }

    /// It does not run any more.
    pub(crate) fn is_off(&mut self) {
        let memory = &mut self.machine.memory;
        memory.ready_since = None;
        memory.unreachable_since = None;
        memory.unhealthy_since = None;
        memory.leaving = None;
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

    /// When its boot has taken too long. Only the first time: then it counts as failing.
    pub(crate) fn boot_timeout(&self, limit: Seconds) -> Option<Timestamp> {
        let is_waited_for = self.is_booting() && self.machine.memory.failing.is_none();
        self.booting_since.filter(|_| is_waited_for).map(|since| since.after(limit))
    }

    /// What there is to say of a boot that took too long.
    pub(crate) fn slow_boot(&self, limit: Seconds) -> String {
        match (self.machine.state, &self.machine.address) {
            (MachineState::Up, None) => {
                format!("it has been up for {limit}, but its provider tells no address for it")
            }
            (state, _) => {
                format!("it was not up within {limit} (its state is {state}); see deployTimeout")
            }
        }
    }

    /// When `/run/keep-alive` is to be touched on it.
    pub(crate) fn keep_alive_due(&self, interval: Seconds) -> Option<Timestamp> {
        let memory = &self.machine.memory;
        let is_ready = memory.ready_since.is_some()
            && self.machine.state == MachineState::Up
            && memory.under_way.is_none()
            && memory.missing.is_none()
            && memory.destroyed_at.is_none()
            && memory.unreachable_since.is_none();
        let last = self.kept_alive_at.or(memory.ready_since)?;
        is_ready.then(|| last.after(interval))
    }

    /// Moves all remembered times, since the clock was set.
    pub(crate) fn shift(&mut self, seconds: i64) {
        let shift = |time: Option<Timestamp>| time.map(|time| time.shifted(seconds));
        self.machine.memory.shift(seconds);
        self.booting_since = shift(self.booting_since);
        self.kept_alive_at = shift(self.kept_alive_at);
    }

    /// As it is when the run that wrote it down has ended: nothing is under way.
    fn left_behind(mut self) -> Self {
        let memory = &mut self.machine.memory;
        let under_way = memory.under_way.take();
        if under_way.is_some_and(|under_way| under_way.operation.takes_builds_away()) {
            // Whether it had its effect is not known: it is deployed before it is published again.
            memory.ready_since = None;
        }
        self
    }

    /// Moments of another run mean nothing. What may have been published counts as published until a publication
    /// without it has ended.
    pub(crate) fn restored(mut self) -> Self {
        // Moments are counted anew: whatever is listed from now on is newer.
        self.touched = Sequence(0);
        let memory = &mut self.machine.memory;
        if memory.listed != Listed::Never {
            memory.listed = Listed::Now;
        }
        if memory.leaving.is_some() {
            memory.leaving = Some(Leaving { decided: Sequence(0), drained: None });
        }
        self
    }
}

/// What an earlier run wrote down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The machines.
    pub records: Vec<Record>,
    /// Types whose creations failed.
    pub back_off: BTreeMap<MachineType, BackOff>,
    /// What earlier machines of the types have shown.
    pub experience: BTreeMap<MachineType, Experience>,
    /// What the operator has said.
    pub orders: Vec<Order>,
}

impl State {
    /// As it is when the run that wrote it down has ended: nothing is under way.
    #[must_use]
    pub fn left_behind(mut self) -> Self {
        self.records = self.records.into_iter().map(Record::left_behind).collect();
        self
    }
}

/// A change of what is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A machine's record is new, or another.
    Put(Box<Record>),
    /// A machine is gone.
    Remove(MachineName),
    /// A type is backed off, or is not any more.
    BackOff(MachineType, Option<BackOff>),
    /// What a type's machines have shown is another.
    Experience(MachineType, Experience),
    /// What the operator said is done, or over.
    OrderDone(Box<Order>),
    /// Something happened.
    History(HistoryEntry),
}

//! What providers list, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    Machine, MachineName, MachineState, Missing, Operation, Seconds, Sequence, Tag, Timestamp,
    is_ours,
};

use crate::boundary::{Effect, Listing};
use crate::history::Happening;
use crate::ids::{ListingId, ProviderId};
use crate::provider::Asked;
use crate::reconciler::Reconciler;
use crate::record::Record;
use crate::spending::charges_of;

/// How long a listed machine may be missing before it counts as gone. A single wrong listing must not count.
const MISSING_TIMEOUT: Seconds = Seconds(120);
/// How long a new machine may take to appear in a listing: providers' listings lag.
const FIRST_LISTING_TIMEOUT: Seconds = Seconds(600);
/// How long a machine may take to appear in a listing after a creation with an unknown outcome. Until then it counts
/// against all limits.
const UNKNOWN_OUTCOME_TIMEOUT: Seconds = Seconds(1800);
/// The interval between listings of a provider while machines of it boot.
const BOOT_LIST_INTERVAL: Seconds = Seconds(2);
/// A start time that is later than the known one by more than this is a reboot. Providers round start times.
const REBOOT_MARGIN: Seconds = Seconds(60);

impl Reconciler {
    /// Lists the machines of each provider that is due.
    pub(crate) fn list_providers(&mut self) {
        let booting = self.booting();
        let mut due = Vec::new();
        for (id, provider) in &self.providers {
            let interval = self.list_interval(booting.contains(id));
            let is_due = provider.ask_soon
                || provider.last_asked.is_none_or(|at| at.after(interval) <= self.now);
            if is_due && provider.asked.is_none() {
                due.push(id.clone());
            }
        }
        for id in due {
            let moment = self.next_moment();
            let listing = self.questions.next_listing();
            if let Some(provider) = self.providers.get_mut(&id) {
                provider.asked = Some(Asked { listing, moment });
                provider.last_asked = Some(self.now);
                provider.ask_soon = false;
            }
            self.effects.push_back(Effect::List { listing, provider: id });
        }
    }

    pub(crate) fn next_listing_at(&self) -> Option<Timestamp> {
        let booting = self.booting();
        self.providers
            .iter()
            .filter(|(_, provider)| provider.asked.is_none())
            .map(|(id, provider)| {
                let interval = self.list_interval(booting.contains(id));
                let at = provider.last_asked.map_or(self.now, |at| at.after(interval));
                if provider.ask_soon { self.now } else { at }
            })
            .min()
    }

    fn list_interval(&self, boots: bool) -> Seconds {
        let interval = self.configuration.timing.list_interval;
        if boots { interval.min(BOOT_LIST_INTERVAL) } else { interval }
    }

    /// The providers of machines that boot and have not exceeded their time limit.
    fn booting(&self) -> BTreeSet<&ProviderId> {
        let booting = self.records.values().filter(|record| record.is_waited_for());
        booting.map(|record| &record.provider).collect()
    }

    /// Whether any machine boots.
    pub(crate) fn is_booting(&self) -> bool {
        self.records.values().any(Record::is_waited_for)
    }

    pub(crate) fn listed(
        &mut self,
        listing: ListingId,
        id: &ProviderId,
        result: Result<Listing, String>,
    ) {
        let Some(provider) = self.providers.get_mut(id) else { return };
        let Some(asked) = provider.asked.take_if(|asked| asked.listing == listing) else { return };
        let was_available = provider.answer.as_ref().is_none_or(Result::is_ok);
        // Shared resources are counted anew with each listing. Other changes set the flag below. A plan that is older
        // than `listInterval` is made again in any case.
        let list_interval = self.configuration.timing.list_interval;
        self.changed |= self.planned_at.after(list_interval) <= self.now
            || provider.answer.is_none()
            || was_available != result.is_ok()
            || !provider.resources.is_empty()
            || result.as_ref().is_ok_and(|listing| {
                !listing.resources.is_empty() || listing.prices != provider.prices
            });
        match result {
            Ok(listing) => {
                provider.answer = Some(Ok(()));
                provider.listed = asked.moment;
                provider.resources = listing.resources;
                provider.prices = listing.prices;
                if !was_available {
                    self.note_of_provider(id, Happening::ProviderAvailable);
                }
                self.apply_listing(id, listing.machines, listing.not_ours, asked.moment);
            }
            Err(error) => {
                // The plan shows the reason.
                self.changed |= provider.problem() != Some(&error);
                provider.answer = Some(Err(error.clone()));
                if was_available {
                    self.note_of_provider(id, Happening::ProviderUnavailable { error });
                }
            }
        }
    }

    fn note_of_provider(&mut self, id: &ProviderId, what: Happening) {
        let mut types = self.configuration.providers.iter().filter(|(_, other)| *other == id);
        let machine_type = types.next().map(|(machine_type, _)| machine_type.clone());
        self.note(None, machine_type, what);
    }

    /// Applies a listing that was requested at the moment `asked` to the records.
    fn apply_listing(
        &mut self,
        id: &ProviderId,
        machines: Vec<Machine>,
        not_ours: Vec<MachineName>,
        asked: Sequence,
    ) {
        let mut not_ours: BTreeSet<_> = not_ours.into_iter().collect();
        let mut duplicates = BTreeMap::new();
        let mut listed = BTreeSet::new();
        let charges = charges_of(&machines);
        for machine in machines {
            let name = machine.name.clone();
            if !self.is_ours(&name, machine.tag.as_ref()) {
                not_ours.insert(name);
            } else if listed.insert(name.clone()) {
                self.apply_listed_machine(id, machine, asked, &mut duplicates);
            } else {
                duplicates.insert(name, machine);
            }
        }
        self.note_missing(id, &listed, asked);
        self.note_never_created(id, asked);
        // A release by name could hit the other one, also when it is not listed for a while: its builds count too.
        for (name, other) in &duplicates {
            if self.records.get_mut(name).is_some_and(|record| record.may_be_at(other)) {
                self.storage.touch(name);
            }
        }
        if let Some(provider) = self.providers.get_mut(id) {
            self.changed |= provider.duplicates != duplicates || provider.not_ours != not_ours;
            provider.charges = charges;
            provider.charges_asked_at = provider.last_asked;
            provider.duplicates = duplicates;
            provider.not_ours = not_ours;
        }
    }

    /// By its name, by its tag, or by the operator's order.
    fn is_ours(&self, name: &MachineName, shown: Option<&Tag>) -> bool {
        let by_tag = self.configuration.policy.tags().any(|tag| is_ours(tag, name, shown));
        let is_adopted =
            || self.records.get(name).is_some_and(|record| record.adopted_at.is_some());
        by_tag || is_adopted() || self.is_to_be_adopted(name)
    }

    fn apply_listed_machine(
        &mut self,
        id: &ProviderId,
        machine: Machine,
        asked: Sequence,
        duplicates: &mut BTreeMap<MachineName, Machine>,
    ) {
        let name = machine.name.clone();
        let is_configured =
            |id: &ProviderId| self.providers.get(id).is_some_and(|provider| provider.is_configured);
        let Some(record) = self.records.get(&name) else {
            self.changed = true;
            let adopted_at = self.is_to_be_adopted(&name).then_some(self.now);
            let record = Record { adopted_at, ..Record::found(machine, id.clone(), self.now) };
            self.records.insert(name.clone(), record);
            self.storage.touch(&name);
            self.bill_as_listed(&name);
            self.note_of(&name, Happening::Found);
            return;
        };
        if record.provider != *id {
            let is_the_same = record.machine.address == machine.address;
            match (is_configured(id), is_configured(&record.provider)) {
                // The provider's settings have changed: the machine now belongs to the configured provider.
                (true, false) => {}
                (false, true) if is_the_same => return,
                _ if record.exists && !record.has_vanished(self.now) => {
                    duplicates.insert(name, machine);
                    return;
                }
                _ if record.exists => {
                    // What we knew is gone, and its name was given again: our state may be older than that.
                    self.stop_billing(&name);
                    self.note_of(&name, Happening::Gone);
                    self.records.remove(&name);
                    return self.apply_listed_machine(id, machine, asked, duplicates);
                }
                _ => {}
            }
        }
        self.update(id, machine, asked);
    }

    /// A machine with a record is listed.
    fn update(&mut self, id: &ProviderId, mut machine: Machine, asked: Sequence) {
        let name = machine.name.clone();
        let now = self.now;
        self.learn_billing(&machine);
        let Some(record) = self.records.get_mut(&name) else { return };
        if record.is_ahead_of(asked) {
            return;
        }
        if !self.configuration.policy.pools.contains_key(&machine.machine_type) {
            record.keep_type(&mut machine);
        }
        let before = record.clone();
        record.provider = id.clone();
        record.was_confirmed_to_exist();
        record.was_listed = true;
        let was_missing = record.machine.memory.missing.take().is_some();
        let rebooted = match (record.machine.started_at, machine.started_at) {
            (Some(known), Some(reported)) => reported > known.after(REBOOT_MARGIN),
            _ => false,
        };
        let shown = self.providers.get(id).and_then(|provider| provider.charge_before(&name));
        if rebooted {
            record.machine.memory.charged = None;
        }
        record.note_charge(&machine, shown.filter(|_| !rebooted), now);
        let is_interrupted = machine.interrupted;
        record.describe(machine);
        let is_up = matches!(record.machine.state, MachineState::Up | MachineState::Unreachable);
        let memory = &mut record.machine.memory;
        let lost_readiness = memory.ready_since.is_some() && (rebooted || !is_up);
        if lost_readiness {
            memory.ready_since = None;
        }
        if memory.ready_since.is_some() && record.machine.state == MachineState::Unreachable {
            // The provider's report counts. Deploying the machine again shows whether it answers anyway.
            memory.unreachable_since.get_or_insert(now);
        }
        if record.is_booting() && record.booting_since.is_none() {
            record.booting_since = Some(now);
        }
        if *record != before {
            self.changed = true;
            self.storage.touch(&name);
        }
        if !before.exists {
            // The run that requested it was killed before the provider answered.
            let took = before.machine.memory.requested_at.map_or(Seconds(0), |at| now.since(at));
            self.note_of(&name, Happening::Created { took });
        }
        self.bill_as_listed(&name);
        if was_missing {
            self.note_of(&name, Happening::Back);
        }
        if lost_readiness && rebooted {
            self.note_of(&name, Happening::Rebooted);
        }
        if is_interrupted {
            self.interrupted(id, &name);
        }
        if before.machine.state != MachineState::Failed {
            self.note_failed_boot(&name);
        }
    }

    /// A provider announced an interruption of one of its machines.
    pub(crate) fn interrupted(&mut self, id: &ProviderId, name: &MachineName) {
        let Some(record) = self.records.get_mut(name).filter(|record| record.provider == *id)
        else {
            return;
        };
        let memory = &mut record.machine.memory;
        if memory.interrupted_at.is_some() || memory.destroyed_at.is_some() {
            return;
        }
        memory.interrupted_at = Some(self.now);
        self.changed = true;
        self.storage.touch(name);
        self.note_of(name, Happening::Interrupted);
    }

    /// After a creation with an unknown outcome, a machine that is not listed by the timeout does not exist.
    fn note_never_created(&mut self, id: &ProviderId, asked: Sequence) {
        let now = self.now;
        for (name, record) in self.records.iter_mut().filter(|(_, record)| record.provider == *id) {
            let is_over = |since: Timestamp| since.after(UNKNOWN_OUTCOME_TIMEOUT) <= now;
            if !record.is_ahead_of(asked) && record.unknown_since.is_some_and(is_over) {
                record.unknown_since = None;
                record.creation_failed();
                self.changed = true;
                self.storage.touch(name);
            }
        }
    }

    /// Handles machines that a listing does not contain.
    fn note_missing(&mut self, id: &ProviderId, listed: &BTreeSet<MachineName>, asked: Sequence) {
        let missing = self.names_of(|record| {
            record.provider == *id
                && !listed.contains(&record.machine.name)
                && (record.exists || record.machine.memory.destroyed_at.is_some())
                && !record.is_ahead_of(asked)
        });
        for name in missing {
            let Some(record) = self.records.get_mut(&name) else { continue };
            let memory = &mut record.machine.memory;
            self.changed |= memory.destroyed_at.is_some() || memory.missing.is_none();
            if memory.destroyed_at.is_some() {
                // Its name stays taken until the operation under way has ended.
                if memory.under_way.is_none() {
                    self.note_of(&name, Happening::Gone);
                    self.records.remove(&name);
                    self.storage.touch(&name);
                }
            } else if memory.missing.is_none() {
                let patience = match (memory.interrupted_at, record.was_listed) {
                    // It was announced.
                    (Some(_), _) => Seconds(0),
                    (None, true) => MISSING_TIMEOUT,
                    (None, false) => FIRST_LISTING_TIMEOUT,
                };
                memory.missing = Some(Missing { since: self.now, patience });
                self.storage.touch(&name);
                self.note_of(&name, Happening::Missing);
            }
        }
    }
}

impl Record {
    /// A machine that we created has the type that we requested it with. With one that is not configured it would be released
    /// and created again, endlessly.
    fn keep_type(&self, machine: &mut Machine) {
        let known = &self.machine.machine_type;
        let is_created = self.exists && self.machine.memory.requested_at.is_some();
        if !is_created || machine.machine_type == *known {
            return;
        }
        let reported = std::mem::replace(&mut machine.machine_type, known.clone());
        machine.problems.push(format!(
            "its provider reports the type {reported}; it was requested with the type {known}, which is used"
        ));
    }

    /// Whether we know more of it than a listing requested at the moment `asked` can report.
    fn is_ahead_of(&self, asked: Sequence) -> bool {
        let under_way = self.machine.memory.under_way.map(|under_way| under_way.operation);
        let changes_state = under_way.is_some_and(|operation| {
            matches!(operation, Operation::Create | Operation::Start)
                || operation.ends_the_machine()
        });
        changes_state || self.last_operation_ended > asked
    }

    /// Whether its provider has not listed it for longer than a listing may lag.
    fn has_vanished(&self, now: Timestamp) -> bool {
        let memory = &self.machine.memory;
        let is_over = |missing: Missing| missing.vanished_for(now).is_some();
        memory.under_way.is_none() && memory.missing.is_some_and(is_over)
    }

    /// Whether it boots and may still come up in time.
    fn is_waited_for(&self) -> bool {
        self.is_booting()
            && self.machine.memory.failing.is_none()
            && self.machine.memory.missing.is_none()
            && self.machine.memory.destroyed_at.is_none()
    }
}

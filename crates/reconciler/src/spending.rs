//! Billing of machines: from the request for their creation or start until they are off or gone.

use std::collections::BTreeMap;

use planner::{
    Charged, Machine, MachineName, MachineState, Money, Paid, Timestamp, is_billed_by_hour,
};

use crate::provider::Provider;
use crate::reconciler::Reconciler;
use crate::record::Record;

impl Reconciler {
    /// A machine costs from its request, or from its own start.
    pub(crate) fn start_billing(&mut self, name: &MachineName, since: Timestamp) {
        let Some(record) = self.records.get_mut(name) else { return };
        let pool = self.configuration.policy.pools.get(&record.machine.machine_type);
        let dollars_per_hour = pool.and_then(|pool| pool.dollars_per_hour);
        if record.machine.memory.paid.is_none() {
            record.machine.memory.paid = Some(Paid { since, dollars_per_hour });
            self.storage.touch(name);
        }
    }

    /// The price of a machine per hour, if known.
    pub(crate) fn price_of(&self, record: &Record) -> Option<Money> {
        let of_type =
            || self.providers.get(&record.provider)?.prices.get(&record.machine.machine_type);
        let known = self.configuration.policy.price_of(&record.machine);
        known.or_else(|| of_type().copied())
    }

    /// A machine is off or gone.
    pub(crate) fn stop_billing(&mut self, name: &MachineName) {
        let now = self.now;
        let price = self.records.get(name).and_then(|record| self.price_of(record));
        let Some(record) = self.records.get_mut(name) else { return };
        let Some(paid) = record.machine.memory.paid.take() else { return };
        self.storage.touch(name);
        let machine_type = record.machine.machine_type.clone();
        let by_hour = is_billed_by_hour(&self.experience, &machine_type);
        let until = record.machine.paid_until(now, by_hour);
        record.machine.memory.charged = None;
        record.billed_until = Some(now);
        self.learn(&machine_type, |known| {
            known.spent = known.spent.with((paid.since, until), price.unwrap_or_default(), now);
        });
    }

    /// A listing shows that a machine is off or running, without an operation of ours.
    pub(crate) fn bill_as_listed(&mut self, name: &MachineName) {
        let Some(record) = self.records.get(name) else { return };
        match record.machine.state {
            MachineState::Stopped => self.stop_billing(name),
            state if state.is_live() => {
                // Providers may report its creation, or list it for a while after it was destroyed: no hour is booked twice.
                let since = record.machine.started_at.max(record.billed_until);
                self.start_billing(name, since.unwrap_or(self.now).min(self.now));
            }
            _ => {}
        }
    }

    /// Whether machines of its type are billed by the hour is learned from a running machine in a listing.
    pub(crate) fn learn_billing(&mut self, machine: &Machine) {
        let by_hour = machine.next_charge_at.is_some();
        let known = is_billed_by_hour(&self.experience, &machine.machine_type);
        if machine.state == MachineState::Up && by_hour != known {
            self.learn(&machine.machine_type, |known| known.is_billed_by_hour = by_hour);
        }
    }
}

/// The next charges that a listing shows.
pub(crate) fn charges_of(machines: &[Machine]) -> BTreeMap<MachineName, Timestamp> {
    let running = machines.iter().filter(|machine| machine.state.is_live());
    running.filter_map(|machine| Some((machine.name.clone(), machine.next_charge_at?))).collect()
}

impl Provider {
    /// The next charge of a machine as of the last listing, and when that was requested.
    pub(crate) fn charge_before(&self, name: &MachineName) -> Option<(Timestamp, Timestamp)> {
        self.charges.get(name).copied().zip(self.charges_asked_at)
    }
}

impl Record {
    /// The listing of `now` shows `machine`; `before` is what the listing before it showed.
    pub(crate) fn note_charge(
        &mut self,
        machine: &Machine,
        before: Option<(Timestamp, Timestamp)>,
        now: Timestamp,
    ) {
        let Some(next) = machine.next_charge_at.filter(|_| machine.state.is_live()) else { return };
        let memory = &mut self.machine.memory;
        if let Some((charge, after)) = before.filter(|(charge, _)| *charge < next) {
            memory.charged = Some(Charged { after, by: now, period: next.since(charge) });
        }
        // It started after we asked for it, and before we saw it.
        let requested = memory.requested_at.and(memory.paid).zip(machine.started_at);
        if let (None, Some((paid, started_at))) = (memory.charged, requested) {
            let period = next.since(started_at);
            memory.charged = Some(Charged { after: paid.since, by: now, period });
        }
    }
}

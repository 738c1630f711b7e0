//! Billing of machines: from the request for their creation or start until they are off or gone.

use planner::{MachineName, MachineState, Paid, Timestamp};

use crate::reconciler::Reconciler;

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

    /// A machine is off or gone.
    pub(crate) fn stop_billing(&mut self, name: &MachineName) {
        let now = self.now;
        let Some(record) = self.records.get_mut(name) else { return };
        let Some(paid) = record.machine.memory.paid.take() else { return };
        self.storage.touch(name);
        let machine_type = record.machine.machine_type.clone();
        let pool = self.configuration.policy.pools.get(&machine_type);
        let price = paid.dollars_per_hour.or_else(|| pool?.dollars_per_hour).unwrap_or_default();
        let until = record.machine.paid_until(now);
        self.learn(&machine_type, |known| {
            known.spent = known.spent.with((paid.since, until), price, now);
        });
    }

    /// A listing shows that a machine is off or running, without an operation of ours.
    pub(crate) fn bill_as_listed(&mut self, name: &MachineName) {
        let Some(record) = self.records.get(name) else { return };
        match record.machine.state {
            MachineState::Stopped => self.stop_billing(name),
            state if state.is_live() => {
                let started_at = record.machine.started_at.unwrap_or(self.now);
                self.start_billing(name, started_at.min(self.now));
            }
            _ => {}
        }
    }
}

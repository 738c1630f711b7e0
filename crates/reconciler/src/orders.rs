//! The operator's orders. Retry and forget are carried out here, adopt in `inventory.rs`; the planner applies the others.

use planner::{MachineName, MachineType, Order, OrderKind, QueueStatus, jobs_of};

use crate::history::Happening;
use crate::reconciler::Reconciler;

impl Reconciler {
    /// Takes over all orders now in force. Their end times are wall-clock times: they do not shift when the
    /// system clock is set.
    pub(crate) fn ordered(&mut self, orders: &[Order]) {
        if orders != self.orders.as_slice() {
            let before = std::mem::replace(&mut self.orders, orders.to_vec());
            for order in before.iter().filter(|order| !orders.contains(order)) {
                self.end_order(order);
            }
            let is_new = |order: &Order| !before.contains(order);
            if orders.iter().any(|order| matches!(order.kind, OrderKind::Adopt(_)) && is_new(order))
            {
                self.providers.values_mut().for_each(|provider| provider.ask_soon = true);
            }
            self.changed = true;
        }
    }

    /// A machine that is being released only because of an order is judged again.
    fn end_order(&mut self, order: &Order) {
        let (OrderKind::Drain(name) | OrderKind::Release(name)) = &order.kind else { return };
        let Some(record) = self.records.get_mut(name) else { return };
        if record.machine.memory.leaving.take().is_some() {
            self.storage.touch(name);
            self.note_of(name, Happening::TakenBack);
        }
    }

    /// Carries out `retry` and `forget`, and removes orders that are no longer in force.
    pub(crate) fn apply_orders(&mut self) {
        let (over, stay) = std::mem::take(&mut self.orders).into_iter().partition(|order| {
            let machine = order.kind.machine();
            let is_known = machine.is_none_or(|name| self.records.contains_key(name));
            // A machine to adopt becomes known when it is listed.
            let is_over = match order.kind {
                OrderKind::Adopt(_) => is_known,
                _ => !is_known,
            };
            is_over || is_carried_out_here(&order.kind) || !order.is_in_force(self.now)
        });
        self.orders = stay;
        let over: Vec<Order> = over;
        for order in over {
            match &order.kind {
                OrderKind::Retry(machine_type) => self.retry(machine_type),
                OrderKind::Forget(name) => self.forget(name),
                kind => {
                    self.end_order(&order);
                    let machine = kind.machine().cloned();
                    self.note(machine, None, Happening::OrderOver { order: order.clone() });
                }
            }
            self.storage.order_done(order);
        }
    }

    /// Whether the operator ordered to adopt the machine, and it was not listed since.
    pub(crate) fn is_to_be_adopted(&self, name: &MachineName) -> bool {
        let said = |order: &Order| matches!(&order.kind, OrderKind::Adopt(it) if it == name);
        self.orders.iter().any(|order| said(order) && order.is_in_force(self.now))
    }

    /// Ends the back-off of a type and of its machines.
    fn retry(&mut self, machine_type: &MachineType) {
        if self.back_off.remove(machine_type).is_some() {
            self.storage.touch_back_off(machine_type);
        }
        let of_type = self.records.values_mut().filter(|r| r.machine.machine_type == *machine_type);
        for record in of_type {
            if let Some(failing) = &mut record.machine.memory.failing {
                failing.retry_at = self.now;
                self.storage.touch(&record.machine.name);
            }
            if let Some(awaits_ssh) = &mut record.machine.memory.awaits_ssh {
                awaits_ssh.retry_at = self.now;
                self.storage.touch(&record.machine.name);
            }
        }
    }

    /// Deletes the record of a machine that its provider does not list, or cannot list now.
    fn forget(&mut self, name: &MachineName) {
        let Some(record) = self.records.get(name) else { return };
        let provider = self.providers.get(&record.provider);
        let is_seen = record.machine.memory.missing.is_none()
            && provider.is_some_and(|provider| provider.problem().is_none());
        let is_under_way = record.machine.memory.under_way.is_some();
        let is_idle = match &self.questions.status {
            QueueStatus::Up(queue) => jobs_of(queue, &record.machine).unwrap_or(0) == 0,
            QueueStatus::Unavailable(_) => false,
        };
        let objection = if is_seen {
            "its provider lists it"
        } else if is_under_way {
            "an operation on it is under way"
        } else if !is_idle {
            "it may be building"
        } else {
            self.stop_billing(name);
            self.note_of(name, Happening::Forgotten);
            self.records.remove(name);
            self.storage.touch(name);
            return;
        };
        self.note_of(name, Happening::Warning { text: format!("not forgotten: {objection}") });
    }
}

/// Whether it is carried out here, once.
fn is_carried_out_here(kind: &OrderKind) -> bool {
    matches!(kind, OrderKind::Retry(_) | OrderKind::Forget(_))
}

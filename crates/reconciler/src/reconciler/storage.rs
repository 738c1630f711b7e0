//! State changes that are not recorded yet. While they cannot be recorded, nothing is created or released.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use planner::{MachineName, MachineType, Order, Seconds, Timestamp};

use super::Reconciler;
use crate::boundary::Effect;
use crate::history::{Happening, HistoryEntry};
use crate::ids::BatchId;
use crate::record::Change;

/// How long to wait after a failed write before the next attempt.
const RETRY_AFTER: Seconds = Seconds(10);
/// How many history entries are kept while they cannot be written. Beyond that, the oldest are dropped.
const MAX_HISTORY: usize = 1000;

/// State changes that are not recorded yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    machines: BTreeSet<MachineName>,
    back_off: BTreeSet<MachineType>,
    experience: BTreeSet<MachineType>,
    orders_done: Vec<Order>,
    /// Entries that could not be written, and newer ones.
    unwritten: VecDeque<HistoryEntry>,
    history: VecDeque<HistoryEntry>,
    /// Entries that [`Reconciler::take_history`] has not returned yet.
    unreported: VecDeque<HistoryEntry>,
    last_batch: BatchId,
    /// Batches that are being written, in order.
    under_way: BTreeMap<BatchId, Vec<Change>>,
    /// Why writing failed, and when to retry.
    failed: Option<(String, Timestamp)>,
}

impl Storage {
    /// A machine's record has changed or was deleted.
    pub(crate) fn touch(&mut self, name: &MachineName) {
        self.machines.insert(name.clone());
    }

    /// The back-off of a type has changed or ended.
    pub(crate) fn touch_back_off(&mut self, machine_type: &MachineType) {
        self.back_off.insert(machine_type.clone());
    }

    /// The measurements of a type have changed.
    pub(crate) fn touch_experience(&mut self, machine_type: &MachineType) {
        self.experience.insert(machine_type.clone());
    }

    pub(crate) fn order_done(&mut self, order: Order) {
        self.orders_done.push(order);
    }

    pub(crate) fn history(&mut self, entry: HistoryEntry) {
        push(&mut self.unreported, entry.clone());
        push(&mut self.history, entry);
    }

    pub(crate) fn take_history(&mut self) -> Vec<HistoryEntry> {
        std::mem::take(&mut self.unreported).into()
    }

    /// Whether the latest record of `name` is written.
    pub(crate) fn has(&self, name: &MachineName) -> bool {
        let is_put =
            |change: &Change| matches!(change, Change::Put(record) if record.machine.name == *name);
        !self.machines.contains(name) && !self.under_way.values().flatten().any(is_put)
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.failed.as_ref().map(|(error, _)| error.as_str())
    }

    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        // While a batch is being written, its end comes first.
        self.failed.as_ref().filter(|_| self.under_way.is_empty()).map(|(_, at)| *at)
    }

    pub(crate) fn shift(&mut self, seconds: i64) {
        if let Some((_, at)) = &mut self.failed {
            *at = at.shifted(seconds);
        }
    }

    /// Whether nothing is being written. What is not written yet after an `act` waits until it can be written again.
    pub(crate) fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Changes that could not be written are written again, with the values at that time.
    fn requeue(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(record) => {
                    self.machines.insert(record.machine.name);
                }
                Change::Remove(name) => {
                    self.machines.insert(name);
                }
                Change::BackOff(machine_type, _) => {
                    self.back_off.insert(machine_type);
                }
                Change::Experience(machine_type, _) => {
                    self.experience.insert(machine_type);
                }
                Change::OrderDone(order) => self.orders_done.push(*order),
                Change::History(entry) => push(&mut self.unwritten, entry),
            }
        }
    }
}

/// Drops the oldest entry if there are too many.
fn push(entries: &mut VecDeque<HistoryEntry>, entry: HistoryEntry) {
    if entries.len() >= MAX_HISTORY {
        entries.pop_front();
    }
    entries.push_back(entry);
}

impl Reconciler {
    /// Begins to record all changes since the last call.
    pub(crate) fn record_changes(&mut self) {
        let storage = &mut self.storage;
        if storage.failed.as_ref().is_some_and(|(_, at)| self.now < *at) {
            return;
        }
        let mut changes = Vec::new();
        for name in std::mem::take(&mut storage.machines) {
            changes.push(match self.records.get(&name) {
                Some(record) => Change::Put(Box::new(record.clone())),
                None => Change::Remove(name),
            });
        }
        for machine_type in std::mem::take(&mut storage.back_off) {
            let back_off = self.back_off.get(&machine_type).cloned();
            changes.push(Change::BackOff(machine_type, back_off));
        }
        for machine_type in std::mem::take(&mut storage.experience) {
            if let Some(known) = self.experience.get(&machine_type) {
                changes.push(Change::Experience(machine_type, *known));
            }
        }
        let orders_done = std::mem::take(&mut storage.orders_done).into_iter();
        changes.extend(orders_done.map(|order| Change::OrderDone(Box::new(order))));
        changes.extend(storage.unwritten.drain(..).map(Change::History));
        changes.extend(storage.history.drain(..).map(Change::History));
        if changes.is_empty() {
            return;
        }
        let batch = storage.last_batch.advance();
        storage.under_way.insert(batch, changes.clone());
        // Before the effects that depend on it.
        self.effects.push_front(Effect::Record { batch, changes });
    }

    pub(crate) fn recorded(&mut self, batch: BatchId, result: Result<(), String>) {
        let changes = match self.storage.under_way.remove(&batch) {
            Some(changes) => changes,
            None if result.is_ok() => return,
            // All that was recorded is lost.
            None => Vec::new(),
        };
        match result {
            Ok(()) => {
                // Creations wait for their intents to be written down.
                self.changed |= self.records.values().any(|record| !record.exists);
                if self.storage.under_way.is_empty() && self.storage.failed.take().is_some() {
                    self.changed = true;
                    self.note(None, None, Happening::StorageWorks);
                }
            }
            Err(error) => {
                self.changed = true;
                self.storage.requeue(changes);
                // Earlier batches may be lost, too.
                self.storage.machines.extend(self.records.keys().cloned());
                self.storage.back_off.extend(self.back_off.keys().cloned());
                self.storage.experience.extend(self.experience.keys().cloned());
                let is_new = self.storage.failed.is_none();
                self.storage.failed = Some((error.clone(), self.now.after(RETRY_AFTER)));
                if is_new {
                    self.note(None, None, Happening::StorageFailed { error });
                }
            }
        }
    }
}

//! Failures of machines and types, and when what failed is tried again.

use planner::{
    AwaitsSsh, BackOff, BackOffKind, EndsWhen, Failing, MachineName, MachineState, MachineType,
    Operation, Timestamp,
};

use super::Reconciler;
use crate::back_off;
use crate::history::Happening;
use crate::operation_error::OperationErrorKind;
use crate::record::Record;

/// The error of the back-off after a machine that failed before it was ready.
const FAILED_BOOT: &str = "its provider reports that the machine failed before it was ready";

impl Reconciler {
    /// Whether the machine of a deployment that could not connect may still boot: its provider may report it as up long before
    /// its sshd answers. No operation is under way between two attempts, so that nothing waits for them.
    pub(super) fn awaits_ssh(&mut self, name: &MachineName, began: Timestamp, error: &str) -> bool {
        let limit = self.configuration.timing.deploy_timeout;
        let Some(record) = self.records.get_mut(name) else { return false };
        let memory = &mut record.machine.memory;
        if memory.ready_since.is_some() || record.booting_since.is_none() {
            return false;
        }
        let earlier = memory.awaits_ssh;
        let since = earlier.map_or(began, |earlier| earlier.since);
        let until = since.after(limit);
        if until <= self.now {
            return false;
        }
        let retry_at = self.now.after(back_off::while_it_boots(self.now.since(since))).min(until);
        memory.awaits_ssh = Some(AwaitsSsh { since, retry_at });
        self.storage.touch(name);
        self.changed = true;
        if earlier.is_none() {
            let text = format!(
                "it does not answer over ssh yet; it is tried until {until} (deployTimeout): {error}"
            );
            self.note_of(name, Happening::Warning { text });
        }
        true
    }

    /// When what failed on a machine is tried again.
    pub(super) fn next_try(&self, name: &MachineName) -> Timestamp {
        let machine = self.records.get(name).map(|record| &record.machine);
        let next = machine.and_then(|machine| {
            let back_off = self.back_off.get(&machine.machine_type);
            Some(machine.memory.failing.as_ref()?.next_try(back_off))
        });
        next.unwrap_or(self.now)
    }

    /// Records a failure of one machine and when to retry; returns how often it has failed in a row.
    pub(crate) fn note_failure(
        &mut self,
        name: &MachineName,
        operation: Operation,
        error: &str,
    ) -> u32 {
        let Some(record) = self.records.get_mut(name) else { return 0 };
        let earlier = record.machine.memory.failing.take();
        let failures = earlier.as_ref().map_or(0, |failing| failing.failures).saturating_add(1);
        let wait = back_off::after_operation(self.seed, name, failures);
        // The wait for its sshd counts for `giveUpAfter`.
        let awaited = record.machine.memory.awaits_ssh.filter(|_| operation == Operation::Deploy);
        let since = awaited.map_or(self.now, |awaited| awaited.since);
        record.machine.memory.failing = Some(Failing {
            since: earlier.map_or(since, |failing| failing.since),
            failures,
            retry_at: self.now.after(wait),
            operation,
            error: error.to_owned(),
        });
        self.storage.touch(name);
        self.changed = true;
        failures
    }

    /// Machines that exceed the time limit of a boot count as failing, as if their deployment had failed: `giveUpAfter` applies.
    pub(crate) fn fail_slow_boots(&mut self) {
        let limit = self.configuration.timing.deploy_timeout;
        let is_slow = |record: &Record| record.boot_timeout(limit).is_some_and(|at| at <= self.now);
        for name in self.names_of(is_slow) {
            let Some(record) = self.records.get(&name) else { continue };
            let error = record.slow_boot(limit);
            let failures = self.note_failure(&name, Operation::Deploy, &error);
            let retry_at = self.next_try(&name);
            let (operation, kind) = (Operation::Deploy, OperationErrorKind::TimedOut);
            self.note_of(&name, Happening::Failed { operation, kind, failures, error, retry_at });
        }
    }

    pub(crate) fn next_boot_timeout(&self) -> Option<Timestamp> {
        let limit = self.configuration.timing.deploy_timeout;
        self.records.values().filter_map(|record| record.boot_timeout(limit)).min()
    }

    /// A machine that we requested and that fails before it was ready counts as a failed creation. Otherwise it would be
    /// replaced at once, again and again, and each one may cost money.
    pub(crate) fn note_failed_boot(&mut self, name: &MachineName) {
        let Some(record) = self.records.get(name) else { return };
        let machine = &record.machine;
        if machine.state == MachineState::Failed
            && machine.memory.requested_at.is_some()
            && record.booting_since.is_some()
        {
            // The wait after a failed creation does not end when a machine is ready.
            let present = self.back_off.get(&machine.machine_type);
            if present.is_some_and(|it| it.until > self.now && it.ends_when == EndsWhen::Created) {
                return;
            }
            self.back_off_type(name, BackOffKind::Failure, EndsWhen::Ready, FAILED_BOOT);
            self.changed = true;
        }
    }

    /// Records that machines of a type cannot be created now.
    pub(super) fn back_off_type(
        &mut self,
        name: &MachineName,
        kind: BackOffKind,
        ends_when: EndsWhen,
        error: &str,
    ) {
        let Some(record) = self.records.get(name) else { return };
        let machine_type = record.machine.machine_type.clone();
        let earlier = self.back_off.get(&machine_type).filter(|back_off| back_off.kind == kind);
        let is_over = earlier.is_none_or(|back_off| back_off.until <= self.now);
        let failures = earlier.map_or(0, |back_off| back_off.failures);
        // Creations that were requested at the same time fail for one reason: they count once.
        let failures = if is_over { failures.saturating_add(1) } else { failures.max(1) };
        let wait = back_off::after_creation(self.seed, &machine_type, kind, failures);
        let error = error.to_owned();
        let back_off = BackOff { kind, failures, until: self.now.after(wait), error, ends_when };
        self.storage.touch_back_off(&machine_type);
        self.back_off.insert(machine_type, back_off);
    }

    /// A machine of the type was created or is ready.
    pub(super) fn end_back_off(&mut self, machine_type: &MachineType, happened: EndsWhen) {
        if self.back_off.get(machine_type).is_some_and(|it| it.ends_when == happened) {
            self.back_off.remove(machine_type);
            self.storage.touch_back_off(machine_type);
        }
    }
}

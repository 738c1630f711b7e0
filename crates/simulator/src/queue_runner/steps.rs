//! The lifecycle of each step.

use std::sync::Arc;

use super::Host;
use crate::engine::{Millis, U48};
use crate::workload::{StepIndex, Workload};

/// The phase of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its build is not in the queue yet.
    Future,
    /// Its dependencies are not done.
    Waiting,
    /// It waits for a machine.
    Runnable,
    /// It failed and waits for its next try.
    Delayed,
    /// It is being built.
    Running,
    /// Done.
    Succeeded,
    /// It has used all tries.
    Aborted,
    /// No machine supported it for too long.
    Unsupported,
    /// A dependency did not succeed.
    DependencyFailed,
    /// Its build was canceled.
    Canceled,
}

impl Phase {
    /// Whether this is a final phase.
    pub fn is_final(self) -> bool {
        match self {
            Self::Future | Self::Waiting | Self::Runnable | Self::Delayed | Self::Running => false,
            Self::Succeeded
            | Self::Aborted
            | Self::Unsupported
            | Self::DependencyFailed
            | Self::Canceled => true,
        }
    }
}

/// The record of a step: 22 bytes, because there may be tens of millions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its phase.
    pub phase: Phase,
    /// Failed tries.
    pub tries: u8,
    /// Counts its tries, so that stale events are recognized.
    pub(super) run: u16,
    runnable_at: U48,
    started_at: U48,
    /// Before it is runnable: the number of its open dependencies. While it runs: its host. In a final phase: when it reached it.
    of_phase: U48,
}

impl StepRecord {
    /// When it first became runnable.
    pub fn runnable_at(&self) -> Millis {
        self.runnable_at.into()
    }

    /// When its last try started.
    pub fn started_at(&self) -> Millis {
        self.started_at.into()
    }

    /// When it reached its final phase; before, never.
    pub fn ended_at(&self) -> Millis {
        if self.phase.is_final() { self.of_phase.into() } else { Millis::NEVER }
    }

    /// Of a step that is not runnable yet.
    pub(super) fn open_dependencies(&self) -> u64 {
        self.of_phase.into()
    }

    /// Of a step that runs.
    pub(super) fn host(&self) -> Host {
        // Only hosts and numbers of dependencies, which are as small, are stored before the end.
        Host(u32::try_from(u64::from(self.of_phase)).unwrap_or(u32::MAX))
    }

    /// It waits for a machine from `now` on.
    pub(super) fn make_runnable(&mut self, now: Millis) {
        self.phase = Phase::Runnable;
        self.runnable_at = now.into();
    }

    /// It runs there from `now` on. Returns the number of the try.
    pub(super) fn start(&mut self, host: Host, now: Millis) -> u16 {
        self.phase = Phase::Running;
        self.started_at = now.into();
        self.run = self.run.wrapping_add(1);
        self.of_phase = u64::from(host.0).into();
        self.run
    }
}

#[derive(Clone, Debug)]
pub(super) struct Steps {
    pub(super) workload: Arc<Workload>,
    pub(super) records: Vec<StepRecord>,
    /// Steps that are not in a final phase.
    pub(super) unfinished: usize,
}

impl Steps {
    pub(super) fn new(workload: Arc<Workload>) -> Self {
        let record = |dependencies| StepRecord {
            phase: Phase::Future,
            tries: 0,
            run: 0,
            runnable_at: U48::NEVER,
            started_at: U48::NEVER,
            of_phase: u64::from(dependencies).into(),
        };
        let records: Vec<_> = workload.dependency_counts().into_iter().map(record).collect();
        Self { unfinished: records.len(), records, workload }
    }

    pub(super) fn get(&self, step: StepIndex) -> &StepRecord {
        &self.records[step.at()]
    }

    pub(super) fn get_mut(&mut self, step: StepIndex) -> &mut StepRecord {
        &mut self.records[step.at()]
    }

    /// The step is done. Returns the steps that become runnable.
    pub(super) fn succeed(&mut self, step: StepIndex, now: Millis) -> Vec<StepIndex> {
        self.end(step, Phase::Succeeded, now);
        let workload = Arc::clone(&self.workload);
        let dependents = workload.dependents_at(step.at()).iter();
        dependents
            .filter(|dependent| {
                let record = self.get_mut(**dependent);
                if !matches!(record.phase, Phase::Future | Phase::Waiting) {
                    return false;
                }
                let open = record.open_dependencies() - 1;
                record.of_phase = open.into();
                open == 0 && record.phase == Phase::Waiting
            })
            .copied()
            .collect()
    }

    /// The step ends without success, and with it all its dependents.
    pub(super) fn fail(&mut self, step: StepIndex, phase: Phase, now: Millis) {
        self.end(step, phase, now);
        let workload = Arc::clone(&self.workload);
        let mut failed = vec![step];
        while let Some(step) = failed.pop() {
            for dependent in workload.dependents_at(step.at()) {
                if !self.get(*dependent).phase.is_final() {
                    let phase = match phase {
                        Phase::Canceled => phase,
                        _ => Phase::DependencyFailed,
                    };
                    self.end(*dependent, phase, now);
                    failed.push(*dependent);
                }
            }
        }
    }

    fn end(&mut self, step: StepIndex, phase: Phase, now: Millis) {
        let record = self.get_mut(step);
        record.phase = phase;
        record.of_phase = now.into();
        self.unfinished -= 1;
    }
}

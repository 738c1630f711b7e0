//! The lifecycle of each step.

use std::sync::Arc;

use super::Host;
use crate::engine::Millis;
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

/// The record of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its phase.
    pub phase: Phase,
    /// When it first became runnable.
    pub runnable_at: Millis,
    /// When its last try started.
    pub started_at: Millis,
    /// When it reached its final phase.
    pub ended_at: Millis,
    /// While it waits for its dependencies: their number. While it runs: its host. There may be tens of millions of
    /// records, and no step needs both.
    open_dependencies_or_host: u32,
    /// Counts its tries, so that stale events are recognized.
    pub(super) run: u16,
    /// Failed tries.
    pub tries: u8,
}

impl StepRecord {
    pub(super) fn open_dependencies(&self) -> u32 {
        match self.phase {
            Phase::Future | Phase::Waiting => self.open_dependencies_or_host,
            _ => 0,
        }
    }

    /// Its host.
    pub(super) fn host(&self) -> Host {
        Host(self.open_dependencies_or_host)
    }

    /// It runs there from `now` on. Returns the number of the try.
    pub(super) fn start(&mut self, host: Host, now: Millis) -> u16 {
        self.phase = Phase::Running;
        self.started_at = now;
        self.run = self.run.wrapping_add(1);
        self.open_dependencies_or_host = host.0;
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
            runnable_at: Millis::NEVER,
            started_at: Millis::NEVER,
            ended_at: Millis::NEVER,
            open_dependencies_or_host: dependencies,
            run: 0,
            tries: 0,
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
                match record.phase {
                    Phase::Future | Phase::Waiting => record.open_dependencies_or_host -= 1,
                    _ => return false,
                }
                record.open_dependencies_or_host == 0 && record.phase == Phase::Waiting
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
        record.ended_at = now;
        self.unfinished -= 1;
    }
}

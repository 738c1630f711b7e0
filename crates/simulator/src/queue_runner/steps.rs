//! Where each step is in its life.

use std::sync::Arc;

use crate::engine::Millis;
use crate::workload::{StepIndex, Workload};

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its build is not in the queue yet, or its dependencies are not done.
    Waiting,
    /// A machine could take it.
    Runnable,
    /// It failed and waits for its next try.
    Delayed,
    /// A machine builds it.
    Running,
    /// Done.
    Succeeded,
    /// Tried as often as the queue runner tries.
    Aborted,
    /// No machine supported it for too long.
    Unsupported,
    /// A step it depends on did not succeed.
    DependencyFailed,
    /// Its build was cancelled.
    Cancelled,
}

impl Phase {
    /// Whether nothing more happens to the step.
    pub fn is_final(self) -> bool {
        match self {
            Self::Waiting | Self::Runnable | Self::Delayed | Self::Running => false,
            Self::Succeeded
            | Self::Aborted
            | Self::Unsupported
            | Self::DependencyFailed
            | Self::Cancelled => true,
        }
    }
}

/// What happened to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Where it is.
    pub phase: Phase,
    /// When it first could have been taken.
    pub runnable_at: Millis,
    /// When its last try began.
    pub started_at: Millis,
    /// When it reached its final phase.
    pub ended_at: Millis,
    /// Tries that failed.
    pub tries: u8,
    pub(super) open_dependencies: u32,
    pub(super) submitted: bool,
    /// Counts its tries, so that what was scheduled for an earlier one is known to be stale.
    pub(super) run: u32,
    pub(super) host: u32,
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
            phase: Phase::Waiting,
            runnable_at: Millis::NEVER,
            started_at: Millis::NEVER,
            ended_at: Millis::NEVER,
            tries: 0,
            open_dependencies: dependencies,
            submitted: false,
            run: 0,
            host: 0,
        };
        let records: Vec<_> = workload.steps.iter().map(|step| record(step.dependencies)).collect();
        Self { unfinished: records.len(), records, workload }
    }

    pub(super) fn get(&self, step: StepIndex) -> &StepRecord {
        &self.records[step.at()]
    }

    pub(super) fn get_mut(&mut self, step: StepIndex) -> &mut StepRecord {
        &mut self.records[step.at()]
    }

    /// The step is done. Returns the steps that have become runnable by that.
    pub(super) fn succeed(&mut self, step: StepIndex, now: Millis) -> Vec<StepIndex> {
        self.end(step, Phase::Succeeded, now);
        let workload = Arc::clone(&self.workload);
        let dependents = workload.dependents_at(step.at()).iter();
        dependents
            .filter(|dependent| {
                let record = self.get_mut(**dependent);
                record.open_dependencies -= 1;
                record.open_dependencies == 0 && record.submitted && record.phase == Phase::Waiting
            })
            .copied()
            .collect()
    }

    /// The step ends without success, and with it all that needs it.
    pub(super) fn fail(&mut self, step: StepIndex, phase: Phase, now: Millis) {
        self.end(step, phase, now);
        let workload = Arc::clone(&self.workload);
        let mut failed = vec![step];
        while let Some(step) = failed.pop() {
            for dependent in workload.dependents_at(step.at()) {
                if !self.get(*dependent).phase.is_final() {
                    let phase = match phase {
                        Phase::Cancelled => phase,
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

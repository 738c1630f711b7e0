//! Waiting and running steps, by system and required features.

use std::collections::{BTreeMap, BTreeSet};

use planner::{Demand, DemandKey, MachineKeys, Queue, System, Timestamp, counted};

use super::status::{Counts, Status};
use super::steps::{Phase, Step, Steps};
use crate::queue::derivations::{DrvPath, Features};
use crate::queue::system_for;

/// Combines both answers. `problem` is the reason why Nix did not show the features of all steps.
///
/// If a system's steps are listed, they are counted. Only if they are not, `nrRunnableWaiting` is used. It is
/// the result of the last dispatch (up to `dispatchTriggerTimerInS` ago). `Queues::process` in
/// `hydra-queue-runner/src/state/queue.rs` sets it to all steps, including those being built, if no builder
/// of the system has room; to fewer than wait if a dispatch used up the room; and not at all once the queue
/// is empty. The answer in `rest-building` says 1 while 3 wait. A failed step that waits for its next attempt
/// (`nrRunnableDisabled`) counts as waiting: it will need a machine.
///
/// The wait of steps is computed from their `runnableSince`: `avgRunnableTime` is never set, and `waitTimeMs`
/// adds up how long each step had waited when it was queued, which is zero (`BuildQueue::insert_new_jobs` in
/// the same file).
///
/// # Errors
/// When waiting steps could be missed.
pub(super) fn queue(
    status: Status,
    steps: Result<Steps, String>,
    features_of: impl Fn(&DrvPath) -> Option<Features>,
    problem: Option<&str>,
) -> Result<Queue, String> {
    let mut warnings = status.warnings.into_lines();
    let mut listed = match steps {
        Ok(steps) => {
            warnings.extend(steps.warnings.into_lines());
            steps.by_system
        }
        Err(reason) => {
            warnings.push(format!(
                "the features that the waiting steps require are not known; all count as requiring none: {reason}"
            ));
            BTreeMap::new()
        }
    };
    let mut tally = Tally { now: status.clock.time, ..Tally::default() };
    for (system, counts) in status.counts {
        match (listed.remove(&system), counts) {
            (Some(steps), _) => tally.add_steps(&system, &steps, &features_of),
            (None, Ok(counts)) => tally.add_counts(&system, counts),
            (None, Err(problem)) => return Err(problem),
        }
    }
    for (system, steps) in listed {
        tally.add_steps(&system, &steps, &features_of);
    }
    warnings.extend(tally.warning(problem));
    let demand = tally.by_kind.into_values().collect();
    let keys = MachineKeys::HostName;
    Ok(Queue {
        uptime: status.uptime,
        time: status.clock.time,
        clock_offset_seconds: status.clock.offset_seconds,
        demand,
        runnable_total: status.runnable,
        unsupported_steps: status.unsupported,
        // A builder's step ends when its outputs are uploaded.
        copying_steps: 0,
        machines: status.machines,
        keys,
        warnings,
    })
}

#[derive(Debug, Default)]
struct Tally {
    by_kind: BTreeMap<DemandKey, Demand>,
    /// When the answer was created, by the queue runner's clock.
    now: Option<Timestamp>,
    /// Waiting steps with unknown features.
    unknown: u64,
}

impl Tally {
    fn of_kind(&mut self, system: &System, features: Features) -> &mut Demand {
        let kind = DemandKey { system: system_for(system.as_str()), features };
        self.by_kind.entry(kind.clone()).or_insert_with(|| Demand::none_of(kind))
    }

    fn add_counts(&mut self, system: &System, counts: Counts) {
        let demand = self.of_kind(system, BTreeSet::new());
        demand.runnable = demand.runnable.saturating_add(counts.waiting);
        demand.running = demand.running.saturating_add(counts.running);
    }

    fn add_steps(
        &mut self,
        system: &System,
        steps: &[Step],
        features_of: impl Fn(&DrvPath) -> Option<Features>,
    ) {
        self.of_kind(system, BTreeSet::new());
        for step in steps {
            let features = step.derivation.as_ref().and_then(&features_of);
            let is_unknown = features.is_none();
            let waited = self.now.zip(step.runnable_since).map(|(now, since)| now.since(since).0);
            let demand = self.of_kind(system, features.unwrap_or_default());
            match step.phase {
                Phase::Running => demand.running += 1,
                Phase::Waiting => {
                    demand.runnable += 1;
                    let sum = demand.wait_seconds.unwrap_or(0);
                    demand.wait_seconds =
                        waited.map(|waited| sum.saturating_add(waited)).or(demand.wait_seconds);
                    self.unknown += u64::from(is_unknown);
                }
            }
        }
    }

    fn warning(&self, problem: Option<&str>) -> Option<String> {
        (self.unknown > 0).then(|| {
            let (require, they_count) = match self.unknown {
                1 => ("requires", "it counts"),
                _ => ("require", "they count"),
            };
            format!(
                "the features that {} {require} are not known: {they_count} as requiring none, so \
                 machines may be made that cannot build them. queue.nixCommand must read the queue runner's \
                 store: {}",
                counted(self.unknown, "waiting step"),
                problem.unwrap_or("nix did not show their derivations")
            )
        })
    }
}

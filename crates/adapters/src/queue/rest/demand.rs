//! What waits and runs, by system and required features.

use std::collections::{BTreeMap, BTreeSet};

use planner::{Demand, DemandKey, MachineKeys, Queue, System};

use super::status::Status;
use super::steps::{Phase, Step, Steps};
use crate::queue::builtin::system_for;
use crate::queue::derivations::{DrvPath, Features};

/// Puts both answers together. `trouble` is why Nix did not tell the features of all steps.
///
/// Where a system's steps are listed, the steps are counted. `nrRunnableWaiting` stands in only where they
/// are not: it is what the last dispatch (up to `dispatchTriggerTimerInS` ago) left there, and
/// `Queues::process` in `hydra-queue-runner/src/state/queue.rs` sets it to all steps, those being built
/// too, where no builder of the system has room, to fewer than wait where a dispatch used up the room, and
/// not at all once the queue has become empty. The answer in `rest-building` says 1 where 3 wait. A step
/// that failed and waits for its next try (`nrRunnableDisabled`) counts as waiting: it will need a machine.
pub(super) fn queue(
    status: Status,
    steps: Result<Steps, String>,
    features_of: impl Fn(&DrvPath) -> Option<Features>,
    trouble: Option<&str>,
) -> Queue {
    let mut warnings = status.warnings.into_lines();
    let mut listed = match steps {
        Ok(steps) => {
            warnings.extend(steps.warnings.into_lines());
            steps.by_system
        }
        Err(reason) => {
            warnings.push(format!(
                "which features the waiting steps require is not known, all count as requiring none: {reason}"
            ));
            BTreeMap::new()
        }
    };
    let mut tally = Tally::default();
    for (system, counts) in status.counts {
        match listed.remove(&system) {
            Some(steps) => tally.add_steps(&system, &steps, &features_of),
            None => tally.add(&system, BTreeSet::new(), counts.waiting, counts.running),
        }
    }
    for (system, steps) in listed {
        tally.add_steps(&system, &steps, &features_of);
    }
    warnings.extend(tally.warning(trouble));
    let demand = tally.by_kind.into_values().collect();
    let keys = MachineKeys::HostName;
    Queue { uptime: status.uptime, demand, machines: status.machines, keys, warnings }
}

#[derive(Debug, Default)]
struct Tally {
    by_kind: BTreeMap<DemandKey, Demand>,
    /// Waiting steps whose features are not known.
    unknown: u64,
}

impl Tally {
    fn add(&mut self, system: &System, features: Features, waiting: u64, running: u64) {
        let kind = DemandKey { system: system_for(system.as_str()), features };
        let demand = self.by_kind.entry(kind.clone()).or_insert(Demand {
            kind,
            runnable: 0,
            running: 0,
            last_active: None,
        });
        demand.runnable = demand.runnable.saturating_add(waiting);
        demand.running = demand.running.saturating_add(running);
    }

    fn add_steps(
        &mut self,
        system: &System,
        steps: &[Step],
        features_of: impl Fn(&DrvPath) -> Option<Features>,
    ) {
        self.add(system, BTreeSet::new(), 0, 0);
        for step in steps {
            let features = step.derivation.as_ref().and_then(&features_of);
            let (waiting, running) = match step.phase {
                Phase::Waiting => (1, 0),
                Phase::Running => (0, 1),
            };
            if features.is_none() {
                self.unknown += waiting;
            }
            self.add(system, features.unwrap_or_default(), waiting, running);
        }
    }

    fn warning(&self, trouble: Option<&str>) -> Option<String> {
        (self.unknown > 0).then(|| {
            format!(
                "the features that {} waiting steps require are not known: they count as requiring none, so \
                 machines may be made that cannot build them. queue.nixCommand must read the queue runner's \
                 store: {}",
                self.unknown,
                trouble.unwrap_or("nix did not show their derivations")
            )
        })
    }
}

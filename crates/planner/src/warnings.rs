//! Warnings about the input and the machines.

use crate::observed::{NameIs, Observed};
use crate::plan::Warning;
use crate::policy::Policy;
use crate::snapshot::{QueueStatus, Snapshot};

/// Unexpected input.
pub(crate) fn warn_of_unexpected_input(
    policy: &Policy,
    snapshot: &Snapshot,
    machines: &[Observed<'_>],
    warnings: &mut Vec<Warning>,
) {
    match &snapshot.queue {
        QueueStatus::Unavailable(reason) => {
            warnings.push(Warning::QueueUnavailable { reason: reason.clone() });
        }
        QueueStatus::Up(queue) => warnings.extend(
            queue.warnings.iter().map(|message| Warning::Queue { message: message.clone() }),
        ),
    }
    let storage = snapshot.storage_error.iter();
    warnings.extend(storage.map(|reason| Warning::NoStorage { reason: reason.clone() }));
    warnings.extend(snapshot.unlistable.iter().map(|(machine_type, reason)| Warning::Unlistable {
        machine_type: machine_type.clone(),
        reason: reason.clone(),
    }));
    for (machine_type, pool) in &policy.pools {
        if pool.min_machines > pool.max_machines {
            warnings.push(Warning::MinAboveMax { machine_type: machine_type.clone() });
        }
    }
    for machine in machines.iter().map(|observed| observed.machine) {
        let problems = machine.problems.iter().cloned();
        let name = &machine.name;
        warnings.extend(problems.map(|problem| Warning::Machine { name: name.clone(), problem }));
    }
    let duplicates = machines.iter().filter(|observed| observed.name_is == NameIs::Duplicate);
    warnings.extend(
        duplicates
            .map(|observed| Warning::DuplicateMachine { name: observed.machine.name.clone() }),
    );
    warnings.extend(snapshot.not_ours.iter().map(|name| Warning::NotOurs { name: name.clone() }));
}

/// Problems with machines.
pub(crate) fn warn_of_problems(
    snapshot: &Snapshot,
    machines: &[Observed<'_>],
    warnings: &mut Vec<Warning>,
) {
    for observed in machines {
        let name = &observed.machine.name;
        let memory = &observed.machine.memory;
        if let Some(missing) = &memory.missing {
            let missing_for = observed.now.since(missing.since);
            warnings.push(Warning::Missing { name: name.clone(), missing_for });
        }
        if let Some(what) = &observed.unhealthy {
            warnings.push(Warning::Unhealthy { name: name.clone(), what: what.clone() });
        }
        if let Some(failing) = &memory.failing {
            warnings.push(Warning::Failing {
                name: name.clone(),
                operation: failing.operation,
                error: failing.error.clone(),
                retry_at: failing.next_try(snapshot.back_off.get(&observed.machine.machine_type)),
            });
        }
    }
}

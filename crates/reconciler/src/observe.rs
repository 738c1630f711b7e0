//! The first half of a cycle: one look at everything.

use std::collections::BTreeSet;

use planner::{Machine, MachineName, Snapshot};

use crate::world::{LogError, World};

/// Reads the clock, then the machines, then the queue.
///
/// The order errs towards keeping a machine: times are measured from before, a machine that is made
/// meanwhile is seen by the next cycle, and a build that starts meanwhile is seen.
///
/// # Errors
/// When the intent log cannot be read: without it a machine might be created twice.
pub fn observe(world: &mut impl World) -> Result<Snapshot, LogError> {
    let taken_at = world.now();
    let intents = world.intents()?;
    let inventory = world.list();
    let mut machines = inventory.machines;

    let seen: BTreeSet<MachineName> = machines.iter().map(|m| m.name.clone()).collect();
    let (resolved, pending): (Vec<_>, Vec<_>) =
        intents.into_iter().partition(|intent| seen.contains(&intent.name));
    machines.extend(
        pending.into_iter().map(|intent| Machine::requested(intent.name, intent.machine_type)),
    );

    let resolved: Vec<_> = resolved.into_iter().map(|intent| intent.name).collect();
    if !resolved.is_empty() {
        world.forget(&resolved)?;
    }
    let queue = world.queue_status();
    Ok(Snapshot {
        taken_at,
        machines,
        unlisted: inventory.unlisted,
        resources: inventory.resources,
        queue,
    })
}

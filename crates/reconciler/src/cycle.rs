//! One pass of the loop.

use planner::{Plan, Policy, Snapshot};

use crate::execute::execute;
use crate::observe::observe;
use crate::report::Report;
use crate::world::{LogError, World};

/// Observes the world, plans, and carries the plan out.
///
/// # Errors
/// When the intent log cannot be read or written at the start; nothing has been done then.
pub fn cycle(policy: &Policy, world: &mut impl World) -> Result<Report, LogError> {
    cycle_with(planner::plan, policy, world)
}

/// As [`cycle`], with another planner: the simulator's tests plant bugs in one to see them found.
///
/// # Errors
/// As [`cycle`].
pub fn cycle_with(
    plan: impl FnOnce(&Policy, &Snapshot) -> Plan,
    policy: &Policy,
    world: &mut impl World,
) -> Result<Report, LogError> {
    let snapshot = observe(world)?;
    let plan = plan(policy, &snapshot);
    Ok(execute(policy, snapshot, plan, world))
}

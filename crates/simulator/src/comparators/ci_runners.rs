//! Idle count and idle time, as in GitLab Runner's autoscaling (docs.gitlab.com/runner/configuration/autoscale,
//! `IdleCount`, `IdleTime`):
//!
//! ```text
//! wanted = ceil((waiting + running) / maxJobs) + IdleCount        at most maxMachines
//! ```
//!
//! An idle machine beyond that number is destroyed after `IdleTime`. The documentation gives the time but not the
//! count, which must be at least 1 for a step to find a machine.

use planner::{Plan, Policy, Snapshot};

/// `IdleCount`.
const IDLE_COUNT: u32 = 1;
/// `IdleTime`, in seconds, as in the documentation's examples.
const IDLE_SECONDS: u64 = 600;

pub(super) fn settings(policy: &mut Policy) {
    super::slot_for_each_step(policy, IDLE_SECONDS);
    for pool in policy.pools.values_mut() {
        pool.min_machines = pool.min_machines.max(IDLE_COUNT).min(pool.max_machines);
    }
}

/// The machines that the steps fill, plus the idle ones, count as a minimum.
pub(super) fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    let sizing = planner::plan(policy, snapshot).sizing;
    let mut policy = policy.clone();
    for (name, pool) in &mut policy.pools {
        let Some(slots) = sizing.get(name).and_then(|sizing| sizing.slots) else { continue };
        let steps = slots.waiting.saturating_add(slots.running);
        let filled = steps.div_ceil(u64::from(pool.max_jobs.max(1)));
        let wanted = u32::try_from(filled).unwrap_or(u32::MAX).saturating_add(IDLE_COUNT);
        pool.min_machines = pool.min_machines.max(wanted).min(pool.max_machines);
    }
    planner::plan(&policy, snapshot)
}

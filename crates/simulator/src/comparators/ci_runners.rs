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

pub(super) fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    super::plan_with_slots(policy, snapshot, IDLE_COUNT)
}

//! One machine per job, like ephemeral runners (GitHub's Actions Runner Controller with `ephemeral`, GitLab's
//! `MaxBuilds = 1`): one step at a time, and the machine is destroyed when it is idle.
//!
//! ```text
//! wanted = waiting + running        at most maxMachines * maxJobs
//! ```
//!
//! The machines and their prices stay the same: a step has a whole machine. If a second step reaches the machine before
//! the provisioner polls, the machine builds that too.

use planner::{Plan, Policy, Snapshot};

pub(super) fn settings(policy: &mut Policy) {
    super::slot_for_each_step(policy, 0);
    for pool in policy.pools.values_mut() {
        pool.max_machines = pool.max_machines.saturating_mul(pool.max_jobs.max(1));
        pool.max_jobs = 1;
    }
}

pub(super) fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    super::plan_with_slots(policy, snapshot, 0)
}

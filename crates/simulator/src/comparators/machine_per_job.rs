//! A machine for each job, as ephemeral runners have it (GitHub's Actions Runner Controller with `ephemeral`, GitLab's
//! `MaxBuilds = 1`): one step at a time, and the machine goes when it is idle.
//!
//! ```text
//! wanted = waiting + running        at most maxMachines * maxJobs
//! ```
//!
//! The machines and their prices stay as they are: a step has all of one to itself. A machine that a second step reaches
//! before the provisioner looks builds that too.

use planner::Policy;

pub(super) fn settings(policy: &mut Policy) {
    super::slot_for_each_step(policy, 0);
    for pool in policy.pools.values_mut() {
        pool.max_machines = pool.max_machines.saturating_mul(pool.max_jobs.max(1));
        pool.max_jobs = 1;
    }
}

//! Kubernetes' cluster-autoscaler with its defaults (`cluster-autoscaler/FAQ.md`): pods that cannot be scheduled get
//! nodes immediately, an unneeded node is removed after `--scale-down-unneeded-time` (10 minutes), and no node is
//! removed until `--scale-down-delay-after-add` (10 minutes) after the last one was added.
//!
//! ```text
//! wanted = ceil((waiting + running) / maxJobs)
//! ```
//!
//! A build cannot be moved to another node as a pod can, so only a node without builds is unneeded.

use planner::{IdleTimeout, Plan, Policy, Seconds, Snapshot};

/// `--scale-down-unneeded-time`, in seconds.
const UNNEEDED_SECONDS: u64 = 600;
/// `--scale-down-delay-after-add`.
const DELAY_AFTER_ADD: Seconds = Seconds::from_minutes(10);
/// Practically forever.
const LONG: Seconds = Seconds(1 << 32);

pub(super) fn settings(policy: &mut Policy) {
    super::slot_for_each_step(policy, UNNEEDED_SECONDS);
}

/// During the delay no idle machine is removed.
pub(super) fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    let requested = snapshot.machines.iter().filter_map(|machine| machine.memory.requested_at);
    let until = requested.max().map(|last| last.after(DELAY_AFTER_ADD));
    let Some(until) = until.filter(|until| snapshot.taken_at < *until) else {
        return super::plan_with_slots(policy, snapshot, 0);
    };
    let mut policy = policy.clone();
    for pool in policy.pools.values_mut() {
        pool.idle_timeout = IdleTimeout::After(LONG);
    }
    let mut plan = super::plan_with_slots(&policy, snapshot, 0);
    plan.wake_at = Some(plan.wake_at.map_or(until, |at| at.min(until)));
    plan
}

//! A fixed farm: `maxMachines` of each type from start to end, independent of the queue.

use planner::Policy;

pub(super) fn settings(policy: &mut Policy) {
    for pool in policy.pools.values_mut() {
        pool.min_machines = pool.max_machines;
    }
}

//! A farm that somebody bought: `maxMachines` of each type from the beginning to the end, whatever waits.

use planner::Policy;

pub(super) fn settings(policy: &mut Policy) {
    for pool in policy.pools.values_mut() {
        pool.min_machines = pool.max_machines;
    }
}

//! Other provisioners, for comparison: each file has one rule and its source.

mod ci_runners;
mod cluster_autoscaler;
mod fixed_farm;
mod machine_per_job;
pub(crate) mod original;

use planner::{Plan, Policy, Seconds, Snapshot};
use reconciler::Planner;

use crate::engine::Millis;

/// Another provisioner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparator {
    /// The Python script that this program replaces, with its bugs, on EC2: NixOps counts started hours there.
    Original,
    /// The same on other clouds: NixOps knows of no paid time there.
    OriginalBySecond,
    /// Idle count and idle time, like GitLab's runners.
    CiRunners,
    /// One machine per step, destroyed after it.
    MachinePerJob,
    /// Kubernetes' cluster-autoscaler.
    ClusterAutoscaler,
    /// `maxMachines` machines of each type, always.
    FixedFarm,
}

/// Cycle time of the original: "every 5 minutes" in its README.
const INTERVAL_OF_THE_ORIGINAL: Millis = Millis::from_minutes(5);

impl Comparator {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Original,
        Self::OriginalBySecond,
        Self::CiRunners,
        Self::MachinePerJob,
        Self::ClusterAutoscaler,
        Self::FixedFarm,
    ];

    /// Its name on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::OriginalBySecond => "original-by-second",
            Self::CiRunners => "ci-runners",
            Self::MachinePerJob => "machine-per-job",
            Self::ClusterAutoscaler => "cluster-autoscaler",
            Self::FixedFarm => "fixed-farm",
        }
    }

    /// The comparator with this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|comparator| comparator.word() == word)
    }

    /// Its default polling interval.
    pub fn usual_interval(self) -> Option<Millis> {
        let is_original = matches!(self, Self::Original | Self::OriginalBySecond);
        is_original.then_some(INTERVAL_OF_THE_ORIGINAL)
    }

    /// Replaces the settings of `policy` by this comparator's: systems, prices and `maxMachines` stay the operator's.
    pub fn apply_to(self, policy: &mut Policy) {
        match self {
            Self::Original | Self::OriginalBySecond => {}
            Self::CiRunners => ci_runners::settings(policy),
            Self::MachinePerJob => machine_per_job::settings(policy),
            Self::ClusterAutoscaler => cluster_autoscaler::settings(policy),
            Self::FixedFarm => fixed_farm::settings(policy),
        }
    }

    /// The planner for these settings; `None` if more than the decision differs.
    pub(crate) fn planner(self) -> Option<Planner> {
        match self {
            Self::Original | Self::OriginalBySecond => None,
            Self::CiRunners => Some(ci_runners::plan),
            Self::ClusterAutoscaler => Some(cluster_autoscaler::plan),
            Self::MachinePerJob => Some(machine_per_job::plan),
            Self::FixedFarm => Some(planner::plan),
        }
    }
}

/// Machines are wanted by [`plan_with_slots`]; idle ones stay for `idle_seconds`.
fn slot_for_each_step(policy: &mut Policy, idle_seconds: u64) {
    for pool in policy.pools.values_mut() {
        // Any target: the plan then contains the numbers of steps.
        pool.target_wait = Some(Seconds::from_minutes(5));
        pool.idle_timeout = planner::IdleTimeout::After(Seconds(idle_seconds));
        pool.keep_last = Seconds(0);
        pool.filling = planner::Filling::Spread;
    }
}

/// A plan for as many machines as have a slot for each step, while steps wait, and `idle_count` more at any time.
fn plan_with_slots(policy: &Policy, snapshot: &Snapshot, idle_count: u32) -> Plan {
    let sizing = planner::plan(policy, snapshot).sizing;
    let mut policy = policy.clone();
    for (name, pool) in &mut policy.pools {
        let Some(slots) = sizing.get(name).and_then(|sizing| sizing.slots) else { continue };
        if slots.waiting == 0 && idle_count == 0 {
            continue;
        }
        let steps = slots.waiting.saturating_add(slots.running);
        let filled = steps.div_ceil(u64::from(pool.max_jobs.max(1)));
        let wanted = u32::try_from(filled).unwrap_or(u32::MAX).saturating_add(idle_count);
        pool.min_machines = pool.min_machines.max(wanted).min(pool.max_machines);
    }
    planner::plan(&policy, snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back() {
        for comparator in Comparator::ALL {
            assert_eq!(Comparator::named(comparator.word()), Some(comparator));
        }
        assert_eq!(Comparator::named("conf.nix"), None);
    }
}

//! Other provisioners, for comparison: each file has one rule and its source.

mod ci_runners;
mod cluster_autoscaler;
mod fixed_farm;
mod machine_per_job;
pub(crate) mod original;

use planner::{Policy, Seconds};
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

/// A target wait so short that every waiting step gets a slot.
const AT_ONCE: Seconds = Seconds(1);

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
            Self::MachinePerJob | Self::FixedFarm => Some(planner::plan),
        }
    }
}

/// A slot for each step immediately, and idle machines that stay for `idle_seconds`.
fn slot_for_each_step(policy: &mut Policy, idle_seconds: u64) {
    for pool in policy.pools.values_mut() {
        pool.target_wait = Some(AT_ONCE);
        pool.idle_timeout = planner::IdleTimeout::After(Seconds(idle_seconds));
        pool.keep_last = Seconds(0);
    }
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

//! How others decide, to compare with: each is a file with its rule and where it comes from.

mod ci_runners;
mod cluster_autoscaler;
mod fixed_farm;
mod machine_per_job;
pub(crate) mod original;

use planner::{Policy, Seconds};
use reconciler::Planner;

use crate::engine::Millis;
use crate::simulation::Setup;

/// Another provisioner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparator {
    /// The Python script that this program replaces, with its mistakes.
    Original,
    /// Idle count and idle time, as GitLab's runners have them.
    CiRunners,
    /// A machine for each step, destroyed after it.
    MachinePerJob,
    /// Kubernetes' cluster-autoscaler.
    ClusterAutoscaler,
    /// `maxMachines` machines of each type, always.
    FixedFarm,
}

/// The time from one cycle of the original to the next: "every 5 minutes", says its README.
const INTERVAL_OF_THE_ORIGINAL: Millis = Millis::from_minutes(5);

/// A target wait so short that every waiting step wants a slot.
const AT_ONCE: Seconds = Seconds(1);

impl Comparator {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Original,
        Self::CiRunners,
        Self::MachinePerJob,
        Self::ClusterAutoscaler,
        Self::FixedFarm,
    ];

    /// What it is called on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::CiRunners => "ci-runners",
            Self::MachinePerJob => "machine-per-job",
            Self::ClusterAutoscaler => "cluster-autoscaler",
            Self::FixedFarm => "fixed-farm",
        }
    }

    /// The one that is called `word`.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|comparator| comparator.word() == word)
    }

    /// How often it looks, where the user does not say otherwise.
    pub fn usual_interval(self) -> Option<Millis> {
        (self == Self::Original).then_some(INTERVAL_OF_THE_ORIGINAL)
    }

    /// `setup` with its settings in place of the operator's: systems, prices and `maxMachines` stay.
    #[must_use]
    pub fn applied_to(self, mut setup: Setup) -> Setup {
        let policy = &mut setup.policy;
        match self {
            Self::Original => {}
            Self::CiRunners => ci_runners::settings(policy),
            Self::MachinePerJob => machine_per_job::settings(policy),
            Self::ClusterAutoscaler => cluster_autoscaler::settings(policy),
            Self::FixedFarm => fixed_farm::settings(policy),
        }
        setup
    }

    /// What decides with these settings; `None` where more differs than the decision.
    pub(crate) fn planner(self) -> Option<Planner> {
        match self {
            Self::Original => None,
            Self::CiRunners => Some(ci_runners::plan),
            Self::ClusterAutoscaler => Some(cluster_autoscaler::plan),
            Self::MachinePerJob | Self::FixedFarm => Some(planner::plan),
        }
    }
}

/// A slot for each step at once, and idle machines that stay for `idle_seconds`.
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

//! What the operator wants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::host_pattern::HostPattern;
use crate::money::Money;
use crate::names::{Feature, MachineType, System, Tag};
use crate::store_uri::StoreUri;
use crate::time::Seconds;

/// The operator's intent: one pool of machines per machine type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Marks this provisioner's machines and starts their names.
    pub tag: Tag,
    /// The pools by machine type.
    pub pools: BTreeMap<MachineType, PoolPolicy>,
    /// Machines of all types together to have at the most; `None` where only the types have limits.
    #[serde(default)]
    pub max_machines: Option<u32>,
    /// What all machines together may cost.
    #[serde(default)]
    pub cost_limits: CostLimits,
    /// Machines of the queue runner that are the operator's own: whatever they build, it is none of ours that
    /// builds there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_machines: Vec<HostPattern>,
}

impl Policy {
    /// A farm with the limits of its pools only.
    pub fn new(tag: Tag, pools: BTreeMap<MachineType, PoolPolicy>) -> Self {
        Self {
            tag,
            pools,
            max_machines: None,
            cost_limits: CostLimits::default(),
            other_machines: Vec::new(),
        }
    }
}

/// What machines may cost at the most, those being created included. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CostLimits {
    /// `maxHourlyCost`: what the machines that run at one time cost together per hour.
    #[serde(default)]
    pub hourly: Option<Money>,
    /// `maxDailyCost`: in a day (UTC).
    #[serde(default)]
    pub daily: Option<Money>,
    /// `maxMonthlyCost`: in a month (UTC).
    #[serde(default)]
    pub monthly: Option<Money>,
}

/// The operator's intent for one machine type. Field names follow `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolPolicy {
    /// Systems that the machines build for, in the order of the type's name; never empty.
    pub systems: Vec<System>,
    /// A step must require all of these to be built here.
    #[serde(default)]
    pub mandatory_features: BTreeSet<Feature>,
    /// A step may require these besides the mandatory ones.
    #[serde(default)]
    pub supported_features: BTreeSet<Feature>,
    /// Machines to have whatever the queue says; at most `max_machines`.
    #[serde(default)]
    pub min_machines: u32,
    /// Machines to have at the most.
    #[serde(default = "defaults::one")]
    pub max_machines: u32,
    /// Runnable steps left to machines that the operator runs himself.
    #[serde(default)]
    pub ignored_runnables: u64,
    /// Runnable steps that make one machine worth having.
    #[serde(default = "defaults::runnables_per_machine")]
    pub runnables_per_machine: NonZeroU32,
    /// `maxCreating`: machines that are being created at the same time; at least 1.
    #[serde(default = "defaults::max_creating")]
    pub max_creating: u32,
    /// `maxCreatesPerCycle` where it is given: creations begun within any 5 minutes; at least 1.
    #[serde(default)]
    pub creates_per_5_minutes: Option<u32>,
    /// `fallback`: types that get this type's demand while it has no capacity, in order. `None`: every type
    /// that can build the same steps, the cheapest first, then by name.
    #[serde(default)]
    pub fallback: Option<Vec<MachineType>>,
    /// `dollarsPerHour`: what one machine costs for each hour that it runs; `None` where it is not known.
    #[serde(default)]
    pub dollars_per_hour: Option<Money>,
    /// What the machines of this type together may cost.
    #[serde(default)]
    pub cost_limits: CostLimits,
    /// `targetWait`: how long a step may wait on average; takes the place of `runnables_per_machine`.
    /// `None` is off.
    #[serde(default)]
    pub target_wait: Option<Seconds>,
    /// What becomes of a machine that is no longer worth its cost.
    #[serde(default)]
    pub idle_action: IdleAction,
    /// `idleTimeout` (old name `gracePeriod`): how long an idle machine is kept for work that may yet come.
    #[serde(default)]
    pub idle_timeout: IdleTimeout,
    /// `keepLast`: how long the last machine of this type is kept idle, where that is longer.
    #[serde(default)]
    pub keep_last: Seconds,
    /// `healthTimeout`: how long an unhealthy machine still counts as capacity.
    #[serde(default = "defaults::health_timeout")]
    pub health_timeout: Seconds,
    /// How long the deployment of an idle machine may fail before it is destroyed and replaced.
    #[serde(default = "defaults::give_up_after")]
    pub give_up_after: Seconds,
    /// Steps that a machine builds at once (machines file, column 4); at least 1.
    #[serde(default = "defaults::one")]
    pub max_jobs: u32,
    /// Speed compared with other machines (machines file, column 5).
    #[serde(default)]
    pub speed_factor: SpeedFactor,
    /// Path of the SSH private key on the queue runner's host (machines file, column 3).
    #[serde(default)]
    pub ssh_key: Option<String>,
    /// How the machines are written in the machines file, column 1; `None` for `user@host` as far as that says all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_uri: Option<StoreUri>,
}

mod defaults {
    use std::num::NonZeroU32;

    use crate::time::Seconds;

    pub(super) fn one() -> u32 {
        1
    }

    pub(super) fn max_creating() -> u32 {
        5
    }

    pub(super) fn health_timeout() -> Seconds {
        Seconds::from_minutes(10)
    }

    pub(super) fn give_up_after() -> Seconds {
        Seconds::from_minutes(60)
    }

    pub(super) fn runnables_per_machine() -> NonZeroU32 {
        const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();
        TEN
    }
}

impl PoolPolicy {
    /// A pool for `systems` with the original's defaults.
    pub fn new(systems: Vec<System>) -> Self {
        Self {
            systems,
            mandatory_features: BTreeSet::new(),
            supported_features: BTreeSet::new(),
            min_machines: 0,
            max_machines: defaults::one(),
            ignored_runnables: 0,
            runnables_per_machine: defaults::runnables_per_machine(),
            max_creating: defaults::max_creating(),
            creates_per_5_minutes: None,
            fallback: None,
            dollars_per_hour: None,
            cost_limits: CostLimits::default(),
            target_wait: None,
            idle_action: IdleAction::default(),
            idle_timeout: IdleTimeout::default(),
            keep_last: Seconds(0),
            health_timeout: defaults::health_timeout(),
            give_up_after: defaults::give_up_after(),
            max_jobs: defaults::one(),
            speed_factor: SpeedFactor::default(),
            ssh_key: None,
            store_uri: None,
        }
    }
}

/// `stopOnIdle` in `conf.nix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleAction {
    /// Stop it and keep its disk, to be started again sooner than a new one could be made.
    Stop,
    /// Destroy it.
    #[default]
    Destroy,
}

/// `idleTimeout` in `conf.nix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IdleTimeout {
    /// This long.
    After(Seconds),
    /// As long as a new machine of the type takes, and is paid for, until it is ready: never more than twice
    /// what the best choice in hindsight costs (ski rental).
    Auto,
}

impl Default for IdleTimeout {
    fn default() -> Self {
        Self::After(Seconds(0))
    }
}

/// A speed factor in thousandths (Hydra reads a decimal number, Nix 2.8 a whole one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpeedFactor {
    /// 1000 is a factor of 1; at least 1.
    pub thousandths: u32,
}

impl Default for SpeedFactor {
    fn default() -> Self {
        Self { thousandths: 1000 }
    }
}

/// As the machines file wants it: `1`, `1.5`, `0.125`.
impl fmt::Display for SpeedFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        if rest == 0 {
            write!(f, "{whole}")
        } else {
            write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
        }
    }
}

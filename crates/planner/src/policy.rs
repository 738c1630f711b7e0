//! What the operator wants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::host_pattern::HostPattern;
use crate::left_out::is_default;
use crate::money::Money;
use crate::names::{Feature, MachineType, System, Tag};
use crate::store_uri::StoreUri;
use crate::time::Seconds;

/// The operator's intent: one pool of machines per machine type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Marks this provisioner's machines and is the prefix of their names.
    pub tag: Tag,
    /// Tags that it had before: machines that carry them are ours too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_tags: Vec<Tag>,
    /// The pools by machine type.
    pub pools: BTreeMap<MachineType, PoolPolicy>,
    /// Maximum number of machines of all types together; `None`: only the types have limits.
    #[serde(default)]
    pub max_machines: Option<u32>,
    /// Cost limits of all machines together.
    #[serde(default)]
    pub cost_limits: CostLimits,
    /// Machines of the queue runner that belong to the operator. Their builds are never attributed to our
    /// machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_machines: Vec<HostPattern>,
}

impl Policy {
    /// The current tag and the former ones.
    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        std::iter::once(&self.tag).chain(&self.former_tags)
    }

    /// A farm with only the limits of its pools.
    pub fn new(tag: Tag, pools: BTreeMap<MachineType, PoolPolicy>) -> Self {
        Self {
            tag,
            former_tags: Vec::new(),
            pools,
            max_machines: None,
            cost_limits: CostLimits::default(),
            other_machines: Vec::new(),
        }
    }
}

/// Cost limits. Machines being created are included. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CostLimits {
    /// `maxHourlyCost`: cost per hour of all machines that run at the same time.
    #[serde(default)]
    pub hourly: Option<Money>,
    /// `maxDailyCost`: cost per day (UTC).
    #[serde(default)]
    pub daily: Option<Money>,
    /// `maxMonthlyCost`: cost per month (UTC).
    #[serde(default)]
    pub monthly: Option<Money>,
}

/// The operator's intent for one machine type. Field names follow `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolPolicy {
    /// Systems that the machines build for, in the order of the type's name; never empty.
    pub systems: Vec<System>,
    /// Mandatory features: a step must require all of them to be built here.
    #[serde(default)]
    pub mandatory_features: BTreeSet<Feature>,
    /// Further features that a step may require.
    #[serde(default)]
    pub supported_features: BTreeSet<Feature>,
    /// Minimum number of machines, even without steps; at most `max_machines`.
    #[serde(default)]
    pub min_machines: u32,
    /// Maximum number of machines.
    #[serde(default = "defaults::one")]
    pub max_machines: u32,
    /// Runnable steps left to machines that the operator runs.
    #[serde(default)]
    pub ignored_runnables: u64,
    /// Runnable steps that justify one machine.
    #[serde(default = "defaults::runnables_per_machine")]
    pub runnables_per_machine: NonZeroU32,
    /// `maxCreating`: machines being created at the same time; at least 1.
    #[serde(default = "defaults::max_creating")]
    pub max_creating: u32,
    /// `maxCreatesPerCycle`, if set: creations begun within any 5 minutes; at least 1.
    #[serde(default)]
    pub creates_per_5_minutes: Option<u32>,
    /// `fallback`: types that get this type's steps while it has no capacity, in order. `None`: every type
    /// that can build the same steps, the cheapest first, then by name.
    #[serde(default)]
    pub fallback: Option<Vec<MachineType>>,
    /// `dollarsPerHour`: price of one running machine per hour; `None`: not known.
    #[serde(default)]
    pub dollars_per_hour: Option<Money>,
    /// Cost limits of all machines of this type together.
    #[serde(default)]
    pub cost_limits: CostLimits,
    /// `targetWait`: average time that a step may wait; replaces `runnables_per_machine`. `None` is off.
    #[serde(default)]
    pub target_wait: Option<Seconds>,
    /// What happens to a machine that is not needed.
    #[serde(default)]
    pub idle_action: IdleAction,
    /// `idleTimeout` (old name `gracePeriod`): how long an idle machine is kept for possible later steps.
    #[serde(default)]
    pub idle_timeout: IdleTimeout,
    /// `keepLast`: how long the last idle machine of this type is kept, if that is longer.
    #[serde(default)]
    pub keep_last: Seconds,
    /// `useWhilePaid`: with at least this much paid time left a machine stays and gets builds; at least 1 s.
    #[serde(default = "defaults::use_while_paid")]
    pub use_while_paid: Seconds,
    /// `keepWhilePaid`: with at least this much paid time left an idle machine is not released; at least 1 s.
    #[serde(default = "defaults::keep_while_paid")]
    pub keep_while_paid: Seconds,
    /// `healthTimeout`: how long an unhealthy machine still counts as capacity.
    #[serde(default = "defaults::health_timeout")]
    pub health_timeout: Seconds,
    /// `progressTimeout`: a machine that builds for this long without finishing a step is unhealthy.
    #[serde(default = "defaults::progress_timeout")]
    pub progress_timeout: Seconds,
    /// `giveUpAfter`: how long the operations of an idle machine may fail, or it may be unhealthy (at least `healthTimeout`),
    /// before it is destroyed and replaced.
    #[serde(default = "defaults::give_up_after")]
    pub give_up_after: Seconds,
    /// When machines are replaced by new ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rotation: RotationPolicy,
    /// Concurrent steps of a machine (machines file, column 4); at least 1.
    #[serde(default = "defaults::one")]
    pub max_jobs: u32,
    /// Relative speed (machines file, column 5).
    #[serde(default)]
    pub speed_factor: SpeedFactor,
    /// `pack`: which machines the queue runner fills.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filling: Filling,
    /// Path of the SSH private key on the queue runner's host (machines file, column 3).
    #[serde(default)]
    pub ssh_key: Option<String>,
    /// The format of column 1 of the machines file; `None`: `user@host`, or `ssh://user@host:port` if the port is
    /// not 22.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_uri: Option<StoreUri>,
}

pub(crate) mod defaults {
    use std::num::NonZeroU32;

    use crate::time::Seconds;

    pub(super) fn one() -> u32 {
        1
    }

    pub(super) fn max_creating() -> u32 {
        5
    }

    pub(crate) fn use_while_paid() -> Seconds {
        Seconds::from_minutes(30)
    }

    pub(crate) fn keep_while_paid() -> Seconds {
        Seconds::from_minutes(10)
    }

    pub(super) fn health_timeout() -> Seconds {
        Seconds::from_minutes(10)
    }

    pub(super) fn progress_timeout() -> Seconds {
        Seconds::from_minutes(12 * 60)
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
            use_while_paid: defaults::use_while_paid(),
            keep_while_paid: defaults::keep_while_paid(),
            health_timeout: defaults::health_timeout(),
            progress_timeout: defaults::progress_timeout(),
            give_up_after: defaults::give_up_after(),
            rotation: RotationPolicy::default(),
            max_jobs: defaults::one(),
            speed_factor: SpeedFactor::default(),
            filling: Filling::default(),
            ssh_key: None,
            store_uri: None,
        }
    }
}

/// `stopOnIdle` in `conf.nix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleAction {
    /// Stop it and keep its disk. It can be started faster than a new one can be created.
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
    /// As long as a new machine of the type takes until it is ready. This never costs more than twice the
    /// best choice in hindsight (ski rental).
    Auto,
}

impl Default for IdleTimeout {
    fn default() -> Self {
        Self::After(Seconds(0))
    }
}

/// `pack` in `conf.nix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filling {
    /// The queue runner fills all machines alike.
    #[default]
    Spread,
    /// Machines that are more than the steps need get no new builds (classic queue runner).
    Pack,
}

/// A speed factor in thousandths (Hydra reads a decimal number, Nix 2.8 an integer).
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

/// In the format of the machines file: `1`, `1.5`, `0.125`.
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

/// When machines of a type are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RotationPolicy {
    /// `maxAge`: the age at which a machine is replaced. `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Seconds>,
    /// `maxBuilds`: the number of steps after which a machine is replaced. `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_builds: Option<u64>,
    /// A digest of the settings that new machines are made from. `None`: changed settings replace no machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// `maxUnavailable`: how many are replaced at the same time. `None`: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
}

//! How many machines a type is allowed, and why: part of the plan.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::memory::BackOff;
use crate::money::Money;
use crate::names::{MachineName, MachineType};
use crate::orders::Order;
use crate::time::{Seconds, Timestamp};

/// The arithmetic for one machine type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizing {
    /// Steps that wait for such a machine; `None` while the queue status is unavailable.
    pub runnable: Option<u64>,
    /// Steps left to other machines (`ignoredRunnables`).
    pub ignored: u64,
    /// Machines wanted for the waiting steps.
    pub wanted: u64,
    /// How `wanted` follows from `targetWait`; `None`: `runnablesPerMachine` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotsWanted>,
    /// `wanted`, restricted by the policy's limits.
    pub allowed: u32,
    /// What determines `allowed`.
    pub allowed_by: AllowedBy,
    /// Machines of this type that exist: without recorded intents and destroyed ones.
    pub present: u32,
    /// Allowed machines that may not be used now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Deferred>,
    /// Outdated machines that are in use until their replacements are ready.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replacing: BTreeMap<MachineName, Outdated>,
    /// Waiting steps handed over to other types, because this type has no capacity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hands_over: BTreeMap<MachineType, u64>,
    /// Waiting steps received from other types that have no capacity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub takes_over: BTreeMap<MachineType, u64>,
    /// Machines that must wait for a shared resource.
    pub no_room: Option<NoRoom>,
}

/// Slots (places for one step each) that keep the average wait at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotsWanted {
    /// Waiting steps, without those left to other machines.
    pub waiting: u64,
    /// Running steps.
    pub running: u64,
    /// Average duration of such steps.
    pub step_time: Seconds,
    /// `targetWait`, or two and a half times the time until a new machine is ready if that is longer.
    pub target: Seconds,
    /// The number of slots, in tenths; rounded up.
    pub tenths: u64,
    /// What determines the number.
    pub bound: SlotsBound,
}

/// What determines a number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SlotsBound {
    /// The target.
    Target,
    /// The number of steps.
    Steps,
    /// The target is missed: the slots that running steps hold for longer than it come in addition.
    #[serde(rename_all = "camelCase")]
    Late {
        /// The average wait of the waiting steps.
        mean_wait: Seconds,
        /// Running steps on machines that have finished none for longer than the target.
        #[serde(default)]
        stuck: u64,
    },
}

/// Allowed machines that may not be used now: new ones, stopped ones, or running ones beyond a cost limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deferred {
    /// How many.
    pub machines: u32,
    /// Why.
    pub reason: Deferral,
}

/// Why such a machine may not be used now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deferral {
    /// Other machines of its type that are being created (`maxCreating`).
    MaxCreating {
        /// How many may be created at once.
        at_once: u32,
    },
    /// The rate limit of creations (`maxCreatesPerCycle`).
    CreationRate {
        /// How many may begin in five minutes.
        per_window: u32,
        /// When the next may begin.
        next: Timestamp,
    },
    /// The back-off after failed creations of the type.
    BackOff(BackOff),
    /// A limit of the farm or of the type.
    Limit(LimitReached),
    /// Our state cannot be recorded.
    NoStorage,
    /// The operator has paused the type.
    Paused(Order),
}

/// A limit that prevents another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReached {
    /// Which.
    pub limit: LimitName,
    /// Whether it is the type's own limit; otherwise it is the farm's.
    pub by_type: bool,
    /// When it ends, if it ends by time alone.
    pub until: Option<Timestamp>,
}

/// The limits, with their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitName {
    /// `maxMachines`, of the farm or of the type.
    MaxMachines,
    /// Cost of machines per hour.
    MaxHourlyCost {
        /// The limit.
        limit: Money,
    },
    /// Cost of machines per day.
    MaxDailyCost {
        /// The limit.
        limit: Money,
        /// Spent today.
        spent: Money,
    },
    /// Cost of machines per month.
    MaxMonthlyCost {
        /// The limit.
        limit: Money,
        /// Spent this month.
        spent: Money,
    },
}

impl Deferral {
    /// When it ends, if it ends by time alone.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::MaxCreating { .. } | Self::NoStorage => None,
            Self::CreationRate { next, .. } => Some(*next),
            Self::BackOff(back_off) => Some(back_off.until),
            Self::Limit(reached) => reached.until,
            Self::Paused(order) => order.until,
        }
    }
}

/// New or stopped machines that a shared resource has no room for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoRoom {
    /// How many.
    pub machines: u32,
    /// Which resource, in the provider's words.
    pub resource: String,
    /// The amount that was free before this plan.
    pub free: u64,
    /// The amount that one machine needs.
    pub needs: u64,
}

/// What determines the number of allowed machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllowedBy {
    /// The queue.
    Demand,
    /// `minMachines` is more than the queue needs.
    MinMachines,
    /// `maxMachines` is less than the queue needs.
    MaxMachines,
    /// The cost limits are less than the queue needs.
    CostLimits,
    /// `maxMachines` of the farm is less than the queue needs.
    FarmMaxMachines,
}

impl From<LimitName> for AllowedBy {
    fn from(limit: LimitName) -> Self {
        match limit {
            LimitName::MaxMachines => Self::FarmMaxMachines,
            LimitName::MaxHourlyCost { .. }
            | LimitName::MaxDailyCost { .. }
            | LimitName::MaxMonthlyCost { .. } => Self::CostLimits,
        }
    }
}

/// Why a machine is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outdated {
    /// It has reached `maxAge`.
    Age {
        /// The limit.
        limit: Seconds,
    },
    /// It has reached `maxBuilds`.
    Builds {
        /// The limit.
        limit: u64,
    },
    /// New machines are made from other settings.
    Settings,
    /// New machines are made from another image, or with other ssh keys.
    Image,
}

impl Outdated {
    /// Whether it leaves even if it is never idle.
    pub(crate) fn is_strict(self) -> bool {
        !matches!(self, Self::Settings | Self::Image)
    }
}

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age { limit } => write!(f, "it has reached maxAge ({limit})"),
            Self::Builds { limit } => write!(f, "it has reached maxBuilds ({limit})"),
            Self::Settings => f.write_str("its type's settings have changed"),
            Self::Image => {
                f.write_str("new machines of its type have another image or other ssh keys")
            }
        }
    }
}

/// Reasons why a type gets no new machines, or one at a time.
#[derive(Clone, Copy)]
pub(crate) struct Blockers<'a> {
    /// Creations failed, and none has succeeded since. After its end one machine at a time is tried.
    pub(crate) back_off: Option<&'a BackOff>,
    /// The operator has paused it.
    pub(crate) paused: Option<&'a Order>,
}

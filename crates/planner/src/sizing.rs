//! How many machines a type is to have, and why: part of the plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::memory::BackOff;
use crate::money::Money;
use crate::names::MachineType;
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
    /// Machines that the waiting steps are worth.
    pub wanted: u64,
    /// How `wanted` follows from `targetWait`; `None` where `runnablesPerMachine` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotsWanted>,
    /// `wanted` within the policy's limits.
    pub allowed: u32,
    /// What `allowed` was determined by.
    pub allowed_by: AllowedBy,
    /// Machines of this type in the snapshot, whatever their state.
    pub present: u32,
    /// New machines that have to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Deferred>,
    /// Waiting steps that count for other types as well, since this one has no capacity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hands_over: BTreeMap<MachineType, u64>,
    /// Steps among those that wait which are other types', that have no capacity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub takes_over: BTreeMap<MachineType, u64>,
    /// Machines that must wait until there is room for them.
    pub no_room: Option<NoRoom>,
}

/// Slots (places for a step) that keep the average wait at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotsWanted {
    /// Steps that wait, without those left to other machines.
    pub waiting: u64,
    /// Steps that run.
    pub running: u64,
    /// How long such steps have taken on average.
    pub step_time: Seconds,
    /// `targetWait`.
    pub target: Seconds,
    /// The slots, in tenths; rounded up.
    pub tenths: u64,
    /// What their number comes from.
    pub bound: SlotsBound,
}

/// What a number of slots comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SlotsBound {
    /// The target.
    Target,
    /// There are no more steps.
    Steps,
    /// The target is missed: a slot for each step.
    #[serde(rename_all = "camelCase")]
    Late {
        /// How long the waiting steps have waited on average.
        mean_wait: Seconds,
    },
}

/// New machines that have to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deferred {
    /// How many.
    pub machines: u32,
    /// What for.
    pub reason: Deferral,
}

/// What a new machine waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deferral {
    /// Others of its type that are being created (`maxCreating`).
    MaxCreating {
        /// How many may be created at once.
        at_once: u32,
    },
    /// Creations of the last five minutes (`maxCreatesPerCycle`).
    CreationRate {
        /// How many may begin in five minutes.
        per_window: u32,
        /// When the next may begin.
        next: Timestamp,
    },
    /// Creations of the type failed.
    BackOff(BackOff),
    /// A limit of the farm or of the type.
    Limit(LimitReached),
    /// Our state cannot be written down.
    NoStorage,
    /// The operator to resume the type.
    Paused(Order),
}

/// A limit that leaves no room for another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReached {
    /// Which.
    pub limit: LimitName,
    /// Whether it is the type's own; else it is the farm's.
    pub by_type: bool,
    /// When it binds no more, where time alone ends it.
    pub until: Option<Timestamp>,
}

/// The limits, with what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitName {
    /// Of the farm: as many machines run or are being made.
    MaxMachines,
    /// What machines cost per hour.
    MaxHourlyCost {
        /// The limit.
        limit: Money,
    },
    /// What machines cost in a day.
    MaxDailyCost {
        /// The limit.
        limit: Money,
        /// Spent today.
        spent: Money,
    },
    /// What machines cost in a month.
    MaxMonthlyCost {
        /// The limit.
        limit: Money,
        /// Spent this month.
        spent: Money,
    },
}

impl Deferral {
    /// When it is over, where time alone ends it.
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

/// Machines, new ones or stopped ones, that what they share has no room for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoRoom {
    /// How many.
    pub machines: u32,
    /// What is short, as the provider names it.
    pub resource: String,
    /// How much of it was free before this plan.
    pub free: u64,
    /// How much of it one machine needs.
    pub needs: u64,
}

/// What the number of allowed machines comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllowedBy {
    /// The queue.
    Demand,
    /// More than the queue wants.
    MinMachines,
    /// Less than the queue wants.
    MaxMachines,
    /// As many as the limits in dollars leave.
    CostLimits,
}

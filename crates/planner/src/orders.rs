//! The operator's orders for single machines, for types or for the farm. The rules of a safe release take precedence
//! (ARCHITECTURE.md, "Order of effects"): a building machine is never released.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::escape;
use crate::names::{MachineName, MachineType};
use crate::time::Timestamp;

/// An order of the operator. It is in force until it is revoked, carried out, or expired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// What is ordered.
    #[serde(alias = "word")]
    pub kind: OrderKind,
    /// When it was given.
    pub at: Timestamp,
    /// Who gave it: a user name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The operator's reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When it expires; `None`: it is in force until it is revoked or carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The kinds of orders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderKind {
    /// The machine is not released, even if it is not needed.
    Keep(MachineName),
    /// The machine gets no more builds, and stays when it is idle.
    Drain(MachineName),
    /// The machine is destroyed as soon as it is idle, even if it is needed.
    Release(MachineName),
    /// The machine's record is deleted, if its provider does not list it.
    Forget(MachineName),
    /// The machine is ours from now on, although neither its name nor its tag says so.
    Adopt(MachineName),
    /// No machine of the type is created, started or released.
    Pause(MachineType),
    /// No machine of any type is created, started or released.
    PauseAll,
    /// The back-off of the type and of its machines ends.
    Retry(MachineType),
}

impl OrderKind {
    /// The machine that it is about.
    pub fn machine(&self) -> Option<&MachineName> {
        match self {
            Self::Keep(name)
            | Self::Drain(name)
            | Self::Release(name)
            | Self::Forget(name)
            | Self::Adopt(name) => Some(name),
            Self::Pause(_) | Self::PauseAll | Self::Retry(_) => None,
        }
    }

    /// The verb of the order.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Keep(_) => "keep",
            Self::Drain(_) => "drain",
            Self::Release(_) => "release",
            Self::Forget(_) => "forget",
            Self::Adopt(_) => "adopt",
            Self::Pause(_) | Self::PauseAll => "pause",
            Self::Retry(_) => "retry",
        }
    }

    /// The subject. A later order with the same subject replaces this one.
    pub fn subject(&self) -> String {
        match self {
            Self::Pause(machine_type) => machine_type.to_string(),
            Self::PauseAll => "all".to_owned(),
            Self::Retry(machine_type) => format!("retry {machine_type}"),
            Self::Keep(name)
            | Self::Drain(name)
            | Self::Release(name)
            | Self::Forget(name)
            | Self::Adopt(name) => name.to_string(),
        }
    }
}

impl Order {
    /// Whether it is in force at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it prevents machines of the type from being created, started and released.
    pub(crate) fn pauses(&self, machine_type: &MachineType) -> bool {
        match &self.kind {
            OrderKind::Pause(paused) => paused == machine_type,
            OrderKind::PauseAll => true,
            _ => false,
        }
    }
}

/// `by ann until 2026-11-25 16:00:00: disk errors`.
pub(crate) struct Attribution<'a>(pub(crate) &'a Order);

impl fmt::Display for Attribution<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { kind: _, at: _, by, why, until } = self.0;
        write!(f, "by {}", if by.is_empty() { "an operator" } else { by })?;
        if let Some(until) = until {
            write!(f, " until {until}")?;
        }
        if why.is_empty() { Ok(()) } else { write!(f, ": {}", escape(why)) }
    }
}

impl fmt::Display for OrderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(machine_type) => write!(f, "retry {machine_type}"),
            other => write!(f, "{} {}", other.verb(), other.subject()),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ordered {}", self.kind, Attribution(self))
    }
}

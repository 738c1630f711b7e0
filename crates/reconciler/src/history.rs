//! The history: what happened, for logs, the state database and the `history` command.

use std::fmt;

use planner::{
    MachineName, MachineType, Money, Operation, Order, ReleaseHow, ReleaseReason, Seconds,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::operation_error::OperationErrorKind;

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// The machine, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineName>,
    /// The machine's type, or the type that it is about.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<MachineType>,
    /// What.
    pub what: Happening,
    /// The machine's price per hour, if known: when it begins or ends to cost something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour: Option<Money>,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Happening {
    /// The intent to create it was recorded.
    Requested,
    /// A provider listed it with our tag, but it had no record.
    Found,
    /// Its provider confirmed its creation.
    Created {
        /// How long that took.
        took: Seconds,
    },
    /// It was started again.
    Started {
        /// How long that took.
        took: Seconds,
    },
    /// It can build.
    Ready {
        /// The time since its creation or start ended (`Created` and `Started` have the time before that), or since it was found;
        /// if known.
        after: Option<Seconds>,
    },
    /// It does not answer any more.
    Unreachable {
        /// The error of ssh.
        error: String,
    },
    /// It rebooted without a request.
    Rebooted,
    /// The machines file names it.
    Published,
    /// The machines file does not name it any more.
    #[serde(alias = "unlisted")]
    Unpublished,
    /// The decision to release it.
    Leaving {
        /// The decision: stopped or destroyed.
        how: ReleaseHow,
        /// Its reason.
        reason: ReleaseReason,
    },
    /// The decision to release it was reverted.
    TakenBack,
    /// Its builder was stopped.
    Drained,
    /// It is off.
    Stopped,
    /// It was destroyed.
    Destroyed,
    /// It was destroyed and its provider does not list it any more.
    Gone,
    /// Its provider does not list it.
    Missing,
    /// Its provider lists it again.
    Back,
    /// Its provider announced an interruption.
    Interrupted,
    /// An operation failed.
    Failed {
        /// Which operation.
        operation: Operation,
        /// The kind of failure.
        #[serde(default)]
        kind: OperationErrorKind,
        /// How often in a row.
        failures: u32,
        /// The provider's message.
        error: String,
        /// When it is retried.
        retry_at: Timestamp,
    },
    /// An operation exceeded its time limit and was ended.
    Abandoned {
        /// The operation.
        operation: Operation,
    },
    /// A deployment was ended because its machine is being released.
    DeploymentEnded,
    /// A problem that did not make an operation fail.
    Warning {
        /// The problem.
        text: String,
    },
    /// A provider cannot list its machines.
    ProviderUnavailable {
        /// The provider's message.
        error: String,
    },
    /// A provider can list its machines again.
    ProviderAvailable,
    /// The queue status is unavailable.
    QueueUnavailable {
        /// Why.
        reason: String,
    },
    /// The queue status is available again.
    QueueAvailable,
    /// The machines file could not be written.
    NotPublished {
        /// Why.
        error: String,
    },
    /// The state cannot be recorded.
    StorageFailed {
        /// Why.
        error: String,
    },
    /// The state can be recorded again.
    StorageWorks,
    /// The configuration was read.
    Configured,
    /// The operator gave an order.
    Ordered {
        /// The order.
        order: Order,
    },
    /// The operator revoked an order.
    TakenBackOrder {
        /// The order.
        order: Order,
        /// Who revoked it.
        by: String,
    },
    /// An order is not in force any more: it has expired, its machine is gone, or the machine to adopt was found.
    OrderOver {
        /// The order.
        order: Order,
    },
    /// Its record was deleted on the operator's order.
    Forgotten,
    /// The system clock was set.
    ClockStepped {
        /// By how much; negative: back.
        seconds: i64,
    },
}

/// How severe an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Normal.
    Info,
    /// Someone should look at it.
    Warning,
    /// Something failed.
    Error,
}

impl Happening {
    /// Whether a machine costs something from then on.
    pub fn begins_cost(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Started { .. } | Self::Found)
    }

    /// Whether a machine costs nothing from then on.
    pub fn ends_cost(&self) -> bool {
        matches!(self, Self::Stopped | Self::Destroyed | Self::Gone | Self::Forgotten)
    }

    /// How severe it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Failed { .. }
            | Self::Abandoned { .. }
            | Self::ProviderUnavailable { .. }
            | Self::QueueUnavailable { .. }
            | Self::NotPublished { .. }
            | Self::StorageFailed { .. } => Severity::Error,
            Self::Unreachable { .. }
            | Self::Missing
            | Self::Interrupted
            | Self::Warning { .. }
            | Self::ClockStepped { .. } => Severity::Warning,
            Self::Requested
            | Self::Found
            | Self::Created { .. }
            | Self::Started { .. }
            | Self::Ready { .. }
            | Self::Rebooted
            | Self::Published
            | Self::Unpublished
            | Self::Leaving { .. }
            | Self::TakenBack
            | Self::DeploymentEnded
            | Self::Drained
            | Self::Stopped
            | Self::Destroyed
            | Self::Gone
            | Self::Back
            | Self::ProviderAvailable
            | Self::QueueAvailable
            | Self::StorageWorks
            | Self::Configured
            | Self::Ordered { .. }
            | Self::TakenBackOrder { .. }
            | Self::OrderOver { .. }
            | Self::Forgotten => Severity::Info,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("requested"),
            Self::Found => f.write_str("found by its tag"),
            Self::Created { took } => write!(f, "created in {took}"),
            Self::Started { took } => write!(f, "started in {took}"),
            Self::Ready { after: Some(after) } => write!(f, "ready after {after}"),
            Self::Ready { after: None } => f.write_str("ready"),
            Self::Unreachable { error } => write!(f, "does not answer: {error}"),
            Self::Rebooted => f.write_str("rebooted"),
            Self::Published => f.write_str("published"),
            Self::Unpublished => f.write_str("taken out of the machines file"),
            Self::Leaving { how, reason } => write!(f, "to {}: {reason}", reason.verb(*how)),
            Self::TakenBack => f.write_str("back in use"),
            Self::Drained => f.write_str("drained"),
            Self::Stopped => f.write_str("stopped"),
            Self::Destroyed => f.write_str("destroyed"),
            Self::Gone => f.write_str("gone"),
            Self::Missing => f.write_str("not in its provider's listing"),
            Self::Interrupted => f.write_str("its provider interrupts it"),
            Self::Back => f.write_str("in its provider's listing again"),
            Self::Failed { operation, kind: _, failures: 1, error, retry_at: _ } => {
                write!(f, "cannot {operation} it: {error}")
            }
            Self::Failed { operation, kind: _, failures, error, retry_at } => write!(
                f,
                "cannot {operation} it (failure {failures}, next try at {retry_at}): {error}"
            ),
            Self::Abandoned { operation } => {
                write!(f, "{operation} exceeded its time limit and was ended")
            }
            Self::DeploymentEnded => f.write_str("deployment ended: it is not needed"),
            Self::Warning { text } => f.write_str(text),
            Self::ProviderUnavailable { error } => write!(f, "cannot list machines: {error}"),
            Self::ProviderAvailable => f.write_str("machines can be listed again"),
            Self::QueueUnavailable { reason } => write!(f, "queue status unavailable: {reason}"),
            Self::QueueAvailable => f.write_str("queue status available again"),
            Self::NotPublished { error } => {
                write!(f, "machines file not written, nothing is released: {error}")
            }
            Self::StorageFailed { error } => {
                write!(f, "state not written, nothing is created or released: {error}")
            }
            Self::StorageWorks => f.write_str("state can be written again"),
            Self::Ordered { order } => write!(f, "order: {order}"),
            Self::TakenBackOrder { order, by } => {
                write!(f, "order revoked by {by}: {order}")
            }
            Self::OrderOver { order } => write!(f, "order no longer in force: {order}"),
            Self::Forgotten => f.write_str("forgotten, as ordered"),
            Self::Configured => f.write_str("configuration read"),
            Self::ClockStepped { seconds } => write!(f, "the system clock was set by {seconds} s"),
        }
    }
}

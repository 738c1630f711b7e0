//! How an operation failed.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{}", planner::escape(message))]
#[serde(rename_all = "camelCase")]
pub struct OperationError {
    /// What callers branch on.
    pub kind: OperationErrorKind,
    /// What happened, and how to fix it.
    pub message: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OperationErrorKind {
    /// The provider has no capacity now; it may have some later.
    Capacity,
    /// It exceeded its time limit. Whether it had an effect is not known.
    TimedOut,
    /// The machine does not answer over ssh.
    Unreachable,
    /// Anything else.
    #[default]
    Failed,
}

impl fmt::Display for OperationErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Capacity => "capacity",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        })
    }
}

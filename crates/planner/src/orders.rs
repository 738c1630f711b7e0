//! What the operator has said of single machines and types. It is never stronger than the order rules: what builds
//! is not released.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::escape;
use crate::names::{MachineName, MachineType};
use crate::time::Timestamp;

/// Something that the operator said, in force until it is taken back, done, or over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// What.
    pub word: Word,
    /// When it was said.
    pub at: Timestamp,
    /// By whom: a user's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// For which reason, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Until when it counts; `None`: until it is taken back, or done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What can be said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Word {
    /// The machine is not released, whatever speaks for it.
    Keep(MachineName),
    /// The machine gets no more builds, and stays when it is idle.
    Drain(MachineName),
    /// The machine is destroyed as soon as it is idle, whatever speaks for keeping it.
    Release(MachineName),
    /// The machine's record goes, if its provider does not list it.
    Forget(MachineName),
    /// No machine of the type is created, started or released.
    Pause(MachineType),
    /// No machine of any type is created, started or released.
    PauseAll,
    /// The back-off of the type, and of its machines, is over.
    Retry(MachineType),
}

impl Word {
    /// The machine that it is about.
    pub fn machine(&self) -> Option<&MachineName> {
        match self {
            Self::Keep(name) | Self::Drain(name) | Self::Release(name) | Self::Forget(name) => {
                Some(name)
            }
            Self::Pause(_) | Self::PauseAll | Self::Retry(_) => None,
        }
    }

    /// What it is called.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Keep(_) => "keep",
            Self::Drain(_) => "drain",
            Self::Release(_) => "release",
            Self::Forget(_) => "forget",
            Self::Pause(_) | Self::PauseAll => "pause",
            Self::Retry(_) => "retry",
        }
    }

    /// What it is about; a later order about the same takes its place.
    pub fn subject(&self) -> String {
        match self {
            Self::Pause(machine_type) => machine_type.to_string(),
            Self::PauseAll => "all".to_owned(),
            Self::Retry(machine_type) => format!("retry {machine_type}"),
            Self::Keep(name) | Self::Drain(name) | Self::Release(name) | Self::Forget(name) => {
                name.to_string()
            }
        }
    }
}

impl Order {
    /// Whether it still counts at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it keeps machines of the type from being created, started and released.
    pub(crate) fn pauses(&self, machine_type: &MachineType) -> bool {
        match &self.word {
            Word::Pause(paused) => paused == machine_type,
            Word::PauseAll => true,
            _ => false,
        }
    }
}

/// `by ann until 2026-11-25 16:00:00: disk errors`.
pub(crate) struct Attribution<'a>(pub(crate) &'a Order);

impl fmt::Display for Attribution<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { word: _, at: _, by, why, until } = self.0;
        write!(f, "by {}", if by.is_empty() { "an operator" } else { by })?;
        if let Some(until) = until {
            write!(f, " until {until}")?;
        }
        if why.is_empty() { Ok(()) } else { write!(f, ": {}", escape(why)) }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(machine_type) => write!(f, "retry {machine_type}"),
            other => write!(f, "{} {}", other.verb(), other.subject()),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, said {}", self.word, Attribution(self))
    }
}

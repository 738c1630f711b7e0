//! What a cycle did, and what it could not do.

use std::fmt::{self, Display, Formatter};

use planner::{MachineName, Plan, PostponeReason, Release, Snapshot, escape};
use serde::{Deserialize, Serialize};

use crate::world::{Published, StepError};

/// The account of one cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was seen.
    pub snapshot: Snapshot,
    /// What was decided.
    pub plan: Plan,
    /// Machines that were created, started or deployed and are ready.
    pub brought_up: Vec<MachineName>,
    /// Steps that failed.
    pub failures: Vec<Failure>,
    /// Things that did not matter enough to fail.
    pub warnings: Vec<(MachineName, String)>,
    /// What became of the machines file.
    pub publication: Publication,
    /// Machines that could not be put into the machines file, with the reason.
    pub left_out: Vec<String>,
    /// Releases put off to a later cycle.
    pub postponed: Vec<Postponed>,
    /// Machines that are stopped or destroyed now.
    pub released: Vec<Release>,
    /// The intent log could not be written: no new machine was created, or one may be asked for again.
    pub intent_log_error: Option<String>,
}

/// A step that failed for one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The machine.
    pub name: MachineName,
    /// The step and what happened.
    pub error: StepError,
}

/// A release put off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Postponed {
    /// The machine.
    pub name: MachineName,
    /// Why.
    pub reason: PostponeReason,
}

/// What became of the machines file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Publication {
    /// The cycle has not come to it.
    Pending,
    /// The queue runner can read it.
    Done {
        /// Whether it was written.
        published: Published,
        /// How many machines it lists.
        machines: usize,
    },
    /// It is as it was; nothing was released.
    Failed {
        /// What went wrong.
        message: String,
    },
}

impl Publication {
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

impl Report {
    pub(crate) fn new(snapshot: Snapshot, plan: Plan) -> Self {
        Self {
            snapshot,
            plan,
            brought_up: Vec::new(),
            failures: Vec::new(),
            warnings: Vec::new(),
            publication: Publication::Pending,
            left_out: Vec::new(),
            postponed: Vec::new(),
            released: Vec::new(),
            intent_log_error: None,
        }
    }

    /// Whether everything that was planned was done, or put off for a good reason.
    pub fn succeeded(&self) -> bool {
        self.failures.is_empty()
            && self.left_out.is_empty()
            && self.intent_log_error.is_none()
            && self.snapshot.unlisted.is_empty()
            && self.publication.succeeded()
    }
}

/// What was done, after the plan's own text. Every field is taken apart, so that none is forgotten.
impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            snapshot: _,
            plan,
            brought_up,
            failures,
            warnings,
            publication,
            left_out,
            postponed,
            released,
            intent_log_error,
        } = self;
        write!(f, "{plan}")?;
        writeln!(f, "results")?;
        for name in brought_up {
            writeln!(f, "  {name}: ready")?;
        }
        for Failure { name, error } in failures {
            writeln!(f, "  {name}: FAILED: {error}")?;
        }
        for (name, warning) in warnings {
            writeln!(f, "  {name}: warning: {}", escape(warning))?;
        }
        writeln!(f, "  machines file: {publication}")?;
        for line in left_out {
            writeln!(f, "  left out of the machines file: {}", escape(line))?;
        }
        for Postponed { name, reason } in postponed {
            writeln!(f, "  {name}: not released yet: {reason}")?;
        }
        for Release { name, how, reason: _ } in released {
            writeln!(f, "  {name}: {how} done")?;
        }
        if let Some(error) = intent_log_error {
            writeln!(f, "  intent log: FAILED: {error}")?;
        }
        Ok(())
    }
}

impl Display for Publication {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("not published"),
            Self::Done { published: Published::NotWanted, .. } => {
                f.write_str("not wanted, builders register themselves")
            }
            Self::Done { published: Published::Changed, machines } => {
                write!(f, "published, {machines} machines")
            }
            Self::Done { published: Published::Unchanged, machines } => {
                write!(f, "unchanged, {machines} machines")
            }
            Self::Failed { message } => {
                write!(f, "FAILED, nothing was released: {message}")
            }
        }
    }
}

//! The second look at a machine that is to be released: between the snapshot and the release minutes may
//! have passed, and builds may have started.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::matching::{SeenInQueue, find_one};
use crate::plan::AcceptsJobs;
use crate::snapshot::{Machine, QueueStatus};

/// Why a release is put off to a later cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PostponeReason {
    /// The queue status could not be had again.
    QueueUnavailable(String),
    /// It has got builds meanwhile.
    Busy {
        /// How many steps.
        jobs: u64,
    },
    /// The queue runner may still give it builds: it has not read the new machines file yet, or the
    /// machine's builder is still connected.
    StillAcceptsJobs,
}

/// Before draining: whether `machine` is idle in a fresh `status`. Draining a REST builder ends its builds.
pub fn confirm_idle(machine: &Machine, status: &QueueStatus) -> Result<(), PostponeReason> {
    match look(machine, status)? {
        Some(seen) if seen.jobs > 0 => Err(PostponeReason::Busy { jobs: seen.jobs }),
        _ => Ok(()),
    }
}

/// After draining: whether `machine` is idle and can get no more builds in a fresh `status`.
///
/// A machine that the queue runner does not know, or knows as disabled (it has read a machines file
/// without it), cannot get builds: what it reads next was published after the drain.
pub fn confirm_drained(machine: &Machine, status: &QueueStatus) -> Result<(), PostponeReason> {
    confirm_idle(machine, status)?;
    match look(machine, status)? {
        Some(seen) if seen.accepts_jobs == AcceptsJobs::Yes => {
            Err(PostponeReason::StillAcceptsJobs)
        }
        _ => Ok(()),
    }
}

fn look(machine: &Machine, status: &QueueStatus) -> Result<Option<SeenInQueue>, PostponeReason> {
    match status {
        QueueStatus::Up(queue) => Ok(find_one(queue, machine)),
        QueueStatus::Unavailable(reason) => Err(PostponeReason::QueueUnavailable(reason.clone())),
    }
}

impl fmt::Display for PostponeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueUnavailable(reason) => write!(f, "queue status unavailable: {reason}"),
            Self::Busy { jobs } => write!(f, "it has got {jobs} builds meanwhile"),
            Self::StillAcceptsJobs => {
                f.write_str("the queue runner may still give it builds; it goes in a later cycle")
            }
        }
    }
}

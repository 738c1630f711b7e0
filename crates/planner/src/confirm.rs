//! The second look at a machine that is to be released: between the snapshot and the release minutes may
//! have passed, and builds may have started.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::Host;
use crate::escape::escape;
use crate::matching::{SeenInQueue, UnknownBuilders, find_one};
use crate::plan::AcceptsJobs;
use crate::policy::Policy;
use crate::render::MayBe;
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
    /// The queue runner does not list it by any name that we know, and shows a busy builder that is neither
    /// ours nor in `otherMachines`.
    MayBeBuilder {
        /// What the queue runner calls that builder.
        builder: Host,
    },
    /// The queue runner may still give it builds: it has not read the new machines file yet, or the
    /// machine's builder is still connected.
    StillAcceptsJobs,
}

/// A fresh status, beside the machines that it may tell of.
#[derive(Clone, Copy, Debug)]
pub struct SecondLook<'a> {
    status: &'a QueueStatus,
    unknown_builders: UnknownBuilders<'a>,
}

impl<'a> SecondLook<'a> {
    /// A look at `status`, where `ours` are all our machines.
    pub fn new<'m>(
        policy: &Policy,
        status: &'a QueueStatus,
        ours: impl IntoIterator<Item = &'m Machine>,
    ) -> Self {
        let unknown_builders = match status {
            QueueStatus::Up(queue) => UnknownBuilders::of(queue, ours, &policy.other_machines),
            QueueStatus::Unavailable(_) => UnknownBuilders::default(),
        };
        Self { status, unknown_builders }
    }

    /// What is told of `machine`, if it is idle.
    fn find(&self, machine: &Machine) -> Result<Option<SeenInQueue>, PostponeReason> {
        let queue = match self.status {
            QueueStatus::Up(queue) => queue,
            QueueStatus::Unavailable(reason) => {
                return Err(PostponeReason::QueueUnavailable(reason.clone()));
            }
        };
        let found = find_one(queue, machine);
        if let Some(builder) = self.unknown_builders.may_be(machine, found) {
            return Err(PostponeReason::MayBeBuilder { builder: builder.clone() });
        }
        match found {
            Some(seen) if seen.jobs > 0 => Err(PostponeReason::Busy { jobs: seen.jobs }),
            found => Ok(found),
        }
    }
}

/// Before draining: whether `machine` is idle. Draining a REST builder ends its builds.
///
/// # Errors
/// With the reason why its release has to wait.
pub fn confirm_idle(look: &SecondLook<'_>, machine: &Machine) -> Result<(), PostponeReason> {
    look.find(machine).map(|_| ())
}

/// After draining: whether `machine` is idle and can get no more builds.
///
/// A machine that the queue runner does not know, or knows as disabled (it has read a machines file
/// without it), cannot get builds: what it reads next was published after the drain.
///
/// # Errors
/// With the reason why its release has to wait.
pub fn confirm_drained(look: &SecondLook<'_>, machine: &Machine) -> Result<(), PostponeReason> {
    match look.find(machine)? {
        Some(seen) if seen.accepts_jobs == AcceptsJobs::Yes => {
            Err(PostponeReason::StillAcceptsJobs)
        }
        _ => Ok(()),
    }
}

impl fmt::Display for PostponeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueUnavailable(reason) => {
                write!(f, "queue status unavailable: {}", escape(reason))
            }
            Self::Busy { jobs } => write!(f, "it has got {jobs} builds meanwhile"),
            Self::MayBeBuilder { builder } => write!(f, "{}", MayBe(builder)),
            Self::StillAcceptsJobs => {
                f.write_str("the queue runner may still give it builds; it goes in a later cycle")
            }
        }
    }
}

//! What is wrong with a ready machine that is not healthy.
//!
//! An unhealthy machine causes a warning at once, does not count as capacity after `healthTimeout`, and is
//! replaced after `giveUpAfter` (but not before `healthTimeout`) when idle: `common_cause.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::matching::{SeenInQueue, is_disabled_though_published};
use crate::memory::{InMachinesFile, Progress};
use crate::policy::Policy;
use crate::snapshot::{Machine, MachineKeys, Queue, QueueStatus, Snapshot};
use crate::time::{Seconds, Timestamp};

/// How long the queue runner may take to notice a ready machine. The C++ one reads its machines files every
/// 30 s (`queue-runner/build-remote.cc`); a builder registers within seconds.
const REGISTRATION_TIMEOUT: Seconds = Seconds(120);

/// Why a ready machine is unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unhealthy {
    /// The queue runner gives it no builds after failures on it. Not the same as *disabled*, the confirmation of a release.
    #[serde(rename = "disabled")]
    Avoided {
        /// Until this time.
        until: Timestamp,
    },
    /// The queue runner does not know it.
    Unregistered,
    /// The queue runner lists it as disabled, although the machines file names it.
    NotRead,
    /// It does not answer over ssh.
    Unreachable,
    /// It builds, and has finished no step for `progressTimeout`.
    Stalled {
        /// Since then.
        since: Timestamp,
    },
}

/// Whether an unhealthy machine still counts as capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is healthy, has not been unhealthy for long enough, or its type has a common cause (`common_cause.rs`).
    Counts,
    /// It does not count as capacity.
    DoesNotCount,
    /// It is replaced.
    GivenUp {
        /// For how long it has been unhealthy.
        unhealthy_for: Seconds,
    },
}

/// What is wrong with `machine`, if it is ready. `seen` is the queue runner's entry for it. Without a queue status only
/// [`Unhealthy::Unreachable`] is known.
pub(crate) fn diagnose(
    machine: &Machine,
    seen: Option<SeenInQueue>,
    progress: Option<Progress>,
    policy: &Policy,
    snapshot: &Snapshot,
) -> Option<Unhealthy> {
    machine.memory.ready_since?;
    // First, because the queue runner gives no builds to what does not answer.
    if machine.memory.unreachable_since.is_some() {
        return Some(Unhealthy::Unreachable);
    }
    let QueueStatus::Up(queue) = &snapshot.queue else { return None };
    if let Some(until) = seen.and_then(|seen| seen.disabled_until)
        && until > snapshot.taken_at
    {
        return Some(Unhealthy::Avoided { until });
    }
    let unregistered_at = unregistered_at(machine, queue).filter(|_| seen.is_none());
    if unregistered_at.is_some_and(|at| at <= snapshot.taken_at) {
        return Some(Unhealthy::Unregistered);
    }
    let published_for = |since: Timestamp| snapshot.taken_at.since(since);
    if is_disabled_though_published(&machine.memory, seen)
        && machine.memory.published_since.map(published_for) >= Some(REGISTRATION_TIMEOUT)
    {
        return Some(Unhealthy::NotRead);
    }
    let since = progress?.since;
    let stalls_at = stalls_at(machine, progress, policy)?;
    (stalls_at <= snapshot.taken_at).then_some(Unhealthy::Stalled { since })
}

/// When a machine that the queue runner does not list becomes unhealthy. A classic queue runner that was restarted knows only
/// machines of the machines file.
pub(crate) fn unregistered_at(machine: &Machine, queue: &Queue) -> Option<Timestamp> {
    let memory = &machine.memory;
    let since = match queue.keys {
        MachineKeys::HostName => memory.ready_since?,
        MachineKeys::Address if memory.in_machines_file == InMachinesFile::Now => {
            memory.ready_since?.max(memory.published_since?)
        }
        MachineKeys::Address => return None,
    };
    Some(since.after(REGISTRATION_TIMEOUT))
}

/// When a building machine has finished no step for too long.
pub(crate) fn stalls_at(
    machine: &Machine,
    progress: Option<Progress>,
    policy: &Policy,
) -> Option<Timestamp> {
    let pool = policy.pools.get(&machine.machine_type)?;
    Some(progress?.since.after(pool.progress_timeout))
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Avoided { .. } => {
                f.write_str("the queue runner gives it no builds for some time, because builds on it failed")
            }
            Self::Unregistered => f.write_str(
                "the queue runner does not know it (check that it reads our machines file, or that the builder runs)",
            ),
            Self::NotRead => f.write_str(
                "the queue runner lists it as disabled, although the machines file names it (check that it still reads \
                 our machines file, and under which name it knows the machine)",
            ),
            Self::Unreachable => f.write_str("it does not answer over ssh"),
            Self::Stalled { since } => write!(
                f,
                "it has built since {since} without finishing a step (progressTimeout): its steps may hang; cancel them in \
                 Hydra, or restart the queue runner"
            ),
        }
    }
}

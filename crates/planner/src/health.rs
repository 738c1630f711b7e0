//! Whether a ready machine is healthy.
//!
//! An unhealthy machine causes a warning at once, does not count as capacity after `healthTimeout`, and is
//! replaced after `giveUpAfter` when idle. If most ready machines of a type are unhealthy in the same way,
//! the cause is the queue runner or the network: then all of them still count as capacity, and none is replaced. A
//! machine that its own provider calls unreachable is judged alone.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observed::Observed;
use crate::policy::{Policy, PoolPolicy};
use crate::snapshot::{MachineState, QueueStatus, Snapshot};
use crate::time::{Seconds, Timestamp};

/// How long the queue runner may take to notice a ready machine. The C++ one reads its machines files every
/// 30 s (`queue-runner/build-remote.cc`); a builder registers within seconds.
pub(crate) const REGISTRATION_TIMEOUT: Seconds = Seconds(120);

/// Why a ready machine is unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unhealthy {
    /// The queue runner gives it no builds after failures on it.
    Disabled {
        /// Until this time.
        until: Timestamp,
    },
    /// The queue runner does not know it.
    Unregistered,
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
    /// It is healthy, or has not been unhealthy for long enough.
    Counts,
    /// It does not count as capacity.
    DoesNotCount,
    /// It is replaced.
    GivenUp {
        /// For how long it has been unhealthy.
        unhealthy_for: Seconds,
    },
}

/// What is wrong with `observed`, if it is ready.
pub(crate) fn diagnose(
    observed: &Observed<'_>,
    policy: &Policy,
    snapshot: &Snapshot,
) -> Option<Unhealthy> {
    let memory = &observed.machine.memory;
    let ready_for = snapshot.taken_at.since(memory.ready_since?);
    let QueueStatus::Up(_) = &snapshot.queue else { return None };
    // First, because the queue runner disables what does not answer.
    if memory.unreachable_since.is_some() {
        return Some(Unhealthy::Unreachable);
    }
    if let Some(until) = observed.in_queue.and_then(|seen| seen.disabled_until)
        && until > snapshot.taken_at
    {
        return Some(Unhealthy::Disabled { until });
    }
    if observed.in_queue.is_none() && ready_for >= REGISTRATION_TIMEOUT {
        return Some(Unhealthy::Unregistered);
    }
    let stalls_at = stalls_at(observed, policy)?;
    (stalls_at <= snapshot.taken_at).then_some(())?;
    Some(Unhealthy::Stalled { since: observed.progress?.since })
}

/// When a building machine has finished no step for too long.
pub(crate) fn stalls_at(observed: &Observed<'_>, policy: &Policy) -> Option<Timestamp> {
    let pool = policy.pools.get(&observed.machine.machine_type)?;
    Some(observed.progress?.since.after(pool.progress_timeout))
}

/// Judges the machines of one type together. Returns whether most of them are unhealthy in the same way.
pub(crate) fn judge<'m, 'a: 'm>(
    machines: impl Iterator<Item = &'m mut Observed<'a>>,
    pool: &PoolPolicy,
    now: Timestamp,
) -> bool {
    let machines: Vec<_> = machines.filter(|m| m.machine.memory.ready_since.is_some()).collect();
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    let may_share = machines.iter().filter(|machine| !is_lost_by_its_provider(machine));
    for unhealthy in may_share.filter_map(|machine| machine.unhealthy.as_ref()) {
        *kinds.entry(kind(unhealthy)).or_default() += 1;
    }
    let ready = machines.len();
    let common_cause = ready > 1 && kinds.values().any(|number| 2 * number > ready);
    for machine in machines {
        machine.has_common_cause = common_cause && !is_lost_by_its_provider(machine);
        machine.health = match &machine.unhealthy {
            Some(_) if !machine.has_common_cause => health_after(machine.unhealthy_for(now), pool),
            _ => Health::Counts,
        };
    }
    common_cause
}

/// Neither the queue runner nor our network is the cause then.
fn is_lost_by_its_provider(observed: &Observed<'_>) -> bool {
    observed.machine.state == MachineState::Unreachable
}

/// The health of a machine that has been unhealthy for this long.
fn health_after(unhealthy_for: Seconds, pool: &PoolPolicy) -> Health {
    if unhealthy_for >= pool.give_up_after.max(pool.health_timeout) {
        Health::GivenUp { unhealthy_for }
    } else if unhealthy_for >= pool.health_timeout {
        Health::DoesNotCount
    } else {
        Health::Counts
    }
}

impl Observed<'_> {
    fn unhealthy_for(&self, now: Timestamp) -> Seconds {
        self.machine.memory.unhealthy_since.map_or(Seconds(0), |since| now.since(since))
    }
}

fn kind(unhealthy: &Unhealthy) -> u8 {
    match unhealthy {
        Unhealthy::Disabled { .. } => 0,
        Unhealthy::Unregistered => 1,
        Unhealthy::Unreachable => 2,
        Unhealthy::Stalled { .. } => 3,
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled { .. } => {
                f.write_str("the queue runner has disabled it after failed builds")
            }
            Self::Unregistered => f.write_str(
                "the queue runner does not know it (check that it reads our machines file, or that the builder runs)",
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

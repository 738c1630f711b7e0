//! When unhealthy machines stop counting as capacity and are replaced.
//!
//! If most ready machines of a type are unhealthy in the same way, the cause is the queue runner or the network: then
//! every machine of the type still counts as capacity, also one with another problem, and none is replaced. A machine that
//! its own provider calls unreachable is judged alone.

use std::collections::BTreeMap;

use crate::health::{Health, Unhealthy};
use crate::observed::Observed;
use crate::policy::PoolPolicy;
use crate::snapshot::MachineState;
use crate::time::{Seconds, Timestamp};

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
        Unhealthy::Avoided { .. } => 0,
        Unhealthy::Unregistered | Unhealthy::NotRead => 1,
        Unhealthy::Unreachable => 2,
        Unhealthy::Stalled { .. } => 3,
    }
}

//! Which other types get the steps of a type without capacity (`fallback`).
//!
//! While the provider of a type has no capacity, a share of its waiting steps counts for another type: the steps that
//! the machines it cannot create would build. With `fallback`, that type is the first of the list that can build them
//! and has capacity. Without, it is the cheapest that can, then the first by name:
//!
//! ```text
//! handed over = waiting * (allowed machines - usable machines) / allowed machines
//! ```
//!
//! The type itself keeps trying, with one machine at a time. When one is created, it gets its steps back, and
//! machines created elsewhere are released when they are idle.

use std::collections::BTreeMap;

use crate::demand::{DemandByPool, can_build, pool_for, size};
use crate::experience::scaled;
use crate::memory::BackOffKind;
use crate::names::MachineType;
use crate::observed::Observed;
use crate::policy::{Policy, PoolPolicy};
use crate::snapshot::{Demand, DemandKey, MachineState, QueueStatus, Snapshot};
use crate::time::{Seconds, Timestamp, earliest};

/// How long after the end of a back-off the next attempt may take to show whether there is capacity again.
const NEXT_TRY: Seconds = Seconds::from_minutes(10);

/// The steps that were handed over.
#[derive(Debug, Default)]
pub(crate) struct HandedOver {
    /// Waiting steps, by the type without capacity and the type that gets them.
    pub(crate) steps: BTreeMap<(MachineType, MachineType), u64>,
    /// When this ends without an event.
    pub(crate) until: Option<Timestamp>,
}

impl HandedOver {
    /// What a type hands over, by receiving type.
    pub(crate) fn by(&self, machine_type: &MachineType) -> BTreeMap<MachineType, u64> {
        let of_it = self.steps.iter().filter(|((from, _), _)| from == machine_type);
        of_it.map(|((_, to), steps)| (to.clone(), *steps)).collect()
    }

    /// What a type receives, by original type.
    pub(crate) fn to(&self, machine_type: &MachineType) -> BTreeMap<MachineType, u64> {
        let of_it = self.steps.iter().filter(|((_, to), _)| to == machine_type);
        of_it.map(|((from, _), steps)| (from.clone(), *steps)).collect()
    }
}

/// Adds the steps that types without capacity hand over to the demand of others.
pub(crate) fn hand_over<'a>(
    policy: &'a Policy,
    snapshot: &Snapshot,
    machines: &[Observed<'_>],
    demand: &mut DemandByPool<'a>,
) -> HandedOver {
    let mut handed_over = HandedOver::default();
    let QueueStatus::Up(queue) = &snapshot.queue else { return handed_over };
    let mut more = Vec::new();
    for (machine_type, pool) in &policy.pools {
        let Some(until) = without_capacity_until(machine_type, snapshot) else { continue };
        let Some(its_demand) = demand.get(machine_type) else { continue };
        let experience = snapshot.experience.get(machine_type).copied().unwrap_or_default();
        let of_type: Vec<_> =
            machines.iter().filter(|m| m.machine.machine_type == *machine_type).collect();
        let allowed = size(pool, Some(its_demand), &experience, &of_type).allowed;
        let missing = allowed.saturating_sub(usable(pool, &of_type));
        if missing == 0 {
            continue;
        }
        handed_over.until = earliest(handed_over.until, Some(until));
        let its_kinds = queue.demand.iter();
        for kind in its_kinds.filter(|d| pool_for(policy, &d.kind) == Some(machine_type)) {
            let Some(other) = next_type(policy, snapshot, machine_type, &kind.kind) else {
                continue;
            };
            let part = |amount| scaled(amount, missing.into(), allowed.into());
            let runnable = part(kind.runnable.min(queue.runnable_total.unwrap_or(u64::MAX)));
            let wait_seconds = kind.wait_seconds.map(part);
            more.push((
                other,
                Demand { runnable, wait_seconds, ..Demand::none_of(kind.kind.clone()) },
            ));
            let steps = handed_over.steps.entry((machine_type.clone(), other.clone())).or_default();
            *steps = steps.saturating_add(runnable);
        }
    }
    for (other, kind) in more {
        demand.entry(other).or_default().add(&kind, u64::MAX);
    }
    handed_over.steps.retain(|_, steps| *steps > 0);
    handed_over
}

/// Until when a type counts as without capacity, if it does.
fn without_capacity_until(machine_type: &MachineType, snapshot: &Snapshot) -> Option<Timestamp> {
    let back_off = snapshot.back_off.get(machine_type);
    let back_off = back_off.filter(|back_off| back_off.kind == BackOffKind::Capacity)?;
    Some(back_off.until.after(NEXT_TRY)).filter(|until| snapshot.taken_at < *until)
}

/// How many of the machines of a type are usable.
fn usable(pool: &PoolPolicy, machines: &[&Observed<'_>]) -> u32 {
    let usable = machines.iter().filter(|observed| {
        observed.machine.state != MachineState::Requested && observed.is_usable(pool)
    });
    u32::try_from(usable.count()).unwrap_or(u32::MAX)
}

/// The type that gets steps of `kind` instead of `machine_type`.
fn next_type<'a>(
    policy: &'a Policy,
    snapshot: &Snapshot,
    machine_type: &MachineType,
    kind: &DemandKey,
) -> Option<&'a MachineType> {
    let takes_it = |(other, pool): &(&MachineType, &PoolPolicy)| {
        *other != machine_type
            && pool.max_machines > 0
            && can_build(pool, kind)
            && without_capacity_until(other, snapshot).is_none()
            && !snapshot.unlistable.contains_key(other)
            && !snapshot.orders_in_force().any(|order| order.pauses(other))
    };
    match &policy.pools.get(machine_type)?.fallback {
        Some(order) => {
            let given = order.iter().filter_map(|other| policy.pools.get_key_value(other));
            given.into_iter().find(takes_it)
        }
        None => policy.pools.iter().filter(takes_it).min_by_key(|(other, _)| {
            let price = snapshot.price_of_type(policy, other);
            (price.is_none(), price, *other)
        }),
    }
    .map(|(other, _)| other)
}

//! Rotation: machines that are too old, have built enough, or were made from other settings are replaced, a few at a
//! time.
//!
//! A machine stays in use until its replacement is ready, if the queue needs it. If a limit or the host leaves no room for
//! one more, it leaves first. One that is off is destroyed.

use std::collections::BTreeMap;

use crate::memory::Operation;
use crate::names::MachineName;
use crate::observed::Observed;
use crate::policy::{PoolPolicy, RotationPolicy};
use crate::sizing::{Blockers, Outdated};
use crate::snapshot::MachineState;
use crate::time::Timestamp;

/// Why `observed` is to be replaced, if it is.
pub(crate) fn outdated(observed: &Observed<'_>, pool: &PoolPolicy) -> Option<Outdated> {
    let RotationPolicy { max_age, max_builds, settings, max_unavailable: _ } = &pool.rotation;
    let memory = &observed.machine.memory;
    let is_old = ages_at(observed, pool).is_some_and(|at| at <= observed.now);
    // Our own memory may be lost, or older than the option; the provider's tag is not.
    let made_from = memory.made_from.as_ref().or(observed.machine.made_from.as_ref());
    let differs = settings.as_ref().zip(made_from).is_some_and(|(new, old)| new != old);
    if let Some(limit) = max_age.filter(|_| is_old) {
        return Some(Outdated::Age { limit });
    }
    if let Some(limit) = max_builds.filter(|limit| memory.steps_built >= *limit) {
        return Some(Outdated::Builds { limit });
    }
    if differs {
        return Some(Outdated::Settings);
    }
    (settings.is_some() && observed.machine.has_old_image).then_some(Outdated::Image)
}

/// When it reaches `maxAge`.
pub(crate) fn ages_at(observed: &Observed<'_>, pool: &PoolPolicy) -> Option<Timestamp> {
    let memory = &observed.machine.memory;
    Some(memory.requested_at.or(memory.known_since)?.after(pool.rotation.max_age?))
}

/// An outdated machine, and why it is outdated.
type Candidate<'a> = (Outdated, &'a Observed<'a>);

/// The outdated machines of a type that are replaced now.
#[derive(Default)]
pub(crate) struct Rotation<'a> {
    /// In use until their replacements are ready.
    pub(crate) in_use: Vec<Candidate<'a>>,
    /// The indices of those that leave now, and why.
    leaving: Vec<(usize, Outdated)>,
}

impl<'a> Rotation<'a> {
    /// Whether the turn of `observed` has come.
    pub(crate) fn includes(&self, observed: &Observed<'_>) -> bool {
        self.in_use.iter().any(|(_, one)| one.index == observed.index)
            || self.why_leaving(observed).is_some()
    }

    /// Why `observed` leaves now, if it does.
    pub(crate) fn why_leaving(&self, observed: &Observed<'_>) -> Option<Outdated> {
        self.leaving.iter().find(|(index, _)| *index == observed.index).map(|(_, why)| *why)
    }

    /// Those in use until their replacements are ready, and why they are replaced.
    pub(crate) fn replacing(&self) -> BTreeMap<MachineName, Outdated> {
        self.in_use.iter().map(|(why, one)| (one.machine.name.clone(), *why)).collect()
    }

    /// Chooses among `machines` (all of one type), of which `allowed` are wanted. `has_room`: limits and hosts allow one
    /// more.
    pub(crate) fn of(
        pool: &PoolPolicy,
        allowed: u32,
        machines: &[&'a Observed<'a>],
        blockers: &Blockers<'_>,
        has_room: bool,
        now: Timestamp,
    ) -> Self {
        let outdated: Vec<_> = replaceable(pool, machines).collect();
        if outdated.is_empty() {
            return Self::default();
        }
        let running = machines.iter().filter(|one| one.is_running()).count();
        let has_room = has_room && running < size(pool.max_machines);
        // After a back-off one creation is tried: without room for it, an outdated machine goes first.
        let is_backed_off =
            blockers.back_off.is_some_and(|back_off| has_room || now < back_off.until);
        let is_blocked = is_backed_off || blockers.paused.is_some();
        let most = size(pool.rotation.max_unavailable.unwrap_or(1).max(1));
        let most = most.saturating_sub(count_ending(pool, machines));
        // While no replacement could be created, one that is drained or off may be used again.
        let at_least = if is_blocked { size(allowed) } else { 0 };
        let usable = machines.iter().filter(|one| one.is_usable(pool) && one.is_running()).count();
        let mut gone = drained(&outdated, usable, at_least);
        gone.truncate(most);
        let turn = in_turn(&outdated, most - gone.len());
        if !is_blocked {
            gone.extend(outdated.into_iter().filter(|(_, one)| is_off(one)));
        }
        let is_in_turn = |one: &Observed<'_>| {
            turn.iter().chain(&gone).any(|(_, other)| other.index == one.index)
        };
        let (ready, coming): (Vec<&Observed<'_>>, Vec<_>) = machines
            .iter()
            .filter(|one| one.is_usable(pool) && one.is_running() && !is_in_turn(one))
            .partition(|one| is_ready(one));
        // Without room a machine leaves first, unless no replacement could be created.
        let stays_first = has_room || !coming.is_empty() || is_blocked;
        let wanted = if stays_first { size(allowed).saturating_sub(ready.len()) } else { 0 };
        let (leaving, in_use) = turn.split_at(turn.len().saturating_sub(wanted));
        Self {
            // The first to leave come last: where a limit allows only some of them, those that already leave still do.
            in_use: in_use.iter().rev().copied().collect(),
            leaving: leaving.iter().chain(&gone).map(|(why, one)| (one.index, *why)).collect(),
        }
    }
}

/// How many outdated machines are being drained or ended.
fn count_ending(pool: &PoolPolicy, machines: &[&Observed<'_>]) -> usize {
    let ending = machines.iter().filter(|one| {
        let is_ending = one.is_ending() || one.operation() == Some(Operation::Drain);
        is_ending && outdated(one, pool).is_some()
    });
    ending.count()
}

/// Up to `most` of the `outdated` machines, which are replaced now: those that already leave, then those that must, the
/// oldest first.
fn in_turn<'a>(outdated: &[Candidate<'a>], most: usize) -> Vec<Candidate<'a>> {
    let ready = outdated.iter().filter(|(_, one)| is_ready(one));
    let mut turn: Vec<_> =
        ready.filter(|(why, one)| why.is_strict() || one.jobs() == 0).copied().collect();
    turn.sort_by_key(|(why, one)| {
        let memory = &one.machine.memory;
        (memory.leaving.is_none(), *why, memory.known_since, &one.machine.name)
    });
    turn.truncate(most);
    turn
}

/// Those of the `outdated` machines that were drained to be replaced: they keep their turn, as long as `at_least` others of
/// the `usable` ones run.
fn drained<'a>(outdated: &[Candidate<'a>], usable: usize, at_least: usize) -> Vec<Candidate<'a>> {
    let is_drained = |one: &Observed<'_>| {
        let memory = &one.machine.memory;
        one.is_running() && memory.leaving.is_some() && memory.ready_since.is_none()
    };
    let mut drained: Vec<_> = outdated.iter().filter(|(_, one)| is_drained(one)).copied().collect();
    let others = usable.saturating_sub(drained.len());
    let used_again = at_least.saturating_sub(others);
    drained.truncate(drained.len().saturating_sub(used_again));
    drained
}

fn is_off(observed: &Observed<'_>) -> bool {
    observed.machine.state == MachineState::Stopped && !observed.is_running()
}

/// The outdated machines that nothing else keeps or ends.
fn replaceable<'a>(
    pool: &PoolPolicy,
    machines: &[&'a Observed<'a>],
) -> impl Iterator<Item = Candidate<'a>> {
    let usable = machines.iter().filter(|one| one.is_usable(pool));
    let free = usable.filter(|one| one.ordered_to_stay().is_none());
    free.filter_map(|one| Some((outdated(one, pool)?, *one)))
}

fn is_ready(observed: &Observed<'_>) -> bool {
    observed.machine.state == MachineState::Up && observed.machine.memory.ready_since.is_some()
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

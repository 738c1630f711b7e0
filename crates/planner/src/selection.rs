//! Which machines serve the queue: those that are up, then those coming up, then stopped ones, then unreachable ones, then
//! new ones.

use std::cmp::Reverse;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::cost_limits::may_cost;
use crate::memory::Operation;
use crate::names::{MachineName, Tag};
use crate::observed::Observed;
use crate::ownership::number;
use crate::policy::PoolPolicy;
use crate::rotation::Rotation;
use crate::sizing::{Blockers, Deferral, Deferred};
use crate::snapshot::MachineState;
use crate::time::{Seconds, Timestamp};

/// The period in which `maxCreatesPerCycle` counts creations: the original's cycle.
const CREATION_WINDOW: Seconds = Seconds::from_minutes(5);

/// The machines that a pool uses to reach its allowed number.
pub(crate) struct Selection<'a> {
    /// Machines to use, the best first.
    pub(crate) chosen: Vec<&'a Observed<'a>>,
    /// How many of them may be started or requested again now. Running machines that are not used count against
    /// `maxMachines` until they are gone.
    pub(crate) starts: u32,
    /// How many of them may be requested from their provider now: those with recorded intents may be more than may be
    /// under way at once.
    pub(crate) requests: u32,
    /// How many new ones to create now.
    pub(crate) create: u32,
    /// How many new ones may not be created yet, and why.
    pub(crate) deferred: Option<Deferred>,
}

impl Selection<'_> {
    /// The number of machines that it uses.
    pub(crate) fn size(&self) -> u32 {
        count(self.chosen.iter()).saturating_add(self.create)
    }
}

/// Chooses among `machines` (all of one type) up to `allowed`, and counts what is to be created. Outdated machines that are in
/// use until their replacements are ready come in addition.
pub(crate) fn select<'a>(
    pool: &PoolPolicy,
    allowed: u32,
    machines: &[&'a Observed<'a>],
    blockers: &Blockers<'_>,
    rotation: &Rotation<'a>,
    now: Timestamp,
) -> Selection<'a> {
    let (usable, unusable): (Vec<&Observed<'_>>, Vec<_>) =
        machines.iter().partition(|machine| machine.is_usable(pool) && !rotation.includes(machine));
    // A machine being released makes room for another only when it is gone: until then it counts.
    let going = count(unusable.iter().filter(|machine| may_run(machine)));
    let allowed = allowed.min(pool.max_machines.saturating_sub(going));
    let running = count(machines.iter().filter(|machine| may_run(machine)));
    let starts = pool.max_machines.saturating_sub(running);
    let under_way = count(machines.iter().filter(|machine| machine.is_being_created()));
    let requests = creations_at_once(pool, blockers).saturating_sub(under_way);
    let mut usable = usable;
    usable.sort_by_key(|machine| preference(machine));
    let limit = usize::try_from(allowed).unwrap_or(usize::MAX);
    let mut chosen: Vec<_> = usable.into_iter().take(limit).collect();

    let missing = allowed.saturating_sub(count(chosen.iter()));
    let (most, deferral) = creations_allowed(pool, machines, blockers, now);
    let create = missing.min(most);
    let deferred = (missing > create)
        .then_some(deferral)
        .flatten()
        .map(|reason| Deferred { machines: missing - create, reason });
    chosen.extend(rotation.in_use.iter().map(|(_, observed)| *observed));
    Selection { chosen, starts, requests, create, deferred }
}

/// Whether it runs, or may run: its creation has an unknown outcome.
fn may_run(observed: &Observed<'_>) -> bool {
    observed.is_running() || may_cost(observed)
}

/// How many machines may be created now, and what the next one waits for.
fn creations_allowed(
    pool: &PoolPolicy,
    machines: &[&Observed<'_>],
    blockers: &Blockers<'_>,
    now: Timestamp,
) -> (u32, Option<Deferral>) {
    if let Some(order) = blockers.paused {
        return (0, Some(Deferral::Paused(order.clone())));
    }
    let back_off = blockers.back_off;
    if let Some(back_off) = back_off.filter(|back_off| now < back_off.until) {
        return (0, Some(Deferral::BackOff(back_off.clone())));
    }
    // Requesting a machine again that was never seen is a creation too: a failing provider must not get
    // requests for more and more names.
    let creating = count(machines.iter().filter(|machine| {
        machine.is_being_created() || machine.machine.state == MachineState::Requested
    }));
    let at_once = creations_at_once(pool, blockers);
    let by_number = at_once.saturating_sub(creating);
    let most_creating = Deferral::MaxCreating { at_once };
    let Some(per_window) = pool.creates_per_5_minutes else {
        return (by_number, Some(most_creating));
    };
    let recent: Vec<_> = machines
        .iter()
        .filter_map(|machine| machine.machine.memory.requested_at)
        .filter(|requested_at| now.since(*requested_at) < CREATION_WINDOW)
        .collect();
    let by_rate = per_window.saturating_sub(count(recent.iter()));
    if by_rate < by_number {
        let next = recent.into_iter().min().unwrap_or(now).after(CREATION_WINDOW);
        (by_rate, Some(Deferral::CreationRate { per_window, next }))
    } else {
        (by_number, Some(most_creating))
    }
}

/// How many machines may be under way at once: after a failure, one tests whether creation works again.
fn creations_at_once(pool: &PoolPolicy, blockers: &Blockers<'_>) -> u32 {
    let most = if blockers.back_off.is_some() { 1 } else { u32::MAX };
    pool.max_creating.min(most)
}

/// Lower is better.
///
/// By state first, ready ones before those that are up and not deployed yet: rotation counts on it. In the same state, busy
/// ones come first (they stay anyway), then those that are not being released, then those with the most paid time left. The
/// name makes the order total. A machine being released is used again before another is started, but never replaces one that
/// is in use: otherwise two machines that are charged by the hour would alternate each hour, and both would stay.
pub(crate) fn preference<'a>(
    observed: &Observed<'a>,
) -> (u8, Reverse<u64>, bool, Reverse<Seconds>, &'a MachineName) {
    let may_build = observed.machine.memory.ready_since.is_some() || observed.jobs() > 0;
    let readiness = match observed.machine.state {
        MachineState::Up if may_build => 0,
        MachineState::Up => 1,
        MachineState::Starting => 2,
        MachineState::Creating => 3,
        _ if matches!(observed.operation(), Some(Operation::Create | Operation::Start)) => 3,
        MachineState::Stopped => 4,
        MachineState::Stopping => 5,
        MachineState::Unreachable => 6,
        MachineState::Requested => 7,
        MachineState::Failed => 8,
    };
    let is_leaving = observed.machine.memory.leaving.is_some() || observed.stays_without_builds;
    let paid_time_left = Reverse(observed.paid_time_left);
    (readiness, Reverse(observed.jobs()), is_leaving, paid_time_left, &observed.machine.name)
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Gives new machines the lowest free numbers: `TAG-0`, `TAG-1`, ...
pub(crate) struct Names<'a> {
    tag: &'a Tag,
    /// The numbers in use, ascending.
    taken: Peekable<IntoIter<u64>>,
    next: u64,
}

impl<'a> Names<'a> {
    pub(crate) fn new(tag: &'a Tag, taken: impl Iterator<Item = &'a MachineName>) -> Self {
        let mut numbers: Vec<_> = taken.filter_map(|name| number(tag, name)).collect();
        numbers.sort_unstable();
        Self { tag, taken: numbers.into_iter().peekable(), next: 0 }
    }

    pub(crate) fn next(&mut self) -> MachineName {
        while self.taken.next_if_eq(&self.next).is_some() {
            self.next += 1;
        }
        let name = MachineName::new(format!("{}-{}", self.tag, self.next));
        self.next += 1;
        name
    }
}

//! Which machines serve the queue: those that are up, then those that are off, then new ones.

use std::cmp::Reverse;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::names::{MachineName, Tag};
use crate::ownership::number;
use crate::planner::Observed;
use crate::policy::PoolPolicy;
use crate::snapshot::MachineState;
use crate::time::Seconds;

/// What a pool uses to reach the number of machines that it is allowed.
pub(crate) struct Selection<'a> {
    /// Machines to use, the best first.
    pub(crate) chosen: Vec<&'a Observed<'a>>,
    /// How many new ones to ask for now.
    pub(crate) create: u32,
    /// How many new ones must wait for a later cycle.
    pub(crate) deferred: u32,
}

impl Selection<'_> {
    /// How many machines it comes to.
    pub(crate) fn size(&self) -> u32 {
        count(self.chosen.iter()).saturating_add(self.create)
    }
}

/// Chooses among `machines` (all of one type) up to `allowed`, and counts what is to be created.
pub(crate) fn select<'a>(
    pool: &PoolPolicy,
    allowed: u32,
    machines: &[&'a Observed<'a>],
) -> Selection<'a> {
    // A machine that is given up makes room for its successor by going, one cycle earlier.
    let (given_up, machines): (Vec<_>, Vec<&Observed<'_>>) =
        machines.iter().partition(|machine| machine.given_up(pool).is_some());
    let allowed = allowed.min(pool.max_machines.saturating_sub(count(given_up.iter())));
    let mut usable: Vec<_> =
        machines.iter().filter_map(|machine| Some((preference(machine)?, *machine))).collect();
    usable.sort_by_key(|(preference, _)| *preference);
    let limit = usize::try_from(allowed).unwrap_or(usize::MAX);
    let chosen: Vec<_> = usable.into_iter().map(|(_, machine)| machine).take(limit).collect();

    // Asking again for a machine that was never seen is a creation too: a provider that fails is not to
    // be asked for more and more names.
    let asked_again = count(chosen.iter().filter(|m| m.machine.state == MachineState::Requested));
    let missing = allowed.saturating_sub(count(chosen.iter()));
    let create = missing.min(pool.max_creates_per_cycle.saturating_sub(asked_again));
    Selection { chosen, create, deferred: missing - create }
}

/// Lower is better; `None` for a machine that cannot be used at all.
///
/// Busy ones first (they stay whatever happens, so they may as well count), then those with the most paid
/// time left; the name makes the order total.
fn preference<'a>(
    observed: &Observed<'a>,
) -> Option<(u8, Reverse<u64>, Reverse<Seconds>, &'a MachineName)> {
    let readiness = match observed.machine.state {
        MachineState::Up => 0,
        MachineState::Starting => 1,
        MachineState::Creating => 2,
        MachineState::Stopped => 3,
        MachineState::Stopping => 4,
        MachineState::Unreachable => 5,
        MachineState::Requested => 6,
        MachineState::Failed => return None,
    };
    Some((
        readiness,
        Reverse(observed.jobs()),
        Reverse(observed.paid_time_left),
        &observed.machine.name,
    ))
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

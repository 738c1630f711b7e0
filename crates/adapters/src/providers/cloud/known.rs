//! The machines that were listed or made a short while ago, by the cloud's own number for them.
//!
//! A listing may lack a machine that is there: one that was just made (the clouds are eventually consistent), or one
//! that moved to an earlier page while the pages were read. So what was known and is not listed is asked for by its
//! number before it counts as gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use planner::{Machine, MachineName};

/// A machine that was just made may be unknown to the cloud for so long.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What is known of the machines, by number.
#[derive(Debug)]
pub(in crate::providers) struct Known<Id>(Mutex<BTreeMap<Id, Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    machine: Machine,
    /// When it was made, until it is seen in a listing.
    unseen_since: Option<Instant>,
}

impl Entry {
    fn is_new(&self) -> bool {
        self.unseen_since.is_some_and(|since| since.elapsed() < UNSEEN_PATIENCE)
    }
}

impl<Id: Ord> Default for Known<Id> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Id: Ord + Clone> Known<Id> {
    /// Remembers a machine that was just made.
    pub(in crate::providers) fn made(&self, id: Id, machine: Machine) {
        let entry = Entry { machine, unseen_since: Some(Instant::now()) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
    }

    /// Forgets a machine that is gone.
    pub(in crate::providers) fn forget(&self, id: &Id) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The numbers of the machines called `name`, and whether each may be so new that the cloud does not know it.
    pub(in crate::providers) fn ids_of(&self, name: &MachineName) -> Vec<(Id, bool)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = known.iter().filter(|(_, entry)| entry.machine.name == *name);
        named.map(|(id, entry)| (id.clone(), entry.is_new())).collect()
    }

    /// What a listing that is known to have begun at `began` means: `listed`, and of what it lacks whatever is still
    /// there by `look`'s word (`Ok(None)`: the cloud knows nothing of it).
    ///
    /// # Errors
    /// With `look`'s.
    pub(in crate::providers) fn complete<E>(
        &self,
        began: Instant,
        mut listed: BTreeMap<Id, Machine>,
        mut look: impl FnMut(&Id) -> Result<Presence, E>,
    ) -> Result<Vec<Machine>, E> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let missing = known.iter().filter(|(id, _)| !listed.contains_key(id));
        let mut unseen = BTreeMap::new();
        for (id, entry) in missing {
            match look(id)? {
                Presence::There(machine) => _ = unseen.insert(id.clone(), *machine),
                Presence::Unknown if entry.is_new() => {
                    _ = unseen.insert(id.clone(), entry.machine.clone());
                }
                Presence::Unknown | Presence::Gone => {}
            }
        }
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was made while the pages were read stays; what was destroyed meanwhile is not brought back.
        let is_later = |entry: &Entry| entry.unseen_since.is_some_and(|since| since >= began);
        current.retain(|id, entry| {
            listed.contains_key(id) || unseen.contains_key(id) || is_later(entry)
        });
        for (id, machine) in &listed {
            current.insert(id.clone(), Entry { machine: machine.clone(), unseen_since: None });
        }
        let later =
            current.iter().filter(|(id, entry)| is_later(entry) && !listed.contains_key(id));
        let later: Vec<_> = later.map(|(id, entry)| (id.clone(), entry.machine.clone())).collect();
        listed.extend(unseen);
        listed.extend(later);
        Ok(listed.into_values().collect())
    }
}

/// What the cloud says of one machine.
#[derive(Debug)]
pub(in crate::providers) enum Presence {
    /// It is there.
    There(Box<Machine>),
    /// It was there and is not any more.
    Gone,
    /// There is none of that number, or not yet.
    Unknown,
}

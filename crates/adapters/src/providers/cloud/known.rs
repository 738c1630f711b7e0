//! Machines that were recently listed or created, by the cloud's own id.
//!
//! A listing may lack an existing machine: one that was just created (the clouds are eventually consistent),
//! or one that moved to an earlier page while the pages were read. So a known machine that is not listed is
//! requested by its id before it counts as gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use planner::{Machine, MachineName};

/// How long a new machine may be unknown to the cloud.
const UNSEEN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The known machines, by id.
#[derive(Debug)]
pub(in crate::providers) struct Known<Id>(Mutex<BTreeMap<Id, Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    machine: Machine,
    /// When it was created, until a listing contains it.
    unseen_since: Option<Instant>,
}

impl Entry {
    fn is_new(&self) -> bool {
        self.unseen_since.is_some_and(|since| since.elapsed() < UNSEEN_TIMEOUT)
    }
}

impl<Id: Ord> Default for Known<Id> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Id: Ord + Clone> Known<Id> {
    /// Remembers a machine that was just created.
    pub(in crate::providers) fn made(&self, id: Id, machine: Machine) {
        let entry = Entry { machine, unseen_since: Some(Instant::now()) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
    }

    /// Forgets a machine that is gone.
    pub(in crate::providers) fn forget(&self, id: &Id) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The ids of the machines called `name`, and whether each may be too new for the cloud to know it.
    pub(in crate::providers) fn ids_of(&self, name: &MachineName) -> Vec<(Id, bool)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = known.iter().filter(|(_, entry)| entry.machine.name == *name);
        named.map(|(id, entry)| (id.clone(), entry.is_new())).collect()
    }

    /// The machines in a listing that began at `began`: `listed`, plus each known machine that is missing
    /// there but still exists according to `look` (`Ok(None)`: the cloud does not know it).
    ///
    /// # Errors
    /// The error of `look`.
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
        // A machine created while the pages were read stays. A machine destroyed meanwhile is not added
        // again.
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

/// What the cloud reports of one machine.
#[derive(Debug)]
pub(in crate::providers) enum Presence {
    /// It exists.
    There(Box<Machine>),
    /// It existed and is gone.
    Gone,
    /// The cloud does not know this id, or not yet.
    Unknown,
}

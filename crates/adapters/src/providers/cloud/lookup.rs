//! Answers that are kept for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// After a failed search beside a listing.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// What was found for each key. For one key there is only one search at a time; nothing else waits for it.
#[derive(Debug)]
pub(in crate::providers) struct Lookup<K, V> {
    valid_for: Duration,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    found: BTreeMap<K, (Instant, V)>,
    /// When a search failed.
    failed: BTreeMap<K, Instant>,
    /// Held during a search.
    turns: BTreeMap<K, Arc<Mutex<()>>>,
}

impl<K: Ord + Clone, V: Clone> Lookup<K, V> {
    /// Answers are used for `valid_for` before the next search.
    pub(in crate::providers) fn new(valid_for: Duration) -> Self {
        let state =
            State { found: BTreeMap::new(), failed: BTreeMap::new(), turns: BTreeMap::new() };
        Self { valid_for, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found last, however long ago.
    pub(in crate::providers) fn known(&self, key: &K) -> Option<V> {
        self.lock().found.get(key).map(|(_, value)| value.clone())
    }

    /// Forgets what was found: it proved wrong.
    pub(in crate::providers) fn forget(&self, key: &K) {
        self.lock().found.remove(key);
    }

    /// What was found, unless that was too long ago.
    fn fresh(&self, key: &K) -> Option<V> {
        let state = self.lock();
        let (since, value) = state.found.get(key)?;
        (since.elapsed() < self.valid_for).then(|| value.clone())
    }

    fn turn(&self, key: &K) -> Arc<Mutex<()>> {
        Arc::clone(self.lock().turns.entry(key.clone()).or_default())
    }

    /// What was found; searches if that was too long ago. Waits for another search for the same key.
    ///
    /// # Errors
    /// Those of `search`.
    pub(in crate::providers) fn get<E>(
        &self,
        key: &K,
        search: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(value) = self.fresh(key) {
            return Ok(value);
        }
        let turn = self.turn(key);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.search(key, search)
    }

    fn search<E>(&self, key: &K, search: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        // Another search may have ended just now.
        if let Some(value) = self.fresh(key) {
            return Ok(value);
        }
        let found = search();
        let mut state = self.lock();
        match &found {
            Ok(value) => {
                state.failed.remove(key);
                state.found.insert(key.clone(), (Instant::now(), value.clone()));
            }
            Err(_) => drop(state.failed.insert(key.clone(), Instant::now())),
        }
        found
    }

    /// As [`get`](Self::get), but what is known stays when a search fails, and the next one is made some minutes later. Does
    /// not wait for another search.
    ///
    /// # Errors
    /// Those of `search`.
    pub(in crate::providers) fn refresh<E>(
        &self,
        key: &K,
        search: impl FnOnce() -> Result<V, E>,
    ) -> Result<(), E> {
        let failed = self.lock().failed.get(key).copied();
        if failed.is_some_and(|failed| failed.elapsed() < RETRY_AFTER) {
            return Ok(());
        }
        let turn = self.turn(key);
        let _turn = match turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        self.search(key, search).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn an_answer_is_used_until_it_is_too_old() {
        let lookup = Lookup::new(LONG);
        assert_eq!(lookup.known(&1), None);
        assert_eq!(lookup.get(&1, || Ok::<_, ()>("a")), Ok("a"));
        assert_eq!(lookup.get(&1, || Ok::<_, ()>("b")), Ok("a"));
        lookup.forget(&1);
        assert_eq!(lookup.get(&1, || Ok::<_, ()>("b")), Ok("b"));
        let lookup = Lookup::new(Duration::ZERO);
        assert_eq!(lookup.get(&1, || Ok::<_, ()>("a")), Ok("a"));
        assert_eq!(lookup.get(&1, || Ok::<_, ()>("b")), Ok("b"));
    }

    #[test]
    fn a_failed_search_forgets_nothing_and_is_not_repeated_by_each_listing() {
        let lookup = Lookup::new(Duration::ZERO);
        assert_eq!(lookup.refresh(&1, || Ok::<_, &str>("a")), Ok(()));
        assert_eq!(lookup.refresh(&1, || Err("no")), Err("no"));
        assert_eq!(lookup.refresh(&1, || Err("no, again")), Ok(()), "it is not made");
        assert_eq!(lookup.known(&1), Some("a"));
        assert_eq!(lookup.get(&1, || Ok::<_, &str>("b")), Ok("b"), "a creation searches");
        assert_eq!(lookup.refresh(&1, || Err("no")), Err("no"));
    }

    /// A slow search for one image delays neither machines with another one nor listings.
    #[test]
    fn only_the_same_key_waits_for_a_search() {
        let lookup = Lookup::new(LONG);
        assert_eq!(lookup.get(&1, || Ok::<_, ()>("a")), Ok("a"));
        let found = lookup.get(&2, || {
            assert_eq!(lookup.get(&1, || Err(())), Ok("a"));
            assert_eq!(lookup.get(&3, || Ok::<_, ()>("c")), Ok("c"));
            assert_eq!(lookup.refresh(&2, || Err(())), Ok(()), "it is not made");
            Ok::<_, ()>("b")
        });
        assert_eq!(found, Ok("b"));
    }

    #[test]
    fn what_is_known_does_not_wait_for_a_search() {
        let lookup = Lookup::new(LONG);
        let found = lookup.get(&1, || Ok::<_, ()>(lookup.state.try_lock().is_ok()));
        assert_eq!(found, Ok(true));
    }
}

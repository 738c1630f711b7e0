//! The newest image for each way to name it.

use std::time::Duration;

use super::Lookup;
use crate::providers::ProviderError;

/// How long a found image is used before the next search.
const VALID_FOR: Duration = Duration::from_secs(10 * 60);

/// `K`: how an image is named in `conf.nix`; `Id`: the cloud's own id.
#[derive(Debug)]
pub(in crate::providers) struct Images<K, Id>(Lookup<K, Id>);

impl<K: Ord + Clone, Id: Clone + PartialEq> Images<K, Id> {
    pub(in crate::providers) fn new() -> Self {
        Self(Lookup::new(VALID_FOR))
    }

    /// The image of a new machine.
    ///
    /// # Errors
    /// Those of `search`.
    pub(in crate::providers) fn newest(
        &self,
        key: &K,
        search: impl FnOnce() -> Result<Id, ProviderError>,
    ) -> Result<Id, ProviderError> {
        self.0.get(key, search)
    }

    /// Searches again if the last search was some minutes ago.
    pub(in crate::providers) fn refresh(
        &self,
        key: &K,
        search: impl FnOnce() -> Result<Id, ProviderError>,
    ) {
        if let Err(error) = self.0.refresh(key, search) {
            tracing::warn!("whether there is a newer image is not known: {error}");
        }
    }

    /// Whether a new machine would have another image than `id`, as far as that is known.
    pub(in crate::providers) fn is_old(&self, key: &K, id: &Id) -> bool {
        self.0.known(key).is_some_and(|newest| newest != *id)
    }

    /// A creation has failed: the image may have been withdrawn since it was found.
    pub(in crate::providers) fn forget(&self, key: &K) {
        self.0.forget(key);
    }
}

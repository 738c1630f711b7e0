//! The last offer that a creation requested, recorded before the request. After a crash the same request is
//! repeated first, since it may have had an effect.

use std::path::{Path, PathBuf};

use planner::{MachineName, Tag};
use serde::{Deserialize, Serialize};

use super::request::Offer;
use crate::atomic_file;
use crate::digest::sha256;
use crate::providers::ProviderError;

/// The last attempt of one creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Attempt {
    /// The creation's own token.
    pub(super) token: String,
    pub(super) offer: Offer,
    /// Counts the instances of this offer that were gone before they were seen.
    pub(super) number: u32,
}

impl Attempt {
    /// The client token for EC2: at most 64 characters.
    pub(super) fn client_token(&self, tag: &Tag, name: &MachineName) -> String {
        let Self { token, offer, number } = self;
        sha256(format!("{tag}\n{name}\n{token}\n{offer}\n{number}"))
    }
}

/// One file per machine.
#[derive(Debug)]
pub(super) struct Attempts(PathBuf);

impl Attempts {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("ec2-attempts"))
    }

    fn file(&self, name: &MachineName) -> PathBuf {
        self.0.join(format!("{}.json", name.as_str().replace('/', "_")))
    }

    /// The last attempt of the creation `token`. An unreadable record counts as none: an instance it created
    /// is still found by its tags.
    pub(super) fn last(&self, name: &MachineName, token: &str) -> Option<Attempt> {
        let text = std::fs::read(self.file(name)).ok()?;
        let attempt: Attempt = serde_json::from_slice(&text).ok()?;
        (attempt.token == token).then_some(attempt)
    }

    /// Records an attempt durably.
    ///
    /// # Errors
    /// When the record may not survive a crash. Then nothing may be requested.
    pub(super) fn record(
        &self,
        name: &MachineName,
        attempt: &Attempt,
    ) -> Result<(), ProviderError> {
        let file = self.file(name);
        let text = serde_json::to_vec(attempt).unwrap_or_default();
        atomic_file::write(&file, &text, 0o600).map_err(|error| {
            ProviderError::failed(format!("cannot write {}: {error}", file.display()))
        })
    }

    /// Forgets a machine that is gone.
    pub(super) fn forget(&self, name: &MachineName) {
        // A file that is left behind would be ignored.
        let _ = std::fs::remove_file(self.file(name));
    }
}

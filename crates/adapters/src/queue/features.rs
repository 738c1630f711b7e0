//! Remembers the features of derivations: a derivation never changes, and there are many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::Feature;
use serde::{Deserialize, Serialize};

use super::derivations;
use crate::atomic_file;

/// Entries that are kept on disk: about 20 MB.
const MOST_ENTRIES: usize = 200_000;

/// Features by derivation, in memory and on disk.
#[derive(Debug)]
pub(super) struct FeatureCache {
    path: PathBuf,
    nix_command: Vec<String>,
    limit: Duration,
    contents: Contents,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    features: BTreeMap<String, BTreeSet<Feature>>,
}

impl FeatureCache {
    pub(super) fn open(state_dir: &Path, nix_command: Vec<String>, limit: Duration) -> Self {
        let path = state_dir.join("derivation-features.json");
        // A lost or damaged cache is only slower.
        let contents = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self { path, nix_command, limit, contents }
    }

    /// Looks up `base_names`, asks Nix for those that are new, and returns why any is still unknown.
    pub(super) fn learn(&mut self, base_names: &BTreeSet<String>) -> Option<String> {
        let unknown: Vec<String> = base_names
            .iter()
            .filter(|name| !self.contents.features.contains_key(*name))
            .cloned()
            .collect();
        if unknown.is_empty() {
            return None;
        }
        let (learnt, trouble) =
            derivations::required_features(&self.nix_command, &unknown, self.limit);
        if !learnt.is_empty() {
            if self.contents.features.len() + learnt.len() > MOST_ENTRIES {
                self.contents.features.retain(|name, _| base_names.contains(name));
            }
            self.contents.features.extend(learnt);
            self.save();
        }
        trouble
    }

    pub(super) fn get(&self, base_name: &str) -> Option<&BTreeSet<Feature>> {
        self.contents.features.get(base_name)
    }

    fn save(&self) {
        let written = serde_json::to_vec(&self.contents)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic_file::write(&self.path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }
}

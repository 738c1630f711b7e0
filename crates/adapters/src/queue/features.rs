//! Remembers the features of derivations: a derivation never changes, so that nothing here is ever stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::derivations::{DrvPath, Features, Nix};
use crate::atomic_file;
use crate::lock::Access;

/// Derivations that are remembered: about 10 MB.
const MOST_ENTRIES: usize = 100_000;

/// Features by derivation, in memory and in `derivation-features.json` of the state directory.
#[derive(Debug)]
pub(super) struct FeatureCache {
    path: PathBuf,
    access: Access,
    nix: Nix,
    known: BTreeMap<DrvPath, Features>,
    /// Asked last the next time, so that they do not use up the calls that others need.
    refused: BTreeSet<DrvPath>,
}

impl FeatureCache {
    pub(super) fn open(state_dir: &Path, nix_command: Vec<String>, access: Access) -> Self {
        let path = state_dir.join("derivation-features.json");
        let known = fs::read(&path).map(|bytes| read(&bytes)).unwrap_or_default();
        Self { path, access, nix: Nix::new(nix_command), known, refused: BTreeSet::new() }
    }

    pub(super) fn get(&self, derivation: &DrvPath) -> Option<&Features> {
        self.known.get(derivation)
    }

    /// Asks Nix for those of `derivations` that are new; why any is still unknown after that.
    pub(super) fn learn(
        &mut self,
        derivations: &BTreeSet<DrvPath>,
        deadline: Instant,
    ) -> Option<String> {
        let unknown = derivations.iter().filter(|path| !self.known.contains_key(path)).cloned();
        let (again, new): (Vec<_>, Vec<_>) = unknown.partition(|path| self.refused.contains(path));
        let mut trouble = None;
        let mut learnt = BTreeMap::new();
        for asked in [new, again] {
            if asked.is_empty() {
                continue;
            }
            let told = self.nix.features(&asked, deadline);
            self.refused.extend(told.refused);
            learnt.extend(told.features);
            trouble = trouble.or(told.trouble);
        }
        if !learnt.is_empty() {
            self.remember(learnt, derivations);
        }
        self.refused.retain(|path| derivations.contains(path) && !self.known.contains_key(path));
        trouble
    }

    /// Past the bound only what waits now is kept: the rest has most likely been built.
    fn remember(&mut self, learnt: BTreeMap<DrvPath, Features>, waiting: &BTreeSet<DrvPath>) {
        self.known.extend(learnt);
        if self.known.len() > MOST_ENTRIES {
            self.known.retain(|path, _| waiting.contains(path));
        }
        if self.access == Access::ReadOnly {
            return;
        }
        let by_name: BTreeMap<_, _> = self
            .known
            .iter()
            .take(MOST_ENTRIES)
            .map(|(path, features)| (path.base_name(), features))
            .collect();
        let written = serde_json::to_vec(&by_name)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic_file::write(&self.path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!("cannot write {}, nix is asked again: {error}", self.path.display());
        }
    }
}

/// A damaged file is as good as none: Nix is asked again.
fn read(bytes: &[u8]) -> BTreeMap<DrvPath, Features> {
    let by_name: BTreeMap<String, Features> = serde_json::from_slice(bytes).unwrap_or_default();
    by_name
        .into_iter()
        .filter_map(|(name, features)| Some((DrvPath::parse(&name).ok()?, features)))
        .collect()
}

//! Remembers the features of derivations (a derivation never changes, so that nothing here is ever stale), and which
//! ones Nix could not show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use planner::{Seconds, Timestamp};
use serde::{Deserialize, Serialize};

use super::derivations::{DrvPath, Features, Nix, Patience};
use crate::atomic_file;
use crate::lock::Access;

/// Derivations that are remembered: about 10 MB.
const MOST_ENTRIES: usize = 100_000;

/// How long a derivation that Nix could not show is not asked for again.
const REFUSED_FOR: Seconds = Seconds::from_minutes(10);

/// Features by derivation, in memory and in `derivation-features.json` of the state directory.
#[derive(Debug)]
pub(super) struct FeatureCache {
    path: PathBuf,
    access: Access,
    nix: Nix,
    known: BTreeMap<DrvPath, Features>,
    /// Derivations that Nix could not show, with when it was asked.
    refused: BTreeMap<DrvPath, Timestamp>,
    /// Little while Nix shows nothing at all: it is asked once in a look.
    patience: Patience,
}

/// The file. What is not in it is asked for.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    features: BTreeMap<String, Features>,
    #[serde(default)]
    refused: BTreeMap<String, Timestamp>,
    #[serde(default)]
    in_vain: bool,
    /// The `queue.nixCommand` that was asked: what another one refused does not matter.
    #[serde(default)]
    nix_command: Vec<String>,
}

impl FeatureCache {
    pub(super) fn open(state_dir: &Path, nix_command: Vec<String>, access: Access) -> Self {
        let path = state_dir.join("derivation-features.json");
        // A damaged file is as good as none.
        let stored: Stored = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let is_same_nix = stored.nix_command == nix_command;
        Self {
            path,
            access,
            nix: Nix::new(nix_command),
            known: parsed(stored.features),
            refused: if is_same_nix { parsed(stored.refused) } else { BTreeMap::new() },
            patience: patience(is_same_nix && stored.in_vain),
        }
    }

    pub(super) fn get(&self, derivation: &DrvPath) -> Option<&Features> {
        self.known.get(derivation)
    }

    /// Asks Nix for those of `derivations` that are new, or were refused a while ago; why any is still unknown
    /// after that.
    pub(super) fn learn(
        &mut self,
        derivations: &BTreeSet<DrvPath>,
        now: Timestamp,
        deadline: Instant,
    ) -> Option<String> {
        self.refused.retain(|path, at| derivations.contains(path) && *at <= now);
        let waits =
            |path: &DrvPath| self.refused.get(path).is_some_and(|at| now.since(*at) < REFUSED_FOR);
        let unknown = derivations.iter().filter(|path| !self.known.contains_key(path));
        let asked: Vec<_> = unknown.filter(|path| !waits(path)).cloned().collect();
        let trouble =
            if asked.is_empty() { None } else { self.ask(&asked, derivations, now, deadline) };
        let still_refused = || {
            let count = self.refused.len();
            format!(
                "nix could not show {count} of their derivations; it is asked again after {REFUSED_FOR}"
            )
        };
        trouble.or_else(|| (!self.refused.is_empty()).then(still_refused))
    }

    fn ask(
        &mut self,
        asked: &[DrvPath],
        waiting: &BTreeSet<DrvPath>,
        now: Timestamp,
        deadline: Instant,
    ) -> Option<String> {
        let told = self.nix.features(asked, self.patience, deadline);
        let patience = patience(told.in_vain);
        let is_news =
            !told.features.is_empty() || !told.refused.is_empty() || self.patience != patience;
        self.patience = patience;
        self.refused.extend(told.refused.into_iter().map(|path| (path, now)));
        self.known.extend(told.features);
        self.refused.retain(|path, _| !self.known.contains_key(path));
        if is_news {
            self.remember(waiting);
        }
        told.trouble
    }

    /// Past the bound only what waits now is kept: the rest has most likely been built.
    fn remember(&mut self, waiting: &BTreeSet<DrvPath>) {
        if self.known.len() > MOST_ENTRIES {
            self.known.retain(|path, _| waiting.contains(path));
        }
        if self.access == Access::ReadOnly {
            return;
        }
        let stored = Stored {
            features: named(&self.known),
            refused: named(&self.refused),
            in_vain: self.patience == Patience::Little,
            nix_command: self.nix.command().to_vec(),
        };
        let written = serde_json::to_vec(&stored)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic_file::write(&self.path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!("cannot write {}, nix is asked again: {error}", self.path.display());
        }
    }
}

fn patience(in_vain: bool) -> Patience {
    if in_vain { Patience::Little } else { Patience::Much }
}

fn parsed<T>(by_name: BTreeMap<String, T>) -> BTreeMap<DrvPath, T> {
    let parse = |(name, value): (String, T)| Some((DrvPath::parse(&name).ok()?, value));
    by_name.into_iter().filter_map(parse).collect()
}

fn named<T: Clone>(by_path: &BTreeMap<DrvPath, T>) -> BTreeMap<String, T> {
    let bounded = by_path.iter().take(MOST_ENTRIES);
    bounded.map(|(path, value)| (path.base_name().to_owned(), value.clone())).collect()
}

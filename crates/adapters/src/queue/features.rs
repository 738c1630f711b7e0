//! Remembers the features of derivations, and which derivations Nix could not show. A derivation never
//! changes, so the entries never become stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use planner::{Seconds, Timestamp};
use serde::{Deserialize, Serialize};

use super::derivations::{DrvPath, Features, Nix, RefusalLimit};
use crate::atomic_file;
use crate::lock::Access;

/// Maximum number of derivations: about 10 MB.
const MAX_ENTRIES: usize = 100_000;

/// How long a derivation that Nix could not show is not requested again.
const REFUSED_FOR: Seconds = Seconds::from_minutes(10);

/// Features by derivation, in memory and in `derivation-features.json` of the state directory.
#[derive(Debug)]
pub(super) struct FeatureCache {
    path: PathBuf,
    access: Access,
    nix: Nix,
    known: BTreeMap<DrvPath, Features>,
    /// Derivations that Nix could not show, with the time of the request.
    refused: BTreeMap<DrvPath, Timestamp>,
    /// Small while Nix shows nothing at all: then it is called once per status.
    refusal_limit: RefusalLimit,
}

/// The file. Derivations that it lacks are requested from Nix.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    features: BTreeMap<String, Features>,
    #[serde(default)]
    refused: BTreeMap<String, Timestamp>,
    #[serde(default)]
    shows_nothing: bool,
    /// The `queue.nixCommand` in use. Refusals of another command do not count.
    #[serde(default)]
    nix_command: Vec<String>,
}

impl FeatureCache {
    pub(super) fn open(state_dir: &Path, nix_command: Vec<String>, access: Access) -> Self {
        let path = state_dir.join("derivation-features.json");
        // A damaged file counts as empty.
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
            refusal_limit: refusal_limit(is_same_nix && stored.shows_nothing),
        }
    }

    pub(super) fn get(&self, derivation: &DrvPath) -> Option<&Features> {
        self.known.get(derivation)
    }

    /// Asks Nix for those of `derivations` that are new, or were refused long ago. Returns why any are
    /// still unknown.
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
        let problem =
            if asked.is_empty() { None } else { self.ask(&asked, derivations, now, deadline) };
        let still_refused = || {
            let count = self.refused.len();
            format!(
                "nix could not show {count} of their derivations; it is called again after {REFUSED_FOR}"
            )
        };
        problem.or_else(|| (!self.refused.is_empty()).then(still_refused))
    }

    fn ask(
        &mut self,
        asked: &[DrvPath],
        waiting: &BTreeSet<DrvPath>,
        now: Timestamp,
        deadline: Instant,
    ) -> Option<String> {
        let answer = self.nix.features(asked, self.refusal_limit, deadline);
        let refusal_limit = refusal_limit(answer.shows_nothing);
        let is_news = !answer.features.is_empty()
            || !answer.refused.is_empty()
            || self.refusal_limit != refusal_limit;
        self.refusal_limit = refusal_limit;
        self.refused.extend(answer.refused.into_iter().map(|path| (path, now)));
        self.known.extend(answer.features);
        self.refused.retain(|path, _| !self.known.contains_key(path));
        if is_news {
            self.remember(waiting);
        }
        answer.problem
    }

    /// Beyond the limit only waiting derivations are kept: the others are probably built.
    fn remember(&mut self, waiting: &BTreeSet<DrvPath>) {
        if self.known.len() > MAX_ENTRIES {
            self.known.retain(|path, _| waiting.contains(path));
        }
        if self.access == Access::ReadOnly {
            return;
        }
        let stored = Stored {
            features: named(&self.known),
            refused: named(&self.refused),
            shows_nothing: self.refusal_limit == RefusalLimit::Low,
            nix_command: self.nix.command().to_vec(),
        };
        let written = serde_json::to_vec(&stored)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic_file::write(&self.path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!(
                "cannot write {}, so nix will be called again: {error}",
                self.path.display()
            );
        }
    }
}

fn refusal_limit(shows_nothing: bool) -> RefusalLimit {
    if shows_nothing { RefusalLimit::Low } else { RefusalLimit::High }
}

fn parsed<T>(by_name: BTreeMap<String, T>) -> BTreeMap<DrvPath, T> {
    let parse = |(name, value): (String, T)| Some((DrvPath::parse(&name).ok()?, value));
    by_name.into_iter().filter_map(parse).collect()
}

fn named<T: Clone>(by_path: &BTreeMap<DrvPath, T>) -> BTreeMap<String, T> {
    let bounded = by_path.iter().take(MAX_ENTRIES);
    bounded.map(|(path, value)| (path.base_name().to_owned(), value.clone())).collect()
}

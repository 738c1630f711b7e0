//! The results of a search or of a shard, and its file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use simulator::tuning::{Outcome, Settings};

use super::args::Shard;
use super::input;
use super::instances::What;
use crate::console::fail;
use crate::exit::Exit;

/// The results of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Part {
    pub(super) what: What,
    pub(super) shard: Shard,
    /// By number; the current configuration is first.
    pub(super) tried: Vec<Tried>,
}

/// A candidate and its results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tried {
    pub(super) number: u64,
    /// `None`: the current configuration.
    pub(super) settings: Option<Settings>,
    /// By round, as far as it was tried.
    pub(super) training: Vec<Outcome>,
    /// Only for candidates that were not dropped in their shard.
    pub(super) held_out: Vec<Outcome>,
}

impl Tried {
    pub(super) fn new(number: u64, settings: Option<Settings>) -> Self {
        Self { number, settings, training: Vec::new(), held_out: Vec::new() }
    }
}

impl Part {
    pub(super) fn write(&self, path: &Path) -> Result<(), Exit> {
        let text = serde_json::to_string(self).map_err(|error| fail(Exit::Unexpected, &error))?;
        std::fs::write(path, text + "\n").map_err(|error| {
            fail(Exit::Unexpected, &format!("cannot write {}: {error}", path.display()))
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Exit> {
        let text =
            std::fs::read_to_string(path).map_err(|error| input::unreadable(path, &error))?;
        let part: Self =
            serde_json::from_str(&text).map_err(|error| input::bad(path.display(), &error))?;
        match part.problem() {
            Some(problem) => Err(input::bad(path.display(), &problem)),
            None => Ok(part),
        }
    }

    /// Content that no search writes.
    fn problem(&self) -> Option<&'static str> {
        let counts = |list: &[(String, Vec<u64>)]| list.iter().map(|(_, seeds)| seeds.len()).sum();
        let (training, held_out): (usize, usize) =
            (counts(&self.what.training), counts(&self.what.held_out));
        if self.tried.first().is_none_or(|first| first.settings.is_some()) {
            return Some("does not begin with the current configuration");
        }
        let fits = |one: &Tried| {
            one.training.len() <= training
                && (one.held_out.is_empty() || one.held_out.len() == held_out)
        };
        (!self.tried.iter().all(fits)).then_some("has more or fewer results than it says")
    }
}

/// Combines all shards, in any order.
pub(super) fn merged(parts: Vec<Part>) -> Result<Part, String> {
    let mut parts = parts;
    parts.sort_by_key(|part| part.shard);
    let Some(first) = parts.first() else { return Err("there is no shard".to_owned()) };
    let what = first.what.clone();
    let of = first.shard.of;
    if let Some(other) = parts.iter().find(|part| part.what != what) {
        return Err(format!("shard {} is of another search than {}", other.shard, first.shard));
    }
    let numbers: Vec<_> = parts.iter().map(|part| part.shard).collect();
    let expected = (1..=of).map(|number| Shard { number, of });
    if !numbers.iter().copied().eq(expected) {
        let there = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "all shards from 1/{of} to {of}/{of} are needed, each once; there are {there}"
        ));
    }
    let mut all: BTreeMap<u64, Tried> = BTreeMap::new();
    for one in parts.into_iter().flat_map(|part| part.tried) {
        let known = all.entry(one.number).or_insert_with(|| one.clone());
        // Every shard tries the anchors; some may have dropped them.
        if known.training != one.training {
            return Err(format!(
                "shards disagree on candidate {}: they are not of one program",
                one.number
            ));
        }
        if known.held_out.is_empty() {
            known.held_out = one.held_out;
        }
    }
    Ok(Part { what, shard: Shard::WHOLE, tried: all.into_values().collect() })
}

//! What a build step requires of a machine: the `requiredSystemFeatures` of its derivation, told by Nix.
//!
//! The only module that knows Nix's own formats (crate `harmonia-store-core` for store paths).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harmonia_store_core::store_path::StorePath;
use planner::Feature;
use serde_json::{Map, Value};

use crate::command::Invocation;

const STORE_DIR: &str = "/nix/store";
/// Paths in one call: far below the system's limit of 128 KiB for one argument list on the strictest kernels.
const BATCH: usize = 500;

/// A derivation's base name, `HASH-NAME.drv`, checked: it cannot be mistaken for an option or another path.
pub(super) fn checked_base_name(drv_path: &str) -> Result<String, String> {
    let base =
        drv_path.strip_prefix(STORE_DIR).map_or(drv_path, |rest| rest.trim_start_matches('/'));
    match StorePath::from_base_path(base) {
        Ok(path) if path.is_derivation() => Ok(path.to_base_path()),
        Ok(_) => Err(format!("{drv_path:?} is not a derivation")),
        Err(error) => Err(format!("{drv_path:?} is not a store path: {error}")),
    }
}

/// The features that each derivation requires, for those that Nix can tell; and why it could not for others.
pub(super) fn required_features(
    nix_command: &[String],
    base_names: &[String],
    limit: Duration,
) -> (BTreeMap<String, BTreeSet<Feature>>, Option<String>) {
    let mut features = BTreeMap::new();
    let mut trouble = None;
    let mut batches: Vec<&[String]> = base_names.chunks(BATCH).rev().collect();
    while let Some(batch) = batches.pop() {
        match show(nix_command, batch, limit) {
            Ok(shown) => features.extend(shown),
            // One path that is not in this store fails the whole call: narrow it down.
            Err(Refusal::ByNix(_)) if batch.len() > 1 => {
                let (left, right) = batch.split_at(batch.len() / 2);
                batches.extend([right, left]);
            }
            Err(Refusal::ByNix(message)) => trouble = Some(message),
            Err(Refusal::NotRun(message)) => return (features, Some(message)),
        }
    }
    (features, trouble)
}

enum Refusal {
    /// Nix ran and failed.
    ByNix(String),
    /// There is no such program, or it hangs: no use in trying again.
    NotRun(String),
}

/// `nix derivation show`, or `nix show-derivation` where that is not known yet (before Nix 2.14).
fn show(
    nix_command: &[String],
    base_names: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, BTreeSet<Feature>>, Refusal> {
    let mut message = String::new();
    for verb in [&["derivation", "show"][..], &["show-derivation"][..]] {
        let output = Invocation::new(nix_command, limit)
            .args(["--extra-experimental-features", "nix-command"])
            .args(verb.iter().copied())
            .args(base_names.iter().map(|name| format!("{STORE_DIR}/{name}")))
            .run()
            .map_err(|error| Refusal::NotRun(error.to_string()))?;
        if output.succeeded() {
            return parse(&output.stdout).map_err(Refusal::ByNix);
        }
        message = output.stderr_tail();
        if !message.contains("is not a recognised command") {
            break;
        }
    }
    Err(Refusal::ByNix(message))
}

/// Reads the JSON of any Nix: `{PATH: DRV}` up to 2.31, `{"derivations": {BASE: DRV}, "version": N}` after.
pub(super) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, BTreeSet<Feature>>, String> {
    let shown: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| format!("nix did not print a JSON object: {error}"))?;
    let derivations = match shown.get("derivations") {
        Some(Value::Object(derivations)) => derivations,
        _ => &shown,
    };
    Ok(derivations
        .iter()
        .filter_map(|(path, derivation)| {
            Some((checked_base_name(path).ok()?, features_of(derivation.as_object()?)))
        })
        .collect())
}

/// A list in `structuredAttrs` (newer Nix) or in `env.__json`, else blank-separated words in `env`.
fn features_of(derivation: &Map<String, Value>) -> BTreeSet<Feature> {
    const NAME: &str = "requiredSystemFeatures";
    let env = derivation.get("env").and_then(Value::as_object);
    let from_json = || {
        let json = env?.get("__json")?.as_str()?;
        serde_json::from_str::<Map<String, Value>>(json).ok()
    };
    let structured =
        derivation.get("structuredAttrs").and_then(Value::as_object).cloned().or_else(from_json);
    let value = match &structured {
        Some(attributes) => attributes.get(NAME),
        None => env.and_then(|env| env.get(NAME)),
    };
    match value {
        Some(Value::Array(features)) => {
            features.iter().filter_map(Value::as_str).map(Feature::new).collect()
        }
        Some(Value::String(features)) => features.split_whitespace().map(Feature::new).collect(),
        _ => BTreeSet::new(),
    }
}

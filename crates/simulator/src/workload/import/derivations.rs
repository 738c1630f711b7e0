//! Dependency graphs as `nix derivation show --recursive` prints them (`nix show-derivation` up to Nix 2.16).

use std::collections::{BTreeMap, BTreeSet};

use planner::{DemandKey, Feature, System};
use serde_json::{Map, Value};

use super::{ImportError, Imported, aterm, circle};
use crate::engine::{Distribution, Millis, Random};
use crate::workload::{LONGEST_STEP, NewStep, WorkloadBuilder, WorkloadError};

/// The relevant part of a derivation.
struct Derivation {
    kind: DemandKey,
    inputs: Vec<String>,
}

/// Makes a step of every derivation, all submitted at the start; Nix does not know their durations, so they are drawn
/// from `durations`. `jobset` is `project:jobset`. Every derivation that no other needs is a build, which contains all
/// its dependencies (a dependency of several belongs to the first by path).
///
/// Accepts both formats: an object by path, and (Nix 2.32 and newer) one with a version and the derivations under
/// `derivations`, with inputs under `inputs.drvs`. Inputs that are not in the file count as built and are left out.
///
/// # Errors
/// The place that is not in Nix's format.
pub fn derivations(
    text: &[u8],
    jobset: &str,
    durations: &Distribution,
    random: &mut Random,
) -> Result<Imported, ImportError> {
    steps_of(&parse(text)?, jobset, durations, random)
}

/// Like [`derivations`], for `.drv` files: names (without their folder) with contents.
///
/// # Errors
/// The file that is not a derivation.
pub fn derivation_files(
    files: impl IntoIterator<Item = (String, String)>,
    jobset: &str,
    durations: &Distribution,
    random: &mut Random,
) -> Result<Imported, ImportError> {
    let read = files.into_iter().map(|(name, text)| {
        let derivation = aterm::derivation(&text).and_then(|value| derivation(&value));
        match derivation {
            Ok(derivation) => Ok((name, derivation)),
            Err(message) => Err(ImportError::Derivation { path: name, message }),
        }
    });
    steps_of(&read.collect::<Result<_, ImportError>>()?, jobset, durations, random)
}

fn steps_of(
    derivations: &BTreeMap<String, Derivation>,
    jobset: &str,
    durations: &Distribution,
    random: &mut Random,
) -> Result<Imported, ImportError> {
    let ids: BTreeMap<&str, u64> = derivations.keys().map(String::as_str).zip(1..).collect();
    let builds = builds(derivations, &ids);
    let mut missing = BTreeSet::new();
    let mut builder = WorkloadBuilder::new();
    for (path, derivation) in derivations {
        let id = ids[path.as_str()];
        let mut dependencies = Vec::new();
        for input in &derivation.inputs {
            match ids.get(input.as_str()) {
                Some(id) => dependencies.push(*id),
                None => {
                    missing.insert(input);
                }
            }
        }
        builder.add(NewStep {
            id,
            submit: Millis::ZERO,
            duration: random.sample(durations).min(LONGEST_STEP),
            kind: derivation.kind.clone(),
            jobset: jobset.to_owned(),
            build: builds.get(&id).copied().unwrap_or(id),
            global_priority: 0,
            local_priority: 0,
            dependencies,
            cores: None,
            cancel: None,
        })?;
    }
    let left_out = match missing.len() {
        0 => Vec::new(),
        count => vec![format!("{count} inputs that are not in the file, taken for built")],
    };
    let workload = builder.finish().map_err(|error| match error {
        WorkloadError::Cycle { steps, .. } => of_circle(&steps, derivations),
        other => other.into(),
    })?;
    Ok(Imported { workload, left_out })
}

/// Steps have numbers that are not in the file.
fn of_circle(steps: &[u64], derivations: &BTreeMap<String, Derivation>) -> ImportError {
    let path_of = |id: &u64| derivations.keys().nth(usize::try_from(*id).ok()?.checked_sub(1)?);
    let paths: Vec<String> = steps.iter().filter_map(path_of).cloned().collect();
    let path = paths.first().cloned().unwrap_or_default();
    ImportError::Derivation { path, message: format!("needs itself: {}", circle(paths)) }
}

/// The build of each derivation: from every root down, the first root by path wins.
fn builds(
    derivations: &BTreeMap<String, Derivation>,
    ids: &BTreeMap<&str, u64>,
) -> BTreeMap<u64, u64> {
    let needed: BTreeSet<&str> =
        derivations.values().flat_map(|d| d.inputs.iter().map(String::as_str)).collect();
    let mut builds = BTreeMap::new();
    for root in derivations.keys().filter(|path| !needed.contains(path.as_str())) {
        let mut open = vec![root.as_str()];
        while let Some(path) = open.pop() {
            let (Some(derivation), Some(id)) = (derivations.get(path), ids.get(path)) else {
                continue;
            };
            if builds.contains_key(id) {
                continue;
            }
            builds.insert(*id, ids[root.as_str()]);
            open.extend(derivation.inputs.iter().map(String::as_str));
        }
    }
    builds
}

fn parse(text: &[u8]) -> Result<BTreeMap<String, Derivation>, ImportError> {
    let root: Map<String, Value> =
        serde_json::from_slice(text).map_err(|source| ImportError::Json { source })?;
    let by_path = match root.get("derivations") {
        Some(Value::Object(derivations)) => derivations,
        _ => &root,
    };
    by_path
        .iter()
        .map(|(path, value)| {
            let path = path.clone();
            match derivation(value) {
                Ok(derivation) => Ok((path, derivation)),
                Err(message) => Err(ImportError::Derivation { path, message }),
            }
        })
        .collect()
}

fn derivation(value: &Value) -> Result<Derivation, String> {
    let system = value.get("system").and_then(Value::as_str);
    let system = system.filter(|system| !system.is_empty()).ok_or("has no system")?;
    let inputs = value
        .get("inputDrvs")
        .or_else(|| value.get("inputs")?.get("drvs"))
        .and_then(Value::as_object)
        .ok_or("has neither inputDrvs nor inputs.drvs")?;
    let kind = DemandKey { system: System::new(system), features: features(value)? };
    Ok(Derivation { kind, inputs: inputs.keys().cloned().collect() })
}

/// Its required features, and `local` if it prefers to be built locally (`preferLocalBuild`), as the classic queue
/// runner shows it.
fn features(value: &Value) -> Result<BTreeSet<Feature>, String> {
    let structured = structured_attributes(value)?;
    let mut features = required_features(value, structured.as_ref());
    let attributes = [value.get("env"), structured.as_ref()];
    let is_true = |attribute: &Value| *attribute == Value::Bool(true) || *attribute == "1";
    let prefers_local = |of: &Value| of.get("preferLocalBuild").is_some_and(is_true);
    if attributes.into_iter().flatten().any(prefers_local) {
        features.insert(Feature::new("local"));
    }
    Ok(features)
}

/// Structured attributes: inside the JSON text `__json`, or under `structuredAttrs` since Nix 2.29.
fn structured_attributes(value: &Value) -> Result<Option<Value>, String> {
    match value.get("env").and_then(|env| env.get("__json")).and_then(Value::as_str) {
        Some(json) => serde_json::from_str(json)
            .map(Some)
            .map_err(|error| format!("its env.__json is no JSON: {error}")),
        None => Ok(value.get("structuredAttrs").cloned()),
    }
}

/// `requiredSystemFeatures`: words in the environment, or a list with structured attributes.
fn required_features(value: &Value, structured: Option<&Value>) -> BTreeSet<Feature> {
    const NAME: &str = "requiredSystemFeatures";
    if let Some(list) = structured.and_then(|attrs| attrs.get(NAME)?.as_array()) {
        return list.iter().filter_map(Value::as_str).map(Feature::new).collect();
    }
    let env = value.get("env");
    let words = env.and_then(|env| env.get(NAME)).and_then(Value::as_str).unwrap_or("");
    words.split_ascii_whitespace().map(Feature::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Purpose, Seed};

    fn import(text: &str) -> Result<Imported, String> {
        let mut random = Seed(1).stream(Purpose::Test, 0);
        let durations = Distribution::fixed_seconds(60);
        derivations(text.as_bytes(), "p:j", &durations, &mut random).map_err(|e| e.to_string())
    }

    /// `id kind build -> dependents`, one step per line.
    fn summary(imported: &Imported) -> Vec<String> {
        let workload = &imported.workload;
        let steps = workload.steps().iter().enumerate();
        steps
            .map(|(at, step)| {
                let dependents: Vec<_> = workload.dependents_of(at).collect();
                format!(
                    "{} {} {} -> {dependents:?}",
                    step.id(),
                    workload.kind_of(step),
                    step.build()
                )
            })
            .collect()
    }

    /// What Nix 2.8 prints (`nix show-derivation --recursive`), shortened.
    const OLD: &str = r#"{
      "/nix/store/a-lib.drv": { "system": "x86_64-linux", "inputDrvs": { "/nix/store/z-boot.drv": ["out"] },
        "env": { "requiredSystemFeatures": "big-parallel kvm", "name": "lib" } },
      "/nix/store/e-text.drv": { "system": "x86_64-linux", "inputDrvs": {}, "env": { "preferLocalBuild": "1" } },
      "/nix/store/b-app.drv": { "system": "x86_64-linux", "inputDrvs": { "/nix/store/a-lib.drv": ["out"], "/nix/store/c-src.drv": ["out"] }, "env": {} },
      "/nix/store/c-src.drv": { "system": "builtin", "inputDrvs": {}, "env": {} },
      "/nix/store/d-other.drv": { "system": "aarch64-linux", "inputDrvs": { "/nix/store/c-src.drv": ["out"] },
        "env": { "__json": "{\"requiredSystemFeatures\":[\"kvm\"],\"preferLocalBuild\":true}" } }
    }"#;

    #[test]
    fn a_graph_becomes_steps() {
        let imported = import(OLD).unwrap();
        assert_eq!(
            summary(&imported),
            [
                "1 x86_64-linux:big-parallel,kvm 2 -> [2]",
                "2 x86_64-linux 2 -> []",
                "3 x86_64-linux 2 -> [2, 4]",
                "4 aarch64-linux:kvm,local 4 -> []",
                "5 x86_64-linux:local 5 -> []",
            ]
        );
        assert_eq!(imported.left_out, ["1 inputs that are not in the file, taken for built"]);
    }

    #[test]
    fn the_newer_shape_is_read_too() {
        let text = r#"{ "version": 4, "derivations": {
          "a.drv": { "system": "s", "inputs": { "srcs": [], "drvs": { "b.drv": { "outputs": ["out"], "dynamicOutputs": {} } } },
                     "structuredAttrs": { "requiredSystemFeatures": ["kvm"] }, "env": {} },
          "b.drv": { "system": "s", "inputs": { "srcs": [], "drvs": {} }, "env": {} }
        } }"#;
        assert_eq!(summary(&import(text).unwrap()), ["1 s:kvm 1 -> []", "2 s 1 -> [1]"]);
    }

    /// What Nix 2.26 prints, shortened: like Nix 2.8, but inputs are objects.
    #[test]
    fn inputs_of_nix_2_26_are_read() {
        let text = r#"{
          "/nix/store/a.drv": { "name": "a", "system": "s", "builder": "/bin/sh", "args": [], "inputSrcs": [],
            "inputDrvs": { "/nix/store/b.drv": { "dynamicOutputs": {}, "outputs": ["out"] } },
            "outputs": { "out": { "path": "/nix/store/a" } }, "env": { "requiredSystemFeatures": "kvm" } },
          "/nix/store/b.drv": { "name": "b", "system": "s", "inputSrcs": [], "inputDrvs": {}, "env": {} }
        }"#;
        assert_eq!(summary(&import(text).unwrap()), ["1 s:kvm 1 -> []", "2 s 1 -> [1]"]);
    }

    #[test]
    fn what_nix_does_not_print_is_refused_with_its_place() {
        for (text, message) in [
            ("[]", "no JSON object: invalid type: sequence, expected a map at line 1 column 0"),
            (r#"{ "a.drv": {} }"#, "a.drv: has no system"),
            (r#"{ "a.drv": { "system": "", "inputDrvs": {} } }"#, "a.drv: has no system"),
            (r#"{ "a.drv": { "system": "s" } }"#, "a.drv: has neither inputDrvs nor inputs.drvs"),
            (
                r#"{ "a.drv": { "system": "s", "inputDrvs": { "a.drv": [] } } }"#,
                "a.drv: needs itself: a.drv -> a.drv",
            ),
            (
                r#"{ "a.drv": { "system": "s", "inputDrvs": { "c.drv": [] } }, "b.drv": { "system": "s", "inputDrvs": {} },
                     "c.drv": { "system": "s", "inputDrvs": { "a.drv": [], "b.drv": [] } } }"#,
                "c.drv: needs itself: c.drv -> a.drv -> c.drv",
            ),
        ] {
            assert_eq!(import(text).unwrap_err(), message);
        }
    }
}

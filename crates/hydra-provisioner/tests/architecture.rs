//! The allowed dependencies between crates (ARCHITECTURE.md), checked with `cargo metadata`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The crates of ours that each crate may use. A new crate needs a line here.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("planner", &[]),
    ("reconciler", &["planner"]),
    ("adapters", &["planner", "reconciler"]),
    ("simulator", &["planner", "reconciler"]),
    ("hydra-provisioner", &["planner", "reconciler", "adapters", "simulator"]),
];
/// The external crates that the planner may use: it decides and does nothing else.
const PLANNER_MAY_USE: [&str; 1] = ["serde"];

#[test]
fn crates_depend_only_on_what_they_may() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), allowed.len(), "every crate has its line, and every line its crate");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let may_use = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in ALLOWED"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let uses = dependency["name"].as_str().unwrap();
            let is_ours = allowed.contains_key(uses);
            assert!(!is_ours || may_use.contains(uses), "{name} must not depend on {uses}");
            let is_for_tests = dependency["kind"] == "dev";
            if name == "planner" && !is_for_tests {
                assert!(PLANNER_MAY_USE.contains(&uses), "the planner must not depend on {uses}");
            }
        }
    }
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

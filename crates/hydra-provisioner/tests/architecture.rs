//! The allowed dependencies between crates (ARCHITECTURE.md), checked with `cargo metadata`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
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
/// The external crates that planner and reconciler may use: nothing that reads, writes, logs or draws random numbers.
const CORE_MAY_USE: [(&str, &[&str]); 2] =
    [("planner", &["serde"]), ("reconciler", &["serde", "thiserror"])];
/// What their `clippy.toml` forbids.
const CORE_MUST_NOT: [&str; 12] = [
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::process::Command",
    "std::fs::File",
    "std::fs::read_to_string",
    "std::fs::write",
    "std::env::var",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::println",
];

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
            let core = CORE_MAY_USE.iter().find(|(core, _)| *core == name && !is_for_tests);
            if let Some((_, may_use)) = core {
                assert!(is_ours || may_use.contains(&uses), "{name} must not depend on {uses}");
            }
        }
    }
}

/// "No I/O, clock, randomness, logging, floats or hash order": clippy keeps what the dependencies do not.
#[test]
fn planner_and_reconciler_are_kept_pure() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, _) in CORE_MAY_USE {
        let lints = fs::read_to_string(crates.join(name).join("clippy.toml")).unwrap_or_default();
        for path in CORE_MUST_NOT {
            assert!(lints.contains(&format!("path = \"{path}\"")), "{name} may use {path}");
        }
        let root = fs::read_to_string(crates.join(name).join("src/lib.rs")).unwrap();
        assert!(root.contains("#![warn(clippy::float_arithmetic)]"), "{name} may use floats");
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

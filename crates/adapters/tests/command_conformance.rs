//! The documented example of a machine provider passes the conformance suite.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;

mod direct;

use direct::Direct;
use planner::MachineType;
use reconciler::conformance;
use serde_json::json;

#[test]
fn the_example_program_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/command-provider/directory-provider");
    let config = json!({
        "tag": "farm",
        "stateDir": folder.path().join("state"),
        "touchKeepAlive": false,
        "checkSsh": false,
        "systemTypes": { "x86_64-linux": {
            "provider": { "command": { "program": [program, folder.path().join("machines")] } },
        } },
    });
    fs::create_dir_all(folder.path().join("state")).unwrap();
    conformance::check(&mut Direct::of(&config), "farm", &MachineType::new("x86_64-linux"))
        .unwrap();
}

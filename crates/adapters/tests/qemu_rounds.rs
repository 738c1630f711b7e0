//! Fifty machines, created and destroyed, leave nothing behind: no process, file, socket or port. Real QEMU,
//! with an empty disk.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

mod direct;

use direct::Direct;
use planner::{Machine, MachineName, MachineState, MachineType, Operation};
use serde_json::json;

const ROUNDS: usize = 50;
const TYPE: &str = "x86_64-linux";

fn qemus(folder: &Path) -> String {
    let pattern = format!("qemu-system.*{}", folder.display());
    let output = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.display().to_string());
        if path.is_dir() {
            names.extend(files(&path));
        }
    }
    names.sort();
    names
}

#[test]
fn fifty_rounds_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("qemu");
    fs::create_dir_all(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("empty.raw"), vec![0; 1 << 20]).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = json!({
        "tag": "t",
        "stateDir": folder.path().join("state"),
        "touchKeepAlive": false,
        "checkSsh": false,
        "systemTypes": { TYPE: { "provider": { "qemu": {
            "image": folder.path().join("empty.raw"),
            "stateDir": state,
            "accelerator": "tcg",
            "memory": 16,
            "sshPort": port,
            "authorizedKeys": ["ssh-ed25519 AAAA"],
        } } } },
    });
    let provider = Direct::of(&config);
    let machine = Machine::requested(MachineName::new("t-0"), MachineType::new(TYPE));
    let mut before = None;
    for round in 0..ROUNDS {
        let created = provider.run(&machine, &[Operation::Create]).unwrap();
        let listed = provider.machines();
        assert_eq!(listed.len(), 1, "round {round}");
        assert_eq!(listed[0].state, MachineState::Up);
        assert_eq!(qemus(&state).lines().count(), 1, "round {round}");
        provider.run(&machine, &[Operation::Destroy]).unwrap();
        assert_eq!(provider.machines(), [], "round {round}");
        assert_eq!(qemus(&state), "", "round {round}");
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        assert!(
            !sockets.contains(&folder.path().display().to_string()),
            "round {round}: {sockets}"
        );
        TcpListener::bind((created.address.as_ref().unwrap().ip().unwrap(), port)).unwrap();
        let left = files(folder.path());
        // The first round may create folders that stay.
        assert_eq!(before.get_or_insert_with(|| left.clone()), &left, "round {round}");
    }
    assert_eq!(files(&state.join("machines")), [""; 0]);
}

//! After a kill -9 at any moment, the next run leaves no machine created twice, none forgotten, a complete machines
//! file, and a consistent history.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::process::ExitStatus;

use farm::Farm;
use farm::kills::{can_trace, command_killed_at, survive_every_kill};
use serde_json::{Value, json};

/// One after the other, so that "the third call" is well defined.
fn options() -> Value {
    json!({ "parallelism": 1 })
}

#[test]
fn killed_before_any_call_of_the_provider() {
    let kill = |farm: &Farm, call, _| kill_at_call(farm, "KILL_BEFORE", call);
    assert!(survive_every_kill(&options(), kill) >= 8);
}

#[test]
fn killed_after_any_call_of_the_provider() {
    let kill = |farm: &Farm, call, _| kill_at_call(farm, "KILL_AFTER", call);
    assert!(survive_every_kill(&options(), kill) >= 8);
}

fn kill_at_call(farm: &Farm, variable: &str, call: u32) -> ExitStatus {
    farm.command(&["run"]).env(variable, call.to_string()).output().unwrap().status
}

/// Kills runs at their system calls `call` on `paths`, with growing steps.
fn survive_kills_at(call: &str, paths: &[&str]) {
    if !can_trace() {
        return;
    }
    let killed = survive_every_kill(&options(), |farm, moment, _| {
        command_killed_at(farm, &["run"], call, paths, moment).output().unwrap().status
    });
    assert!(killed >= 2, "no run was killed at {call}");
}

/// Only the recorder thread writes the state.
const STATE: [&str; 3] = ["state/state.sqlite", "state/state.sqlite-wal", "state/lock"];

#[test]
fn killed_while_the_state_is_made_durable() {
    survive_kills_at("fsync,fdatasync", &STATE);
}

#[test]
fn killed_while_the_state_is_written() {
    survive_kills_at("pwrite64,write,ftruncate", &STATE);
}

#[test]
fn killed_while_a_file_of_the_state_is_opened() {
    survive_kills_at("openat,unlink", &STATE);
}

#[test]
fn killed_while_the_machines_file_is_replaced() {
    let files = ["machines-file", ".machines-file.hydra-provisioner.tmp"];
    survive_kills_at("openat,write,fsync,rename", &files);
}

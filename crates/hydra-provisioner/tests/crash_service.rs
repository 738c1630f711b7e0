//! The service killed with kill -9 at any moment while operations run: like `crash.rs`, for `run --watch`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use farm::Farm;
use farm::kills::{can_trace, command_killed_at, serve, survive_every_kill};
use serde_json::json;

const WATCH: [&str; 4] = ["run", "--watch", "--interval", "1"];

/// Three machines at the same time, so that others are in progress at the kill.
fn survive_kills_at_calls(variable: &str) {
    let killed = survive_every_kill(&json!({}), |farm: &Farm, call, machines| {
        let mut command = farm.command(&WATCH);
        command.env(variable, call.to_string()).env("SLOW_SECONDS", "0.3");
        serve(farm, command, machines)
    });
    // Simultaneous calls may count as one, and the last calls come during shutdown.
    assert!(killed >= 4, "{killed}");
}

#[test]
fn killed_before_any_call_of_the_provider() {
    survive_kills_at_calls("KILL_BEFORE");
}

#[test]
fn killed_after_any_call_of_the_provider() {
    survive_kills_at_calls("KILL_AFTER");
}

/// Kills it at its system calls `call` on `paths`, with growing steps.
fn survive_kills_at(call: &str, paths: &[&str]) {
    if !can_trace() {
        return;
    }
    let killed = survive_every_kill(&json!({}), |farm, moment, machines| {
        let mut command = command_killed_at(farm, &WATCH, call, paths, moment);
        command.env("SLOW_SECONDS", "0.3");
        serve(farm, command, machines)
    });
    assert!(killed >= 2, "it was not killed at {call}");
}

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

//! A small farm in a temporary directory: a classic status file, machines that are files (the example provider of
//! `examples/`), and a provisioner that runs as a user runs it.
#![allow(
    dead_code,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may, and uses another part of the farm"
)]

pub mod database;
pub mod kills;
pub mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

pub struct Farm {
    directory: tempfile::TempDir,
}

/// Counts its calls, may be slow, and may kill the provisioner before or after the effect of a call.
const PROVIDER: &str = r#"#!/bin/sh
set -eu
directory=$1 verb=$2
if [ -n "${KILL_BEFORE:-}${KILL_AFTER:-}" ]; then
    call=1
    while ! mkdir "$directory/call-$call" 2>/dev/null; do call=$(( call + 1 )); done
    [ "${KILL_BEFORE:-}" != "$call" ] || { kill -9 $PPID; exit 1; }
fi
request=$(cat)
case "$verb,$request" in *"${HANG_AT:-nothing}"*) : >"$directory/hangs"; exec sleep 600 ;; esac
if [ -n "${SLOW_SECONDS:-}" ] && [ "$verb" != list ]; then
    : >"$directory/at-work-$$"
    ls "$directory" | grep -c at-work >>"$directory/concurrency"
    sleep "$SLOW_SECONDS"
    rm "$directory/at-work-$$"
fi
[ "$verb" != create ] || echo "$request" >>"$directory/create-requests"
answer=$(printf %s "$request" | "$EXAMPLE_PROVIDER" "$directory/machines" "$verb")
if [ -n "${KILL_AFTER:-}" ] && [ "$KILL_AFTER" = "$call" ]; then kill -9 $PPID; fi
printf %s "$answer"
"#;

impl Farm {
    /// One type of x86_64-linux machines, one machine per runnable step, with `options` added to the configuration.
    pub fn new(options: &Value) -> Self {
        let farm = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(farm.path("provider"), PROVIDER).unwrap();
        farm.set_queue(&json!({}), &json!({}));
        let mut conf = json!({
            "statusCommand": ["cat", farm.path("status.json")],
            "machinesFile": farm.path("machines-file"),
            "stateDir": farm.path("state"),
            "touchKeepAlive": false,
            "checkSsh": false,
            "systemTypes": { "x86_64-linux": {
                "provider": { "command": { "program": ["sh", farm.path("provider"), farm.path("")] } },
                "runnablesPerMachine": 1, "maxMachines": 30, "maxCreatesPerCycle": 30, "maxCreating": 30,
            } },
        });
        for (name, value) in options.as_object().unwrap() {
            conf[name] = value.clone();
        }
        fs::write(farm.conf(), conf.to_string()).unwrap();
        farm
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn conf(&self) -> PathBuf {
        self.path("conf.json")
    }

    /// The queue status; the queue runner was started long ago.
    pub fn set_queue(&self, machine_types: &Value, machines: &Value) {
        let status = json!({
            "status": "up", "uptime": 1_000_000, "machineTypes": machine_types, "machines": machines,
        });
        fs::write(self.path("status.json"), status.to_string()).unwrap();
    }

    /// `runnable` steps wait, and the queue runner knows no machine.
    pub fn set_runnable(&self, runnable: u64) {
        let machine_types = json!({ "x86_64-linux": { "runnable": runnable, "running": 0 } });
        self.set_queue(&machine_types, &json!({}));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.args(args).arg(self.conf());
        Self::with_environment(command)
    }

    /// A command with the example's provider.
    pub fn with_environment(mut command: Command) -> Command {
        let example = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/command-provider/directory-provider");
        command.env("EXAMPLE_PROVIDER", example);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Names of the machines that exist.
    pub fn machines(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("machines")) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// All requests to create a machine, repeated ones too.
    pub fn create_requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("create-requests")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The process that holds the lock, or held it last.
    pub fn lock_holder(&self) -> Option<String> {
        let text = fs::read_to_string(self.path("state/lock")).ok()?;
        Some(text.strip_prefix("pid ")?.split_once(',')?.0.to_owned())
    }

    /// Lines of the machines file, without comments.
    pub fn machines_file(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("machines-file")).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "the machines file is cut off: {text:?}");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

//! Killed with kill -9 at any moment, the next run leaves no machine twice created, none forgotten, and a
//! whole machines file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use farm::Farm;
use serde_json::json;

/// One after the other, so that "the third call" means one thing.
fn farm() -> Farm {
    Farm::new(&json!({ "parallelism": 1 }))
}

/// Runs `killed_run` with 1, 2, 3, ... until a run is not killed; after each, the next runs must bring the
/// farm from no machines to three, and then to none, whatever phase the kill hit. Returns how many were killed.
fn survive_every_kill(killed_run: impl Fn(&Farm, u32) -> ExitStatus) -> u32 {
    for (phase, before, after) in [("create", 0, 3), ("release", 3, 0)] {
        for moment in 1.. {
            let farm = farm();
            farm.set_runnable(before);
            assert!(farm.run(&["run"]).status.success());
            farm.set_runnable(after);
            let status = killed_run(&farm, moment);
            farm.machines_file();

            let recovery = farm.run(&["run"]);
            let place = format!("killed at moment {moment} of {phase}");
            assert!(recovery.status.success(), "{place}: {}", farm::stderr(&recovery));
            assert_eq!(farm.machines().len() as u64, after, "{place}: machines");
            assert_eq!(farm.machines_file().len() as u64, after, "{place}: machines file");
            let requests = fs::read_to_string(farm.path("create-requests")).unwrap_or_default();
            let mut names: Vec<_> = requests.lines().collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len() as u64, before.max(after), "{place}: names ever asked for");

            farm.set_runnable(0);
            assert!(farm.run(&["run"]).status.success());
            assert_eq!(farm.machines(), [""; 0], "{place}: forgotten machines");
            if status.signal() != Some(9) {
                assert!(status.success() && moment > 1, "{place}: {status}");
                if phase == "release" {
                    return moment - 1;
                }
                break;
            }
        }
    }
    unreachable!("the release phase returns")
}

#[test]
fn killed_before_any_call_of_the_provider() {
    assert!(survive_every_kill(|farm, call| kill_at_call(farm, "KILL_BEFORE", call)) >= 4);
}

#[test]
fn killed_after_any_call_of_the_provider() {
    assert!(survive_every_kill(|farm, call| kill_at_call(farm, "KILL_AFTER", call)) >= 4);
}

fn kill_at_call(farm: &Farm, variable: &str, call: u32) -> ExitStatus {
    farm.command(&["run"]).env(variable, call.to_string()).output().unwrap().status
}

/// Kills a run at its system calls of one kind. On the main thread, which is all that strace follows else: what it
/// kills is the provisioner, never a provider. With `path` on all threads, where the call is about that file.
fn survive_kills_at(call: &str, path: Option<&str>) {
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !probe.expect("strace is installed (scripts/ci/setup)").status.success() {
        #[allow(clippy::print_stderr, reason = "says why nothing was tested")]
        {
            eprintln!("not tested: strace may not trace here");
        }
        return;
    }
    let killed = survive_every_kill(|farm, moment| {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null"]);
        if let Some(path) = path {
            strace.arg("-f").arg("-P").arg(farm.path(path));
        }
        // The first calls, then in ever larger steps.
        let when = moment * moment;
        strace
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:signal=SIGKILL:when={when}")])
            .arg(env!("CARGO_BIN_EXE_hydra-provisioner"))
            .arg("run")
            .arg(farm.conf());
        let output = Farm::with_environment(strace).output();
        output.expect("strace is installed (scripts/ci/setup)").status
    });
    assert!(killed >= 1, "no run was killed at {call}");
}

#[test]
fn killed_while_the_state_is_made_durable() {
    survive_kills_at("fsync", None);
}

#[test]
fn killed_while_the_state_is_written() {
    survive_kills_at("pwrite64", None);
}

#[test]
fn killed_while_a_file_is_opened() {
    survive_kills_at("openat", None);
}

/// It has a thread of its own, and nobody else touches it. strace goes by the path that is renamed.
#[test]
fn killed_while_the_machines_file_is_replaced() {
    survive_kills_at("rename", Some(".machines-file.hydra-provisioner.tmp"));
}

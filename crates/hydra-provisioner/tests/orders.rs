//! Operator commands, with and without a running service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::thread;
use std::time::Duration;

use farm::service::{Service, until};
use farm::{Farm, stderr, stdout};
use serde_json::json;

/// The output of a command that must succeed.
fn said(farm: &Farm, args: &[&str]) -> String {
    let output = farm.command(args).env("SUDO_USER", "ann").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn refused(farm: &Farm, args: &[&str]) -> String {
    let output = farm.run(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stdout(&output));
    stderr(&output)
}

#[test]
fn a_service_heeds_what_is_said_and_so_does_the_next_one() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(2);
    let service = Service::start(&farm, &[]);
    until("two published", || farm.machines_file().len() == 2);

    // First, so that the drained machine is not replaced.
    said(&farm, &["pause", "all", "--for", "2h"]);
    let drained = said(&farm, &["drain", "hydra-provisioned-0", "--why", "disk errors"]);
    assert_eq!(drained, "drain hydra-provisioned-0, ordered by ann: disk errors\n");
    until("one unpublished", || farm.machines_file().len() == 1);
    assert_eq!(farm.machines().len(), 2, "it stays, and there is no other");
    let plan = stdout(&farm.run(&["plan"]));
    assert!(plan.contains("orders\n  pause all, ordered by ann until "), "{plan}");
    assert!(plan.contains("  drain hydra-provisioned-0, ordered by ann: disk errors\n"), "{plan}");
    drop(service);

    let service = Service::start(&farm, &["--metrics", "127.0.0.1:0"]);
    farm.set_runnable(5);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(farm.machines().len(), 2, "still paused");
    assert_eq!(farm.machines_file().len(), 1, "still drained");
    said(&farm, &["resume", "all"]);
    said(&farm, &["resume", "hydra-provisioned-0"]);
    until("five published", || farm.machines_file().len() == 5);

    said(&farm, &["keep", "hydra-provisioned-4", "--for", "1h"]);
    // Later it would be kept too, but already drained.
    until("the service knows", || {
        service.get("/status.json").1.contains("\"keep\": \"hydra-provisioned-4\"")
    });
    farm.set_runnable(0);
    until("all but the kept one gone", || farm.machines() == ["hydra-provisioned-4"]);
    said(&farm, &["release", "hydra-provisioned-4"]);
    until("it is gone too", || farm.machines().is_empty());
    drop(service);

    let history = said(&farm, &["history"]);
    for line in [
        "hydra-provisioned-0  order: drain hydra-provisioned-0, ordered by ann: disk errors",
        "hydra-provisioned-0  order revoked by ann: drain hydra-provisioned-0",
        "hydra-provisioned-0  back in use",
        "hydra-provisioned-4  to destroy: ordered by ann",
    ] {
        assert!(history.contains(line), "{line} is not in {history}");
    }
}

#[test]
fn what_is_not_there_is_named_beside_what_is() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    said(&farm, &["run"]);
    assert!(refused(&farm, &["drain", "other-1"]).contains("machines: hydra-provisioned-0"));
    assert!(refused(&farm, &["pause", "riscv64-linux"]).contains("types: x86_64-linux"));
    assert!(refused(&farm, &["resume", "all"]).contains("nothing is drained, kept or paused"));
    said(&farm, &["retry", "x86_64-linux"]);
    let forgotten = refused(&farm, &["forget", "hydra-provisioned-0"]);
    assert!(forgotten.contains("it continues to run and cost money"), "{forgotten}");
    assert!(farm.run(&["keep", "hydra-provisioned-0", "--for", "soon"]).status.code() == Some(2));
    said(&farm, &["forget", "hydra-provisioned-0", "--force"]);
    said(&farm, &["run"]);
    assert!(said(&farm, &["history"]).contains("not forgotten: its provider lists it"));
}

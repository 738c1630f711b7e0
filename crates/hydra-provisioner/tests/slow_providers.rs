//! Operations on machines run concurrently; one that hangs does not delay the others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use farm::{Farm, stderr, stdout};
use serde_json::json;

#[test]
fn twenty_slow_machines_are_made_at_the_same_time() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(20);
    let output = farm.command(&["run"]).env("SLOW_SECONDS", "2").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((farm.machines().len(), farm.machines_file().len()), (20, 20));
    let most: u32 = fs::read_to_string(farm.path("concurrency"))
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .max()
        .unwrap();
    assert_eq!(most, 20, "machines at work at the same time");
}

#[test]
fn a_hanging_machine_is_named_and_the_others_are_ready() {
    let farm = Farm::new(&json!({ "createTimeout": 2 }));
    farm.set_runnable(3);
    let output =
        farm.command(&["run"]).env("HANG_AT", "\"name\":\"hydra-provisioned-1\"").output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let report = stdout(&output);
    assert!(
        report.contains("hydra-provisioned-1: FAILED: cannot create it: ")
            && report.contains(" did not end within 2 s and was killed"),
        "{report}"
    );
    assert_eq!(farm.machines(), ["hydra-provisioned-0", "hydra-provisioned-2"]);
    assert_eq!(farm.machines_file().len(), 2);

    // Soon after its type waits; then the same name is requested again.
    let soon = stdout(&farm.run(&["plan"]));
    assert!(soon.contains("cannot create hydra-provisioned-1, next try at "), "{soon}");
    let began = Instant::now();
    while farm.machines().len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not tried again");
        assert_eq!(farm.run(&["run"]).status.code(), Some(0));
        thread::sleep(Duration::from_millis(500));
    }
}

//! Processes that a killed provisioner leaves running are ended before the next one begins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use farm::Farm;
use serde_json::json;

/// The process group of the running provider, once there is one.
fn provider_at_work(farm: &Farm) -> String {
    let began = Instant::now();
    loop {
        let entries = fs::read_dir(farm.path("")).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        if let Some(id) = names.find_map(|name| name.strip_prefix("at-work-").map(str::to_owned)) {
            return id;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no provider is at work");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process of the group remains that is not a zombie.
fn lives(group: &str) -> bool {
    let output = Command::new("ps").args(["-e", "-o", "pgid=,stat="]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some(group) && !fields.next().unwrap_or_default().starts_with('Z')
    })
}

#[test]
fn the_provider_of_a_run_that_was_killed_is_gone_before_the_next_run_creates() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    let mut first = farm.command(&["run"]);
    first.env("SLOW_SECONDS", "600").stdout(Stdio::null()).stderr(Stdio::null());
    let mut first = first.spawn().unwrap();
    let group = provider_at_work(&farm);
    assert!(lives(&group));
    first.kill().unwrap();
    first.wait().unwrap();
    let next = farm.run(&["run"]);
    assert_eq!(next.status.code(), Some(0), "{}", String::from_utf8_lossy(&next.stderr));
    assert!(!lives(&group), "the killed run's provider is still at work");
    assert_eq!(farm.machines().len(), 1);
}

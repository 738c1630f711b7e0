//! The whole product on real machines: real QEMU, a real Debian guest, real ssh, real Nix builds.
//!
//! Needs root, an image by `scripts/build-image` (its directory in `HYDRA_PROVISIONER_IMAGE`) and some minutes;
//! `scripts/ci/e2e-qemu` runs it. Without KVM a machine takes about 40 s from start to ssh.

#![cfg(feature = "qemu-tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;
mod troubles;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use self::farm::{Farm, Nix, both, image, wait_until};

#[test]
fn work_comes_is_built_on_a_new_machine_and_the_machine_goes() {
    let farm = Farm::real();
    farm.enqueue(&["one", "two"]);
    let began = Instant::now();
    let report = farm.cycle();
    assert!(report.contains("e2e-0: ready") && report.contains("published, 1 machine"), "{report}");
    println!("cold start to ready: {:.1} s", began.elapsed().as_secs_f32());

    let results = farm.build();
    println!("cold start to two builds done: {:.1} s", began.elapsed().as_secs_f32());
    let here = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result.contains("deb13-cloud") && result != here, "built on {result}");
    }
    each_nix_builds_and_checks_the_host_key(&farm);

    let report = farm.cycle();
    assert!(report.contains("e2e-0: destroyed"), "{report}");
    assert_eq!(farm.machines_file(), "");
    farm.expect_nothing_left();
}

/// Also with a wrong host key in the machines file, which prevents the login.
fn each_nix_builds_and_checks_the_host_key(farm: &Farm) {
    let published = fs::read_to_string(farm.path("machines")).unwrap();
    let machines = farm.machines_file();
    let host_key = machines.split_whitespace().nth(7).unwrap();
    // Another key of the same kind: its last characters differ.
    let (head, tail) = host_key.split_at(host_key.len() - 12);
    let mut letters: Vec<_> = tail.chars().collect();
    letters.swap(0, 4);
    letters.swap(1, 5);
    let wrong = format!("{head}{}", letters.into_iter().collect::<String>());
    assert_ne!(wrong, host_key);
    for (nix, name) in [(Nix::Ours, "ours"), (Nix::Newer, "newer")] {
        let output = farm.nix_build(nix, name, 0);
        assert!(both(&output).contains("deb13-cloud"), "{nix:?}: {}", both(&output));

        fs::write(farm.path("machines"), published.replace(host_key, &wrong)).unwrap();
        let output = farm.nix_build(nix, &format!("{name}-refused"), 0);
        assert!(!output.status.success(), "{nix:?}: {}", both(&output));
        assert!(both(&output).contains("Host key verification failed"), "{}", both(&output));
        fs::write(farm.path("machines"), &published).unwrap();
    }
}

#[test]
fn the_provisioner_and_a_machine_are_killed_and_all_comes_right() {
    let farm = Farm::real();
    farm.enqueue(&["one"]);
    let mut provisioner = farm.command().spawn().unwrap();
    wait_until("a QEMU", Duration::from_secs(120), || farm.stands_by_itself());
    let machine = farm.qemus();
    provisioner.kill().unwrap();
    provisioner.wait().unwrap();
    assert_eq!(farm.qemus(), machine, "it outlives the provisioner");

    let report = farm.cycle();
    assert!(report.contains("e2e-0: ready"), "{report}");
    assert_eq!(farm.qemus(), machine, "none was made twice");

    assert!(Command::new("kill").args(["-9", &machine[0]]).status().unwrap().success());
    wait_until("its end", Duration::from_secs(60), || farm.qemus().is_empty());
    let report = farm.cycle();
    assert!(report.contains("start e2e-0") && report.contains("e2e-0: ready"), "{report}");
    assert_eq!(farm.build().len(), 1);

    let report = farm.cycle();
    assert!(report.contains("e2e-0: destroyed"), "{report}");
    farm.expect_nothing_left();
}

/// As if the provisioner's host had crashed: no cycle runs. The running build finishes first.
#[test]
fn a_forgotten_machine_builds_to_the_end_and_powers_itself_off() {
    let farm = Farm::real();
    let qemu = json!({ "image": image(), "memory": 1024, "idleTimeout": 20 });
    farm.set_type(&json!({ "qemu": qemu }));
    farm.enqueue(&["one"]);
    assert!(farm.cycle().contains("e2e-0: ready"));
    let began = Instant::now();
    // Twice as long as the machine's idle timeout.
    assert_eq!(farm.build_for(40).len(), 1);
    assert!(began.elapsed() > Duration::from_secs(40));
    assert_eq!(farm.qemus().len(), 1, "a build keeps it on");

    wait_until("that it powers itself off", Duration::from_secs(180), || farm.qemus().is_empty());
    assert_eq!(farm.machine_folders(), ["e2e-0"], "its disk is still there");
    let report = farm.cycle();
    assert!(report.contains("e2e-0: destroyed"), "{report}");
    farm.expect_nothing_left();
}

/// Both come from one snapshot and share no identity.
#[test]
fn warm_machines_start_fast_and_differ() {
    let farm = Farm::real();
    farm.set_type(&json!({ "qemu": { "image": image(), "memory": 1024, "warmStart": true } }));
    farm.enqueue(&["one"]);
    let began = Instant::now();
    farm.cycle();
    println!("snapshot made and first machine ready: {:.1} s", began.elapsed().as_secs_f32());
    farm.enqueue(&["two", "three", "four"]);
    let began = Instant::now();
    let report = farm.cycle();
    assert!(report.contains("e2e-1: ready") && report.contains("2 machines"), "{report}");
    println!("warm start to ready: {:.1} s", began.elapsed().as_secs_f32());

    let questions = [
        "cat /etc/machine-id",
        "head -c 16 /dev/urandom | base64",
        "cat /proc/sys/kernel/hostname",
        "cat /run/hydra-provisioner/host_key",
    ];
    for question in questions {
        let answers = farm.on_each(question);
        assert_ne!(answers[0], answers[1], "{question}");
        assert!(answers.iter().all(|answer| answer.trim().len() >= 4), "{question}: {answers:?}");
    }
    let host_keys = farm.machines_file();
    let host_keys: Vec<_> = host_keys.lines().map(|line| line.split(' ').nth(7).unwrap()).collect();
    assert_ne!(host_keys[0], host_keys[1]);
    let here =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for clock in farm.on_each("date +%s") {
        let clock: u64 = clock.trim().parse().unwrap();
        assert!(clock.abs_diff(here) < 60, "{clock} is not {here}");
    }
    let ids = farm.on_each("cat /etc/machine-id");
    // Unwritten data is lost, and it boots from its disk, which was the snapshot's.
    for pid in farm.qemus() {
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }
    wait_until("their end", Duration::from_secs(60), || farm.qemus().is_empty());
    let report = farm.cycle();
    assert!(report.contains("e2e-0: ready") && report.contains("e2e-1: ready"), "{report}");
    assert_eq!(farm.on_each("cat /etc/machine-id"), ids);

    let began = Instant::now();
    assert_eq!(farm.build().len(), 4);
    println!("four builds: {:.1} s", began.elapsed().as_secs_f32());
    farm.cycle();
    farm.expect_nothing_left();
}

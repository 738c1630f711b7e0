//! A type with a changed provider: machines that the old provider created are not forgotten.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::path::Path;

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// A farm with one machine.
fn farm() -> Farm {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    assert_eq!(farm.run(&[]).status.code(), Some(0));
    farm
}

/// Sets a word of the provider's `program`: `sh SCRIPT FOLDER`.
fn set_program_word(farm: &Farm, word: usize, value: &Path) {
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf["systemTypes"]["x86_64-linux"]["provider"]["command"]["program"][word] = json!(value);
    fs::write(farm.conf(), conf.to_string()).unwrap();
}

/// A farm with one machine; then its type gets a provider with separate machines.
fn farm_with_another_provider() -> Farm {
    let farm = farm();
    let others = farm.path("others");
    fs::create_dir(&others).unwrap();
    set_program_word(&farm, 2, &others);
    farm
}

/// As on NixOS, where every new version of a program has a new path.
#[test]
fn a_program_that_has_moved_has_the_same_machines() {
    for old_program in ["stays", "goes"] {
        let farm = farm();
        let moved = farm.path("a-new-provider");
        fs::copy(farm.path("provider"), &moved).unwrap();
        set_program_word(&farm, 1, &moved);
        if old_program == "goes" {
            fs::remove_file(farm.path("provider")).unwrap();
        }
        let output = farm.run(&[]);
        assert_eq!(output.status.code(), Some(0), "old program {old_program}: {}", stderr(&output));
        assert_eq!(farm.machines().len(), 1);

        farm.set_runnable(0);
        assert_eq!(farm.run(&[]).status.code(), Some(0));
        assert_eq!(farm.machines(), [""; 0], "old program {old_program}");
    }
}

/// The provisioner was killed before the old provider created the machine, and then got another provider.
#[test]
fn a_machine_that_was_never_seen_is_asked_of_the_new_provider() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    farm.command(&["run"]).env("KILL_BEFORE", "2").output().unwrap();
    let moved = farm.path("a-new-provider");
    fs::rename(farm.path("provider"), &moved).unwrap();
    set_program_word(&farm, 1, &moved);
    let output = farm.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(farm.machines(), ["hydra-provisioned-0"]);
}

#[test]
fn machines_of_the_old_provider_are_used_and_then_destroyed_by_it() {
    let farm = farm_with_another_provider();
    let output = farm.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("hydra-provisioned-0: in use"), "{}", stdout(&output));

    farm.set_runnable(0);
    assert_eq!(farm.run(&[]).status.code(), Some(0));
    assert_eq!(farm.machines(), [""; 0], "the old provider's machine runs for ever");
}

#[test]
fn an_old_provider_that_cannot_be_asked_is_told_with_the_way_out() {
    let farm = farm_with_another_provider();
    fs::remove_dir_all(farm.path("machines")).unwrap();
    fs::write(farm.path("machines"), "no folder").unwrap();
    let output = farm.run(&[]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stdout(&output).contains("hydra-provisioner forget NAME"), "{}", stdout(&output));

    fs::remove_file(farm.path("state/state.sqlite")).unwrap();
    assert_eq!(farm.run(&[]).status.code(), Some(0));
    assert!(farm.path("others/machines/hydra-provisioned-0.json").exists());
}

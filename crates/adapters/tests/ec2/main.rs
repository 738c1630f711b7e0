//! `provider.ec2` on an emulator of EC2's API that we did not write (`moto`), with faults injected by another program (`microburst`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod account;
#[path = "../direct/mod.rs"]
mod direct;
#[path = "../emulator/mod.rs"]
mod emulator;
mod faults;
mod images;
mod online;
mod prices;
mod purchase;

use std::collections::BTreeSet;

use planner::{Machine, MachineName, MachineState, Tag, is_ours};
use reconciler::conformance;
use serde_json::json;

use account::{Account, LIMIT, name, x86};
use direct::Direct;

#[test]
fn it_passes_the_conformance_suite() {
    let Some(account) = Account::new() else { return };
    for tokens in [true, false] {
        account.emulator_is(&json!({ "tokens": tokens }));
        let mut provider = Direct::of(&account.config(&json!({})));
        conformance::check(&mut provider, "farm", &x86()).unwrap();
        assert_eq!(account.instances(), [""; 0]);
    }
}

#[test]
fn an_instance_is_described_by_its_tags() {
    let Some(account) = Account::new() else { return };
    let settings = json!({
        "purchase": ["spot"],
        "rootVolume": { "size": 100 },
        "tags": { "team": "infra" },
        "address": "private",
    });
    let provider = account.provider_with("farm", &settings);
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let up = provider.deploy(&made, LIMIT).unwrap();
    assert_eq!((up.state, &up.host_key), (MachineState::Up, &made.host_key));
    assert!(up.host_key.unwrap().starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"));
    assert!(up.address.unwrap().to_string().starts_with("10."));
    let instances = account.instances();
    assert_eq!(instances.len(), 1);
    for part in [
        "<key>team</key><value>infra</value>",
        "<key>hydra-provisioner:type</key><value>x86_64-linux</value>",
        "<instanceLifecycle>spot</instanceLifecycle>",
        "<httpTokens>required</httpTokens>",
        "<instanceType>c7i.large</instanceType>",
        "<availabilityZone>eu-central-1a</availabilityZone>",
    ] {
        let text: String = instances[0].split('\n').map(str::trim).collect();
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // A spot instance cannot be stopped.
    provider.stop(&made, LIMIT).unwrap();
    assert_eq!(account.instances(), [""; 0]);
}

#[test]
fn a_machine_that_is_not_listed_yet_is_neither_forgotten_nor_leaked() {
    let Some(account) = Account::new() else { return };
    account.emulator_is(&json!({ "lagSeconds": 3 }));
    let provider = account.provider();
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let listed = provider.list(LIMIT).unwrap();
    assert_eq!(listed.iter().map(|machine| &machine.name).collect::<Vec<_>>(), [&made.name]);
    // The call waits until EC2 knows the instance.
    provider.destroy(&made, LIMIT).unwrap();
    account.emulator_is(&json!({ "lagSeconds": 0 }));
    assert_eq!(account.instances(), [""; 0]);
    assert_eq!(provider.list(LIMIT).unwrap(), []);
}

#[test]
fn instances_of_others_are_never_touched() {
    let Some(account) = Account::new() else { return };
    let other = account.provider_with("other", &json!({}));
    other.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let provider = account.provider();
    assert_eq!(provider.list(LIMIT).unwrap(), []);
    provider.destroy(&Machine::requested(name(0), x86()), LIMIT).unwrap();
    assert_eq!(account.instances().len(), 1);
    assert_eq!(account.calls("TerminateInstances"), 0);
    // The same name for both is no conflict: the tag is part of the token.
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(account.instances().len(), 2);
}

#[test]
fn a_machine_that_vanishes_is_gone_for_every_call() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider();
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(provider.list(LIMIT).unwrap().len(), 1);
    account.provider().destroy(&made, LIMIT).unwrap();
    let names: BTreeSet<_> = provider.list(LIMIT).unwrap().into_iter().map(|m| m.name).collect();
    assert_eq!(names, BTreeSet::new());
    assert_eq!(provider.start(&made, LIMIT).unwrap_err().message, "it is gone");
    provider.destroy(&made, LIMIT).unwrap();
}

#[test]
fn an_instance_that_ec2_finds_impaired_or_will_retire_is_not_used() {
    let Some(account) = Account::new() else { return };
    let made = account.provider().create(&name(0), &x86(), "t", LIMIT).unwrap();
    let id = account.instances()[0].split("<instanceId>").nth(1).unwrap()[..19].to_owned();
    account.emulator_is(&json!({ "impaired": [id] }));
    let listed = account.provider().list(LIMIT).unwrap();
    assert_eq!((listed[0].state, &listed[0].name), (MachineState::Unreachable, &made.name));
    // A retirement that is still to come ends its use.
    account.emulator_is(&json!({ "impaired": [], "ending": [id] }));
    let listed = account.provider().list(LIMIT).unwrap();
    assert_eq!((listed[0].state, listed[0].interrupted), (MachineState::Up, true));
}

/// Its tags were changed by hand: it is neither ours any more nor forgotten.
#[test]
fn an_instance_that_lost_its_name_is_reported_and_left_alone() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider();
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let id = account.instances()[0].split("<instanceId>").nth(1).unwrap()[..19].to_owned();
    account.call(&format!("Action=DeleteTags&ResourceId.1={id}&Tag.1.Key=hydra-provisioner:name"));
    for provider in [provider, account.provider()] {
        let listed = provider.list(LIMIT).unwrap();
        let listed: Vec<_> =
            listed.iter().map(|one| (one.name.as_str(), one.tag.as_ref())).collect();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].0, id);
        assert!(!is_ours(&Tag::new("farm"), &MachineName::new(&*id), listed[0].1));
    }
    account.provider().destroy(&made, LIMIT).unwrap();
    assert_eq!(account.instances().len(), 1);
}

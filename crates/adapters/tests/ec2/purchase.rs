//! Offers: which one is used, what sets one aside, and spot instances that are taken back.

use reconciler::OperationErrorKind;
use serde_json::{Value, json};

use crate::account::{Account, LIMIT, name, x86};

#[test]
fn an_offer_without_capacity_is_set_aside_and_the_next_one_used() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider_with("farm", &json!({ "purchase": ["spot", "on-demand"] }));
    // Status 500: other errors with this status are retried.
    let refuse = |code: &str, status: u32| {
        json!({
            "service": "ec2", "operation": "RunInstances", "times": 1,
            "error": { "code": code, "status": status, "message": "as the test wants it" },
        })
    };
    account.faults(&json!([
        refuse("InsufficientInstanceCapacity", 500),
        refuse("SpotMaxPriceTooLow", 400),
        refuse("MaxSpotInstanceCountExceeded", 400),
        refuse("UnfulfillableCapacity", 400),
    ]));
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(account.calls("RunInstances"), 1, "the faults were not repeated");
    let instance = &account.instances()[0];
    assert!(!instance.contains("<instanceLifecycle>spot"), "{instance}");
    assert!(instance.contains("eu-central-1a") && instance.contains("c7i.large"), "{instance}");

    account.faults(&json!([
        refuse("VcpuLimitExceeded", 400),
        refuse("InsufficientInstanceCapacity", 500),
        refuse("Unsupported", 400),
        refuse("InstanceLimitExceeded", 400),
    ]));
    let error = provider.create(&name(1), &x86(), "t", LIMIT).unwrap_err();
    assert_eq!(error.kind, OperationErrorKind::Capacity);
    for part in [
        "spot c7i.large in eu-central-1a: RunInstances: InsufficientInstanceCapacity: as the test wants it (not tried again for",
        "on-demand c7i.large in eu-central-1a: RunInstances: VcpuLimitExceeded: as the test wants it (raise the quota",
        "on-demand m7i.large in eu-central-1b: RunInstances: InstanceLimitExceeded",
    ] {
        assert!(error.message.contains(part), "{part:?} is not in: {}", error.message);
    }
}

#[test]
fn a_spot_instance_with_a_notice_is_announced_and_its_offer_set_aside() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider_with("farm", &json!({ "purchase": ["spot", "on-demand"] }));
    assert!(provider.announces_interruptions() && !account.provider().announces_interruptions());
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let is_interrupted = || provider.list(LIMIT).unwrap()[0].interrupted;
    assert!(!is_interrupted());
    assert_eq!(provider.wait_for_interruptions().unwrap(), []);
    account.emulator_is(&json!({ "takenBack": true }));
    assert_eq!(provider.wait_for_interruptions().unwrap(), [name(0)]);
    assert_eq!(provider.wait_for_interruptions().unwrap(), [], "once is enough");
    assert!(is_interrupted());
    account.emulator_is(&json!({ "takenBack": false }));
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    let second = account.instances().into_iter().find(|text| text.contains("farm-1")).unwrap();
    assert!(second.contains("eu-central-1b") && second.contains("c7i.large"), "{second}");
}

/// The queue has other messages, too, and one about an instance that is not ours.
#[test]
fn a_notice_in_the_queue_is_heard_at_once_and_taken_out() {
    let Some(account) = Account::new() else { return };
    let queue = account.queue("notices");
    let settings = json!({ "purchase": ["spot", "on-demand"], "spotQueue": queue });
    let provider = account.provider_with("farm", &settings);
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let id = account.instances()[0].split("<instanceId>").nth(1).unwrap()[..19].to_owned();
    let notice = |id: &str| {
        json!({
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "detail": { "instance-id": id, "instance-action": "terminate" },
        })
    };
    for body in [json!("no notice"), notice("i-11111111111111111"), notice(&id)] {
        Account::send(&queue, &body);
    }
    let mut received = Vec::new();
    while received.is_empty() {
        received = provider.wait_for_interruptions().unwrap();
    }
    assert_eq!(received, [name(0)]);
    assert!(provider.list(LIMIT).unwrap()[0].interrupted);
    assert_eq!(Account::messages(&queue), "0");
    // A failure to receive is reported in one clear line.
    let gone = json!({ "purchase": ["spot"], "spotQueue": format!("{queue}-gone") });
    let error = account.provider_with("farm", &gone).wait_for_interruptions().unwrap_err();
    assert!(error.message.starts_with("ReceiveMessage: "), "{error}");
}

fn refuse(code: &str, times: u32) -> Value {
    json!({
        "service": "ec2", "operation": "RunInstances", "times": times,
        "error": { "code": code, "status": 400, "message": "as the test wants it" },
    })
}

/// One answer concerns more offers than the requested one.
#[test]
fn a_full_subnet_and_a_missing_role_set_all_their_offers_aside() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider_with("farm", &json!({ "purchase": ["spot", "on-demand"] }));
    let role = "AuthFailure.ServiceLinkedRoleCreationNotPermitted";
    account.faults(&json!([refuse(role, 1)]));
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let instance = &account.instances()[0];
    assert!(!instance.contains("<instanceLifecycle>spot"), "{instance}");
    assert_eq!(account.calls("RunInstances"), 1, "no other spot offer was tried");

    let provider = account.provider_with("farm", &json!({}));
    account.faults(&json!([refuse("InsufficientFreeAddressesInSubnet", 1)]));
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    account.faults(&json!([refuse("Unsupported", 2)]));
    let error = provider.create(&name(2), &x86(), "t", LIMIT).unwrap_err();
    assert_eq!(error.kind, OperationErrorKind::Capacity);
    let full = "on-demand c7i.large in eu-central-1a, on-demand m7i.large in eu-central-1a: RunInstances: InsufficientFreeAddressesInSubnet";
    assert!(error.message.contains(full), "{error}");
}

fn spot_count(account: &Account) -> usize {
    account.instances().iter().filter(|text| text.contains("<instanceLifecycle>spot")).count()
}

#[test]
fn a_mix_has_its_base_its_share_and_its_fallback() {
    let Some(account) = Account::new() else { return };
    let mix = json!({ "purchaseMix": { "base": 1, "spotShare": 100, "fallbackAfter": 2 } });
    let provider = account.provider_with("farm", &mix);
    provider.list(LIMIT).unwrap();
    for number in 0..3 {
        provider.create(&name(number), &x86(), "t", LIMIT).unwrap();
    }
    assert_eq!((account.instances().len(), spot_count(&account)), (3, 2));
    // A provisioner that starts again counts what is there.
    let provider = account.provider_with("farm", &mix);
    provider.list(LIMIT).unwrap();
    provider.create(&name(3), &x86(), "t", LIMIT).unwrap();
    assert_eq!((account.instances().len(), spot_count(&account)), (4, 3));
    // Two creations fail for lack of spot capacity: no offer is left. The third one falls back.
    account.faults(&json!([refuse("UnfulfillableCapacity", 4)]));
    for _ in 0..2 {
        let error = provider.create(&name(4), &x86(), "t", LIMIT).unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::Capacity);
        assert!(!error.message.contains("on-demand"), "{error}");
    }
    provider.create(&name(4), &x86(), "t", LIMIT).unwrap();
    assert_eq!((account.instances().len(), spot_count(&account)), (5, 3));
}

#[test]
fn a_mix_counts_an_instance_that_is_not_listed_yet() {
    let Some(account) = Account::new() else { return };
    let mix = json!({ "purchaseMix": { "base": 1, "spotShare": 100, "fallbackAfter": 2 } });
    let provider = account.provider_with("farm", &mix);
    account.emulator_is(&json!({ "lagSeconds": 600 }));
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(provider.list(LIMIT).unwrap().len(), 1);
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    account.emulator_is(&json!({ "lagSeconds": 0 }));
    assert_eq!((account.instances().len(), spot_count(&account)), (2, 1));
}

/// A token that was used for another request, of which EC2 knows no instance any more.
#[test]
fn a_used_token_without_an_instance_is_given_up_for_the_next_one() {
    let Some(account) = Account::new() else { return };
    account.emulator_is(&json!({ "usedToken": "" }));
    account.provider().create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert!(account.calls("RunInstances") > 1);
    assert_eq!(account.instances().len(), 1);
}

#[test]
fn instance_types_are_chosen_by_requirements() {
    let Some(account) = Account::new() else { return };
    let wanted = json!({
        "instanceTypes": null,
        "instanceRequirements": { "cpus": 16, "memory": "60G", "architecture": "arm64" },
    });
    let provider = account.provider_with("farm", &wanted);
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    assert_eq!(account.calls("RunInstances"), 2);
    let instance = &account.instances()[0];
    let chosen = instance.split("<instanceType>").nth(1).unwrap().split('<').next().unwrap();
    // Of the emulator's list, which is some years old: the smallest of Graviton with that much memory.
    assert!(chosen.ends_with(".4xlarge") && chosen.contains('g'), "{chosen}");
    let impossible = json!({
        "instanceTypes": null,
        "instanceRequirements": { "cpus": 100_000, "architecture": "x86_64" },
    });
    let error = account.provider_with("farm", &impossible).create(&name(2), &x86(), "t", LIMIT);
    let error = error.unwrap_err();
    assert!(error.message.contains("instanceRequirements"), "{error}");
}

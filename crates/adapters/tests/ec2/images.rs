//! Instances with an old image, and instances that hibernate.

use planner::MachineState;
use serde_json::{Value, json};

use crate::account::{Account, LIMIT, name, x86};

/// Machines are replaced when settings or image change.
fn watching(account: &Account, changes: &Value) -> Value {
    let mut config = account.config(changes);
    config["systemTypes"]["x86_64-linux"]["replaceOnChange"] = json!(true);
    config
}

/// What the only machine reports to a provider that remembers nothing, as after a restart.
fn has_old_image(account: &Account, config: &Value) -> bool {
    let listed = account.provider_of(config).list(LIMIT).unwrap();
    assert_eq!(listed.len(), 1);
    listed[0].has_old_image
}

/// The id of a new image.
fn register(account: &Account, name: &str) -> String {
    let form = format!("Action=RegisterImage&Name={name}&RootDeviceName=/dev/xvda");
    let answer = account.call(&form);
    answer.split("<imageId>").nth(1).unwrap().split('<').next().unwrap().to_owned()
}

#[test]
fn a_machine_with_another_image_than_the_newest_is_noticed_where_that_matters() {
    let Some(account) = Account::new() else { return };
    let settings =
        json!({ "image": null, "imageFilter": { "owner": "self", "name": "builder-*" } });
    let config = watching(&account, &settings);
    let old = register(&account, "builder-1");
    account.provider_of(&config).create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert!(!has_old_image(&account, &config));
    // The old one is withdrawn: the emulator's dates have only whole seconds.
    account.call(&format!("Action=DeregisterImage&ImageId={old}"));
    register(&account, "builder-2");
    assert!(has_old_image(&account, &config));
    // A refusal is not worse than not knowing, and is not repeated by each listing.
    let denied = json!({ "error": { "code": "UnauthorizedOperation", "status": 403, "message": "refused" } });
    account.fault("DescribeImages", 1000, &denied);
    let provider = account.provider_of(&config);
    assert!(!provider.list(LIMIT).unwrap()[0].has_old_image);
    account.faults(&json!([]));
    assert!(!provider.list(LIMIT).unwrap()[0].has_old_image);
    assert_eq!(account.calls("DescribeImages"), 0);
    // Without `replaceOnChange` nothing is asked.
    assert!(!has_old_image(&account, &account.config(&settings)));
    assert_eq!(account.calls("DescribeImages"), 0);
}

/// What was found is used for ten minutes, but not after the image is gone.
#[test]
fn an_image_that_was_withdrawn_is_not_used_again() {
    let Some(account) = Account::new() else { return };
    let changes = json!({ "image": null, "imageFilter": { "owner": "self", "name": "builder-*" } });
    let provider = account.provider_of(&account.config(&changes));
    let old = register(&account, "builder-1");
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    account.call(&format!("Action=DeregisterImage&ImageId={old}"));
    let new = register(&account, "builder-2");
    // The emulator itself accepts images that do not exist.
    let gone = json!({ "error": { "code": "InvalidAMIID.NotFound", "status": 400 } });
    account.fault("RunInstances", 1, &gone);
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap_err();
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    assert!(account.instances().iter().any(|one| one.contains(&format!("<imageId>{new}<"))));
}

/// A machine keeps the keys of its creation. The content of the key file counts, too.
#[test]
fn a_machine_with_other_ssh_keys_than_new_ones_has_a_warning() {
    let Some(account) = Account::new() else { return };
    let key = account.path("id");
    let mut config = account.config(&json!({ "authorizedKeys": ["ssh-ed25519 AAAA hydra"] }));
    config["systemTypes"]["x86_64-linux"]["sshKey"] = json!(key);
    let set_file = |text: &str| std::fs::write(key.with_extension("pub"), text).unwrap();
    let listed = |config: &Value| {
        let listed = account.provider_of(config).list(LIMIT).unwrap().remove(0);
        (listed.problems, listed.has_old_image)
    };
    set_file("ssh-ed25519 BBBB first\n");
    let provider = account.provider_of(&config);
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(listed(&config), (vec![], false));
    set_file("ssh-ed25519 CCCC second\n");
    let (problems, has_old_image) = listed(&config);
    assert!(problems[0].contains("(sshKey, provider.ec2.authorizedKeys)"), "{problems:?}");
    assert!(!has_old_image);
    // It can still be deployed to, as far as EC2 is concerned.
    assert_eq!(provider.deploy(&made, LIMIT).unwrap().problems, [""; 0]);
    config["systemTypes"]["x86_64-linux"]["replaceOnChange"] = json!(true);
    assert!(listed(&config).1);
    // It was created by an earlier program.
    let id = account.instances()[0].split("<instanceId>").nth(1).unwrap()[..19].to_owned();
    account.call(&format!("Action=DeleteTags&ResourceId.1={id}&Tag.1.Key=hydra-provisioner:keys"));
    assert_eq!(listed(&config), (vec![], false));
}

#[test]
fn the_image_of_a_parameter_is_compared_as_well() {
    let Some(account) = Account::new() else { return };
    let config = watching(&account, &json!({ "image": null, "imageParameter": "/images/builder" }));
    let error = account.provider_of(&config).create(&name(0), &x86(), "t", LIMIT).unwrap_err();
    assert!(error.message.contains("see provider.ec2.imageParameter"), "{error}");
    account.set_parameter("/images/builder", "ami-11111111");
    account.provider_of(&config).create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert!(account.instances()[0].contains("<imageId>ami-11111111<"));
    assert!(!has_old_image(&account, &config));
    account.set_parameter("/images/builder", "ami-22222222");
    assert!(has_old_image(&account, &config));
}

#[test]
fn an_idle_machine_hibernates_if_ec2_lets_it() {
    let Some(account) = Account::new() else { return };
    let settings = |hibernates: bool| {
        let changes = json!({ "hibernate": hibernates, "rootVolume": { "size": 100 } });
        let mut config = account.config(&changes);
        config["systemTypes"]["x86_64-linux"]["stopOnIdle"] = json!(true);
        account.provider_of(&config)
    };
    let stop_calls = |hibernates: bool| {
        let made = settings(hibernates).create(&name(0), &x86(), "t", LIMIT).unwrap();
        account.emulator_is(&json!({}));
        let provider = settings(true);
        provider.stop(&made, LIMIT).unwrap();
        let calls = account.calls("StopInstances");
        assert_eq!(provider.list(LIMIT).unwrap()[0].state, MachineState::Stopped);
        provider.start(&made, LIMIT).unwrap();
        assert_eq!(provider.list(LIMIT).unwrap()[0].state, MachineState::Up);
        provider.destroy(&made, LIMIT).unwrap();
        calls
    };
    assert_eq!(stop_calls(true), 1);
    // It was created without the option: EC2 refuses, and it is stopped.
    assert_eq!(stop_calls(false), 2);
}

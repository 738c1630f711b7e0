//! `check --online`, the policy of the docs, and signatures.

use std::fs;
use std::path::Path;

use adapters::providers::{Outcome, Provider};
use planner::Machine;
use serde_json::{Value, json};

use crate::account::{Account, LIMIT, name, x86};
use crate::direct::refused;

/// The policy that `docs/ec2.md` recommends, with the tag of the tests.
fn documented_policy() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ec2-policy.json");
    let text = fs::read_to_string(file).unwrap().replace("hydra-provisioned", "farm");
    serde_json::from_str(&text).unwrap()
}

/// Its actions.
fn actions(policy: &Value) -> Vec<String> {
    let mut actions = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        match &statement["Action"] {
            Value::String(action) => actions.push(action.clone()),
            list => actions
                .extend(list.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned())),
        }
    }
    actions.sort();
    actions.dedup();
    actions
}

/// The policy without one action.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        let mut left: Vec<_> = match &statement["Action"] {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        left.retain(|it| it != action);
        statement["Action"] = json!(left);
    }
    policy
}

/// Settings that need every call.
fn everything(account: &Account) -> Value {
    account.call("Action=RegisterImage&Name=builder-1&RootDeviceName=/dev/xvda");
    account.emulator_is(&json!({ "prices": { "*": "0.9" } }));
    json!({
        "image": null,
        "imageFilter": { "owner": "self", "name": "builder-*" },
        "instanceTypes": null,
        "instanceRequirements": { "cpus": 16, "memory": "60G", "architecture": "x86_64" },
        "purchase": ["spot", "on-demand"],
        "pricingEndpoint": account.emulator.url,
    })
}

fn live(provider: &dyn Provider) -> Machine {
    provider.list(LIMIT).unwrap();
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let up = provider.deploy(&made, LIMIT).unwrap();
    provider.list(LIMIT).unwrap();
    up
}

#[test]
fn the_documented_policy_is_enough_for_the_life_of_a_machine() {
    let Some(account) = Account::new() else { return };
    account.emulator_is(&json!({ "policy": documented_policy() }));
    for purchase in ["on-demand", "spot"] {
        let provider = account.provider_with("farm", &json!({ "purchase": [purchase] }));
        let up = live(provider.as_ref());
        if purchase == "on-demand" {
            provider.stop(&up, LIMIT).unwrap();
            provider.start(&up, LIMIT).unwrap();
        }
        provider.destroy(&up, LIMIT).unwrap();
        assert_eq!(account.instances(), [""; 0]);
    }
}

/// It protects what is not ours, also from a mistake in this program.
#[test]
fn the_documented_policy_refuses_what_has_another_tag() {
    let Some(account) = Account::new() else { return };
    let other = account.provider_with("other", &json!({}));
    let made = other.create(&name(0), &x86(), "t", LIMIT).unwrap();
    account.emulator_is(&json!({ "policy": documented_policy() }));
    for result in [
        other.create(&name(1), &x86(), "t", LIMIT).map(|_| ()),
        other.stop(&made, LIMIT),
        other.start(&made, LIMIT),
        other.destroy(&made, LIMIT),
    ] {
        let error = result.unwrap_err();
        assert!(error.message.contains("UnauthorizedOperation"), "{error}");
    }
    account.emulator_is(&json!({ "policy": null }));
    assert_eq!(account.instances().len(), 1);
}

#[test]
fn a_trial_changes_nothing_and_names_each_missing_permission() {
    let Some(account) = Account::new() else { return };
    let settings = everything(&account);
    let provider = account.provider_with("farm", &settings);
    let policy = documented_policy();
    account.emulator_is(&json!({ "policy": policy }));
    // Without an instance of ours, changes of one cannot be tried.
    let tried = provider.try_calls(LIMIT);
    assert_eq!(refused(&tried), [""; 0]);
    assert!(tried.iter().any(|one| matches!(one.outcome, Outcome::Skipped(_))), "{tried:?}");
    assert_eq!(account.instances(), [""; 0]);
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let tried = provider.try_calls(LIMIT);
    assert_eq!(refused(&tried), [""; 0]);
    assert!(tried.iter().all(|one| one.outcome == Outcome::Allowed), "{tried:?}");
    let before = account.instances();
    for action in actions(&policy) {
        account.emulator_is(&json!({ "policy": without(&policy, &action) }));
        // Nothing is known from before.
        let fewer =
            json!({ "purchase": ["spot", "on-demand"], "pricingEndpoint": account.emulator.url });
        let needs_all =
            ["ec2:DescribeInstanceTypes", "ec2:DescribeImages"].contains(&action.as_str());
        let provider = account.provider_with("farm", if needs_all { &settings } else { &fewer });
        let refused = refused(&provider.try_calls(LIMIT));
        assert!(!refused.is_empty(), "{action} is not needed");
        assert!(
            refused.iter().any(|line| line.contains(&action)),
            "{action} is not in {refused:?}"
        );
        assert!(
            refused.iter().all(|line| line.contains("see the policy in docs/ec2.md")),
            "{refused:?}"
        );
    }
    account.emulator_is(&json!({ "policy": null }));
    assert_eq!(account.instances(), before);
}

#[test]
fn a_refused_image_parameter_is_named_and_what_is_not_tried_too() {
    let Some(account) = Account::new() else { return };
    let queue = account.queue("notices");
    let settings = json!({ "image": null, "imageParameter": "/images/builder", "spotQueue": queue, "purchase": ["spot"] });
    let mut config = account.config(&settings);
    config["systemTypes"]["x86_64-linux"]["replaceOnChange"] = json!(true);
    let denied = json!({ "code": "AccessDeniedException", "status": 400, "message": "refused" });
    account.faults(
        &json!([{ "service": "ssm", "operation": "GetParameters", "times": 9, "error": denied }]),
    );
    let tried = account.provider_of(&config).try_calls(LIMIT);
    let refused = refused(&tried);
    assert_eq!(refused.len(), 1, "{tried:?}");
    assert!(refused[0].starts_with("GetParameters for x86_64-linux: "), "{refused:?}");
    assert!(refused[0].contains("AccessDenied"), "{refused:?}");
    let skipped = tried.iter().filter(|one| matches!(one.outcome, Outcome::Skipped(_)));
    let skipped: Vec<_> = skipped.map(|one| one.what.as_str()).collect();
    assert!(skipped.contains(&"DeleteMessage from spotQueue"), "{skipped:?}");
    account.set_parameter("/images/builder", "ami-11111111");
    account.faults(&json!([]));
    let tried = account.provider_of(&config).try_calls(LIMIT);
    assert!(tried.iter().any(|one| one.what == "GetParameters for x86_64-linux"), "{tried:?}");
    assert!(tried.iter().any(|one| one.what.starts_with("RunInstances")), "{tried:?}");
}

/// botocore's own calculation of the signature, over the bytes that arrive.
#[test]
fn requests_are_signed_as_aws_does() {
    let Some(account) = Account::new() else { return };
    let answer = account.emulator_answers(&json!({ "auth": true }));
    let key = |name: &str| answer[name].as_str().unwrap().to_owned();
    let write = |secret: &str| {
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n",
            key("accessKeyId")
        );
        fs::write(account.path("credentials"), text).unwrap();
    };
    write(&key("secretAccessKey"));
    let provider =
        account.provider_with("farm", &json!({ "tags": { "team": "infra & ~more/+=" } }));
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(provider.list(LIMIT).unwrap().len(), 1);
    provider.destroy(&made, LIMIT).unwrap();
    write("wrong");
    let error = account.provider().list(LIMIT).unwrap_err();
    assert!(
        error.message.contains("AuthFailure") && error.message.contains("check the credentials"),
        "{error}"
    );
}

//! What `check` reports for wrong settings of the clouds: what the cloud would refuse anyway, all at once, without secrets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use adapters::config::parse;
use serde_json::{Value, json};

const EC2: &str = "systemTypes.x86_64-linux.provider.ec2.";
const HCLOUD: &str = "systemTypes.x86_64-linux.provider.hcloud.";

fn config(kind: &str, changes: &Value) -> Value {
    let mut settings = match kind {
        "ec2" => json!({
            "region": "eu-central-1", "image": "ami-1", "instanceTypes": ["c8i.large"], "keyName": "k",
        }),
        _ => json!({
            "tokenFile": "/t", "serverTypes": ["cx22"], "locations": ["fsn1"], "image": "debian-13", "sshKeys": ["k"],
        }),
    };
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({ "systemTypes": { "x86_64-linux": { "provider": { kind: settings } } } })
}

fn problems(kind: &str, changes: &Value) -> Vec<String> {
    match parse(&config(kind, changes)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn warnings(kind: &str, changes: &Value) -> Vec<String> {
    parse(&config(kind, changes)).unwrap().warnings
}

/// Each has one problem, which begins with the option's path and then `expected`.
fn expect(kind: &str, prefix: &str, cases: &[(Value, &str)]) {
    for (changes, expected) in cases {
        let problems = problems(kind, changes);
        assert_eq!(problems.len(), 1, "{changes}: {problems:?}");
        let text = problems[0].strip_prefix(prefix).unwrap();
        assert!(text.starts_with(expected), "{changes}: {text}");
    }
}

#[test]
fn problems_with_ec2() {
    let long = "x".repeat(300);
    let many: serde_json::Map<_, _> = (0..44).map(|n| (format!("t{n}"), json!(""))).collect();
    let cases = [
        (json!({ "region": "eu-central-1a" }), "region: must be a region such as \"eu-central-1\""),
        (json!({ "region": "EU Central" }), "region: must be a region"),
        (json!({ "zones": ["eu-west-1a"] }), "zones: \"eu-west-1a\" is no zone of eu-central-1"),
        (json!({ "zones": ["eu-central-1"] }), "zones: \"eu-central-1\" is no zone"),
        (json!({ "image": "debian-13" }), "image: must be an id, ami-..."),
        (
            json!({ "image": null, "imageParameter": "resolve:ssm:/a" }),
            "imageParameter: must be only the parameter's name",
        ),
        (
            json!({ "image": null, "imageFilter": { "owner": "o", "name": "n", "architecture": "arm64" } }),
            "imageFilter: has the architecture arm64, which c8i.large of instanceTypes does not run",
        ),
        (
            json!({ "image": null, "imageFilter": { "owner": "o", "name": "n", "architecture": "arm" } }),
            "imageFilter: has the architecture \"arm\", which must be",
        ),
        (json!({ "instanceTypes": [""] }), "instanceTypes: must have instance types"),
        (json!({ "instanceTypes": ["c8i large"] }), "instanceTypes: must have instance types"),
        (json!({ "subnets": ["default"] }), "subnets: must be ids, subnet-..., has \"default\""),
        (
            json!({ "securityGroups": ["default"] }),
            "securityGroups: must be ids, sg-... (not names)",
        ),
        (
            json!({ "instanceProfile": "arn:aws:iam::1:instance-profile/x" }),
            "instanceProfile: must be only the profile's name",
        ),
        (
            json!({ "rootVolume": { "size": 20_000, "type": "gp2" } }),
            "rootVolume.size: is 20000 GiB; a gp2",
        ),
        (
            json!({ "rootVolume": { "size": 20, "type": "io2" } }),
            "rootVolume.type: must be \"gp3\"",
        ),
        (
            json!({ "rootVolume": { "size": 20, "device": "xvda" } }),
            "rootVolume.device: must be a device",
        ),
        (json!({ "purchase": ["spot", "spot"] }), "purchase: has \"spot\" twice"),
        (
            json!({ "purchase": ["spot"], "purchaseMix": {} }),
            "purchase: is set together with purchaseMix; remove one",
        ),
        (
            json!({ "purchase": ["spot"], "spotQueue": "https://sqs.us-east-1.amazonaws.com/1/q" }),
            "spotQueue: is in the region us-east-1, but must be in eu-central-1",
        ),
        (
            json!({ "tags": { "aws:x": "" } }),
            "tags: \"aws:x\": names that start with \"aws:\" are reserved",
        ),
        (json!({ "tags": { "Name": "x" } }), "tags: \"Name\" is the machine's name"),
        (json!({ "tags": { "": "x" } }), "tags: \"\" is no name of a tag"),
        (json!({ "tags": { "x": long } }), "tags: \"x\" has a value of 300 characters"),
        (json!({ "tags": many }), "tags: has 44 tags"),
        (
            json!({ "endpoint": "https://x y" }),
            "endpoint: must start with https:// or http:// and a host",
        ),
        (json!({ "keyName": "a\nb" }), "keyName: must be a line of text"),
        (json!({ "profile": "a\nb" }), "profile: must be a line of text"),
        (json!({ "image": "ami-" }), "image: must be an id, ami-..."),
        (json!({ "endpoint": "http://" }), "endpoint: must start with"),
        (
            json!({ "userData": format!("@hostKey@{}", "x".repeat(16_100)) }),
            "userData: would have at least 16",
        ),
    ];
    expect("ec2", EC2, &cases);
    let type_named = |name: &str| {
        let mut config = config("ec2", &json!({}));
        let settings = config["systemTypes"]["x86_64-linux"].take();
        config["systemTypes"] = json!({ name: settings });
        parse(&config).map(|_| ()).unwrap_err()[0].to_string()
    };
    let long = type_named(&format!("x86_64-linux:{}", "f".repeat(250)));
    assert!(long.contains("more than the 256 characters that a tag of EC2 can have"), "{long}");
}

#[test]
fn problems_with_hetzner() {
    let cases = [
        (json!({ "serverTypes": ["cx 22"] }), "serverTypes: must have server types"),
        (json!({ "locations": [""] }), "locations: must have locations"),
        (
            json!({ "labels": { "hetzner.cloud/x": "" } }),
            "labels: \"hetzner.cloud/x\": names that start",
        ),
        (json!({ "sshKeys": [""] }), "sshKeys: must be a line of text"),
        (json!({ "image": "x".repeat(256) }), "image: must be a line of text"),
        (json!({ "labels": { "a b": "" } }), "labels: \"a b\" is no name of a label"),
        (json!({ "labels": { "/a": "" } }), "labels: \"/a\" is no name of a label"),
        (json!({ "labels": { "a": "x y" } }), "labels: \"a\" has a value that Hetzner refuses"),
        (json!({ "labels": { "a": "-x" } }), "labels: \"a\" has a value that Hetzner refuses"),
        (
            json!({ "labels": { "a": "x".repeat(64) } }),
            "labels: \"a\" has a value that Hetzner refuses",
        ),
        (
            json!({ "userData": format!("@hostKey@{}", "x".repeat(32_500)) }),
            "userData: would have at least 32",
        ),
        (
            json!({ "userData": "@identity@ @hostkeys@" }),
            "userData: @hostkeys@ is no placeholder; did you mean @hostKey@?",
        ),
        (
            json!({ "authorizedKeys": ["AAAA"] }),
            "authorizedKeys: item 1 is not one line with a public key",
        ),
        (
            json!({ "authorizedKeys": ["ssh-ed25519 A\nssh-ed25519 B"] }),
            "authorizedKeys: item 1 is not one line",
        ),
    ];
    expect("hcloud", HCLOUD, &cases);
    let good = json!({
        "labels": { "example.org/team": "infra_1.a", "empty": "" },
        "authorizedKeys": ["restrict,command=\"x\" ssh-ed25519 AAAA hydra", "ecdsa-sha2-nistp256 AAAA"],
    });
    assert_eq!(problems("hcloud", &good), [""; 0]);
}

#[test]
fn names_that_are_no_host_names() {
    let tagged = |tag: &str| {
        let problems = parse(&json!({ "tag": tag })).map(|_| ());
        problems.err().map(|problems| problems[0].to_string()).unwrap_or_default()
    };
    for tag in ["farm", "farm-", "a.b", "hydra-provisioned", &"x".repeat(52)] {
        assert_eq!(tagged(tag), "", "{tag}");
    }
    for tag in ["a.", "a..b", "a.-b", "a-.b"] {
        assert!(
            tagged(tag).ends_with("remove dots beside dots or hyphens"),
            "{tag}: {}",
            tagged(tag)
        );
    }
    assert!(tagged(&"x".repeat(53)).starts_with("tag: has 53 characters"));
}

/// The operator has pasted a secret where a file's name belongs.
#[test]
fn no_secret_is_shown() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----";
    for (kind, changes) in [
        ("hcloud", json!({ "tokenFile": "secret" })),
        ("hcloud", json!({ "authorizedKeys": [key] })),
        ("hcloud", json!({ "endpoint": "https://user:secret@example.org" })),
        ("ec2", json!({ "credentialsFile": "[default]\naws_secret_access_key = secret" })),
        ("ec2", json!({ "endpoint": "https://user:secret@example.org" })),
    ] {
        let problems = problems(kind, &changes);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            !problems[0].contains("secret\"") && !problems[0].contains("= secret"),
            "{problems:?}"
        );
        assert!(
            !problems[0].contains("\nsecret") && !problems[0].contains("user:"),
            "{problems:?}"
        );
    }
}

#[test]
fn what_works_but_is_hardly_meant_has_a_warning() {
    for (kind, changes, expected) in [
        ("ec2", json!({ "instanceTypes": ["c8i.large", "c8i.large"] }), "has c8i.large twice"),
        ("ec2", json!({ "instanceTypes": ["c7gn.large"] }), "c7gn.large has Arm processors"),
        (
            "ec2",
            json!({ "spotQueue": "https://sqs.eu-central-1.amazonaws.com/1/q" }),
            "is not read",
        ),
        ("hcloud", json!({ "locations": ["fsn1", "fsn1"] }), "has fsn1 twice"),
        ("hcloud", json!({ "serverTypes": ["cx22", "cax21"] }), "cax21 has Arm processors"),
        (
            "hcloud",
            json!({ "userData": "@identity@ @shell@" }),
            "@shell@ is no placeholder and stays",
        ),
    ] {
        let warnings = warnings(kind, &changes);
        assert_eq!(warnings.len(), 1, "{changes}: {warnings:?}");
        assert!(warnings[0].contains(expected), "{changes}: {warnings:?}");
    }
    for name in [
        "c7i.large",
        "g6.xlarge",
        "g4dn.xlarge",
        "p4de.24xlarge",
        "u7i-12tb.224xlarge",
        "m8i-flex.large",
    ] {
        assert_eq!(warnings("ec2", &json!({ "instanceTypes": [name] })), [""; 0], "{name}");
    }
}

//! What `check` reports for wrong configurations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

use adapters::config::parse;
use adapters::driver::{ASK_HOST_NAME, TOUCH_KEEP_ALIVE};
use serde_json::{Value, json};

fn problems(config: &Value) -> Vec<String> {
    match parse(config) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A sound configuration with `key` of its only type set to `value`.
fn with_type(key: &str, value: Value) -> Value {
    let mut settings = json!({ "nixopsExpr": "/d.nix" });
    settings.as_object_mut().unwrap().insert(key.to_owned(), value);
    json!({ "systemTypes": { "x86_64-linux": settings } })
}

fn with_type_named(name: &str) -> Value {
    json!({ "systemTypes": { name: { "nixopsExpr": "/d.nix" } } })
}

fn with_provider(provider: &Value) -> Value {
    json!({ "systemTypes": { "a": { "provider": provider } } })
}

fn expect(cases: Vec<(Value, &[&str])>) {
    for (config, expected) in cases {
        assert_eq!(problems(&config), expected, "{config}");
    }
}

#[test]
fn problems_with_the_machines_file() {
    expect(vec![
        (
            json!({ "machinesFileMode": "mine", "staticMachines": ["", "a b", "a\nb x", "[x y", "# c"] }),
            &[
                "machinesFileMode: must be \"own\" or \"takeover\", is \"mine\"",
                "staticMachines: line 1 is empty",
                "staticMachines: line 3 has a line break or control character; it must be one line",
                "staticMachines: line 4 does not start with a machine: \"[x\" has characters that no host name has",
            ],
        ),
        (
            json!({ "machinesFileMode": "own", "updateCommand": ["cat"] }),
            &["machinesFileMode: applies to machinesFile, which is not written; remove it"],
        ),
        (
            with_type("storeUri", json!("ssh://m")),
            &[
                "systemTypes.x86_64-linux.storeUri: must contain {host}; {user} and {port} are known too",
            ],
        ),
    ]);
}

#[test]
fn a_lease_is_not_for_machines_that_one_host_knows() {
    let qemu = json!({ "qemu": { "image": "/image", "authorizedKeys": ["ssh-ed25519 AAAA a"] } });
    expect(vec![(
        json!({
            "lease": { "postgresql": "host=/run/postgresql" },
            "systemTypes": { "x86_64-linux": { "provider": qemu } },
        }),
        &[
            "lease: is not for machines of QEMU (x86_64-linux): only the host that created them knows them, so \
             another one with the lease could not release them",
        ],
    )]);
}

#[test]
fn problems_at_the_top() {
    expect(vec![
        (json!({}), &[]),
        (json!({ "tag": null, "queue": null }), &[]),
        (json!([]), &["the configuration: must be an attribute set, is a list"]),
        (
            json!({ "statuscommand": [], "systemType": {}, "sshOption": [], "flavor": 1 }),
            &[
                "flavor: unknown option",
                "sshOption: unknown option; did you mean sshOptions?",
                "statuscommand: unknown option; did you mean statusCommand?",
                "systemType: unknown option; did you mean systemTypes?",
            ],
        ),
        (json!({ "tag": "" }), &["tag: must not be empty"]),
        (
            json!({ "tag": "-x y" }),
            &[
                "tag: must be letters, digits, '.', '_' and '-' and start with a letter or digit, is \"-x y\"",
            ],
        ),
        (
            json!({ "statusCommand": "hydra" }),
            &["statusCommand: must be a list of strings, is the string \"hydra\""],
        ),
        (json!({ "statusCommand": [] }), &["statusCommand: must start with a program"]),
        (
            json!({ "statusCommand": ["a", 1, null] }),
            &[
                "statusCommand: must be a list of strings, item 2 is the number 1",
                "statusCommand: must be a list of strings, item 3 is null",
            ],
        ),
        (
            json!({ "statusCommand": ["a"], "sshCommand": ["a"] }),
            &["sshCommand: is the old name of statusCommand, which is set too; remove it"],
        ),
        (
            json!({ "statusCommand": ["a"], "queue": { "url": "http://x" } }),
            &["queue: a Hydra has either queue.url (REST) or statusCommand (classic); remove one"],
        ),
        (json!({ "queue": {} }), &["queue.url: must be set, for example \"http://[::1]:8080\""]),
        (
            json!({ "queue": { "url": "hydra:8080" } }),
            &["queue.url: must start with http:// or https://, is \"hydra:8080\""],
        ),
        (
            json!({ "queue": { "URL": "http://x" } }),
            &[
                "queue.URL: unknown option; did you mean url?",
                "queue.url: must be set, for example \"http://[::1]:8080\"",
            ],
        ),
        (json!({ "machinesFile": "m" }), &["machinesFile: must be an absolute path, is \"m\""]),
        (
            json!({ "machinesFile": "/m", "updateCommand": ["a"] }),
            &["updateCommand: machinesFile is set too; remove one of them"],
        ),
        (
            json!({ "drainCommand": ["a"] }),
            &["drainCommand: is for builders of the REST queue runner; set queue.url or remove it"],
        ),
        (
            json!({ "touchKeepAlive": 1 }),
            &["touchKeepAlive: must be true or false, is the number 1"],
        ),
        (
            json!({ "checkSsh": false }),
            &["checkSsh: is false, but touchKeepAlive needs ssh: set that to false, too"],
        ),
        (json!({ "parallelism": 0 }), &["parallelism: must be from 1 to 1024, is 0"]),
        (
            json!({ "createTimeout": 0.5 }),
            &[
                "createTimeout: must be a whole number of seconds, or a text such as \"90s\", \"10m\", \"2h\", \"1d\", is the number 0.5",
            ],
        ),
        (
            json!({ "maxCreatesPerCycle": 0 }),
            &["maxCreatesPerCycle: must be from 1 to 4294967295, is 0"],
        ),
        (json!({ "systemTypes": [] }), &["systemTypes: must be an attribute set, is a list"]),
        (
            json!({ "systemTypes": { "a b": 1 } }),
            &["systemTypes.\"a b\": must be an attribute set, is the number 1"],
        ),
    ]);
}

#[test]
fn problems_of_a_type() {
    expect(vec![
        (
            with_type("minMachine", json!(1)),
            &["systemTypes.x86_64-linux.minMachine: unknown option; did you mean minMachines?"],
        ),
        (
            with_type("minMachines", json!(-1)),
            &["systemTypes.x86_64-linux.minMachines: must be from 0 to 4294967295, is -1"],
        ),
        (
            with_type("minMachines", json!(2)),
            &["systemTypes.x86_64-linux.minMachines: is 2, above maxMachines 1 (the default)"],
        ),
        (
            with_type("runnablesPerMachine", json!(0)),
            &["systemTypes.x86_64-linux.runnablesPerMachine: must be from 1 to 4294967295, is 0"],
        ),
        (
            with_type("maxJobs", json!("4")),
            &["systemTypes.x86_64-linux.maxJobs: must be a whole number, is the string \"4\""],
        ),
        (
            with_type("gracePeriod", json!(-5)),
            &["systemTypes.x86_64-linux.gracePeriod: must be 0 or more, is -5"],
        ),
        (
            with_type("stopOnIdle", json!("yes")),
            &["systemTypes.x86_64-linux.stopOnIdle: must be true or false, is the string \"yes\""],
        ),
        (
            with_type("sshKey", json!("/my key")),
            &[
                "systemTypes.x86_64-linux.sshKey: cannot be written to a machines file, which has no quoting: \"/my key\" has a blank or '#'",
            ],
        ),
        (
            with_type("supportedFeatures", json!(["a,b", ""])),
            &[
                "systemTypes.x86_64-linux.supportedFeatures: \"\" cannot be written to a machines file (blank, comma, '#' or empty)",
                "systemTypes.x86_64-linux.supportedFeatures: \"a,b\" cannot be written to a machines file (blank, comma, '#' or empty)",
            ],
        ),
        (
            with_type("nixopsExpr", json!("d.nix")),
            &["systemTypes.x86_64-linux.nixopsExpr: must be an absolute path, is \"d.nix\""],
        ),
        (
            with_type_named("x86_64-linux,:kvm"),
            &[
                "systemTypes.\"x86_64-linux,:kvm\": its name has an empty system; it must be SYSTEM[,SYSTEM...][:FEATURE,...]",
            ],
        ),
        (
            with_type_named("x86_64-linux:"),
            &[
                "systemTypes.\"x86_64-linux:\": its name has an empty feature; it must be SYSTEM[,SYSTEM...][:FEATURE,...]",
            ],
        ),
        (
            with_type_named("x86_64-linux:k vm"),
            &[
                "systemTypes.\"x86_64-linux:k vm\": its name has the feature \"k vm\", which cannot be written to a machines file",
            ],
        ),
        (with_type_named("a,a:k,k"), &[]),
        (
            with_type_named("builtin"),
            &[
                "systemTypes.builtin: no steps would count for it: downloads by Nix itself (system builtin) are built by machines of the queue runner's own system; remove it",
            ],
        ),
        (
            with_type_named("local:kvm"),
            &[
                "systemTypes.\"local:kvm\": no steps would count for it: steps that prefer a local build (preferLocalBuild) are built by any machine of their system; remove it",
            ],
        ),
        (with_type_named("a:local"), &[]),
        (
            json!({ "systemTypes": {
                "a:k,l": { "nixopsExpr": "/d.nix" }, "a:l,k": { "nixopsExpr": "/d.nix" },
            } }),
            &["systemTypes.\"a:l,k\": is the same type as another one (a:k,l); remove one of them"],
        ),
    ]);
}

#[test]
fn speed_factors() {
    for wrong in [json!(0), json!(-1), json!(0.0001), json!(1e30), json!("1")] {
        let found = problems(&with_type("speedFactor", wrong.clone()));
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert!(
            found[0].starts_with("systemTypes.x86_64-linux.speedFactor: must be "),
            "{found:?}"
        );
    }
    for right in [json!(1), json!(0.5), json!(1.125), json!(1.0)] {
        assert_eq!(problems(&with_type("speedFactor", right.clone())), [""; 0], "{right}");
    }
}

#[test]
fn problems_of_a_provider() {
    expect(vec![
        (
            json!({ "systemTypes": { "a": {} } }),
            &[
                "systemTypes.a: has no provider; set provider.command, provider.ec2, provider.hcloud, provider.nixops, provider.qemu or nixopsExpr",
            ],
        ),
        (
            with_provider(&json!({})),
            &[
                "systemTypes.a.provider: must have exactly one of command, ec2, hcloud, nixops and qemu",
            ],
        ),
        (
            with_provider(&json!({ "comand": {} })),
            &[
                "systemTypes.a.provider: must have exactly one of command, ec2, hcloud, nixops and qemu",
                "systemTypes.a.provider.comand: unknown option; did you mean command?",
            ],
        ),
        (
            with_provider(&json!({ "command": { "program": ["p"] }, "nixops": { "expr": "/e" } })),
            &[
                "systemTypes.a.provider: must have exactly one of command, ec2, hcloud, nixops and qemu",
            ],
        ),
        (
            with_provider(&json!({ "command": {} })),
            &[
                "systemTypes.a.provider.command.program: must be set: a list, the program and its first arguments",
            ],
        ),
        (
            with_provider(&json!({ "command": { "program": ["p"], "options": 1 } })),
            &["systemTypes.a.provider.command.options: must be an attribute set, is the number 1"],
        ),
        (
            with_provider(&json!({ "nixops": {} })),
            &[
                "systemTypes.a.provider.nixops: must have expr (NixOps 1: the deployment's file) or network (NixOps 2: the folder of nixops.nix)",
            ],
        ),
        (
            with_provider(&json!({ "nixops": { "expr": "/e", "network": "/n" } })),
            &[
                "systemTypes.a.provider.nixops: has both expr (NixOps 1) and network (NixOps 2); remove one",
            ],
        ),
        (
            with_provider(&json!({ "qemu": { "authorizedKeys": ["k"] } })),
            &[
                "systemTypes.a.provider.qemu.image: must be set: a disk, or a directory created by scripts/build-image",
            ],
        ),
        (
            with_provider(
                &json!({ "qemu": { "image": "/i", "accelerator": "hvf", "sshPort": 0 } }),
            ),
            &[
                "systemTypes.a.provider.qemu.accelerator: must be \"auto\", \"kvm\" or \"tcg\", is \"hvf\"",
                "systemTypes.a.provider.qemu.authorizedKeys: must be set (public keys that may log in), or sshKey next to provider: its .pub is then used",
                "systemTypes.a.provider.qemu.sshPort: must be from 1 to 65535, is 0",
            ],
        ),
        (
            json!({ "systemTypes": { "a": { "nixopsExpr": "/e", "provider": { "command": { "program": ["p"] } } } } }),
            &["systemTypes.a.nixopsExpr: is for the provider nixops, but another one is set"],
        ),
    ]);
}

#[test]
fn durations_sizes_and_dollars() {
    expect(vec![
        (json!({ "pollInterval": "1h30m", "maxStatusAge": "2 days" }), &[]),
        (
            json!({ "pollInterval": 0, "listInterval": "0s", "createTimeout": "11y", "deployTimeout": 1.5 }),
            &[
                "createTimeout: must be a whole number of seconds, or a text such as \"90s\", \"10m\", \"2h\", \"1d\", is the string \"11y\"",
                "deployTimeout: must be a whole number of seconds, or a text such as \"90s\", \"10m\", \"2h\", \"1d\", is the number 1.5",
                "listInterval: must be from 1 to 315360000 seconds, is \"0s\"",
                "pollInterval: must be from 1 to 315360000, is 0",
            ],
        ),
        (
            json!({ "maxHourlyCost": -1, "maxDailyCost": "$5", "maxMonthlyCost": [] }),
            &[
                "maxDailyCost: must be a number of dollars such as 0.96 or \"0.0116\", is \"$5\"",
                "maxHourlyCost: must be a number of dollars such as 0.96 or \"0.0116\", is \"-1\"",
                "maxMonthlyCost: must be a number of dollars, is a list",
            ],
        ),
        (
            with_provider(
                &json!({ "qemu": { "image": "/i", "authorizedKeys": ["k"], "memory": "4", "hostMemory": "64 GB" } }),
            ),
            &[
                "systemTypes.a.provider.qemu.hostMemory: must be a whole number of MiB, or a text such as \"512M\" or \"4G\", is the string \"64 GB\"",
            ],
        ),
        (with_type("idleTimeout", json!("auto")), &[]),
        (
            json!({ "systemTypes": { "a": { "nixopsExpr": "/d.nix", "gracePeriod": 1, "idleTimeout": 1 } } }),
            &[
                "systemTypes.a.gracePeriod: is the old name of idleTimeout, which is set too; remove it",
            ],
        ),
    ]);
}

#[test]
fn schedules() {
    let problem =
        |entry: Value| problems(&with_type("schedule", json!([{ "minMachines": 1 }, entry])));
    let place = "systemTypes.x86_64-linux.schedule[2]";
    assert_eq!(problem(json!({ "days": "sat,sun", "maxMachines": 9 })), [""; 0]);
    for (entry, expected) in [
        (
            json!({ "days": "weekends", "hours": "7-19", "timeZone": "Berlin", "minMachines": 1 }),
            vec![
                ".days: must be such as \"mon-fri\" or \"sat,sun\", is \"weekends\"",
                ".hours: must be such as \"07:00-19:00\" or \"22:00-06:00\", is \"7-19\"",
                ".timeZone: must be a name of the IANA time zone database such as \"Europe/Berlin\" or \"UTC\", is \"Berlin\"",
            ],
        ),
        (
            json!({ "day": "mon" }),
            vec![
                ": changes nothing; set minMachines, maxMachines, targetWait or idleTimeout to something else than the type has",
                ".day: unknown option; did you mean days?",
            ],
        ),
        (
            json!({ "minMachines": 2 }),
            vec![": has minMachines 2 above maxMachines 1 at these hours"],
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|text| format!("{place}{text}")).collect();
        assert_eq!(problem(entry.clone()), expected, "{entry}");
    }
    expect(vec![(
        with_type("schedule", json!([7])),
        &["systemTypes.x86_64-linux.schedule[1]: must be an attribute set, is the number 7"],
    )]);
}

#[test]
fn types_that_must_match_each_other() {
    let types = |fallback: &[&str], price: Value| {
        json!({ "maxDailyCost": 5, "systemTypes": {
            "a:k,l": { "nixopsExpr": "/d.nix", "dollarsPerHour": 1, "fallback": fallback },
            "b": { "nixopsExpr": "/d.nix", "dollarsPerHour": price },
        } })
    };
    expect(vec![
        (types(&["b"], json!(0)), &[]),
        (
            types(&["c", "a:l,k"], Value::Null),
            &[
                "systemTypes.\"a:k,l\".fallback: names c, which is not a type in systemTypes",
                "systemTypes.\"a:k,l\".fallback: names the type itself; remove it",
                "systemTypes.b.dollarsPerHour: must be set, because a cost limit includes this type (0 for machines that cost nothing)",
            ],
        ),
    ]);
}

/// Without a price its machines would count as free.
#[test]
fn a_type_that_a_schedule_gives_machines_needs_a_price() {
    let problem = |schedule: Value| {
        let b = json!({ "nixopsExpr": "/d.nix", "maxMachines": 0, "schedule": schedule });
        problems(&json!({ "maxDailyCost": 5, "systemTypes": { "b": b } })).concat()
    };
    let idle = json!({ "idleTimeout": "1h" });
    assert_eq!(problem(json!([idle])), "");
    assert!(problem(json!([idle, { "maxMachines": 9 }])).contains("b.dollarsPerHour: must be set"));
}

#[test]
fn all_problems_at_once() {
    let config = json!({
        "tagg": "x",
        "queue": { "url": 7 },
        "statusTimeout": "soon",
        "systemTypes": {
            "a": { "minMachines": 3, "maxMachines": 2, "runnablesPerMachine": 0, "maxjobs": 1 },
            "b c": { "nixopsExpr": 1 },
        },
    });
    assert_eq!(
        problems(&config),
        [
            "queue.url: must be a string, is the number 7",
            "statusTimeout: must be a whole number of seconds, or a text such as \"90s\", \"10m\", \"2h\", \"1d\", is the string \"soon\"",
            "systemTypes.\"b c\": its name has the system \"b c\", which cannot be written to a machines file",
            "systemTypes.\"b c\".nixopsExpr: must be a string, is the number 1",
            "systemTypes.a: has no provider; set provider.command, provider.ec2, provider.hcloud, provider.nixops, provider.qemu or nixopsExpr",
            "systemTypes.a.maxjobs: unknown option; did you mean maxJobs?",
            "systemTypes.a.minMachines: is 3, above maxMachines 2",
            "systemTypes.a.runnablesPerMachine: must be from 1 to 4294967295, is 0",
            "tagg: unknown option; did you mean tag?",
        ]
    );
}

/// Restricted keys permit at least our own commands on a NixOS build machine.
#[test]
fn every_command_for_a_machine_is_allowed_by_the_nixos_module() {
    let config =
        parse(&json!({ "queue": { "url": "http://[::1]:8080" }, "systemTypes": {} })).unwrap();
    let ssh = config.ssh;
    let page = fs::read_to_string(docs("module-options.md")).unwrap();
    let allowed = page.lines().find(|line| line.starts_with("| `allowedCommands` |")).unwrap();
    let ours =
        [TOUCH_KEEP_ALIVE.map(str::to_owned).to_vec(), ASK_HOST_NAME.map(str::to_owned).to_vec()];
    for words in ours.into_iter().chain(ssh.drain_command).chain(ssh.resume_command) {
        let command = format!("\"{}\"", words.join(" "));
        assert!(allowed.contains(&command), "{command} is not allowed: {allowed}");
    }
}

fn docs(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page)
}

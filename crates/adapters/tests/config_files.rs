//! Configurations as files: real ones of hydra.nixos.org, every option, and files that cannot be read.
//! Real Nix evaluates them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adapters::config::{
    Config, HourlyCost, Limits, MachinesFileMode, MachinesFileSettings, MachinesFileTarget,
    QueueSettings, SshSettings, Timing, load, parse,
};
use adapters::providers::{ProviderSettings, command, nixops};
use planner::{
    CostLimits, Feature, Filling, HostPattern, IdleAction, IdleTimeout, MachineType, Money, Policy,
    PoolPolicy, RotationPolicy, Seconds, SpeedFactor, StoreUri, System, Tag, Timestamp,
};
use serde_json::{Value, json};

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(file)
}

/// The configuration, without the text and the path that it was read from.
fn loaded(file: &str) -> Config {
    let config = load(&data(file)).unwrap_or_else(|error| panic!("{error}"));
    Config { source: Value::Null, path: None, ..config }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn classic_ssh() -> SshSettings {
    SshSettings {
        touch_keep_alive: true,
        check_ssh: true,
        drain_command: None,
        resume_command: None,
        options: Vec::new(),
    }
}

/// A farm of x86_64-linux machines on NixOps 1, described by `expr` in the test data.
fn one_type(tag: &str, pool: PoolPolicy, expr: &str, nix_path: &[&str]) -> Config {
    let machine_type = MachineType::new("x86_64-linux");
    let provider = ProviderSettings::Nixops(nixops::Settings::classic(data(expr), words(nix_path)));
    Config {
        policy: Policy::new(Tag::new(tag), [(machine_type.clone(), pool)].into()),
        providers: [(machine_type, provider)].into(),
        queue: QueueSettings::Classic { command: words(&["hydra-queue-runner", "--status"]) },
        machines_file: MachinesFileSettings {
            mode: MachinesFileMode::Takeover,
            ..MachinesFileSettings::to(MachinesFileTarget::File(
                "/var/lib/hydra/provisioner/machines".into(),
            ))
        },
        state_dir: "/var/lib/hydra-provisioner".into(),
        ssh: classic_ssh(),
        limits: Limits::default(),
        timing: Timing::default(),
        schedules: BTreeMap::new(),
        lease: None,
        source: Value::Null,
        path: None,
        notify: Vec::new(),
        warnings: Vec::new(),
    }
}

/// hydra.nixos.org's pool; only the number of machines and the key changed over the years.
fn hydra_nixos_org(max_machines: u32, ssh_key: &str, nix_path: &str) -> Config {
    let pool = PoolPolicy {
        max_machines,
        ignored_runnables: 250,
        runnables_per_machine: NonZeroU32::new(50).unwrap(),
        max_jobs: 4,
        ssh_key: Some(ssh_key.to_owned()),
        ..PoolPolicy::new(vec![System::new("x86_64-linux")])
    };
    one_type("hydra-provisioned-nixos-org", pool, "nixops.nix", &[nix_path])
}

#[test]
fn hydra_nixos_org_of_2015() {
    let remote = ["ssh", "-x", "root@lucifer"];
    let status =
        ["PGPASSFILE=/var/lib/hydra/pgpass-queue-runner", "hydra-queue-runner", "--status"];
    let expected = Config {
        queue: QueueSettings::Classic { command: words(&[&remote[..], &status].concat()) },
        machines_file: MachinesFileSettings::to(MachinesFileTarget::Command(words(
            &[&remote[..], &["cat > /var/lib/hydra/provisioned.machines"]].concat(),
        ))),
        ..hydra_nixos_org(
            12,
            "/var/lib/hydra/queue-runner/.ssh/id_buildfarm",
            "nixpkgs=https://github.com/NixOS/nixpkgs-channels/archive/nixos-14.12.tar.gz",
        )
    };
    assert_eq!(loaded("hydra-nixos-org-14.12.nix"), expected);
}

#[test]
fn hydra_nixos_org_of_2016() {
    let remote = ["ssh", "-x", "hydra-queue-runner@hydra-new.nixos.org"];
    let status =
        ["PGPASSFILE=/var/lib/hydra/pgpass-queue-runner", "hydra-queue-runner", "--status"];
    let expected = Config {
        queue: QueueSettings::Classic { command: words(&[&remote[..], &status].concat()) },
        machines_file: MachinesFileSettings::to(MachinesFileTarget::Command(words(
            &[&remote[..], &["cat > /var/lib/hydra/provisioner/machines"]].concat(),
        ))),
        ..hydra_nixos_org(
            24,
            "/var/lib/hydra/queue-runner/.ssh/id_buildfarm",
            "nixpkgs=https://nixos.org/channels/nixos-15.09-small/nixexprs.tar.xz",
        )
    };
    assert_eq!(loaded("hydra-nixos-org-15.09.nix"), expected);
}

#[test]
fn hydra_nixos_org_of_2018() {
    let expected = hydra_nixos_org(
        12,
        "/var/lib/hydra/queue-runner/.ssh/id_buildfarm_rsa",
        "nixpkgs=channel:nixos-17.09",
    );
    assert_eq!(loaded("hydra-nixos-org-17.09.nix"), expected);
}

#[test]
fn the_example_of_the_original() {
    let pool = PoolPolicy {
        ssh_key: Some("/var/lib/hydra/queue-runner/.ssh/id_buildfarm".to_owned()),
        ..PoolPolicy::new(vec![System::new("x86_64-linux")])
    };
    let expected = Config {
        machines_file: MachinesFileSettings::to(MachinesFileTarget::Command(words(&[
            "/bin/sh",
            "-c",
            "cat > /var/lib/hydra/provisioner/machines",
        ]))),
        warnings: vec![
            "sshCommand: is the original README's wrong name for statusCommand; please rename it"
                .to_owned(),
        ],
        ..one_type("hydra-provisioned", pool, "deployment.nix", &[])
    };
    assert_eq!(loaded("original-readme.nix"), expected);
}

fn kvm_pool() -> PoolPolicy {
    let features = |names: &[&str]| names.iter().map(|&name| Feature::new(name)).collect();
    PoolPolicy {
        systems: vec![System::new("x86_64-linux"), System::new("i686-linux")],
        mandatory_features: features(&["kvm", "benchmark"]),
        supported_features: features(&["big-parallel"]),
        min_machines: 1,
        max_machines: 9,
        ignored_runnables: 5,
        runnables_per_machine: NonZeroU32::new(3).unwrap(),
        creates_per_5_minutes: Some(2),
        max_creating: 3,
        fallback: Some(vec![MachineType::new("aarch64-linux")]),
        dollars_per_hour: Some(Money(11_600)),
        cost_limits: CostLimits {
            hourly: Some(Money(1_000_000)),
            daily: Some(Money(2_000_000)),
            monthly: Some(Money(3_000_000)),
        },
        // `runnablesPerMachine` is set.
        target_wait: None,
        idle_action: IdleAction::Stop,
        idle_timeout: IdleTimeout::After(Seconds(600)),
        keep_last: Seconds(86_400),
        use_while_paid: Seconds(1200),
        keep_while_paid: Seconds(300),
        health_timeout: Seconds(120),
        progress_timeout: Seconds(7200),
        give_up_after: Seconds(1800),
        rotation: RotationPolicy {
            max_age: Some(Seconds(604_800)),
            max_builds: Some(500),
            settings: None,
            max_unavailable: Some(2),
        },
        max_jobs: 4,
        filling: Filling::Pack,
        speed_factor: SpeedFactor { thousandths: 1250 },
        ssh_key: Some("/srv/key".to_owned()),
        store_uri: Some(StoreUri::new("ssh-ng://{user}@{host}:{port}?compress=true")),
    }
}

fn everything() -> Config {
    let kvm = MachineType::new("x86_64-linux,i686-linux:kvm,benchmark");
    let aarch64 = MachineType::new("aarch64-linux");
    let arm = MachineType::new("armv7l-linux");
    let plain = |machine_type: &MachineType, dollars: u64, idle_timeout| PoolPolicy {
        creates_per_5_minutes: Some(7),
        max_creating: 8,
        target_wait: Some(Seconds(400)),
        dollars_per_hour: Some(Money(dollars * 1_000_000)),
        idle_timeout,
        ..PoolPolicy::new(vec![System::new(machine_type.as_str())])
    };
    let command = command::Settings {
        program: words(&["/bin/make machine", "--fast"]),
        options: json!({ "size": { "cores": 8 } }),
    };
    let nixops2 = nixops::Settings {
        program: words(&["nixops2"]),
        expr: None,
        nix_path: words(&["nixpkgs=/srv/nixpkgs"]),
        network: Some("/srv/network".into()),
        state_file: Some("/srv/state.nixops".into()),
    };
    Config {
        policy: Policy {
            max_machines: Some(40),
            other_machines: vec![HostPattern::new("mac-*"), HostPattern::new("mac-1.example.org")],
            cost_limits: CostLimits {
                hourly: Some(Money(12_500_000)),
                daily: Some(Money(99_900_000)),
                monthly: Some(Money(1_000_000_000)),
            },
            ..Policy::new(
                Tag::new("farm.1"),
                [
                    (kvm.clone(), kvm_pool()),
                    (aarch64.clone(), plain(&aarch64, 0, IdleTimeout::Auto)),
                    (arm.clone(), plain(&arm, 2, IdleTimeout::default())),
                ]
                .into(),
            )
        },
        providers: [
            (kvm, ProviderSettings::Command(command)),
            (aarch64, ProviderSettings::Nixops(nixops2)),
            (
                arm,
                ProviderSettings::Nixops(nixops::Settings::classic("/srv/arm.nix".into(), vec![])),
            ),
        ]
        .into(),
        queue: QueueSettings::Rest {
            url: "https://hydra.example.org".to_owned(),
            nix_command: words(&["nix", "--store", "/srv"]),
        },
        machines_file: MachinesFileSettings {
            target: MachinesFileTarget::File("/srv/machines".into()),
            mode: MachinesFileMode::Takeover,
            static_machines: words(&["root@mac-1.example.org:2222 aarch64-darwin - 4", "# more"]),
        },
        state_dir: "/srv/provisioner".into(),
        ssh: SshSettings {
            touch_keep_alive: false,
            check_ssh: false,
            drain_command: Some(words(&["halt-builder", "now"])),
            resume_command: Some(words(&["wake-builder"])),
            options: words(&["-F", "/srv/ssh config"]),
        },
        limits: Limits {
            parallelism: 3,
            create_timeout: Duration::from_secs(11),
            deploy_timeout: Duration::from_secs(12),
            release_timeout: Duration::from_secs(13),
            status_timeout: Duration::from_secs(14),
        },
        timing: Timing {
            poll_interval: Duration::from_secs(15),
            list_interval: Duration::from_secs(120),
            keep_alive_interval: Duration::from_secs(90),
            max_status_age: Duration::from_secs(3600),
        },
        schedules: BTreeMap::new(),
        lease: None,
        source: Value::Null,
        path: None,
        notify: Vec::new(),
        warnings: vec![
            "systemTypes.\"x86_64-linux,i686-linux:kvm,benchmark\".targetWait: is not used, because \
             runnablesPerMachine is set; remove one of them"
                .to_owned(),
            "systemTypes.\"x86_64-linux,i686-linux:kvm,benchmark\".schedule[1].targetWait: is not used, \
             because runnablesPerMachine is set; remove one of them"
                .to_owned(),
            "systemTypes: pack of i686-linux,x86_64-linux:benchmark,kvm changes nothing: builders of the REST \
             queue runner get builds as long as they run"
                .to_owned(),
            "systemTypes: speedFactor 1.25 of i686-linux,x86_64-linux:benchmark,kvm is not whole: Nix reads \
             this machines file, and older ones (2.8) refuse all of it; newer ones and Hydra take it"
                .to_owned(),
        ],
    }
}

#[test]
fn every_option_from_nix_and_from_json() {
    assert_eq!(loaded("everything.nix"), loaded("everything.json"));
    let config = Config { schedules: BTreeMap::new(), ..loaded("everything.nix") };
    assert_eq!(config, everything());
}

/// On Friday, 27 November 2026, until and from 22:00 in Berlin.
#[test]
fn a_schedule_replaces_a_type_s_settings() {
    const TEN_AT_NIGHT: Timestamp = Timestamp(1_795_813_200);
    const SIX_IN_THE_MORNING: Timestamp = Timestamp(1_795_842_000);
    let config = loaded("everything.nix");
    let before = config.policy_at(Timestamp(TEN_AT_NIGHT.0 - 1));
    assert_eq!((&before.policy, before.until), (&config.policy, Some(TEN_AT_NIGHT)));
    let night = config.policy_at(TEN_AT_NIGHT);
    let mut expected = config.policy.clone();
    let pool = expected.pools.values_mut().find(|pool| pool.max_jobs == 4).unwrap();
    (pool.min_machines, pool.max_machines) = (2, 12);
    pool.idle_timeout = IdleTimeout::Auto;
    assert_eq!((night.policy, night.until), (expected, Some(SIX_IN_THE_MORNING)));
}

/// 12 machines for $0.0116 at night, one for nothing, one for $2.
#[test]
fn the_maximum_hourly_cost_of_a_configuration() {
    let cost = |config: &Config| config.hourly_cost();
    let mut config = loaded("everything.nix");
    assert_eq!(cost(&config), Some(HourlyCost { most: Money(2_139_200), unpriced: Vec::new() }));
    config.policy.max_machines = Some(2);
    assert_eq!(cost(&config).unwrap().most, Money(2_011_600), "the dearest two");
    config.policy.cost_limits.hourly = Some(Money(1_500_000));
    assert_eq!(cost(&config).unwrap().most, Money(1_500_000));
    config.policy.cost_limits.hourly = Some(Money(10_000));
    assert_eq!(cost(&config).unwrap().most, Money(23_200), "minMachines 2 at night");
    for pool in config.policy.pools.values_mut() {
        pool.dollars_per_hour = None;
    }
    assert_eq!(cost(&config), None);
}

/// With a REST queue no machines file is written by default, and builders are stopped and started by unit.
#[test]
fn a_rest_queue_has_its_own_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf.json");
    fs::write(&file, r#"{ "queue": { "url": "http://[::1]:8080/" } }"#).unwrap();
    let config = load(&file).unwrap();
    let unit = |verb| Some(words(&["systemctl", verb, "hydra-queue-builder-dev.service"]));
    assert_eq!(config.machines_file, MachinesFileSettings::to(MachinesFileTarget::NotWanted));
    assert_eq!(config.ssh.drain_command, unit("stop"));
    assert_eq!(config.ssh.resume_command, unit("start"));
    let rest =
        QueueSettings::Rest { url: "http://[::1]:8080".to_owned(), nix_command: words(&["nix"]) };
    assert_eq!(config.queue, rest);
}

/// Paths that a configuration adds to the Nix store exist, or the message says why they cannot.
#[test]
fn a_path_in_a_configuration_is_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf.nix");
    fs::write(folder.path().join("my-cloud"), "#!/bin/sh\n").unwrap();
    let text = "{ systemTypes.a.provider.command.program = [ ./my-cloud \"${./my-cloud}\" ]; }";
    fs::write(&file, text).unwrap();
    match load(&file) {
        Ok(config) => {
            let Some(ProviderSettings::Command(settings)) = config.providers.values().next() else {
                panic!("no command");
            };
            for word in &settings.program {
                assert!(word.starts_with("/nix/store/") && Path::new(word).exists(), "{word}");
            }
        }
        // In the sandbox of a build.
        Err(error) => assert!(error.to_string().contains("store cannot be written"), "{error}"),
    }
}

/// The file, the line where there is one, and what is wrong with it.
#[test]
fn files_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("syntax.nix", Some("{\n  tag = ;\n}\n"), vec!["syntax error", "syntax.nix:2:9"]),
        ("throws.nix", Some("{\n  tag = throw \"no tag today\";\n}\n"), vec!["no tag today"]),
        (
            "function.nix",
            Some("{ pkgs }: { }\n"),
            vec!["cannot convert a function to JSON", "function.nix:1:1"],
        ),
        (
            "number.nix",
            Some("7\n"),
            vec!["the configuration: must be an attribute set, is the number 7"],
        ),
        (
            "broken.json",
            Some("{\n  \"tag\": \"a\",\n}\n"),
            vec!["not valid JSON", "line 3 column 1"],
        ),
        ("missing.json", None, vec!["cannot read it", "No such file"]),
        ("missing.nix", None, vec!["cannot read it", "No such file"]),
    ];
    for (name, text, expected) in cases {
        let file = folder.path().join(name);
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let message = load(&file).unwrap_err().to_string();
        assert!(message.starts_with(&file.display().to_string()), "{name}: {message}");
        for part in expected {
            assert!(message.contains(part), "{name} does not say {part:?}: {message}");
        }
    }
}

/// The digest with `replaceOnChange` of a type with this provider.
fn digest(kind: &str, settings: &Value) -> String {
    let machine_type = "x86_64-linux";
    let of_type = json!({ "replaceOnChange": true, "provider": { kind: settings } });
    let config = parse(&json!({ "systemTypes": { machine_type: of_type } })).unwrap();
    let pool = &config.policy.pools[&MachineType::new(machine_type)];
    pool.rotation.settings.clone().unwrap()
}

/// No machine is replaced because credentials, prices or the way it is bought have changed.
#[test]
fn settings_that_do_not_change_a_machine_do_not_make_it_outdated() {
    let ec2 = json!({ "region": "eu-central-1", "image": "ami-1", "instanceTypes": ["a"], "keyName": "k" });
    let hcloud = json!({
        "tokenFile": "/t", "image": "i", "serverTypes": ["a"], "locations": ["l"], "sshKeys": ["k"],
    });
    let qemu = json!({ "image": "/i", "authorizedKeys": ["k"] });
    let of_no_matter = json!({
        "ec2": {
            "endpoint": "https://e", "profile": "p", "credentialsFile": "/c", "purchase": ["spot"],
            "purchaseMix": { "base": 1 }, "pricingEndpoint": "https://p", "spotQueue": "https://q",
        },
        "hcloud": { "tokenFile": "/u", "endpoint": "https://e", "exchangeRate": "1.1" },
        "qemu": { "hostMemory": 9000, "hostCores": 9, "warmStart": true },
    });
    let that_matters = json!({
        "ec2": {
            "image": "ami-2", "instanceTypes": ["b"], "keyName": "l", "zones": ["eu-central-1b"],
            "address": "private", "tags": { "t": "v" }, "userData": "x @identity@",
            "rootVolume": { "size": 9 },
        },
        "hcloud": { "image": "j", "serverTypes": ["b"], "locations": ["m"], "labels": { "t": "v" } },
        "qemu": { "image": "/j", "memory": 9000, "cores": 9 },
    });
    for (kind, base) in [("ec2", ec2), ("hcloud", hcloud), ("qemu", qemu)] {
        let before = digest(kind, &base);
        for (changes, is_same) in [(&of_no_matter, true), (&that_matters, false)] {
            for (option, value) in changes[kind].as_object().unwrap() {
                let mut changed = base.clone();
                changed[option] = value.clone();
                assert_eq!(digest(kind, &changed) == before, is_same, "{kind}.{option}");
            }
        }
    }
}

/// By the docs, `runnablesPerMachine` is used "instead of `targetWait`".
#[test]
fn only_one_rule_decides_how_many_machines() {
    // Targets of the type and at other hours, and the number of warnings.
    let read = |changes: Value| {
        let mut settings = json!({ "nixopsExpr": "/d.nix", "schedule": [{ "hours": "07:00-19:00", "targetWait": 60 }] });
        settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let config = parse(&json!({ "systemTypes": { "a": settings } })).unwrap();
        let target =
            |at| config.policy_at(Timestamp(at)).policy.pools.values().next().unwrap().target_wait;
        (target(0), target(12 * 3600), config.warnings)
    };
    let seconds = |number| Some(Seconds(number));
    assert_eq!(read(json!({})), (seconds(400), seconds(60), vec![]));
    assert_eq!(read(json!({ "targetWait": "4m" })), (seconds(240), seconds(60), vec![]));
    let place = |at: &str| {
        format!(
            "systemTypes.a.{at}: is not used, because runnablesPerMachine is set; remove one of them"
        )
    };
    let (own, scheduled) = (place("targetWait"), place("schedule[1].targetWait"));
    let by_number = json!({ "runnablesPerMachine": 4 });
    assert_eq!(read(by_number), (None, None, vec![scheduled.clone()]));
    let both = json!({ "runnablesPerMachine": 4, "targetWait": 240 });
    assert_eq!(read(both), (None, None, vec![own, scheduled]));
}

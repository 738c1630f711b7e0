//! `provider.hcloud` on an emulator of Hetzner's API that we did not write (`cloudalone`), with faults.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod direct;
mod emulator;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use adapters::config::parse;
use adapters::providers::{Provider, ProviderContext, build};
use planner::{Machine, MachineName, MachineState, MachineType, Money, Tag};
use reconciler::OperationErrorKind;
use reconciler::conformance;
use serde_json::{Value, json};

use direct::{Direct, refused};
use emulator::Emulator;

const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a slow shared machine, and too short for a retry.
const SHORT: Duration = Duration::from_secs(3);

/// An emulator, and the state of a provisioner.
struct Project {
    emulator: Emulator,
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Option<Self> {
        let project =
            Self { emulator: Emulator::start("hetzner")?, folder: tempfile::tempdir().unwrap() };
        fs::write(project.path("token"), "test-token\n").unwrap();
        fs::create_dir_all(project.path("state")).unwrap();
        Some(project)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, types: &[&str]) -> Value {
        let settings = json!({ "provider": { "hcloud": {
            "endpoint": format!("{}/v1", self.emulator.url),
            "tokenFile": self.path("token"),
            "serverTypes": ["cx22", "cax21"],
            "locations": ["fsn1", "hel1"],
            "image": "debian-13",
            "authorizedKeys": ["ssh-ed25519 AAAA hydra"],
        } } });
        let types: BTreeMap<_, _> = types.iter().map(|name| (*name, settings.clone())).collect();
        json!({
            "tag": "farm",
            "stateDir": self.path("state"),
            "touchKeepAlive": false,
            "checkSsh": false,
            "systemTypes": types,
        })
    }

    /// A provider that remembers nothing, as after a restart.
    fn provider_of(&self, tag: &str, types: &[&str]) -> Box<dyn Provider> {
        self.provider_with(tag, &self.config(types))
    }

    fn provider_with(&self, tag: &str, config: &Value) -> Box<dyn Provider> {
        let context = ProviderContext::new(Tag::new(tag), self.path("state"));
        build(&context, &parse(config).unwrap().providers).unwrap()
    }

    fn provider(&self) -> Box<dyn Provider> {
        self.provider_of("farm", &["x86_64-linux"])
    }

    /// All servers, of any owner.
    fn servers(&self) -> Vec<Value> {
        let answer = self.emulator.get("/v1/servers?per_page=50");
        answer["servers"].as_array().unwrap().clone()
    }

    fn make_foreign(&self, name: &str) {
        ureq::post(format!("{}/v1/servers", self.emulator.url))
            .header("authorization", "Bearer test-token")
            .header("content-type", "application/json")
            .send(json!({ "name": name, "server_type": "cx22", "image": "debian-13" }).to_string())
            .unwrap();
    }
}

/// The only machine, once it is up.
fn until_up(provider: &dyn Provider) -> Machine {
    let began = Instant::now();
    loop {
        let machines = provider.list(LIMIT).unwrap();
        assert_eq!(machines.len(), 1);
        if machines[0].state == MachineState::Up && machines[0].address.is_some() {
            return machines[0].clone();
        }
        assert!(began.elapsed() < LIMIT, "it is not up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn name(number: u32) -> MachineName {
    MachineName::new(format!("farm-{number}"))
}

fn x86() -> MachineType {
    MachineType::new("x86_64-linux")
}

#[test]
fn it_passes_the_conformance_suite() {
    let Some(project) = Project::new() else { return };
    let mut provider = Direct::of(&project.config(&["x86_64-linux"]));
    conformance::check(&mut provider, "farm", &x86()).unwrap();
    assert_eq!(project.servers(), Vec::<Value>::new());
}

#[test]
fn a_server_is_described_by_its_labels() {
    let Some(project) = Project::new() else { return };
    let long = "x86_64-linux,i686-linux:benchmark,big-parallel,kvm,nixos-test,recursive-nix";
    let provider = project.provider_of("farm", &[long]);
    let machine_type = MachineType::new(long);
    let made = provider.create(&name(0), &machine_type, "t", LIMIT).unwrap();
    let host_key = made.host_key.clone().unwrap();
    let user_data = project.emulator.get("/user-data")["farm-0"].as_str().unwrap().to_owned();
    assert!(user_data.starts_with("host-name farm-0\nhost-key "), "{user_data}");
    assert!(user_data.contains("authorized-key ssh-ed25519 AAAA hydra\n"), "{user_data}");
    assert!(!user_data.contains(&host_key), "the private key is handed in, not the public one");

    let up = provider.deploy(&made, LIMIT).unwrap();
    assert_eq!((up.state, up.host_key.as_ref()), (MachineState::Up, Some(&host_key)));
    // As after a restart with an empty state directory, and with the type gone from the configuration.
    let listed = project.provider().list(LIMIT).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].machine_type, machine_type);
    assert_eq!(listed[0].host_key, Some(host_key));
    let (started, due) = (listed[0].started_at.unwrap(), listed[0].next_charge_at.unwrap());
    assert_eq!(due.0 - started.0, 3600, "the started hour is paid for");
}

/// Faults of the first requests of a call, and how many requests are allowed.
fn passing_faults() -> Vec<(&'static str, Value)> {
    vec![
        ("500", json!({ "status": 500, "code": "server_error", "times": 2 })),
        ("502 without a body that is known", json!({ "status": 502, "code": "bad_gateway" })),
        ("503", json!({ "status": 503, "code": "unavailable" })),
        ("throttled", json!({ "status": 429, "code": "rate_limit_exceeded" })),
        ("locked", json!({ "status": 423, "code": "locked" })),
        ("connection cut before the effect", json!({ "reset": true })),
        ("answer lost after the effect", json!({ "lost": true })),
    ]
}

#[test]
fn a_temporary_fault_is_overcome_and_nothing_is_created_twice() {
    let Some(project) = Project::new() else { return };
    let calls = [
        ("POST", "^/v1/servers$"),
        ("GET", "^/v1/servers$"),
        ("POST", "/actions/shutdown$"),
        ("POST", "/actions/poweron$"),
        ("DELETE", "^/v1/servers/"),
    ];
    let cases = calls.iter().flat_map(|call| passing_faults().into_iter().map(move |f| (call, f)));
    for (number, ((method, path), (fault, mut rule))) in (0..).zip(cases) {
        rule["method"] = json!(method);
        rule["path"] = json!(path);
        project.emulator.faults(&json!([rule]));
        let what = format!("{fault} at {method} {path}");
        let provider = project.provider();
        let made = provider
            .create(&name(number), &x86(), "t", LIMIT)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(made.name, name(number), "{what}");
        let up = until_up(&*provider);
        provider.stop(&up, LIMIT).unwrap_or_else(|e| panic!("{what}: {e}"));
        provider.start(&up, LIMIT).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(project.servers().len(), 1, "{what}");
        provider.destroy(&up, LIMIT).unwrap_or_else(|e| panic!("{what}: {e}"));
        // Its deletion is a separate action.
        let began = Instant::now();
        while !project.servers().is_empty() {
            assert!(began.elapsed() < LIMIT, "{what}: a server is left");
        }
    }
}

#[test]
fn an_offer_without_capacity_is_set_aside_and_the_next_one_used() {
    let Some(project) = Project::new() else { return };
    let provider = project.provider();
    let refuse = json!({ "method": "POST", "path": "^/v1/servers$", "status": 412, "code": "resource_unavailable" });
    project.emulator.faults(&json!([refuse]));
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let place = |server: &Value| {
        (server["server_type"]["name"].clone(), server["location"]["name"].clone())
    };
    assert_eq!(place(&project.servers()[0]), (json!("cx22"), json!("hel1")));
    // It is not requested again immediately.
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    assert_eq!(project.emulator.requests("POST /v1/servers"), 3);
}

#[test]
fn without_any_offer_each_is_named_with_its_reason() {
    let Some(project) = Project::new() else { return };
    let provider = project.provider();
    let refuse = |code: &str, status: u32| {
        json!({
            "method": "POST", "path": "^/v1/servers$", "status": status, "code": code,
        })
    };
    // cax21 is not offered in hel1, and the emulator knows it.
    project.emulator.faults(&json!([
        refuse("resource_unavailable", 412),
        refuse("resource_limit_exceeded", 403),
        refuse("placement_error", 412),
    ]));
    let error = provider.create(&name(0), &x86(), "t", LIMIT).unwrap_err();
    assert_eq!(error.kind, OperationErrorKind::Capacity);
    for part in [
        "cx22 in fsn1: POST /servers: resource_unavailable (412)",
        "cx22 in hel1: POST /servers: resource_limit_exceeded (403)",
        "raise the project's limits in the console",
        "cax21 in fsn1: POST /servers: placement_error (412)",
        "cax21 in hel1: POST /servers: invalid_input (422): unsupported location",
    ] {
        assert!(error.message.contains(part), "{part:?} is not in: {}", error.message);
    }
    let again = provider.create(&name(0), &x86(), "t", LIMIT).unwrap_err();
    assert!(again.message.contains("not tried again for"), "{}", again.message);
    assert_eq!(project.emulator.requests("POST /v1/servers"), 4, "nothing was requested again");
}

#[test]
fn servers_of_others_are_never_touched() {
    let Some(project) = Project::new() else { return };
    project.make_foreign("farm-0");
    let other = project.provider_of("other", &["x86_64-linux"]);
    other.create(&MachineName::new("other-0"), &x86(), "t", LIMIT).unwrap();

    // Also where the API ignores our selector.
    project.emulator.faults(&json!([{ "ignore_labels": true }]));
    let provider = project.provider();
    assert_eq!(provider.list(LIMIT).unwrap(), vec![]);
    let error = provider.create(&name(0), &x86(), "t", LIMIT).unwrap_err();
    assert!(error.message.contains("a server named farm-0 without our labels"), "{error}");
    for machine_name in [name(0), MachineName::new("other-0")] {
        let machine = Machine::requested(machine_name, x86());
        provider.destroy(&machine, LIMIT).unwrap();
        assert!(provider.stop(&machine, LIMIT).is_err());
    }
    assert_eq!(project.servers().len(), 2);
    assert_eq!(project.emulator.requests("DELETE"), 0);
}

#[test]
fn a_permanent_error_is_one_clear_line_at_once() {
    let Some(project) = Project::new() else { return };
    let provider = project.provider();
    let cases = [
        (401, "unauthorized", "check that the token in "),
        (403, "token_readonly", "Read & Write"),
        (422, "invalid_input", "as the test wants it"),
    ];
    for (status, code, advice) in cases {
        for (method, path) in [("POST", "^/v1/servers$"), ("GET", "^/v1/servers$")] {
            let rule = json!({ "method": method, "path": path, "status": status, "code": code, "times": 9 });
            project.emulator.faults(&json!([rule]));
            let error = match method {
                "POST" => provider.create(&name(0), &x86(), "t", LIMIT).unwrap_err(),
                _ => provider.list(LIMIT).unwrap_err(),
            };
            assert_eq!(error.kind, OperationErrorKind::Failed);
            assert!(error.message.contains(code) && error.message.contains(advice), "{error}");
            assert!(
                !error.message.contains("test-token") && !error.message.contains('\n'),
                "{error}"
            );
            assert_eq!(project.emulator.requests(method), 1, "it was not repeated");
        }
    }
    fs::write(project.path("token"), "two words").unwrap();
    let error = provider.list(LIMIT).unwrap_err();
    assert!(error.message.contains("must contain an API token and nothing else"), "{error}");
    assert!(!error.message.contains("two words"), "{error}");
    fs::remove_file(project.path("token")).unwrap();
    assert!(provider.list(LIMIT).unwrap_err().message.contains("provider.hcloud.tokenFile"));
}

#[test]
fn a_call_ends_within_its_limit() {
    let Some(project) = Project::new() else { return };
    let provider = project.provider();
    let always = |what: Value| {
        let mut rule = json!({ "method": "GET", "path": ".", "times": 1000 });
        rule.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        json!([rule])
    };
    for (what, said) in [
        (json!({ "status": 503, "code": "unavailable" }), "unavailable (503)"),
        (json!({ "seconds": 60 }), "no answer within"),
    ] {
        project.emulator.faults(&always(what));
        let began = Instant::now();
        let error = provider.list(SHORT).unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::TimedOut);
        assert!(error.message.contains(said), "{error}");
        assert!(began.elapsed() < SHORT * 2, "{:?}", began.elapsed());
    }
}

#[test]
fn all_pages_are_read_or_none() {
    let Some(project) = Project::new() else { return };
    let provider = project.provider();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let provider = &provider;
            scope.spawn(move || {
                for number in (0..120).filter(|number| number % 8 == worker) {
                    provider.create(&name(number), &x86(), "t", Duration::from_secs(120)).unwrap();
                }
            });
        }
    });
    let expected: BTreeSet<_> = (0..120).map(name).collect();
    let names = |provider: &dyn Provider| -> BTreeSet<_> {
        provider.list(LIMIT).unwrap().into_iter().map(|machine| machine.name).collect()
    };
    assert_eq!(names(&*provider), expected);
    // The second page fails once; a provider without memory still sees everything.
    let second = json!({ "method": "GET", "path": "^/v1/servers$", "skip": 1, "lost": true });
    project.emulator.faults(&json!([second]));
    assert_eq!(names(&*project.provider()), expected);
    // It fails permanently: then there is no listing.
    project.emulator.faults(&json!([{
        "method": "GET", "path": "^/v1/servers$", "skip": 1, "times": 1000, "status": 503, "code": "unavailable",
    }]));
    assert!(provider.list(SHORT).is_err());
}

#[test]
fn prices_are_known_in_dollars() {
    let Some(project) = Project::new() else { return };
    let mut config = project.config(&["x86_64-linux"]);
    let mut priced = |rate: Value| {
        config["systemTypes"]["x86_64-linux"]["provider"]["hcloud"]["exchangeRate"] = rate;
        let provider = project.provider_with("farm", &config);
        provider.list(LIMIT).unwrap();
        let most = provider.prices()[&x86()];
        (provider, most)
    };
    let (provider, in_euros) = priced(Value::Null);
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let price = made.dollars_per_hour.unwrap();
    assert!(price > Money(0) && price <= in_euros, "{price} of {in_euros}");
    let first = project.provider().list(LIMIT).unwrap();
    assert_eq!(first[0].dollars_per_hour, Some(price), "the first listing has prices, too");
    let (provider, in_dollars) = priced(json!("1.5"));
    assert_eq!(in_dollars, Money(in_euros.0 * 3 / 2));
    assert_eq!(provider.list(LIMIT).unwrap()[0].dollars_per_hour, Some(Money(price.0 * 3 / 2)));
}

#[test]
fn a_trial_reads_what_the_settings_name() {
    let Some(project) = Project::new() else { return };
    let tried = |change: &dyn Fn(&mut Value)| {
        let mut config = project.config(&["x86_64-linux"]);
        change(&mut config["systemTypes"]["x86_64-linux"]["provider"]["hcloud"]);
        refused(&project.provider_with("farm", &config).try_calls(LIMIT))
    };
    assert_eq!(tried(&|_| {}), [""; 0]);
    for (option, value, said) in [
        ("serverTypes", json!(["cx22", "cx99"]), "server_types cx99 of x86_64-linux: "),
        ("locations", json!(["mars1"]), "locations mars1"),
        ("image", json!("debian-99"), "images debian-99"),
        ("sshKeys", json!(["nobody"]), "ssh_keys nobody"),
        ("networks", json!([77]), "networks 77"),
    ] {
        let refused = tried(&|settings| settings[option] = value.clone());
        assert_eq!(refused.len(), 1, "{option}: {refused:?}");
        assert!(refused[0].starts_with(said), "{option}: {refused:?}");
    }
    fs::write(project.path("token"), "wrong").unwrap();
    let refused = tried(&|_| {});
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("unauthorized"), "{refused:?}");
}

#[test]
fn a_server_with_another_image_than_the_newest_is_noticed_where_that_matters() {
    let Some(project) = Project::new() else { return };
    let mut config = project.config(&["x86_64-linux"]);
    let other = project.provider_with("farm", &{
        let mut config = config.clone();
        config["systemTypes"]["x86_64-linux"]["provider"]["hcloud"]["image"] =
            json!("ubuntu-24.04");
        config
    });
    // The emulator's newest image is debian-13.
    let hcloud = &mut config["systemTypes"]["x86_64-linux"]["provider"]["hcloud"];
    hcloud["image"] = Value::Null;
    hcloud["imageSelector"] = json!("role=builder");
    let indifferent = project.provider_with("farm", &config);
    config["systemTypes"]["x86_64-linux"]["replaceOnChange"] = json!(true);
    let provider = project.provider_with("farm", &config);
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    other.create(&name(1), &x86(), "t", LIMIT).unwrap();
    let has_old_image = |provider: &dyn Provider| -> BTreeMap<_, _> {
        let listed = provider.list(LIMIT).unwrap().into_iter();
        listed.map(|machine| (machine.name, machine.has_old_image)).collect()
    };
    assert_eq!(has_old_image(&*provider), [(name(0), false), (name(1), true)].into());
    assert_eq!(has_old_image(&*indifferent), [(name(0), false), (name(1), false)].into());
}

/// A server keeps the keys of its creation.
#[test]
fn a_server_with_other_ssh_keys_than_new_ones_has_a_warning() {
    let Some(project) = Project::new() else { return };
    let mut config = project.config(&["x86_64-linux"]);
    project.provider_with("farm", &config).create(&name(0), &x86(), "t", LIMIT).unwrap();
    let listed = |config: &Value| {
        let listed = project.provider_with("farm", config).list(LIMIT).unwrap().remove(0);
        (listed.problems, listed.has_old_image)
    };
    assert_eq!(listed(&config), (vec![], false));
    let settings = &mut config["systemTypes"]["x86_64-linux"];
    settings["provider"]["hcloud"]["authorizedKeys"] = json!(["ssh-ed25519 BBBB hydra"]);
    let (problems, has_old_image) = listed(&config);
    assert!(problems[0].contains("(sshKey, provider.hcloud.authorizedKeys)"), "{problems:?}");
    assert!(!has_old_image);
    config["systemTypes"]["x86_64-linux"]["replaceOnChange"] = json!(true);
    assert!(listed(&config).1);
}

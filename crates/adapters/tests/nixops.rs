//! NixOps 1.7 and 2.0, against a fake program with their input and output.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

mod direct;

use direct::{Direct, Outcome};
use planner::{Host, Machine, MachineName, MachineState, MachineType, Operation, Tag};
use reconciler::conformance;
use serde_json::{Value, json};

const TYPE: &str = "x86_64-linux";

struct Nixops {
    folder: tempfile::TempDir,
    settings: Value,
    deploy_timeout: u64,
}

impl Nixops {
    fn new(version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nixops/fake_nixops.py");
        let mut settings = json!({
            "program": ["python3", fake, version, folder.path()],
            "nixPath": ["nixpkgs=/a path/with \"quotes\""],
            "stateFile": folder.path().join("deployments.nixops"),
        });
        settings[if version == "1" { "expr" } else { "network" }] = json!("/srv/my farm.nix");
        Self { folder, settings, deploy_timeout: 300 }
    }

    fn provider(&self) -> Direct {
        let config = json!({
            "tag": "farm",
            "stateDir": self.path("state"),
            "touchKeepAlive": false,
            "checkSsh": false,
            "deployTimeout": self.deploy_timeout,
            "systemTypes": { TYPE: { "provider": { "nixops": self.settings } } },
        });
        fs::create_dir_all(self.path("state")).unwrap();
        Direct::of(&config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn control(&self, name: &str, value: &str) {
        fs::write(self.path(name), value).unwrap();
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("deployments.nixops")).unwrap()).unwrap()
    }

    fn set_state(&self, state: &Value) {
        fs::write(self.path("deployments.nixops"), state.to_string()).unwrap();
    }

    /// The arguments of every call, one call per line.
    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap()
    }
}

fn versions() -> [Nixops; 2] {
    ["1", "2"].map(Nixops::new)
}

fn perform(nixops: &Nixops, names: &[&str], steps: &[Operation]) -> Vec<Outcome> {
    let machine = |name: &&str| Machine::requested(MachineName::new(*name), MachineType::new(TYPE));
    let machines: Vec<_> = names.iter().map(machine).collect();
    nixops.provider().run_all(&machines, steps)
}

fn failure(outcomes: &[Outcome], index: usize) -> String {
    outcomes[index].as_ref().unwrap_err().to_string()
}

#[test]
fn both_versions_pass_the_conformance_suite() {
    for nixops in versions() {
        conformance::check(&mut nixops.provider(), "farm", &MachineType::new(TYPE)).unwrap();
        assert_eq!(nixops.state(), json!({}), "no deployment is left");
    }
}

#[test]
fn a_deployed_machine_is_described() {
    for nixops in versions() {
        perform(&nixops, &["farm-0"], &[Operation::Create, Operation::Deploy])[0].as_ref().unwrap();
        let expected = Machine {
            state: MachineState::Up,
            address: Some(Host::new("10.0.0.48")),
            tag: Some(Tag::new("farm")),
            host_key: Some("ssh-ed25519 AAAA48".to_owned()),
            ..Machine::requested(MachineName::new("farm-0"), MachineType::new(TYPE))
        };
        assert_eq!(nixops.provider().machines(), [expected]);
    }
}

/// Blanks and quotes arrive as they are; NixOps 2 gets no expression file, NixOps 1 no network.
#[test]
fn arguments_arrive_unchanged() {
    let [one, two] = versions();
    for nixops in [&one, &two] {
        perform(nixops, &["farm-0"], &[Operation::Create])[0].as_ref().unwrap();
        let path = r#""-I", "nixpkgs=/a path/with \"quotes\"""#;
        assert!(nixops.calls().contains(path), "{}", nixops.calls());
    }
    let create = r#"["create", "-d", "farm-0", "/srv/my farm.nix", "-I","#;
    assert!(one.calls().contains(create), "{}", one.calls());
    let create = r#"["create", "--network", "/srv/my farm.nix", "-d", "farm-0", "-I","#;
    assert!(two.calls().contains(create), "{}", two.calls());
}

/// The original stripped quotes; here names with quotes are kept.
#[test]
fn a_type_with_special_characters_is_kept() {
    for nixops in versions() {
        let odd = r#"x86_64-linux:a"b\c${d}"#;
        let config = json!({
            "tag": "farm",
            "stateDir": nixops.path("state"),
            "touchKeepAlive": false,
            "checkSsh": false,
            "systemTypes": { odd: { "provider": { "nixops": nixops.settings } } },
        });
        fs::create_dir_all(nixops.path("state")).unwrap();
        let provider = Direct::of(&config);
        let machine = Machine::requested(MachineName::new("farm-0"), MachineType::new(odd));
        provider.run(&machine, &[Operation::Create, Operation::Deploy]).unwrap();
        assert_eq!(provider.machines()[0].machine_type.as_str(), odd);
    }
}

#[test]
fn deployments_of_others_are_not_seen_and_not_touched() {
    for nixops in versions() {
        let others = json!({
            "u-1": { "name": "farm-0", "args": "{\"tag\": \"\\\"other\\\"\", \"type\": \"\\\"x86_64-linux\\\"\"}",
                     "resources": { "machine": { "state": "3" } } },
            "u-2": { "name": "website", "resources": { "web": { "state": "3" } } },
            "u-3": { "resources": {} },
            "u-4": { "name": "farm-0", "resources": { "machine": { "state": "3" } } },
            "u-5": { "name": "farm-0", "args": "{\"database\": \"true\"}", "resources": {} },
        });
        nixops.set_state(&others);
        assert_eq!(nixops.provider().machines(), []);
        let steps = [Operation::Create, Operation::Deploy, Operation::Destroy];
        perform(&nixops, &["farm-0"], &steps)[0].as_ref().unwrap();
        assert_eq!(nixops.state(), others);
    }
}

/// Killed between creating, naming and tagging a deployment: the next attempt ends with one machine.
#[test]
fn an_incomplete_deployment_is_completed() {
    for nixops in versions() {
        nixops.control("set-args-dies", "yes");
        let outcomes = perform(&nixops, &["farm-0"], &[Operation::Create]);
        assert!(failure(&outcomes, 0).contains("killed before the arguments were set"));
        assert_eq!(nixops.provider().machines(), [], "it has no tag yet");
        fs::remove_file(nixops.path("set-args-dies")).unwrap();

        perform(&nixops, &["farm-0"], &[Operation::Create, Operation::Deploy])[0].as_ref().unwrap();
        assert_eq!(nixops.state().as_object().unwrap().len(), 1);
        assert_eq!(nixops.provider().machines().len(), 1);
    }
}

/// Two with the same name, one of them not tagged yet: the tagged one is used.
#[test]
fn a_tagged_deployment_comes_before_an_untagged_one() {
    for nixops in versions() {
        perform(&nixops, &["farm-0"], &[Operation::Create, Operation::Deploy])[0].as_ref().unwrap();
        let mut state = nixops.state();
        state["a-first"] = json!({ "name": "farm-0", "resources": {} });
        nixops.set_state(&state);
        perform(&nixops, &["farm-0"], &[Operation::Destroy])[0].as_ref().unwrap();
        assert_eq!(nixops.state(), json!({ "a-first": { "name": "farm-0", "resources": {} } }));
    }
}

#[test]
fn a_failing_deployment_reports_its_last_lines_and_does_not_affect_others() {
    for nixops in versions() {
        nixops.control("deploy-fails", "farm-1");
        let outcomes = perform(
            &nixops,
            &["farm-0", "farm-1", "farm-2"],
            &[Operation::Create, Operation::Deploy],
        );
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        let message = failure(&outcomes, 1);
        for part in ["exit code 1", "activation of 1 of 1 machines failed"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn a_hanging_deployment_ends_at_its_time_limit() {
    let mut nixops = Nixops::new("2");
    nixops.control("deploy-hangs", "farm-1");
    let created = perform(&nixops, &["farm-0", "farm-1"], &[Operation::Create]);
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    let other = perform(&nixops, &["farm-0"], &[Operation::Deploy]);
    assert!(other[0].is_ok(), "{:?}", other[0]);
    nixops.deploy_timeout = 20;
    let outcomes = perform(&nixops, &["farm-1"], &[Operation::Deploy]);
    let message = failure(&outcomes, 0);
    assert!(message.contains("deploy --network") && message.contains("was killed"), "{message}");
}

#[test]
fn an_invalid_export_is_not_an_empty_farm() {
    for nixops in versions() {
        perform(&nixops, &["farm-0"], &[Operation::Create, Operation::Deploy])[0].as_ref().unwrap();
        nixops.control("export-garbage", "yes");
        let reason = conformance::Provider::list(&mut nixops.provider()).unwrap_err();
        assert!(reason.contains("not a JSON object"), "{reason}");
    }
}

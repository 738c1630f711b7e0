//! A machine is recognized in every spelling; a machine that may be a busy one of ours is not released; machines that
//! are not ours are not touched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::process::Output;

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// Lists `list.json` and records what it destroys.
const PROVIDER: &str = r#"
directory=$1 verb=$2
request=$(cat)
case $verb in
    list) cat "$directory/list.json" ;;
    create) exit 1 ;;
    destroy) echo "$request" >>"$directory/destroyed"; echo '{}' ;;
    *) echo '{}' ;;
esac
"#;

/// A farm with a provider that lists `machines`: x86_64-linux ones and up by default.
fn farm(options: &Value, machines: &[Value]) -> Farm {
    let farm = Farm::new(options);
    fs::write(farm.path("stub"), PROVIDER).unwrap();
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf["tag"] = json!("farm");
    conf["deployTimeout"] = json!(3);
    let command = &mut conf["systemTypes"]["x86_64-linux"]["provider"]["command"];
    command["program"] = json!(["sh", farm.path("stub"), farm.path("")]);
    fs::write(farm.conf(), conf.to_string()).unwrap();
    list(&farm, machines);
    farm
}

fn list(farm: &Farm, machines: &[Value]) {
    let machines: Vec<_> = machines
        .iter()
        .map(|said| {
            let mut machine = json!({ "type": "x86_64-linux", "state": "up" });
            machine.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            machine
        })
        .collect();
    fs::write(farm.path("list.json"), json!({ "machines": machines }).to_string()).unwrap();
}

/// Names of the machines that the provider destroys within a few cycles.
fn destroyed(farm: &Farm) -> Vec<String> {
    for _ in 0..4 {
        let output = farm.run(&["run"]);
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
    let requests = fs::read_to_string(farm.path("destroyed")).unwrap_or_default();
    let name = |line: &str| {
        let request: Value = serde_json::from_str(line).unwrap();
        request["name"].as_str().unwrap().to_owned()
    };
    let mut names: Vec<_> = requests.lines().map(name).collect();
    names.sort();
    names.dedup();
    names
}

fn busy(jobs: u64) -> Value {
    json!({ "enabled": true, "currentJobs": jobs })
}

/// Idle for long, and no longer in the machines file.
fn idle() -> Value {
    json!({ "enabled": false, "currentJobs": 0, "idleSince": 1_000_000_000 })
}

fn show(farm: &Farm, machines: &Value) {
    farm.set_queue(&json!({ "x86_64-linux": { "runnable": 0, "running": 0 } }), machines);
}

/// The provider's address of a machine, and the queue runner's name for it.
const SPELLINGS: [(&str, &str); 12] = [
    ("[2001:db8::4]", "root@[2001:db8::4]"),
    ("2001:DB8:0:0::4", "root@2001:db8::4"),
    ("2001:db8::4", "ssh://root@[2001:0db8:0000::0004]:22"),
    ("::ffff:10.0.0.7", "root@10.0.0.7"),
    ("10.0.0.7", "ssh-ng://root@[::ffff:a00:7]?compress=true"),
    ("root@10.0.0.7", "root@10.0.0.7"),
    ("10.0.0.7:2222", "ssh://root@10.0.0.7:2222"),
    ("ssh://build@10.0.0.7:2222", "ssh://build@10.0.0.7:2222"),
    ("M.Example.ORG.", "root@m.example.org"),
    ("m.example.org", "SSH://root@M.example.org./"),
    ("m.example.org", "someone@else@m.example.org"),
    ("fe80::1%eth0", "ssh://root@[fe80::1%25eth0]"),
];

#[test]
fn a_busy_machine_stays_and_an_idle_one_goes_however_it_is_spelt() {
    for (address, key) in SPELLINGS {
        let farm = farm(&json!({}), &[json!({ "name": "farm-0", "address": address })]);
        show(&farm, &json!({ key: busy(1) }));
        assert_eq!(destroyed(&farm), [""; 0], "{address} {key}");
        // Beside an unknown busy builder: it is released only if it is certainly another one.
        show(&farm, &json!({ key: idle(), "root@unknown.example.org": busy(1) }));
        assert_eq!(destroyed(&farm), ["farm-0"], "{address} {key}");
    }
}

#[test]
fn a_machine_that_may_be_a_busy_unknown_builder_stays() {
    let machine = json!({ "name": "farm-0", "address": "10.0.0.7" });
    let status = json!({ "root@renamed.example.org": busy(1), "localhost": busy(1) });

    let unknown = farm(&json!({}), std::slice::from_ref(&machine));
    show(&unknown, &status);
    let said = stdout(&unknown.run(&["plan"]));
    assert!(said.contains("renamed.example.org") && said.contains("otherMachines"), "{said}");
    assert_eq!(destroyed(&unknown), [""; 0]);

    for options in [
        json!({ "otherMachines": ["Renamed.example.org."] }),
        json!({ "otherMachines": ["renamed.*"] }),
        json!({ "staticMachines": ["ssh://root@renamed.example.org x86_64-linux - 4"] }),
    ] {
        let known = farm(&options, std::slice::from_ref(&machine));
        show(&known, &status);
        assert_eq!(destroyed(&known), ["farm-0"], "{options}");
    }
}

/// The listing contains another address, or none, for a machine that builds at its earlier one.
#[test]
fn a_machine_whose_address_changes_while_it_builds_stays() {
    for address in [json!(null), json!("farm-0.example.org"), json!(""), json!("a b"), json!(7)] {
        let farm = farm(&json!({}), &[json!({ "name": "farm-0", "address": "10.9.0.3" })]);
        show(&farm, &json!({ "root@10.9.0.3": busy(4) }));
        assert_eq!(destroyed(&farm), [""; 0]);
        list(&farm, &[json!({ "name": "farm-0", "address": address })]);
        assert_eq!(destroyed(&farm), [""; 0], "{address}");
    }
}

#[test]
fn machines_of_others_are_left_alone() {
    let machine = |name: &str| json!({ "name": name, "address": "10.0.0.7" });
    let mut tagged = machine("web");
    tagged["tag"] = json!("farm");
    let mut foreign = machine("farm-1");
    foreign["tag"] = json!("other");
    let names = ["other-0", "db-server-prod", "farm", "farm-01", "farm-0-old"];
    let mut machines: Vec<_> = names.into_iter().map(machine).collect();
    machines.extend([tagged, foreign, machine("farm-7")]);
    let farm = farm(&json!({}), &machines);
    show(&farm, &json!({}));
    assert_eq!(destroyed(&farm), ["farm-7", "web"]);
}

fn plan(details: &Value) -> Output {
    let mut machine = json!({ "name": "farm-0", "address": "10.0.0.7" });
    machine.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    let farm = farm(&json!({}), &[machine]);
    show(&farm, &json!({ "root@10.0.0.7": idle() }));
    farm.run(&["plan"])
}

#[test]
fn a_detail_that_makes_no_sense_is_named_and_costs_nothing_else() {
    for (details, named) in [
        (json!({ "next_charge_at": 1_793_800_800_000_u64 }), "is in milliseconds"),
        (json!({ "started_at": 12 }), "its started_at 12 is before the year 2000"),
        (json!({ "started_at": "soon" }), "its started_at \"soon\" is not a time"),
        (json!({ "host_key": "ssh-rsa AAAA\n* ssh-rsa BBBB" }), "is not one line TYPE KEY"),
        (
            json!({ "ssh_port": 23, "address": "10.0.0.7:22" }),
            "the port 22, but its ssh_port is 23",
        ),
        (json!({ "address": "ssh-ng://10.0.0.7" }), "chosen with storeUri"),
    ] {
        let output = plan(&details);
        let said = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{details}: {}", stderr(&output));
        assert!(said.contains(named), "{details}: {said}");
        assert!(!said.contains("of paid time left"), "{said}");
    }
    let said =
        stdout(&plan(&json!({ "started_at": 1_793_800_800.5, "next_charge_at": "1793800800" })));
    assert!(!said.contains("farm-0: its"), "{said}");
}

#[test]
fn what_the_program_printed_is_shown_where_it_is_no_answer() {
    let farm = farm(&json!({}), &[]);
    fs::write(farm.path("list.json"), r#"{"machines": [{"name": "farm-\u001b[2J"}]}"#).unwrap();
    let output = farm.run(&["plan"]);
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert!(said.contains("machines[0] has no type"), "{said}");
    assert!(said.contains("farm-") && !said.contains("\u{1b}[2J"), "{said}");
}

#[test]
fn a_machines_file_of_somebody_else_is_left_alone() {
    let machine = [json!({ "name": "farm-0", "address": "10.0.0.7" })];
    let hand_written = "mac-1 aarch64-darwin\n";
    let refused = farm(&json!({}), &machine);
    fs::write(refused.path("machines-file"), hand_written).unwrap();
    show(&refused, &json!({}));
    assert_eq!(destroyed(&refused), [""; 0], "nothing is released without a machines file");
    let output = refused.run(&["run"]);
    assert_ne!(output.status.code(), Some(0));
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert!(said.contains("machinesFileMode"), "{said}");
    assert_eq!(fs::read_to_string(refused.path("machines-file")).unwrap(), hand_written);

    let options =
        json!({ "machinesFileMode": "takeover", "staticMachines": ["mac-1 aarch64-darwin"] });
    let taken = farm(&options, &machine);
    fs::write(taken.path("machines-file"), hand_written).unwrap();
    taken.set_queue(
        &json!({ "x86_64-linux": { "runnable": 1, "running": 0 } }),
        &json!({ "root@10.0.0.7": busy(0) }),
    );
    taken.run(&["run"]);
    let lines = taken.machines_file();
    assert_eq!(lines[0], "mac-1 aarch64-darwin");
    assert!(lines[1].starts_with("root@10.0.0.7 x86_64-linux,i686-linux "), "{lines:?}");
}

//! Answers that contradict each other or make no sense: nothing that may be busy is released, nothing is created without
//! end, and messages name what is wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use farm::service::{Service, until};
use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// Lists `list.json`; creates `create.json` with the name that was asked for; records its calls.
const PROVIDER: &str = r#"
directory=$1 verb=$2
request=$(cat)
echo "$verb $request" >>"$directory/calls"
case $verb in
    list) cat "$directory/list.json" ;;
    create)
        name=$(echo "$request" | sed 's/.*"name":"\([^"]*\)".*/\1/')
        machine=$(sed "s/NAME/$name/" "$directory/create.json")
        echo "{\"machine\":$machine}"
        echo "{\"machines\":[$machine]}" | sed 's/"x86_64-linux"/"X86_64-LINUX"/' >"$directory/list.json" ;;
    destroy) echo '{"machines":[]}' >"$directory/list.json"; echo '{}' ;;
    *) echo '{}' ;;
esac
"#;

/// A farm with a provider that lists `machines`: x86_64-linux ones and up by default.
fn farm(options: &Value, machines: &[Value]) -> Farm {
    let farm = Farm::new(options);
    fs::write(farm.path("stub"), PROVIDER).unwrap();
    change(&farm, |conf| {
        conf["tag"] = json!("farm");
        conf["deployTimeout"] = json!(3);
        let command = &mut conf["systemTypes"]["x86_64-linux"]["provider"]["command"];
        command["program"] = json!(["sh", farm.path("stub"), farm.path("")]);
    });
    list(&farm, machines);
    create(&farm, &json!({}));
    farm
}

fn change(farm: &Farm, change: impl Fn(&mut Value)) {
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    change(&mut conf);
    fs::write(farm.conf(), conf.to_string()).unwrap();
}

fn machine(details: &Value) -> Value {
    let mut machine = json!({ "type": "x86_64-linux", "state": "up", "address": "10.0.0.7" });
    machine.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    machine
}

fn list(farm: &Farm, machines: &[Value]) {
    let machines: Vec<_> = machines.iter().map(machine).collect();
    fs::write(farm.path("list.json"), json!({ "machines": machines }).to_string()).unwrap();
}

/// The answer to `create`.
fn create(farm: &Farm, details: &Value) {
    let mut machine = machine(details);
    machine["name"] = json!("NAME");
    fs::write(farm.path("create.json"), machine.to_string()).unwrap();
}

/// Runs a few times, like cron; returns what was printed.
fn run(farm: &Farm, times: u32) -> String {
    let mut text = String::new();
    for _ in 0..times {
        let output = farm.run(&["run"]);
        text.push_str(&stdout(&output));
        text.push_str(&stderr(&output));
    }
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn calls(farm: &Farm, verb: &str) -> usize {
    let calls = fs::read_to_string(farm.path("calls")).unwrap_or_default();
    calls.lines().filter(|line| line.starts_with(&format!("{verb} "))).count()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn entry(is_enabled: bool, jobs: u64) -> Value {
    json!({ "enabled": is_enabled, "currentJobs": jobs, "idleSince": if jobs == 0 { 1_000_000_000 } else { 0 } })
}

fn show(farm: &Farm, runnable: u64, machines: &Value) {
    farm.set_queue(&json!({ "x86_64-linux": { "runnable": runnable, "running": 0 } }), machines);
}

/// An `updateCommand` begins to write other names. The queue runner keeps the entry of the old name, as disabled.
#[test]
fn a_machine_that_an_update_command_renames_later_stays_while_it_builds() {
    let options = json!({ "machinesFile": null, "updateCommand": ["sh", "-c", "cat >/dev/null"] });
    let farm = farm(&options, &[json!({ "name": "farm-0" })]);
    show(&farm, 1, &json!({ "root@10.0.0.7": entry(true, 0) }));
    run(&farm, 2);
    show(
        &farm,
        0,
        &json!({ "root@10.0.0.7": entry(false, 0), "root@m.example.org": entry(true, 1) }),
    );
    let said = run(&farm, 1);
    assert!(said.contains("lists it as disabled although the machines file named it"), "{said}");
    run(&farm, 2);
    assert_eq!(calls(&farm, "destroy"), 0, "{said}");
    show(
        &farm,
        0,
        &json!({ "root@10.0.0.7": entry(false, 0), "root@m.example.org": entry(false, 0) }),
    );
    run(&farm, 2);
    assert_eq!(calls(&farm, "destroy"), 1);
}

/// The operator's pattern also matches the name of a machine of ours.
#[test]
fn a_pattern_of_other_machines_does_not_hide_our_own() {
    let farm = farm(&json!({ "otherMachines": ["farm-*"] }), &[json!({ "name": "farm-0" })]);
    for name in ["root@farm-0", "root@Farm-0.example.org"] {
        show(&farm, 0, &json!({ name: entry(true, 1) }));
        run(&farm, 2);
        assert_eq!(calls(&farm, "destroy"), 0, "{name}");
    }
    // Another one.
    show(&farm, 0, &json!({ "root@farm-9": entry(true, 1) }));
    run(&farm, 2);
    assert_eq!(calls(&farm, "destroy"), 1);
}

/// Of two entries with one key, JSON parsers use the last one.
#[test]
fn a_machine_that_one_answer_lists_twice_stays() {
    let farm = farm(&json!({}), &[json!({ "name": "farm-0" })]);
    let (busy, idle) = (entry(true, 3), entry(false, 0));
    let status = format!(
        r#"{{"status":"up","uptime":1000000,"machineTypes":{{}},"machines":{{"root@10.0.0.7":{busy},"root@10.0.0.7":{idle}}}}}"#
    );
    fs::write(farm.path("status.json"), status).unwrap();
    let said = run(&farm, 2);
    assert!(said.contains(r#"the key "root@10.0.0.7" appears twice"#), "{said}");
    assert_eq!(calls(&farm, "destroy"), 0, "{said}");
}

/// A second machine of the name builds, and the listing lacks it for a while: a release by name could hit it.
#[test]
fn a_machine_stays_while_its_namesake_builds() {
    let machines =
        [json!({ "name": "farm-0" }), json!({ "name": "farm-0", "address": "10.0.0.8" })];
    let farm = farm(&json!({}), &machines);
    show(&farm, 0, &json!({ "root@10.0.0.7": entry(false, 0), "root@10.0.0.8": entry(true, 2) }));
    run(&farm, 1);
    list(&farm, &machines[..1]);
    run(&farm, 2);
    assert_eq!(calls(&farm, "destroy"), 0);
    show(&farm, 0, &json!({ "root@10.0.0.7": entry(false, 0), "root@10.0.0.8": entry(false, 0) }));
    run(&farm, 2);
    assert_eq!(calls(&farm, "destroy"), 1);
}

/// It would never have been idle for long enough.
#[test]
fn an_idle_machine_goes_though_it_is_idle_since_next_year() {
    let farm = farm(&json!({}), &[json!({ "name": "farm-0", "started_at": now() - 9000 })]);
    change(&farm, |conf| conf["systemTypes"]["x86_64-linux"]["idleTimeout"] = json!(1));
    let ahead = json!({ "enabled": false, "currentJobs": 0, "idleSince": now() + 31_536_000 });
    show(&farm, 0, &json!({ "root@10.0.0.7": ahead }));
    let said = run(&farm, 1);
    assert!(said.contains("later than the answer itself; it is ignored"), "{said}");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    run(&farm, 2);
    assert_eq!(calls(&farm, "destroy"), 1, "{said}");
}

/// Blanks around an address are no part of it.
#[test]
fn an_address_may_end_with_a_line_break() {
    let farm = farm(&json!({}), &[json!({ "name": "farm-0", "address": " 10.0.0.7\n" })]);
    show(&farm, 1, &json!({}));
    let said = run(&farm, 1);
    assert!(said.contains("farm-0: ready"), "{said}");
    assert!(farm.machines_file()[0].starts_with("root@10.0.0.7 "), "{said}");
    show(&farm, 2, &json!({}));
    list(&farm, &[json!({ "name": "farm-0" }), json!({ "name": "farm-1", "address": "10.0.0" })]);
    let said = run(&farm, 1);
    assert!(
        said.contains("cannot deploy it: its address \"10.0.0\" is not a whole IPv4"),
        "{said}"
    );
}

/// Each may cost money: the next one waits, longer each time.
#[test]
fn machines_that_fail_before_they_are_ready_are_not_created_without_end() {
    let farm = farm(&json!({}), &[]);
    create(&farm, &json!({ "state": "failed" }));
    show(&farm, 1, &json!({}));
    let said = run(&farm, 1);
    assert!(said.contains("machines file"), "{said}");
    assert_eq!(calls(&farm, "create"), 1, "{said}");
    let plan = stdout(&farm.run(&["plan"]));
    assert!(plan.contains("the machine failed before it was ready"), "{plan}");
}

/// The provider's listing spells the type in another way than its answer to `create`.
#[test]
fn a_machine_keeps_the_type_that_it_was_requested_with() {
    let farm = farm(&json!({}), &[]);
    show(&farm, 1, &json!({}));
    let said = run(&farm, 3);
    assert_eq!((calls(&farm, "create"), calls(&farm, "destroy")), (1, 0), "{said}");
    assert!(said.contains("reports the type X86_64-LINUX; it was requested with"), "{said}");
}

/// Two files with the same tag and state directory: each would destroy the other's machines.
#[test]
fn another_configuration_with_the_same_state_is_refused_early() {
    let farm = farm(&json!({}), &[json!({ "name": "farm-0" })]);
    show(&farm, 1, &json!({ "root@10.0.0.7": entry(true, 0) }));
    run(&farm, 1);
    let text = fs::read_to_string(farm.conf()).unwrap();
    let other = farm.path("other.json");
    fs::write(&other, text.replace("\"x86_64-linux\"", "\"aarch64-linux\"")).unwrap();
    let with_other = |command: &str| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        let output = program.arg(command).arg(&other).output().unwrap();
        (output.status.success(), format!("{}{}", stdout(&output), stderr(&output)))
    };
    for command in ["check", "run"] {
        let (is_good, said) = with_other(command);
        assert!(!is_good, "{said}");
        for part in ["conf.json", "other.json", "farm-0 (x86_64-linux)", "stateDir"] {
            assert!(said.contains(part), "{said}");
        }
    }
    assert_eq!(calls(&farm, "destroy"), 0);
    run(&farm, 1);
    // It replaces the first one.
    fs::remove_file(farm.conf()).unwrap();
    let (is_good, said) = with_other("run");
    assert!(is_good && said.contains("its type is not configured any more"), "{said}");
}

/// `check` says what `run` would fail with on this host.
#[test]
fn check_tells_what_run_could_not_use_here() {
    let farm = farm(&json!({}), &[]);
    let checked = || {
        let output = farm.run(&["check"]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert_eq!(checked(), "");
    fs::write(farm.path("machines-file"), "mac-1 aarch64-darwin\n").unwrap();
    fs::create_dir(farm.path("state")).unwrap();
    fs::create_dir(farm.path("state/lock")).unwrap();
    change(&farm, |conf| {
        conf["statusCommand"] = json!(["no-such-status"]);
        conf["systemTypes"]["x86_64-linux"]["provider"]["command"]["program"] =
            json!([farm.path("list.json")]);
    });
    let said = checked();
    for part in [
        "systemTypes.x86_64-linux.provider.command.program: cannot run",
        "statusCommand: cannot run no-such-status",
        "machinesFile",
        "staticMachines",
        "state/lock is not a regular file",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    fs::remove_dir(farm.path("state/lock")).unwrap();
    fs::write(farm.path("state/state.sqlite"), "garbage").unwrap();
    assert!(checked().contains("file is not a database"), "{}", checked());
}

/// Absurd times and outputs that cannot be written.
#[test]
fn commands_refuse_what_makes_no_sense() {
    let farm = farm(&json!({}), &[json!({ "name": "farm-0" })]);
    show(&farm, 1, &json!({}));
    run(&farm, 1);
    let output = farm.run(&["keep", "farm-0", "--for", "99999999999d"]);
    assert!(stderr(&output).contains("at most ten years"), "{}", stderr(&output));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut plan = farm.command(&["plan"]);
    plan.stdout(full).stderr(std::process::Stdio::piped());
    let output = plan.spawn().unwrap().wait_with_output().unwrap();
    assert!(stderr(&output).contains("cannot write to standard output"), "{}", stderr(&output));
}

/// While nothing else changes.
#[test]
fn a_machines_file_that_was_deleted_is_written_again() {
    let farm = farm(&json!({ "listInterval": 1 }), &[json!({ "name": "farm-0" })]);
    show(&farm, 1, &json!({ "root@10.0.0.7": entry(true, 1) }));
    let service = Service::start(&farm, &[]);
    until("published", || !farm.machines_file().is_empty());
    fs::remove_file(farm.path("machines-file")).unwrap();
    until("published again", || !farm.machines_file().is_empty());
    fs::write(farm.path("machines-file"), "mac-1 aarch64-darwin\n").unwrap();
    until("found out", || service.log().contains("machines file not written"));
}

/// The log and the history get one entry for a status that stands still, not one with every question.
#[test]
fn a_status_that_stands_still_is_reported_once() {
    let farm = farm(&json!({ "maxStatusAge": 1 }), &[json!({ "name": "farm-0" })]);
    let status = json!({
        "status": "up", "time": now(), "uptime": 1_000_000, "machineTypes": {}, "machines": {},
        "nrActiveSteps": 0,
    });
    fs::write(farm.path("status.json"), status.to_string()).unwrap();
    let service = Service::start(&farm, &[]);
    until("found out", || service.log().contains("the answer is old"));
    std::thread::sleep(std::time::Duration::from_secs(4));
    let log = service.log();
    assert_eq!(log.matches("queue status unavailable").count(), 1, "{log}");
}

//! Effects of queue statuses that real queue runners print, on the command line: of several years, with missing parts,
//! and with invalid numbers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A farm of `machines`, which run, with `status` as the queue runner's answer.
fn farm(machines: &Value, status: &Value) -> Farm {
    let list = json!({ "machines": machines }).to_string();
    let types = |name: &str| {
        json!({ (name): {
            "provider": { "command": { "program": ["sh", "-c", format!("cat >&2; echo '{list}'")] } },
            "runnablesPerMachine": 1, "maxMachines": 30, "maxCreatesPerCycle": 30, "maxCreating": 30,
        } })
    };
    let farm = Farm::new(&json!({ "tag": "farm", "systemTypes": types("x86_64-linux") }));
    fs::write(farm.path("status.json"), status.to_string()).unwrap();
    farm
}

/// The plan, its exit code, and the lines about machine types and machines.
fn plan(farm: &Farm) -> (i32, Vec<String>) {
    let output = farm.run(&["plan"]);
    let lines = stdout(&output).lines().map(|line| line.trim().to_owned()).collect();
    (output.status.code().unwrap_or_else(|| panic!("{}", stderr(&output))), lines)
}

/// A recorded answer with the current time.
fn recorded(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../adapters/tests/data/queue");
    let text = fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
    let mut status: Value = serde_json::from_str(&text).unwrap();
    let age = now() - status["time"].as_u64().unwrap();
    status["time"] = now().into();
    let machines = status["machines"].as_object_mut().into_iter().flat_map(|all| all.values_mut());
    for field in machines.filter_map(|machine| machine.get_mut("idleSince")) {
        *field = (field.as_u64().unwrap() + age).into();
    }
    status
}

fn machine(name: &str, address: &str) -> Value {
    json!({ "name": name, "type": "x86_64-linux", "state": "up", "address": address })
}

/// The releases of 2023 to April 2025 omit `machines` until one is listed.
#[test]
fn a_farm_at_zero_starts_with_every_release() {
    for (name, wants) in [
        ("classic-2025-queued", 12),
        ("classic-2025-no-machines", 0),
        ("classic-2022-phantom-step", 0),
    ] {
        let (code, plan) = plan(&farm(&json!([]), &recorded(name)));
        assert_eq!(code, 0, "{name}: {plan:?}");
        let starts =
            plan[1].starts_with(&format!("x86_64-linux: {wants} runnable, {wants} wanted"));
        assert!(starts, "{name}: {plan:?}");
    }
}

/// Steps with `preferLocalBuild` are built by any machine of their system.
#[test]
fn local_steps_get_a_machine() {
    let types = json!({ "x86_64-linux:local": { "runnable": 40, "running": 0 } });
    let farm = farm(&json!([]), &json!({}));
    farm.set_queue(&types, &json!({}));
    let (code, plan) = plan(&farm);
    assert_eq!(code, 0);
    assert!(plan[1].starts_with("x86_64-linux: 40 runnable, 40 wanted"), "{plan:?}");
    assert!(!plan.iter().any(|line| line == "warnings"), "{plan:?}");
}

/// Since April 2025 a machine's job ends when its outputs begin to be copied.
#[test]
fn a_machine_whose_outputs_are_being_copied_stays() {
    let mut status = recorded("classic-2025-copying");
    let machines = json!([machine("farm-0", "10.77.0.43")]);
    let (code, busy) = plan(&farm(&machines, &status));
    assert_eq!(code, 0);
    assert!(busy.iter().any(|line| line.starts_with("farm-0: keep")), "{busy:?}");
    status["nrActiveSteps"] = 0.into();
    status["nrStepsCopyingFrom"] = 0.into();
    let (_, idle) = plan(&farm(&machines, &status));
    assert!(idle.iter().any(|line| line.starts_with("farm-0: destroy")), "{idle:?}");
}

/// An unreadable count is never zero, in any spelling.
#[test]
fn an_unreadable_count_is_not_zero() {
    for (jobs, stays) in [
        (json!(0), false),
        (json!("0"), false),
        (json!(-1), true),
        (json!("-1"), true),
        (json!(null), true),
        (json!("1"), true),
        (json!(0.5), true),
        (json!([]), true),
        (json!("many"), true),
    ] {
        let farm = farm(&json!([machine("farm-0", "10.0.0.1")]), &json!({}));
        let entry = json!({ "enabled": true, "currentJobs": jobs, "idleSince": now() - 9000 });
        farm.set_queue(&json!({ "x86_64-linux": {} }), &json!({ "root@10.0.0.1": entry }));
        let (code, plan) = plan(&farm);
        assert_eq!(code, 0);
        assert_eq!(
            plan.iter().any(|line| line.starts_with("farm-0: keep")),
            stays,
            "{jobs}: {plan:?}"
        );
    }
    for (runnable, wants) in [
        (json!("7"), Some(7)),
        (json!(7.0), Some(7)),
        (json!("seven"), None),
        (json!(-7), None),
        (json!(null), None),
    ] {
        let farm = farm(&json!([machine("farm-0", "10.0.0.1")]), &json!({}));
        let entry = json!({ "enabled": true, "currentJobs": 0, "idleSince": now() - 9000 });
        let types = json!({ "x86_64-linux": { "runnable": runnable, "running": 0 } });
        farm.set_queue(&types, &json!({ "root@10.0.0.1": entry }));
        let (_, plan) = plan(&farm);
        let expected = wants.map_or("x86_64-linux: runnable unknown".to_owned(), |wants| {
            format!("x86_64-linux: {wants} runnable, {wants} wanted")
        });
        assert!(plan[1].starts_with(&expected), "{runnable}: {plan:?}");
        assert!(
            !plan.iter().any(|line| line.starts_with("farm-0: destroy")),
            "{runnable}: {plan:?}"
        );
    }
}

/// As large as a number can be, and larger. Such a farm is busy, and its numbers can still be shown.
#[test]
fn numbers_without_an_end_are_no_reason_to_end() {
    let steps = json!({ "runnable": 1e30, "running": 1e30, "waitTime": 1e30 });
    let types = json!({ "x86_64-linux": steps, "x86_64-linux:kvm": steps });
    let entry = json!({ "enabled": true, "currentJobs": 1e30 });
    let farm =
        farm(&json!([machine("farm-0", "10.0.0.1"), machine("farm-1", "10.0.0.2")]), &json!({}));
    farm.set_queue(&types, &json!({ "root@10.0.0.1": entry, "root@10.0.0.2": entry }));
    let most = u64::MAX.to_string();
    for args in [&["plan"][..], &["status"], &["status", "--json"], &["why", "x86_64-linux"]] {
        let output = farm.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).contains(&most), "{args:?}: {}", stdout(&output));
    }
}

/// Idle for a minute by its own clock, with an idle timeout of ten minutes: the difference of the clocks does not
/// matter.
#[test]
fn idle_times_are_measured_by_the_queue_runners_clock() {
    // An answer that is further behind may be old (maxStatusAge).
    for offset in [0_i64, -100, 3600] {
        let theirs = now().checked_add_signed(offset).unwrap();
        let machine = |idle_for: u64| json!({ "enabled": true, "currentJobs": 0, "idleSince": theirs - idle_for });
        let status = json!({
            "status": "up", "time": theirs, "uptime": 1_000_000, "machineTypes": {},
            "machines": { "root@10.0.0.1": machine(60), "root@10.0.0.2": machine(700) },
        });
        let machines =
            json!([self::machine("farm-0", "10.0.0.1"), self::machine("farm-1", "10.0.0.2")]);
        let farm = farm(&machines, &status);
        let mut conf: Value =
            serde_json::from_str(&fs::read_to_string(farm.conf()).unwrap()).unwrap();
        let machine_type = &mut conf["systemTypes"]["x86_64-linux"];
        machine_type["gracePeriod"] = 600.into();
        // As an earlier version recorded them: long known. New machines have not been idle for long.
        let known = json!({
            "type": "x86_64-linux", "provider": machine_type["provider"], "requestedAt": 1_000_000_000,
            "created": true,
        });
        let records = json!({ "machines": { "farm-0": known, "farm-1": known } });
        fs::create_dir(farm.path("state")).unwrap();
        fs::write(farm.path("state/machines.json"), records.to_string()).unwrap();
        fs::write(farm.conf(), conf.to_string()).unwrap();
        let (_, plan) = plan(&farm);
        let says = |start: &str| plan.iter().any(|line| line.starts_with(start));
        assert!(says("farm-0: keep") && says("farm-1: destroy"), "{offset}: {plan:?}");
        assert_eq!(plan.iter().any(|line| line.contains("our clock")), offset != 0, "{plan:?}");
    }
}

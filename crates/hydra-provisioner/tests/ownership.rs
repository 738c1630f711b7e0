//! Owners of machines and of state: another tag, former tags, adopted machines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

fn configure(farm: &Farm, name: &str, value: Value) {
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf[name] = value;
    fs::write(farm.conf(), conf.to_string()).unwrap();
}

fn run(farm: &Farm, runnable: u64) {
    farm.set_runnable(runnable);
    let output = farm.run(&["run"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

#[test]
fn another_tag_is_refused_early_and_a_former_one_goes_on() {
    let farm = Farm::new(&json!({ "tag": "old" }));
    run(&farm, 2);
    configure(&farm, "tag", json!("new"));
    farm.set_runnable(0);
    for (command, code) in
        [(&["check"][..], 2), (&["run"], 1), (&["run", "--watch"], 1), (&["plan"], 1)]
    {
        let output = farm.run(command);
        assert_eq!(output.status.code(), Some(code), "{command:?}");
        let said = stderr(&output);
        assert!(said.contains("were made with tag old") && said.contains("old-0, old-1"), "{said}");
        assert!(
            said.contains("set formerTags = [ \"old\" ]") && !said.contains("delete"),
            "{said}"
        );
    }
    assert_eq!(farm.machines(), ["old-0", "old-1"]);

    configure(&farm, "formerTags", json!(["old"]));
    assert_eq!(farm.run(&["check"]).status.code(), Some(0));
    run(&farm, 3);
    assert_eq!(farm.machines(), ["new-0", "old-0", "old-1"]);
    assert_eq!(farm.machines_file().len(), 3);
    configure(&farm, "formerTags", json!([]));
    assert!(stderr(&farm.run(&["check"])).contains("formerTags"), "they would be forgotten");
    configure(&farm, "formerTags", json!(["old"]));
    run(&farm, 0);
    assert_eq!(farm.machines(), [""; 0]);
    configure(&farm, "formerTags", json!([]));
    run(&farm, 1);
    assert_eq!(farm.machines(), ["new-0"]);
}

/// Lists all machines of any owner.
const PROVIDER: &str = r#"#!/bin/sh
[ "$2" != list ] || exec python3 -c 'import glob, json, sys
print(json.dumps({"machines": [json.load(open(path)) for path in sorted(glob.glob(sys.argv[1] + "/machines/*.json"))]}))' "$1"
exec "$EXAMPLE_PROVIDER" "$1/machines" "$2"
"#;

#[test]
fn a_machine_that_is_not_ours_is_adopted_by_a_word() {
    let farm = Farm::new(&json!({}));
    fs::write(farm.path("provider"), PROVIDER).unwrap();
    run(&farm, 1);
    let text = fs::read_to_string(farm.path("machines/hydra-provisioned-0.json")).unwrap();
    let mut machine: Value = serde_json::from_str(&text).unwrap();
    for (name, address) in [("db-1", "127.0.9.1"), ("db-2", "127.0.9.2")] {
        machine["name"] = json!(name);
        machine["host_name"] = json!(name);
        machine["address"] = json!(address);
        // According to its provider it has no owner.
        machine.as_object_mut().unwrap().remove("tag");
        fs::write(farm.path(&format!("machines/{name}.json")), machine.to_string()).unwrap();
    }
    let refused = farm.run(&["adopt", "db-9"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("not ours are: db-1, db-2"), "{}", stderr(&refused));
    let refused = farm.run(&["adopt", "db-1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("destroyed when it is not needed"), "{}", stderr(&refused));
    run(&farm, 2);
    assert_eq!(farm.machines(), ["db-1", "db-2", "hydra-provisioned-0", "hydra-provisioned-1"]);

    let adopt = ["adopt", "db-1", "--force", "--why", "ticket 7"];
    let output = farm.command(&adopt).env("SUDO_USER", "ann").output().unwrap();
    assert!(stdout(&output).starts_with("adopt db-1, "), "{}", stderr(&output));
    run(&farm, 3);
    assert_eq!(farm.machines().len(), 4, "it serves: none was created");
    assert_eq!(farm.machines_file().len(), 3);
    run(&farm, 0);
    assert_eq!(farm.machines(), ["db-2"], "the other one is left alone");
    let history = stdout(&farm.run(&["history", "--machine", "db-1"]));
    for line in ["adopt db-1", "found", "ready", "published", "destroyed"] {
        assert!(history.contains(line), "{line} is not in {history}");
    }
    let orders = stdout(&farm.run(&["status", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&orders).unwrap()["orders"], json!([]));
}

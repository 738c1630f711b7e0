//! Programs that are told when something goes wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;

use farm::Farm;
use farm::service::{Service, until};
use serde_json::{Value, json};

#[test]
fn programs_are_told_and_one_that_hangs_holds_up_nothing() {
    let farm = Farm::new(&json!({}));
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    let told = farm.path("told");
    let write = format!("cat >{0}.new && mv {0}.new {0}", told.display());
    conf["notify"] = json!([
        { "on": ["failed"], "command": ["sh", "-c", write] },
        { "command": ["sleep", "600"] },
    ]);
    conf["systemTypes"]["aarch64-linux"] =
        json!({ "provider": { "command": { "program": ["false"] } }, "maxMachines": 1 });
    fs::write(farm.conf(), conf.to_string()).unwrap();
    farm.set_runnable(1);
    let _service = Service::start(&farm, &[]);
    until("told", || told.exists());
    let told: Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    assert_eq!((&told["version"], &told["events"][0]["on"]), (&json!(1), &json!("failed")));
    assert!(told["text"].as_str().unwrap().contains("aarch64-linux: cannot list"), "{told}");
    farm.set_runnable(3);
    until("the loop goes on", || farm.machines_file().len() == 3);
}

//! The driver in the real environment, without a queue runner.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use planner::MachineType;
use serde_json::{Value, json};

use super::*;
use crate::config::parse;

const TYPE: &str = "x86_64-linux";

/// One type with `settings`, at most one machine.
fn config(state_dir: &Path, settings: Value) -> Config {
    let mut machine_type =
        json!({ "maxMachines": 1, "provider": { "command": { "program": ["true"] } } });
    let given: serde_json::Map<String, Value> = serde_json::from_value(settings).unwrap();
    machine_type.as_object_mut().unwrap().extend(given);
    let config = json!({
        "stateDir": state_dir, "statusCommand": ["/bin/false"], "systemTypes": { TYPE: machine_type },
    });
    parse(&config).unwrap()
}

/// Its settings applied three days later. Their end is in the future, also after the clock was set back.
#[test]
fn a_clock_that_was_set_back_ends_the_hours_of_a_schedule() {
    let days = 3;
    let folder = tempfile::tempdir().unwrap();
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let day = then.strftime("%a").to_string().to_lowercase();
    let settings = json!({ "schedule": [{ "days": day, "maxMachines": 7 }] });
    let mut driver = Driver::open(config(folder.path(), settings), Mode::Act).unwrap();
    driver.clock = Clock::before_set_back(Duration::from_secs(86_400 * days.unsigned_abs()));
    driver.scheduled = driver.config.policy_at(driver.clock.now());
    driver.configure();
    let machines =
        |driver: &Driver| driver.reconciler.policy().pools[&MachineType::new(TYPE)].max_machines;
    assert_eq!(machines(&driver), 7);
    driver.check_clock();
    assert_eq!(machines(&driver), 1);
}

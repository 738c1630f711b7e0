//! The machines of the machines files.

use planner::{AcceptsJobs, Demand, Endpoint, QueueMachine};
use serde_json::{Map, Value};

use super::Listed;
use crate::queue::clock::Clock;
use crate::queue::lenient::{Fields, Warnings, quoted};

/// Reads `machines`.
///
/// # Errors
/// When a busy machine could be missed.
pub(super) fn read(
    status: &Map<String, Value>,
    demand: &[Demand],
    clock: Clock,
    warnings: &mut Warnings,
) -> Result<Listed, String> {
    let mut listed = Listed { machines: Vec::new(), reported_jobs: 0 };
    match status.get("machines") {
        Some(Value::Object(machines)) => {
            for (key, entry) in machines {
                let (machine, reported_jobs) = queue_machine(key, entry, clock, warnings);
                listed.machines.push(machine);
                listed.reported_jobs = listed.reported_jobs.saturating_add(reported_jobs);
            }
        }
        None | Some(Value::Null) => none_is_listed(status, demand)?,
        Some(_) => return Err("machines of the queue status is not an object".to_owned()),
    }
    Ok(listed)
}

/// From January 2023 to April 2025 the key is absent until a machine is listed; after that it stays. While it
/// is absent, nothing can be active.
fn none_is_listed(status: &Map<String, Value>, demand: &[Demand]) -> Result<(), String> {
    let fields = Fields::new(status, "");
    let is_zero = |key| fields.count(key).map(|count| count.unwrap_or(0) == 0);
    let mut idle = true;
    for key in ["nrActiveSteps", "nrStepsBuilding", "nrStepsCopyingTo", "nrStepsCopyingFrom"] {
        idle &= is_zero(key)?;
    }
    let idle = idle && demand.iter().all(|demand| demand.running == 0);
    let types_are_told = status.get("machineTypes").is_some_and(Value::is_object);
    let is_told = types_are_told || status.contains_key("nrActiveSteps");
    if idle && is_told {
        Ok(())
    } else {
        Err("the queue status has no object machines: builds could be missed".to_owned())
    }
}

/// The machine, and its number of jobs as reported; 0 if that cannot be read.
fn queue_machine(
    key: &str,
    entry: &Value,
    clock: Clock,
    warnings: &mut Warnings,
) -> (QueueMachine, u64) {
    // The key is the first column of the machines file (`machine->sshName`, later `storeUri.render()`).
    let Endpoint { host, port } = Endpoint::new(key);
    let place = format!("machines.{}.", quoted(key));
    let empty = Map::new();
    let fields = Fields::new(entry.as_object().unwrap_or(&empty), &place);
    let reported_jobs = jobs(fields, &place, warnings);
    let current_jobs = reported_jobs.unwrap_or(1);
    let idle_since = fields.past("idleSince", clock, warnings);
    let machine = QueueMachine {
        port,
        accepts_jobs: accepts_jobs(fields, &place, warnings),
        current_jobs,
        idle_since: idle_since.filter(|_| current_jobs == 0),
        disabled_until: clock.ours(fields.time("disabledUntil", warnings)),
        consecutive_failures: fields.count_or_warn("consecutiveFailures", warnings).unwrap_or(0),
        last_failure: fields.past("lastFailure", clock, warnings),
        steps_done: fields.count_or_warn("nrStepsDone", warnings),
        total_step_time: fields.seconds("totalStepTime", 1),
        total_build_time: fields.seconds("totalStepBuildTime", 1),
        ..QueueMachine::new(host)
    };
    (machine, reported_jobs.unwrap_or(0))
}

/// `None`, with a warning, if they are not reported.
fn jobs(fields: Fields<'_>, place: &str, warnings: &mut Warnings) -> Option<u64> {
    let problem = match fields.count("currentJobs") {
        Ok(Some(jobs)) => return Some(jobs),
        Ok(None) => format!("{place}currentJobs is missing"),
        Err(problem) => problem,
    };
    warnings.add(format!("queue status: {problem}; the machine counts as busy"));
    None
}

/// A machine that left the machines file stays listed with `enabled: false`; every release reports this. In
/// doubt it may still get steps.
fn accepts_jobs(fields: Fields<'_>, place: &str, warnings: &mut Warnings) -> AcceptsJobs {
    let problem = match fields.boolean("enabled") {
        Ok(Some(true)) => return AcceptsJobs::Yes,
        Ok(Some(false)) => return AcceptsJobs::No,
        Ok(None) => format!("{place}enabled is missing"),
        Err(problem) => problem,
    };
    warnings.add(format!("queue status: {problem}; the machine counts as enabled"));
    AcceptsJobs::Yes
}

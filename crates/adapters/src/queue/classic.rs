//! Classic Hydra: `hydra-queue-runner --status` (`State::getStatus` and `State::showStatus` in the C++
//! `hydra-queue-runner/hydra-queue-runner.cc`, up to 2025).

use std::collections::BTreeMap;
use std::time::Duration;

use planner::{
    AcceptsJobs, Demand, DemandKey, Endpoint, Feature, MachineKeys, Queue, QueueMachine,
    QueueStatus,
};
use reconciler::world::QueueSource;
use serde_json::{Map, Value};

use super::builtin::system_for;
use super::lenient::{Warnings, count, count_at, quoted, seconds, timestamp};
use crate::command::{Invocation, Output};

/// Asks a command.
#[derive(Clone, Debug)]
pub struct Source {
    command: Vec<String>,
    limit: Duration,
}

impl Source {
    /// `command` prints the status within `limit`.
    pub fn new(command: Vec<String>, limit: Duration) -> Self {
        Self { command, limit }
    }
}

impl QueueSource for Source {
    fn queue_status(&mut self) -> QueueStatus {
        let invocation = Invocation::new(&self.command, self.limit);
        match invocation.run() {
            Err(error) => QueueStatus::Unavailable(format!("statusCommand: {error}")),
            Ok(output) if !output.succeeded() => {
                QueueStatus::Unavailable(not_to_be_trusted(&invocation.command_line(), &output))
            }
            Ok(output) => parse(&output.stdout),
        }
    }
}

/// A queue runner that does not answer within 5 s has its last known status printed before the command
/// fails: a machine that is idle there may be building by now. So what was printed is not looked at.
fn not_to_be_trusted(command_line: &str, output: &Output) -> String {
    let said = output.stderr_tail();
    let said = if said.is_empty() { "it said nothing on standard error".to_owned() } else { said };
    let printed = if output.stdout.is_empty() { "" } else { ", what it printed may be wrong" };
    format!("statusCommand {command_line} ended with exit code {}{printed}: {said}", output.code)
}

/// Reads what the command printed. Absent and unknown keys are fine, wrongly typed details become
/// [`Queue::warnings`]; all is [`QueueStatus::Unavailable`] only where a busy machine could be missed.
pub fn parse(bytes: &[u8]) -> QueueStatus {
    match read(bytes) {
        Ok(queue) => QueueStatus::Up(queue),
        Err(reason) => QueueStatus::Unavailable(reason),
    }
}

fn read(bytes: &[u8]) -> Result<Queue, String> {
    let status: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| format!("the queue status is not a JSON object: {error}"))?;
    match status.get("status").and_then(Value::as_str) {
        Some("up") => {}
        Some("down") => return Err("the queue runner is down".to_owned()),
        Some(other) => return Err(format!("the queue runner is {}", quoted(other))),
        None => return Err("the queue status does not say whether the runner is up".to_owned()),
    }
    let mut warnings = Warnings::default();
    let demand = match status.get("machineTypes") {
        None => Vec::new(),
        Some(Value::Object(types)) => demand(types, &mut warnings),
        Some(_) => return Err("machineTypes of the queue status is not an object".to_owned()),
    };
    // Every release prints it, be it empty. Without it all our machines would look idle.
    let Some(Value::Object(machines)) = status.get("machines") else {
        return Err("the queue status has no object machines: builds could be missed".to_owned());
    };
    let machines = machines.iter().map(|(key, entry)| queue_machine(key, entry, &mut warnings));
    let machines = machines.collect();
    let uptime = seconds(&status, "uptime");
    let keys = MachineKeys::Address;
    Ok(Queue { uptime, demand, machines, keys, warnings: warnings.into_lines() })
}

/// The demand by kind. Types that differ only in the order of their features are one kind.
fn demand(types: &Map<String, Value>, warnings: &mut Warnings) -> Vec<Demand> {
    let mut by_kind: BTreeMap<DemandKey, Demand> = BTreeMap::new();
    for (key, entry) in types {
        let place = format!("machineTypes.{}", quoted(key));
        let Some(entry) = entry.as_object() else {
            warnings.add(format!("queue status: {place} is not an object; it is skipped"));
            continue;
        };
        let kind = demand_key(key);
        let demand = by_kind.entry(kind.clone()).or_insert(Demand {
            kind,
            runnable: 0,
            running: 0,
            last_active: None,
        });
        let runnable = count_at(entry, "runnable", &place, warnings);
        let running = count_at(entry, "running", &place, warnings);
        demand.runnable = demand.runnable.saturating_add(runnable);
        demand.running = demand.running.saturating_add(running);
        demand.last_active = demand.last_active.max(timestamp(entry, "lastActive"));
    }
    by_kind.into_values().collect()
}

/// A type is `SYSTEM` or `SYSTEM:FEATURE,FEATURE` (`Step::...::systemType` in `state.hh`).
fn demand_key(key: &str) -> DemandKey {
    let (system, features) = key.split_once(':').unwrap_or((key, ""));
    let features = features.split(',').filter(|feature| !feature.is_empty());
    DemandKey { system: system_for(system), features: features.map(Feature::new).collect() }
}

fn queue_machine(key: &str, entry: &Value, warnings: &mut Warnings) -> QueueMachine {
    // The key is the first column of the machines file (`machine->sshName`, later `storeUri.render()`).
    let Endpoint { host, port } = Endpoint::new(key);
    let empty = Map::new();
    let fields = entry.as_object().unwrap_or(&empty);
    let current_jobs = fields.get("currentJobs").and_then(count).unwrap_or_else(|| {
        warnings.add(format!(
            "queue status: machines.{} does not tell its currentJobs; it is taken for busy",
            quoted(key)
        ));
        1
    });
    QueueMachine {
        host,
        port,
        // A machine that left the machines file stays listed with `enabled: false`. Every release tells;
        // should one not, waiting for it to be disabled would keep the machine for ever.
        accepts_jobs: match fields.get("enabled").and_then(Value::as_bool) {
            Some(true) => AcceptsJobs::Yes,
            Some(false) | None => AcceptsJobs::No,
        },
        current_jobs,
        idle_since: timestamp(fields, "idleSince").filter(|_| current_jobs == 0),
    }
}

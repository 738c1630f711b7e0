//! Classic Hydra: `hydra-queue-runner --status` (`State::dumpStatus` in the C++ `hydra-queue-runner.cc`).

use std::time::Duration;

use planner::{AcceptsJobs, Demand, DemandKey, Feature, Queue, QueueMachine, QueueStatus, System};
use reconciler::world::QueueSource;
use serde_json::{Map, Value};

use super::host::host_and_port;
use super::lenient::{number, seconds, timestamp};
use crate::command::Invocation;

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
            Err(error) => QueueStatus::Unavailable(format!("{error}; see statusCommand")),
            // It prints what it last knew and then fails when the queue runner does not answer within
            // 5 s. A machine that is idle there may be building by now.
            Ok(output) if !output.succeeded() => QueueStatus::Unavailable(format!(
                "statusCommand {} ended with exit code {}: {}",
                invocation.command_line(),
                output.code,
                output.stderr_tail()
            )),
            Ok(output) => parse(&output.stdout),
        }
    }
}

/// Reads what the command printed. Unknown and absent keys are fine.
pub fn parse(bytes: &[u8]) -> QueueStatus {
    let status: Map<String, Value> = match serde_json::from_slice(bytes) {
        Ok(status) => status,
        Err(error) => {
            return QueueStatus::Unavailable(format!("the status is not a JSON object: {error}"));
        }
    };
    match status.get("status").and_then(Value::as_str) {
        Some("up") => {}
        Some("down") => return QueueStatus::Unavailable("the queue runner is down".to_owned()),
        _ => {
            return QueueStatus::Unavailable(
                "the status does not say whether the queue runner is up".to_owned(),
            );
        }
    }
    let mut queue = Queue { uptime: seconds(&status, "uptime"), ..Queue::default() };
    for (key, of_type) in object(&status, "machineTypes", &mut queue.warnings) {
        queue.demand.push(demand(key, of_type));
    }
    for (key, machine) in object(&status, "machines", &mut queue.warnings) {
        queue.machines.push(queue_machine(key, machine, &mut queue.warnings));
    }
    QueueStatus::Up(queue)
}

/// The objects in the object at `key`; what is of another kind becomes a warning.
fn object<'a>(
    status: &'a Map<String, Value>,
    key: &str,
    warnings: &mut Vec<String>,
) -> Vec<(&'a str, &'a Map<String, Value>)> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let entries = match status.get(key) {
        Some(Value::Object(entries)) => entries,
        None | Some(Value::Null) => return Vec::new(),
        Some(_) => {
            warnings.push(format!("queue status: {key} is not an object; it is ignored"));
            return Vec::new();
        }
    };
    entries
        .iter()
        .map(|(name, value)| {
            let object = value.as_object().unwrap_or_else(|| {
                warnings.push(format!("queue status: {key}.{name} is not an object"));
                &EMPTY
            });
            (name.as_str(), object)
        })
        .collect()
}

/// A type is `SYSTEM` or `SYSTEM:FEATURE,FEATURE`.
fn demand(key: &str, of_type: &Map<String, Value>) -> Demand {
    let (system, features) = key.split_once(':').unwrap_or((key, ""));
    let features = features.split(',').filter(|feature| !feature.is_empty());
    Demand {
        kind: DemandKey {
            system: System::new(system),
            features: features.map(Feature::new).collect(),
        },
        runnable: number(of_type, "runnable").unwrap_or(0),
        running: number(of_type, "running").unwrap_or(0),
        last_active: timestamp(of_type, "lastActive"),
    }
}

fn queue_machine(
    key: &str,
    machine: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> QueueMachine {
    let (host, port) = host_and_port(key);
    let current_jobs = number(machine, "currentJobs").unwrap_or_else(|| {
        warnings.push(format!(
            "queue status: machines.{key} does not tell its currentJobs; it is taken for busy"
        ));
        1
    });
    QueueMachine {
        host,
        port,
        // Left the machines file: listed still, but not enabled. Every release tells; should one not,
        // waiting for it to be disabled would keep the machine for ever.
        accepts_jobs: match machine.get("enabled").and_then(Value::as_bool) {
            Some(true) => AcceptsJobs::Yes,
            Some(false) | None => AcceptsJobs::No,
        },
        current_jobs,
        idle_since: timestamp(machine, "idleSince").filter(|_| current_jobs == 0),
    }
}

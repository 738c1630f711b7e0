//! `/status`: the queue runner, its counts by system, the connected builders.

use std::collections::BTreeMap;

use planner::{AcceptsJobs, Host, QueueMachine, Seconds, System};
use serde_json::{Map, Value};

use crate::queue::lenient::{Warnings, count, count_at, quoted, seconds, timestamp};

/// What `/status` says.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) uptime: Seconds,
    pub(super) counts: BTreeMap<System, Counts>,
    pub(super) machines: Vec<QueueMachine>,
    pub(super) warnings: Warnings,
}

/// The counts of one system's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// `nrRunnableWaiting`: what the last dispatch left waiting.
    pub(super) waiting: u64,
    /// `activeRunnable`: what is building.
    pub(super) running: u64,
}

/// Reads the body of `/status`.
///
/// # Errors
/// When it cannot be relied on: the queue runner is not up, or a busy machine could be missed.
pub(super) fn parse(body: &[u8]) -> Result<Status, String> {
    let status: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| format!("/status is not a JSON object: {error}"))?;
    let runner = status
        .get("queueRunner")
        .and_then(Value::as_object)
        .ok_or("/status has no queueRunner: is this the REST server of Hydra's queue runner?")?;
    match runner.get("status").and_then(Value::as_str) {
        Some("up") => {}
        Some(other) => return Err(format!("the queue runner is {}", quoted(other))),
        None => return Err("/status does not say whether the queue runner is up".to_owned()),
    }
    let listed = status
        .get("machines")
        .and_then(Value::as_object)
        .ok_or("/status has no object machines: builds could be missed")?;
    let mut warnings = Warnings::default();
    let counts = match runner.get("queueStats") {
        None => BTreeMap::new(),
        Some(Value::Object(systems)) => counts(systems, &mut warnings),
        Some(_) => return Err("queueStats of /status is not an object".to_owned()),
    };
    let machines = listed.iter().map(|(key, entry)| queue_machine(key, entry, &mut warnings));
    let mut machines: Vec<_> = machines.collect();
    suspect_hidden_builders(runner, &mut machines, &mut warnings);
    Ok(Status { uptime: seconds(runner, "uptime"), counts, machines, warnings })
}

fn counts(systems: &Map<String, Value>, warnings: &mut Warnings) -> BTreeMap<System, Counts> {
    let mut counts = BTreeMap::new();
    for (system, stats) in systems {
        let place = format!("queueStats.{}", quoted(system));
        let Some(stats) = stats.as_object() else {
            warnings.add(format!("queue status: {place} is not an object; it is skipped"));
            continue;
        };
        // Not `totalRunnable`: it counts the steps that are building too.
        let waiting = count_at(stats, "nrRunnableWaiting", &place, warnings);
        let running = count_at(stats, "activeRunnable", &place, warnings);
        counts.insert(System::new(system), Counts { waiting, running });
    }
    counts
}

/// A builder's key is what `gethostname` says there (`hydra-builder/src/state.rs`; no option changes it).
fn queue_machine(host_name: &str, entry: &Value, warnings: &mut Warnings) -> QueueMachine {
    let empty = Map::new();
    let stats = entry.get("stats").and_then(Value::as_object).unwrap_or(&empty);
    let listed = entry.get("jobs").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let counted = stats.get("currentJobs").and_then(count).unwrap_or_else(|| {
        warnings.add(format!(
            "queue status: machines.{} does not tell its currentJobs; it is taken for busy",
            quoted(host_name)
        ));
        1
    });
    let current_jobs = counted.max(listed);
    QueueMachine {
        host: Host::new(host_name),
        port: None,
        // A builder is listed as long as it is connected, and may be given a step at any time. There is
        // no draining: on SIGTERM it aborts its builds and hangs up (`stop_application` in
        // `hydra-builder/src/main.rs`), so that only an idle one may be stopped.
        accepts_jobs: AcceptsJobs::Yes,
        current_jobs,
        idle_since: timestamp(stats, "idleSince").filter(|_| current_jobs == 0),
    }
}

/// The queue runner knows builders by a number of its own and lists them by host name (`status::get` in
/// `server/http.rs`), so that of two with the same name only one is seen. The other may be building: until
/// it is told apart, no builder counts as idle.
fn suspect_hidden_builders(
    runner: &Map<String, Value>,
    machines: &mut [QueueMachine],
    warnings: &mut Warnings,
) {
    let total = runner.get("machinesTotal").and_then(count).unwrap_or(0);
    let hidden = total.saturating_sub(machines.len() as u64);
    if hidden == 0 {
        return;
    }
    warnings.add(format!(
        "queue status: {total} builders are connected but {} listed: several have one host name, so none \
         is taken for idle; give each its own (networking.hostName)",
        machines.len()
    ));
    for machine in machines {
        machine.current_jobs = machine.current_jobs.max(1);
        machine.idle_since = None;
    }
}

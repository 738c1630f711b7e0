//! Current Hydra: the REST server of the Rust queue runner (`queue-runner/src/server/http.rs`, `io/`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use planner::{AcceptsJobs, Demand, DemandKey, Feature, Queue, QueueMachine, QueueStatus, System};
use reconciler::world::QueueSource;
use serde_json::{Map, Value};

use super::derivations::checked_base_name;
use super::features::FeatureCache;
use super::lenient::{number, seconds, timestamp};

/// `/status/queues` of a queue with a million steps is about 350 MB.
const BODY_LIMIT_BYTES: u64 = 1 << 30;

/// Asks a REST server, and Nix for the features of the steps it tells of.
#[derive(Debug)]
pub struct Source {
    url: String,
    agent: ureq::Agent,
    features: FeatureCache,
}

impl Source {
    /// `limit` is for one request, and for one call of `nix_command`.
    pub fn new(url: String, nix_command: Vec<String>, limit: Duration, state_dir: &Path) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(limit)).build();
        Self {
            url,
            agent: config.into(),
            features: FeatureCache::open(state_dir, nix_command, limit),
        }
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.url);
        let mut response =
            self.agent.get(&url).call().map_err(|error| format!("GET {url}: {error}"))?;
        let body = response
            .body_mut()
            .with_config()
            .limit(BODY_LIMIT_BYTES)
            .read_to_vec()
            .map_err(|error| format!("GET {url}: {error}"))?;
        serde_json::from_slice(&body).map_err(|error| format!("GET {url}: not JSON: {error}"))
    }
}

impl QueueSource for Source {
    fn queue_status(&mut self) -> QueueStatus {
        let status = match self.get("/status") {
            Ok(status) => status,
            Err(error) => return QueueStatus::Unavailable(format!("{error}; see queue.url")),
        };
        let mut queue = match parse_status(&status) {
            Ok(queue) => queue,
            Err(reason) => return QueueStatus::Unavailable(reason),
        };
        match self.get("/status/queues").and_then(|queues| waiting_steps(&queues)) {
            Ok(waiting) => {
                let names = waiting.values().flatten().cloned().collect();
                let trouble = self.features.learn(&names);
                let split = split_by_features(&waiting, |name| self.features.get(name).cloned());
                add_features(&mut queue, &split, trouble.as_deref());
            }
            Err(error) => queue.warnings.push(format!(
                "the features that steps require are not known, all count as requiring none: {error}"
            )),
        }
        QueueStatus::Up(queue)
    }
}

/// Reads `/status`: how many steps wait on each system, and the connected builders.
///
/// # Errors
/// With why the status cannot be relied on.
pub fn parse_status(status: &Value) -> Result<Queue, String> {
    let runner = status
        .get("queueRunner")
        .and_then(Value::as_object)
        .ok_or("the status has no queueRunner: is this Hydra's REST server?")?;
    match runner.get("status").and_then(Value::as_str) {
        Some("up") => {}
        other => {
            return Err(format!("the queue runner is {}", other.unwrap_or("in no known state")));
        }
    }
    let machines = status
        .get("machines")
        .and_then(Value::as_object)
        .ok_or("the status has no machines: a busy one could be missed")?;
    let mut queue = Queue { uptime: seconds(runner, "uptime"), ..Queue::default() };
    if let Some(systems) = runner.get("queueStats").and_then(Value::as_object) {
        for (system, counts) in systems {
            let Some(counts) = counts.as_object() else {
                queue.warnings.push(format!("queue status: queueStats.{system} is not an object"));
                continue;
            };
            queue.demand.push(Demand {
                kind: DemandKey { system: System::new(system), features: BTreeSet::new() },
                // `totalRunnable` counts the steps that are building too.
                runnable: number(counts, "nrRunnableWaiting").unwrap_or(0),
                running: number(counts, "activeRunnable").unwrap_or(0),
                last_active: None,
            });
        }
    }
    for (host_name, machine) in machines {
        queue.machines.push(queue_machine(host_name, machine, &mut queue.warnings));
    }
    Ok(queue)
}

fn queue_machine(host_name: &str, machine: &Value, warnings: &mut Vec<String>) -> QueueMachine {
    let stats = machine.get("stats").and_then(Value::as_object);
    let counted = stats.and_then(|stats| number(stats, "currentJobs"));
    let listed = machine.get("jobs").and_then(Value::as_array).map(|jobs| jobs.len() as u64);
    let current_jobs = counted.max(listed).unwrap_or_else(|| {
        warnings.push(format!(
            "queue status: machines.{host_name} does not tell its jobs; it is taken for busy"
        ));
        1
    });
    QueueMachine {
        host: host_name.to_owned(),
        port: None,
        // A builder is listed exactly as long as it is connected, and may be given a step at any time.
        accepts_jobs: AcceptsJobs::Yes,
        current_jobs,
        idle_since: stats
            .and_then(|stats| timestamp(stats, "idleSince"))
            .filter(|_| current_jobs == 0),
    }
}

/// Reads `/status/queues`: the derivations that wait, by system. Running steps are listed there too.
///
/// # Errors
/// When it has no queues.
pub fn waiting_steps(queues: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
    let queues =
        queues.get("queues").and_then(Value::as_object).ok_or("/status/queues has no queues")?;
    Ok(queues
        .iter()
        .map(|(system, steps)| {
            let steps = steps.as_array().map_or(&[][..], Vec::as_slice);
            let waiting = steps.iter().filter_map(Value::as_object).filter(|step| waits(step));
            let names = waiting
                .filter_map(|step| step.get("drvPath")?.as_str())
                .filter_map(|path| checked_base_name(path).ok());
            (system.clone(), names.collect())
        })
        .collect())
}

fn waits(step: &Map<String, Value>) -> bool {
    let flag = |name| step.get(name).and_then(Value::as_bool).unwrap_or(false);
    flag("runnable") && !flag("alreadyScheduled") && !flag("finished") && !flag("cancelled")
}

type StepsByFeatures = BTreeMap<String, BTreeMap<BTreeSet<Feature>, u64>>;

/// Counts the waiting steps of each system by the features they require. Steps whose features are not
/// known are not counted.
fn split_by_features(
    waiting: &BTreeMap<String, Vec<String>>,
    features_of: impl Fn(&str) -> Option<BTreeSet<Feature>>,
) -> StepsByFeatures {
    let mut split = StepsByFeatures::new();
    for (system, names) in waiting {
        let by_features = split.entry(system.clone()).or_default();
        for features in names.iter().filter_map(|name| features_of(name)) {
            *by_features.entry(features).or_default() += 1;
        }
    }
    split
}

/// Moves steps that require features from the plain count of their system to a count of their own.
///
/// The plain counts come first and are what the queue runner itself says; the lists were read a moment
/// later. So whatever is not known to require features stays where it was.
fn add_features(queue: &mut Queue, split: &StepsByFeatures, trouble: Option<&str>) {
    let mut unknown = 0;
    let mut special = Vec::new();
    for demand in &mut queue.demand {
        let Some(by_features) = split.get(demand.kind.system.as_str()) else { continue };
        let known: u64 = by_features.values().sum();
        unknown += demand.runnable.saturating_sub(known);
        for (features, steps) in by_features.iter().filter(|(features, _)| !features.is_empty()) {
            let steps = (*steps).min(demand.runnable);
            demand.runnable -= steps;
            special.push(Demand {
                kind: DemandKey { system: demand.kind.system.clone(), features: features.clone() },
                runnable: steps,
                running: 0,
                last_active: None,
            });
        }
    }
    queue.demand.extend(special);
    if let Some(trouble) = trouble.filter(|_| unknown > 0) {
        queue.warnings.push(format!(
            "the features that {unknown} waiting steps require are not known, they count as requiring none: {trouble}"
        ));
    }
}

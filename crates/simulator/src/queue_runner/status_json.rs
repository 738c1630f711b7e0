//! The queue runner's output, in the formats of the real ones.

use std::collections::BTreeMap;

use planner::Feature;
use serde_json::{Map, Value, json};

use super::builders::{Builder, Listed, is_local};
use super::status::{Epoch, waited};
use super::{Host, Phase, QueueRunner, Tally};
use crate::engine::Millis;
use crate::workload::StepIndex;

/// The alphabet of Nix's base 32 (`nix32Chars` in Nix).
const NIX32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

impl QueueRunner {
    /// As `hydra-queue-runner --status` prints it (`State::getStatus`).
    pub fn classic_json(&self, now: Millis, epoch: Epoch) -> Value {
        let kinds = self.steps.workload.kinds.iter().zip(&self.tallies);
        let types: Map<_, _> = kinds
            .filter(|(_, tally)| self.is_told(tally))
            .map(|(kind, tally)| {
                (kind.to_string(), classic_type(tally, self.runnable_told(tally), now, epoch))
            })
            .collect();
        let machines: Map<_, _> = self
            .builders
            .iter()
            .map(|(host, b)| (format!("ssh://root@{}", self.key(*host)), classic_machine(b, epoch)))
            .collect();
        json!({
            "status": "up",
            "time": epoch.at(now).0,
            "uptime": now.since(self.started_at).whole_seconds(),
            "nrUnfinishedSteps": self.unfinished(),
            "nrRunnableSteps": self.all_runnable(),
            "nrActiveSteps": self.tallies.iter().map(|t| t.running + t.copying).sum::<u64>(),
            "nrStepsCopyingFrom": self.tallies.iter().map(|tally| tally.copying).sum::<u64>(),
            "machineTypes": types,
            "machines": machines,
            "jobsets": {},
        })
    }

    /// As `GET /status` of the REST server answers (`io/queue_runner.rs`, `io/machine.rs`).
    pub fn rest_status_json(&self, now: Millis, epoch: Epoch) -> Value {
        let mut systems: Map<String, Value> = Map::new();
        for (kind, tally) in self.steps.workload.kinds.iter().zip(&self.tallies) {
            if self.is_told(tally) {
                let counts = systems
                    .entry(kind.system.as_str())
                    .or_insert_with(|| json!({ "avgRunnableTime": 0, "nrRunnableDisabled": 0 }));
                add(counts, "activeRunnable", tally.running);
                add(counts, "totalRunnable", tally.runnable + tally.running);
                add(counts, "nrRunnableWaiting", tally.runnable);
                add(counts, "waitTimeMs", waited(tally, now));
            }
        }
        let machines: Map<_, _> = self
            .builders
            .iter()
            .map(|(host, b)| (self.key(*host), self.rest_machine(*host, b, epoch)))
            .collect();
        let waiting: u64 = self.tallies.iter().map(|tally| tally.runnable).sum();
        let running: u64 = self.tallies.iter().map(|tally| tally.running).sum();
        json!({
            "queueRunner": {
                "status": "up",
                "uptime": now.since(self.started_at).whole_seconds(),
                "stepCount": self.unfinished(),
                "runnableCount": waiting + running,
                "nrStepsUnfinished": self.unfinished(),
                "nrStepsRunnable": waiting + running,
                "nrStepsBuilding": running,
                "nrStepsWaiting": waiting,
                "machinesTotal": self.builders.len(),
                "machinesInUse": self.builders.values().filter(|b| !b.jobs.is_empty()).count(),
                "queueStats": systems,
            },
            "machines": machines,
        })
    }

    /// As `GET /status/queues` of the REST server answers (`io/step_info.rs`).
    pub fn rest_queues_json(&self) -> Value {
        let mut queues: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (at, record) in (0_u32..).zip(&self.steps.records) {
            if !matches!(record.phase, Phase::Runnable | Phase::Delayed | Phase::Running) {
                continue;
            }
            let spec = &self.steps.workload.steps[StepIndex(at).at()];
            let system = self.steps.workload.kind_of(spec).system.as_str();
            let step = json!({
                "drvPath": drv_path(spec.id()),
                "alreadyScheduled": record.phase == Phase::Running,
                "runnable": true,
                "finished": false,
                "cancelled": false,
                "tries": record.tries,
                "lowestBuildId": spec.build(),
            });
            queues.entry(system).or_default().push(step);
        }
        json!({ "queues": queues })
    }

    /// As `nix derivation show` shows the steps that wait or run: with their features, which the status does not
    /// contain.
    pub fn derivations_json(&self) -> Value {
        let workload = &self.steps.workload;
        let alive = |phase| matches!(phase, Phase::Runnable | Phase::Delayed | Phase::Running);
        let steps = self.steps.records.iter().zip(&workload.steps);
        let shown = steps.filter(|(record, _)| alive(record.phase)).map(|(_, spec)| {
            let kind = workload.kind_of(spec);
            let required = kind.features.iter().filter(|feature| !is_local(feature));
            let features: Vec<_> = required.map(Feature::as_str).collect();
            let mut env = json!({ "requiredSystemFeatures": features.join(" ") });
            if kind.features.iter().any(is_local) {
                env["preferLocalBuild"] = json!("1");
            }
            let derivation = json!({ "system": kind.system, "env": env });
            (format!("/nix/store/{}", drv_path(spec.id())), derivation)
        });
        shown.collect::<Map<_, _>>().into()
    }

    fn rest_machine(&self, host: Host, builder: &Builder, epoch: Epoch) -> Value {
        let steps = &self.steps.workload.steps;
        let jobs: Vec<_> =
            builder.jobs.iter().map(|step| drv_path(steps[step.at()].id())).collect();
        json!({
            "systems": builder.offer.systems,
            "hostname": self.key(host),
            "speedFactor": f64::from(builder.offer.speed_thousandths) / 1000.0,
            "maxJobs": builder.offer.max_jobs,
            "supportedFeatures": builder.offer.supported_features,
            "mandatoryFeatures": builder.offer.mandatory_features,
            "hasCapacity": builder.current_jobs() < u64::from(builder.offer.max_jobs),
            "jobs": jobs,
            "stats": {
                "currentJobs": builder.current_jobs(),
                "nrStepsDone": builder.steps_done,
                "totalStepTimeMs": builder.total_step_time.0,
                "idleSince": seconds_or_zero(builder.idle_since, epoch),
                "lastFailure": 0,
                "disabledUntil": 0,
                "consecutiveFailures": 0,
            },
        })
    }
}

fn classic_type(tally: &Tally, runnable: u64, now: Millis, epoch: Epoch) -> Value {
    let mut value = json!({ "runnable": runnable, "running": tally.running });
    if runnable > 0 {
        value["waitTime"] = json!(waited(tally, now) / 1000);
    }
    if tally.running == 0 {
        value["lastActive"] = json!(tally.last_active.map_or(0, |at| epoch.at(at).0));
    }
    value
}

fn classic_machine(builder: &Builder, epoch: Epoch) -> Value {
    let mut value = json!({
        "enabled": builder.listed == Listed::Yes,
        "systemTypes": builder.offer.systems,
        "supportedFeatures": builder.offer.supported_features,
        "mandatoryFeatures": builder.offer.mandatory_features,
        "nrStepsDone": builder.steps_done,
        "currentJobs": builder.current_jobs(),
        "disabledUntil": seconds_or_zero(Some(builder.disabled_until).filter(|at| at.0 > 0), epoch),
        "lastFailure": seconds_or_zero(builder.last_failure, epoch),
        "consecutiveFailures": builder.consecutive_failures,
    });
    if builder.steps_done > 0 {
        value["totalStepTime"] = json!(builder.total_step_time.whole_seconds());
    }
    if builder.jobs.is_empty() {
        value["idleSince"] = json!(seconds_or_zero(builder.idle_since, epoch));
    }
    value
}

fn seconds_or_zero(at: Option<Millis>, epoch: Epoch) -> u64 {
    at.map_or(0, |at| epoch.at(at).0)
}

fn add(counts: &mut Value, key: &str, more: u64) {
    let sum = counts[key].as_u64().unwrap_or(0) + more;
    counts[key] = json!(sum);
}

/// A store path base name that no other step has.
fn drv_path(id: u64) -> String {
    let digit = |place: u32| NIX32[(id.checked_shr(5 * place).unwrap_or(0) & 31) as usize];
    let hash: String = (0..32).rev().map(digit).map(char::from).collect();
    format!("{hash}-step-{id}.drv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivations_have_names_of_their_own() {
        assert_eq!(drv_path(0), "00000000000000000000000000000000-step-0.drv");
        assert_eq!(drv_path(33), "00000000000000000000000000000011-step-33.drv");
        assert_eq!(
            drv_path(u64::MAX),
            "0000000000000000000gzzzzzzzzzzzz-step-18446744073709551615.drv"
        );
    }
}

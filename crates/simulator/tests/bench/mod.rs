//! A queue runner driven by the test.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use planner::{DemandKey, Feature, System};
use simulator::engine::{Millis, Purpose, Random, Seed};
use simulator::queue_runner::{Epoch, Host, Offer, Phase, QueueRunner, Settings, Start};
use simulator::workload::{NewStep, StepIndex, StepSpec, WorkloadBuilder};

pub(crate) const EPOCH: Epoch = Epoch(planner::Timestamp(1_000_000));

pub(crate) fn seconds(seconds: u64) -> Millis {
    Millis::from_seconds(seconds)
}

pub(crate) fn kind(text: &str) -> DemandKey {
    let (system, features) = text.split_once(':').unwrap_or((text, ""));
    let features = features.split(',').filter(|name| !name.is_empty()).map(Feature::new);
    DemandKey { system: System::new(system), features: features.collect() }
}

pub(crate) fn step(id: u64, needs: &str, dependencies: &[u64]) -> NewStep {
    NewStep {
        id,
        submit: Millis::ZERO,
        duration: seconds(10),
        kind: kind(needs),
        jobset: "p:j".to_owned(),
        build: id,
        global_priority: 0,
        local_priority: 0,
        dependencies: dependencies.to_vec(),
        cores: None,
        cancel: None,
    }
}

pub(crate) fn offer(needs: &str, mandatory: &str, max_jobs: u32, speed_thousandths: u32) -> Offer {
    let kind = kind(needs);
    Offer {
        systems: vec![kind.system],
        supported_features: kind.features.into_iter().collect(),
        mandatory_features: mandatory
            .split(',')
            .filter(|name| !name.is_empty())
            .map(Feature::new)
            .collect(),
        max_jobs,
        speed_thousandths,
    }
}

/// A queue runner with all its steps submitted; it dispatches when the test says so.
pub(crate) struct Bench {
    pub(crate) queue_runner: QueueRunner,
    ids: Vec<u64>,
    indices: Vec<StepIndex>,
    pub(crate) now: Millis,
    pub(crate) random: Random,
    pub(crate) running: BTreeMap<u64, Start>,
}

impl Bench {
    pub(crate) fn new(settings: Settings, steps: Vec<NewStep>, shares: &[(&str, u32)]) -> Self {
        let mut builder = WorkloadBuilder::new();
        for (jobset, shares) in shares {
            builder.set_shares(jobset, *shares).unwrap();
        }
        for step in steps {
            builder.add(step).unwrap();
        }
        let workload = Arc::new(builder.finish().unwrap());
        let ids = workload.steps().iter().map(StepSpec::id).collect();
        let mut queue_runner = QueueRunner::new(settings, Arc::clone(&workload));
        for index in workload.indices() {
            if workload.steps()[index.position()].submit() == Millis::ZERO {
                queue_runner.submit(index, Millis::ZERO);
            }
        }
        let indices = workload.indices().collect();
        let random = Seed(1).stream(Purpose::Test, 0);
        Self { queue_runner, ids, indices, now: Millis::ZERO, random, running: BTreeMap::new() }
    }

    pub(crate) fn list(&mut self, machines: &[(u32, Offer)]) {
        let lines = machines.iter().map(|(host, offer)| (Host(*host), offer.clone())).collect();
        self.queue_runner.read_machines_file(&lines);
    }

    /// Ids and hosts of the started steps, in order.
    pub(crate) fn dispatch(&mut self) -> Vec<(u64, u32)> {
        let mut starts = Vec::new();
        self.queue_runner.dispatch(self.now, &mut starts);
        starts
            .into_iter()
            .map(|start| {
                let id = self.ids[start.step.position()];
                self.running.insert(id, start);
                (id, start.host.0)
            })
            .collect()
    }

    pub(crate) fn finish(&mut self, id: u64) {
        let start = self.running.remove(&id).unwrap();
        self.queue_runner.succeeded(start, self.now);
    }

    /// The delay of the next try, in seconds.
    pub(crate) fn abort(&mut self, id: u64) -> Option<u64> {
        let start = self.running.remove(&id).unwrap();
        let at = self.queue_runner.aborted(start, self.now, &mut self.random)?;
        Some(at.since(self.now).whole_seconds())
    }

    pub(crate) fn phase(&self, id: u64) -> Phase {
        let at = self.ids.iter().position(|known| *known == id).unwrap();
        self.queue_runner.records()[at].phase
    }

    pub(crate) fn step(&self, id: u64) -> StepIndex {
        let at = self.ids.iter().position(|known| *known == id).unwrap();
        self.indices[at]
    }
}

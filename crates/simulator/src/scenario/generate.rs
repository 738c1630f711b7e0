//! From a scenario to its steps.

use super::graph::Graph;
use super::source::{Kind, Source, Work, weighted};
use super::{Layer, Range, Scenario};
use crate::engine::{Millis, Purpose, Random, Seed};
use crate::workload::{NewStep, Workload, WorkloadBuilder, WorkloadError};

/// More steps than this are a mistake in the scenario.
const STEP_LIMIT: u64 = 50_000_000;

pub(super) fn workload(scenario: &Scenario, seed: Seed) -> Result<Workload, WorkloadError> {
    let mut steps = Steps { builder: WorkloadBuilder::new(), last_step: 0, last_build: 0 };
    for (jobset, shares) in &scenario.jobsets {
        steps.builder.set_shares(jobset, *shares)?;
    }
    let mut sources: Vec<_> = (0..)
        .zip(&scenario.sources)
        .map(|(index, source)| Stream::new(source, index, seed))
        .collect();
    for (at, source) in arrivals(scenario, seed)? {
        sources[source].arrive(at, &mut steps)?;
    }
    steps.builder.finish()
}

/// When which source has an arrival, in the order of time: builds are numbered as they arrive.
fn arrivals(scenario: &Scenario, seed: Seed) -> Result<Vec<(Millis, usize)>, WorkloadError> {
    let limit = usize::try_from(STEP_LIMIT).unwrap_or(usize::MAX);
    let mut arrivals = Vec::new();
    for (index, source) in scenario.sources.iter().enumerate() {
        let mut random = seed.stream(Purpose::Arrivals, index as u64);
        let times = source.arrivals.times(scenario.duration, limit, &mut random);
        arrivals.extend(times.into_iter().map(|at| (at, index)));
        if arrivals.len() >= limit {
            return Err(too_many(limit));
        }
    }
    arrivals.sort_unstable();
    Ok(arrivals)
}

fn too_many(index: usize) -> WorkloadError {
    WorkloadError::TooMany { index, what: "steps", limit: STEP_LIMIT }
}

/// The steps so far; both numbers count from 1.
struct Steps {
    builder: WorkloadBuilder,
    last_step: u64,
    last_build: u64,
}

impl Steps {
    fn add(&mut self, step: NewStep) -> Result<(), WorkloadError> {
        if self.last_step >= STEP_LIMIT {
            return Err(too_many(usize::try_from(self.last_step).unwrap_or(usize::MAX)));
        }
        self.last_step = self.last_step.max(step.id);
        self.builder.add(step)
    }
}

/// A source with its random streams.
struct Stream<'a> {
    source: &'a Source,
    graph: Option<Graph>,
    shapes: Random,
    durations: Random,
}

impl<'a> Stream<'a> {
    fn new(source: &'a Source, index: u64, seed: Seed) -> Self {
        let mut shapes = seed.stream(Purpose::Shapes, index);
        let mut durations = seed.stream(Purpose::Durations, index);
        let graph = source.layers().map(|layers| Graph::draw(layers, &mut shapes, &mut durations));
        Self { source, graph, shapes, durations }
    }

    fn arrive(&mut self, at: Millis, steps: &mut Steps) -> Result<(), WorkloadError> {
        match self.source.work {
            Work::Steps(count) => self.build(at, count, steps),
            Work::Graph { .. } => self.change(at, steps),
        }
    }

    /// A build: the last step needs the others.
    fn build(&mut self, at: Millis, count: Range, steps: &mut Steps) -> Result<(), WorkloadError> {
        let jobset = self.jobset();
        let first = steps.last_step + 1;
        let last = steps.last_step + u64::from(count.draw(&mut self.shapes));
        steps.last_build += 1;
        for id in first..=last {
            let dependencies = if id == last { (first..last).collect() } else { Vec::new() };
            let mut step = self.step(at, id, &jobset, dependencies);
            step.build = steps.last_build;
            steps.add(step)?;
        }
        Ok(())
    }

    /// A change of a package of the graph, with everything that must be rebuilt.
    fn change(&mut self, at: Millis, steps: &mut Steps) -> Result<(), WorkloadError> {
        let jobset = self.jobset();
        let first = steps.last_step + 1;
        let Some(graph) = &mut self.graph else { return Ok(()) };
        let rebuilds = graph.change(first, &mut self.shapes);
        let first_build = steps.last_build + 1;
        for rebuild in rebuilds {
            let mut step = self.step(at, rebuild.step, &jobset, rebuild.dependencies);
            step.duration = rebuild.duration;
            step.build = first_build + rebuild.build as u64;
            steps.last_build = steps.last_build.max(step.build);
            steps.add(step)?;
        }
        Ok(())
    }

    fn jobset(&mut self) -> String {
        let jobset = weighted(&self.source.jobsets, |jobset| jobset.weight, &mut self.shapes);
        jobset.map(|jobset| jobset.name.clone()).unwrap_or_default()
    }

    /// A step with a kind and a duration of its own.
    fn step(&mut self, submit: Millis, id: u64, jobset: &str, dependencies: Vec<u64>) -> NewStep {
        let kind = weighted(&self.source.kinds, |kind| kind.weight, &mut self.shapes);
        // A scenario that was checked has one of weight.
        let kind = kind.cloned().unwrap_or_else(Kind::usual);
        let durations = kind.durations.as_ref().unwrap_or(&self.source.durations);
        NewStep {
            id,
            submit,
            duration: self.durations.sample(durations),
            kind: kind.key(),
            jobset: jobset.to_owned(),
            build: 0,
            global_priority: self.source.global_priority,
            local_priority: self.source.local_priority,
            dependencies,
        }
    }
}

impl Source {
    fn layers(&self) -> Option<&[Layer]> {
        match &self.work {
            Work::Steps(_) => None,
            Work::Graph { layers } => Some(layers),
        }
    }
}

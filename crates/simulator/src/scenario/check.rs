//! Reads a scenario and finds everything that is wrong with it.

use std::fmt;

use thiserror::Error;

use super::{Arrivals, Layer, Scenario, Source, Work};
use crate::engine::{Distribution, Millis};

const FORMAT: &str = "hydra-provisioner-scenario";
const VERSION: u32 = 1;
/// Ten years: rates times the duration must stay countable.
const LONGEST: Millis = Millis::from_hours(24 * 3653);
const MOST_PACKAGES: u32 = 1_000_000;
const MOST_DEPENDENCIES: u32 = 1_000;
const MOST_PER_HOUR: u32 = 3_600_000;

/// A scenario that cannot be used, with everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ScenarioError {
    /// The name of the file, as it was told.
    pub file: String,
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which line, where it was found while reading.
    pub line: Option<usize>,
    /// Where: `sources[0].arrivals`.
    pub path: String,
    /// What it is and must be.
    pub message: String,
}

/// `FILE:LINE: PATH: message`, a line each.
impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, path, message }) in self.problems.iter().enumerate() {
            let new_line = if index == 0 { "" } else { "\n" };
            write!(f, "{new_line}{}:", self.file)?;
            if let Some(line) = line {
                write!(f, "{line}:")?;
            }
            write!(f, " {path}: {message}")?;
        }
        Ok(())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: String) {
        self.0.push(Problem { line: None, path: path.to_owned(), message });
    }

    fn number(&mut self, path: &str, value: u32, least: u32, most: u32) {
        if !(least..=most).contains(&value) {
            self.add(path, format!("is {value}, must be from {least} to {most}"));
        }
    }

    fn distribution(&mut self, path: &str, distribution: &Distribution) {
        if let Err(error) = distribution.check() {
            self.add(path, error.to_string());
        }
    }

    /// At least one, and not all of weight 0.
    fn weights(&mut self, path: &str, what: &str, weights: impl Iterator<Item = u32>) {
        if weights.fold(0_u64, |sum, weight| sum + u64::from(weight)) == 0 {
            self.add(path, format!("needs {what} with a weight above 0"));
        }
    }
}

pub(super) fn parse(file: &str, text: &[u8]) -> Result<Scenario, ScenarioError> {
    let wrong = |problems| ScenarioError { file: file.to_owned(), problems };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let scenario: Scenario = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        wrong(vec![unreadable(path, error)])
    })?;
    reader.end().map_err(|error| wrong(vec![unreadable(".".to_owned(), &error)]))?;
    match check(&scenario) {
        problems if problems.is_empty() => Ok(scenario),
        problems => Err(wrong(problems)),
    }
}

fn unreadable(path: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    Problem { line: Some(error.line()), path, message }
}

fn check(scenario: &Scenario) -> Vec<Problem> {
    let mut problems = Problems::default();
    if scenario.format != FORMAT {
        problems.add("format", format!("is {:?}, must be {FORMAT:?}", scenario.format));
    }
    if scenario.version != VERSION {
        problems.add("version", format!("is {}, only {VERSION} is known", scenario.version));
    }
    if scenario.duration == Millis::ZERO || scenario.duration > LONGEST {
        problems.add("duration", format!("is {}, must be up to ten years", scenario.duration));
    }
    if scenario.sources.is_empty() {
        problems.add("sources", "is empty, nothing would ever be built".to_owned());
    }
    for (index, source) in scenario.sources.iter().enumerate() {
        check_source(&format!("sources[{index}]"), source, scenario.duration, &mut problems);
    }
    for (index, incident) in scenario.incidents.iter().enumerate() {
        incident.check(&format!("incidents[{index}]"), scenario.duration, &mut problems);
    }
    for (kind, model) in &scenario.machines {
        for (name, distribution) in model.distributions() {
            problems.distribution(&format!("machines.{kind}.{name}"), distribution);
        }
        if let Err(error) = model.tariff.price.check() {
            problems.add(&format!("machines.{kind}.tariff.price"), error.to_string());
        }
    }
    if scenario.cycle.interval < Millis::from_seconds(1) {
        problems.add("cycle.interval", "must be 1000 ms or more".to_owned());
    }
    if scenario.queue_runner.dispatch_timer == Millis::ZERO {
        problems.add("queueRunner.dispatchTimer", "must be above 0 ms".to_owned());
    }
    problems.0
}

fn check_source(path: &str, source: &Source, duration: Millis, problems: &mut Problems) {
    check_arrivals(&format!("{path}.arrivals"), &source.arrivals, duration, problems);
    let weights = source.kinds.iter().map(|kind| kind.weight);
    problems.weights(&format!("{path}.kinds"), "a kind", weights);
    let weights = source.jobsets.iter().map(|jobset| jobset.weight);
    problems.weights(&format!("{path}.jobsets"), "a jobset", weights);
    problems.distribution(&format!("{path}.durations"), &source.durations);
    for (index, kind) in source.kinds.iter().enumerate() {
        if let Some(durations) = &kind.durations {
            problems.distribution(&format!("{path}.kinds[{index}].durations"), durations);
        }
    }
    match &source.work {
        Work::Steps(range) => {
            problems.number(&format!("{path}.work.steps.max"), range.max, 1, MOST_PACKAGES);
            problems.number(&format!("{path}.work.steps.min"), range.min, 1, range.max.max(1));
        }
        Work::Graph { layers } => check_layers(&format!("{path}.work.graph"), layers, problems),
    }
}

fn check_layers(path: &str, layers: &[Layer], problems: &mut Problems) {
    let weights = layers.iter().map(|layer| layer.changes);
    problems.weights(&format!("{path}.layers"), "a layer that changes,", weights);
    let packages: u64 = layers.iter().map(|layer| u64::from(layer.packages)).sum();
    if packages > u64::from(MOST_PACKAGES) {
        let message = format!("have {packages} packages together, at most {MOST_PACKAGES} may be");
        problems.add(&format!("{path}.layers"), message);
    }
    for (index, layer) in layers.iter().enumerate() {
        let path = format!("{path}.layers[{index}]");
        problems.number(&format!("{path}.packages"), layer.packages, 1, MOST_PACKAGES);
        let max = layer.dependencies.max;
        problems.number(&format!("{path}.dependencies.max"), max, 1, MOST_DEPENDENCIES);
        let min = layer.dependencies.min;
        problems.number(&format!("{path}.dependencies.min"), min, 1, max.max(1));
        problems.distribution(&format!("{path}.durations"), &layer.durations);
    }
}

fn check_arrivals(path: &str, arrivals: &Arrivals, duration: Millis, problems: &mut Problems) {
    let mut per_hour = |name: &str, rate| {
        problems.number(&format!("{path}.{name}.perHour"), rate, 1, MOST_PER_HOUR);
    };
    match arrivals {
        Arrivals::Poisson { per_hour: rate } => per_hour("poisson", *rate),
        Arrivals::Rhythm { per_hour: rate, day, week } => {
            per_hour("rhythm", *rate);
            for (name, percents) in [("day", day.as_slice()), ("week", week.as_slice())] {
                if let Some(at) = percents.iter().position(|percent| *percent > 100) {
                    let message = format!("is {}, must be from 0 to 100 percent", percents[at]);
                    problems.add(&format!("{path}.rhythm.{name}[{at}]"), message);
                }
            }
        }
        Arrivals::Flapping { per_hour: rate, on, off } => {
            per_hour("flapping", *rate);
            if *on == Millis::ZERO || *off == Millis::ZERO {
                let message = "on and off must be above 0 ms (else it is poisson)".to_owned();
                problems.add(&format!("{path}.flapping"), message);
            }
        }
        Arrivals::Burst { at, builds, within, every } => {
            let path = format!("{path}.burst");
            problems.number(&format!("{path}.builds"), *builds, 1, u32::MAX);
            if *at >= duration {
                let message = format!("is {at}, after the scenario's end at {duration}");
                problems.add(&format!("{path}.at"), message);
            }
            if every.is_some_and(|every| every < *within || every < Millis::from_seconds(1)) {
                let message = "must be 1000 ms or more, and not below within".to_owned();
                problems.add(&format!("{path}.every"), message);
            }
        }
    }
}

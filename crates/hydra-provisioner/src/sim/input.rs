//! Input files of a simulation.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use simulator::engine::Seed;
use simulator::queue_runner::Settings;
use simulator::scenario::Scenario;
use simulator::trace::read_workload;
use simulator::workload::Workload;
use simulator::world::Farm;

use super::zstd::Frames;
use crate::console::fail;
use crate::exit::Exit;

/// Traces and farm.
pub(super) enum Work {
    Recorded(Arc<Workload>),
    Scenario(Box<Scenario>),
}

/// The problem with work that is empty.
const NO_STEP: &str = "has no step: there is nothing to simulate";

/// A trace with its name.
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) work: Work,
}

impl Trace {
    /// A trace or a scenario, by its file name.
    pub(super) fn read(path: &Path) -> Result<Self, Exit> {
        let name = path.display().to_string();
        let work = match Content::of(path)? {
            Content::Scenario => {
                let mut text = String::new();
                open(path)?.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
                Work::Scenario(Box::new(scenario(path, &text)?))
            }
            Content::Workload => {
                let workload = read_workload(&name, open(path)?);
                let workload = workload.map_err(|error| fail(Exit::BadConfig, &error))?;
                if workload.steps().is_empty() {
                    return Err(bad(&name, &NO_STEP));
                }
                Work::Recorded(Arc::new(workload))
            }
        };
        Ok(Self { name, work })
    }

    pub(super) fn first_seed(&self, given: Option<u64>) -> u64 {
        given.unwrap_or(match &self.work {
            Work::Recorded(_) => 0,
            Work::Scenario(scenario) => scenario.seed,
        })
    }

    /// The work for `seed` and, for a scenario, its queue runner.
    pub(super) fn work(&self, seed: u64) -> Result<(Arc<Workload>, Option<Settings>), Exit> {
        match &self.work {
            Work::Recorded(workload) => Ok((Arc::clone(workload), None)),
            Work::Scenario(scenario) => {
                let workload = generated(&self.name, scenario, seed)?;
                Ok((Arc::new(workload), Some(scenario.farm.queue_runner)))
            }
        }
    }

    /// The farm that a scenario describes.
    pub(super) fn farm(&self) -> Option<&Farm> {
        match &self.work {
            Work::Recorded(_) => None,
            Work::Scenario(scenario) => Some(&scenario.farm),
        }
    }
}

/// The work of a scenario for `seed`; it has at least one step.
pub(super) fn generated(
    name: impl std::fmt::Display,
    scenario: &Scenario,
    seed: u64,
) -> Result<Workload, Exit> {
    match scenario.workload(Seed(seed)) {
        Err(error) => Err(bad(name, &error)),
        Ok(workload) if workload.steps().is_empty() => Err(bad(name, &NO_STEP)),
        Ok(workload) => Ok(workload),
    }
}

/// The content of a trace.
#[derive(Clone, Copy)]
enum Content {
    Workload,
    Scenario,
}

impl Content {
    /// By its name; standard input is a trace.
    fn of(path: &Path) -> Result<Self, Exit> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
        match Path::new(name).extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Self::Scenario),
            Some("jsonl") => Ok(Self::Workload),
            _ if name == "-" => Ok(Self::Workload),
            _ => Err(bad(
                path.display(),
                &"is no trace by its name: workloads end in .jsonl, scenarios in .json, both also with .gz or .zst \
                  behind; `sim import` makes workloads of other records",
            )),
        }
    }
}

/// A farm file.
pub(super) fn farm(path: &Path) -> Result<Farm, Exit> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    Farm::parse(&text).map_err(|error| bad(path.display(), &error))
}

pub(super) fn scenario(path: &Path, text: &str) -> Result<Scenario, Exit> {
    Scenario::parse(text).map_err(|error| bad(path.display(), &error))
}

/// Opens a file, and decompresses it if its name ends in `.gz` or `.zst`; `-` is standard input.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Exit> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let text: Box<dyn Read> = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => {
            Box::new(Frames::new(BufReader::new(file)).map_err(|error| unreadable(path, &error))?)
        }
        _ => Box::new(file),
    };
    Ok(Box::new(BufReader::new(text)))
}

/// Writes a trace atomically, compressed if its name ends in `.gz`.
pub(super) fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Exit> {
    let name = path.as_os_str().to_string_lossy();
    if !name.ends_with(".jsonl") && !name.ends_with(".jsonl.gz") {
        let message = format!(
            "cannot write {name}: a workload's name ends in .jsonl or .jsonl.gz (.zst is only read)"
        );
        return Err(fail(Exit::BadConfig, &message));
    }
    let mut bytes = Vec::new();
    let written = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut encoder = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::best());
        content(&mut encoder).and_then(|()| encoder.finish().map(|_| ()))
    } else {
        content(&mut BufWriter::new(&mut bytes))
    };
    written.and_then(|()| std::fs::write(path, &bytes)).map_err(|error| {
        fail(Exit::Unexpected, &format!("cannot write {}: {error}", path.display()))
    })
}

pub(super) fn unreadable(path: &Path, error: &impl std::fmt::Display) -> Exit {
    fail(Exit::BadConfig, &format!("cannot read {}: {error}", path.display()))
}

/// Reports an invalid file, with one line per problem.
pub(super) fn bad(file: impl std::fmt::Display, problems: &impl std::fmt::Display) -> Exit {
    for problem in problems.to_string().lines() {
        fail(Exit::BadConfig, &format!("{file}: {problem}"));
    }
    Exit::BadConfig
}

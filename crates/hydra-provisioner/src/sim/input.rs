//! What a simulation is made of, from files.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use adapters::config::{Config, QueueSettings};
use planner::MachineType;
use simulator::engine::{Millis, Seed};
use simulator::json::nearest;
use simulator::queue_runner::Settings;
use simulator::scenario::Scenario;
use simulator::simulation::Setup;
use simulator::trace::read_workload;
use simulator::workload::Workload;
use simulator::world::{Farm, Limits};

use crate::commands::{fail, load};
use crate::exit::Exit;
use crate::sim::args::Options;

/// Work, and where it happens.
pub(super) enum Work {
    Recorded(Arc<Workload>),
    Scenario(Box<Scenario>),
}

/// A trace with its name.
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) work: Work,
}

/// A configuration with its name.
pub(super) struct Conf {
    pub(super) name: String,
    config: Config,
}

impl Conf {
    pub(super) fn read(path: &Path) -> Result<Self, Exit> {
        Ok(Self { name: path.display().to_string(), config: load(path)? })
    }

    pub(super) fn policy(&self) -> &planner::Policy {
        &self.config.policy
    }

    fn limits(&self) -> Limits {
        let millis = |length: std::time::Duration| {
            Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
        };
        let limits = self.config.limits;
        Limits {
            create_timeout: millis(limits.create_timeout),
            deploy_timeout: millis(limits.deploy_timeout),
            release_timeout: millis(limits.release_timeout),
            parallelism: u32::try_from(limits.parallelism).unwrap_or(u32::MAX),
        }
    }

    /// A farm like any other, with the queue runner that the configuration asks.
    fn usual_farm(&self) -> Farm {
        let queue_runner = match self.config.queue {
            QueueSettings::Classic { .. } => Settings::CLASSIC,
            QueueSettings::Rest { .. } => Settings::REST,
        };
        Farm { queue_runner, ..Farm::default() }
    }
}

impl Trace {
    /// A workload, or a scenario: which of both the name tells.
    pub(super) fn read(path: &Path) -> Result<Self, Exit> {
        let name = path.display().to_string();
        let work = if path.extension().is_some_and(|extension| extension == "json") {
            let mut text = String::new();
            open(path)?.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
            Work::Scenario(Box::new(scenario(path, &text)?))
        } else {
            let workload = read_workload(&name, open(path)?);
            Work::Recorded(Arc::new(workload.map_err(|error| fail(Exit::BadConfig, &error))?))
        };
        Ok(Self { name, work })
    }

    pub(super) fn first_seed(&self, told: Option<u64>) -> u64 {
        told.unwrap_or(match &self.work {
            Work::Recorded(_) => 0,
            Work::Scenario(scenario) => scenario.seed,
        })
    }

    /// The work of `seed` and, of a scenario, its queue runner.
    pub(super) fn work(&self, seed: u64) -> Result<(Arc<Workload>, Option<Settings>), Exit> {
        match &self.work {
            Work::Recorded(workload) => Ok((Arc::clone(workload), None)),
            Work::Scenario(scenario) => {
                let workload = scenario.workload(Seed(seed));
                let workload = workload.map_err(|error| bad(&self.name, &error))?;
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

    /// All that one run needs.
    pub(super) fn setup(
        &self,
        conf: &Conf,
        farm: Option<&Farm>,
        seed: u64,
        options: &Options,
    ) -> Result<Setup, Exit> {
        let (workload, _) = self.work(seed)?;
        let own_farm = match &self.work {
            Work::Recorded(_) => conf.usual_farm(),
            Work::Scenario(scenario) => scenario.farm.clone(),
        };
        let mut farm = farm.cloned().unwrap_or(own_farm);
        if let Some(seconds) = options.interval {
            farm.cycle.interval = Millis::from_seconds(seconds);
        }
        let policy = conf.config.policy.clone();
        Ok(Setup { seed: Seed(seed), policy, limits: conf.limits(), farm, workload })
    }
}

/// Says which types a farm tells of that no configuration has: it would be as if it said nothing.
pub(super) fn warn_of_unknown_types(file: &str, farm: &Farm, confs: &[Conf]) {
    let known = || confs.iter().flat_map(|conf| conf.policy().pools.keys());
    for name in farm.types().into_iter().filter(|name| !known().any(|known| known == *name)) {
        let hint = nearest(name.as_str(), known().map(MachineType::as_str))
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        tracing::warn!("{file}: no configuration has the machine type {name}{hint}");
    }
}

/// A farm's own file.
pub(super) fn farm(path: &Path) -> Result<Farm, Exit> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    Farm::parse(&text).map_err(|error| bad(path.display(), &error))
}

pub(super) fn scenario(path: &Path, text: &str) -> Result<Scenario, Exit> {
    Scenario::parse(text).map_err(|error| bad(path.display(), &error))
}

/// Opens a file, uncompressed where its name ends in `.gz` or `.zst`; `-` is standard input.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Exit> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let text: Box<dyn Read> = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(
            ruzstd::decoding::StreamingDecoder::new(file)
                .map_err(|error| unreadable(path, &error))?,
        ),
        _ => Box::new(file),
    };
    Ok(Box::new(BufReader::new(text)))
}

/// Writes a file whole or not at all, compressed where its name ends in `.gz`.
pub(super) fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Exit> {
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|extension| extension == "zst") {
        let message = format!("cannot write {}: .zst is only read; name it .gz", path.display());
        return Err(fail(Exit::BadConfig, &message));
    }
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

/// A file that makes no sense, a line for each problem.
fn bad(file: impl std::fmt::Display, problems: &impl std::fmt::Display) -> Exit {
    for problem in problems.to_string().lines() {
        fail(Exit::BadConfig, &format!("{file}: {problem}"));
    }
    Exit::BadConfig
}

//! `sim import`: other formats as traces.

use std::path::Path;

use planner::{DemandKey, System};
use simulator::engine::{Distribution, Millis, Purpose, Seed};
use simulator::trace::{Observation, RecordingReader, write_workload};
use simulator::workload::import::{
    Imported, Processors, derivation_files, derivations, recording, swf,
};

use crate::console::fail;
use crate::exit::Exit;
use crate::sim::args::{self, Import};
use crate::sim::input;

pub(super) fn import(what: Import) -> Result<Exit, Exit> {
    match what {
        Import::Postgres { database, output } => {
            write(&database.name(), database.read(), &output.output)
        }
        Import::Swf { file, system, processors, output } => {
            let kind = DemandKey { system: System::new(system), features: [].into() };
            let imported = swf(input::open(&file)?, &kind, processors.into());
            write(&file.display().to_string(), imported, &output.output)
        }
        Import::Recording { file, output } => {
            let name = file.display().to_string();
            let text = input::open(&file)?;
            let observations = RecordingReader::new(&name, text)
                .and_then(Iterator::collect::<Result<Vec<Observation>, _>>)
                .map_err(|error| fail(Exit::BadConfig, &error))?;
            let snapshots = observations.into_iter().map(|observation| observation.snapshot);
            write(&name, recording(snapshots), &output.output)
        }
        Import::Derivations { file, median, sigma, seed, jobset, output } => {
            let durations = Distribution::LogNormal { median: Millis::from_seconds(median), sigma };
            durations.check().map_err(|error| fail(Exit::BadConfig, &error))?;
            let mut rng = Seed(seed).stream(Purpose::Durations, 0);
            let imported = if file.is_dir() {
                let files = drv_files(&file).map_err(|error| input::unreadable(&file, &error))?;
                derivation_files(files, &jobset, &durations, &mut rng)
            } else {
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut input::open(&file)?, &mut text)
                    .map_err(|error| input::unreadable(&file, &error))?;
                derivations(&text, &jobset, &durations, &mut rng)
            };
            write(&file.display().to_string(), imported, &output.output)
        }
    }
}

impl From<args::Processors> for Processors {
    fn from(processors: args::Processors) -> Self {
        match processors {
            args::Processors::Steps => Self::Steps,
            args::Processors::Ignore => Self::Ignore,
        }
    }
}

/// Names and contents, sorted by name.
fn drv_files(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "drv") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| std::io::Error::new(error.kind(), format!("{name}: {error}")))?;
            files.push((name, text));
        }
    }
    files.sort();
    Ok(files)
}

fn write(
    source: &str,
    imported: Result<Imported, impl std::fmt::Display>,
    output: &Path,
) -> Result<Exit, Exit> {
    let imported =
        imported.map_err(|error| fail(Exit::BadConfig, &format!("{source}: {error}")))?;
    for left_out in &imported.left_out {
        tracing::warn!("{source}: left out: {left_out}");
    }
    if imported.workload.steps().is_empty() {
        return Err(input::bad(
            source,
            &"has no step that was or can be built; nothing was written",
        ));
    }
    let description = format!("imported from {source}");
    input::write(output, |out| write_workload(&imported.workload, &description, out))?;
    let steps = planner::counted(imported.workload.steps().len() as u64, "step");
    tracing::info!("{steps} written to {}", output.display());
    Ok(Exit::Done)
}

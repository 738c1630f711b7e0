//! Records of others as workloads.

use std::path::Path;

use planner::{DemandKey, System};
use simulator::engine::{Distribution, Millis, Purpose, Seed};
use simulator::trace::write_workload;
use simulator::workload::import::{ImportError, Imported, derivations, swf};

use crate::commands::fail;
use crate::exit::Exit;
use crate::sim::args::Import;
use crate::sim::input;

pub(super) fn import(what: Import) -> Result<Exit, Exit> {
    match what {
        Import::Swf { file, system, output } => {
            let kind = DemandKey { system: System::new(system), features: [].into() };
            let imported = swf(input::open(&file)?, &kind);
            write(&file, imported, &output.output)
        }
        Import::Derivations { file, median, sigma, seed, jobset, output } => {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut input::open(&file)?, &mut text)
                .map_err(|error| input::unreadable(&file, &error))?;
            let durations = Distribution::LogNormal { median: Millis::from_seconds(median), sigma };
            durations.check().map_err(|error| fail(Exit::BadConfig, &error))?;
            let mut dice = Seed(seed).stream(Purpose::Durations, 0);
            let imported = derivations(&text, &jobset, &durations, &mut dice);
            write(&file, imported, &output.output)
        }
    }
}

fn write(
    file: &Path,
    imported: Result<Imported, ImportError>,
    output: &Path,
) -> Result<Exit, Exit> {
    let imported =
        imported.map_err(|error| fail(Exit::BadConfig, &format!("{}: {error}", file.display())))?;
    for left_out in &imported.left_out {
        tracing::warn!("{}: left out: {left_out}", file.display());
    }
    let description = format!("imported from {}", file.display());
    input::write(output, |out| write_workload(&imported.workload, &description, out))?;
    tracing::info!("{} steps written to {}", imported.workload.steps().len(), output.display());
    Ok(Exit::Done)
}

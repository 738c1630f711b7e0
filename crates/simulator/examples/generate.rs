//! Makes a workload trace of a scenario: `generate < SCENARIO > TRACE`, with the scenario's own seed.

use std::error::Error;
use std::io::{BufWriter, Read as _};

use simulator::engine::Seed;
use simulator::scenario::Scenario;
use simulator::trace::write_workload;

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    let scenario = Scenario::parse("standard input", &text)?;
    let workload = scenario.workload(Seed(scenario.seed))?;
    write_workload(&workload, &scenario.description, BufWriter::new(std::io::stdout().lock()))?;
    Ok(())
}

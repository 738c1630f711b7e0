//! Writes what `run --record` saw and decided.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use planner::{Plan, Snapshot};
use simulator::trace::{Observation, append_observation, recording_header};

/// Existing content of `file` is never changed.
pub(crate) fn append(file: &Path, seen: &Snapshot, plan: &Plan) -> io::Result<()> {
    // Each line is one write, so that a crash leaves no partial line.
    let mut line = Vec::new();
    let mut file = fs::OpenOptions::new().append(true).create(true).open(file)?;
    if file.metadata()?.len() == 0 {
        recording_header(&mut line)?;
    }
    append_observation(&Observation { snapshot: seen.clone(), plan: plan.clone() }, &mut line)?;
    file.write_all(&line)
}

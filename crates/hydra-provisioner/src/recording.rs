//! `--record FILE`: snapshots and plans, for `sim replay`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use planner::Plan;
use reconciler::Reconciler;
use simulator::trace::{Observation, append_observation, recording_header};

use crate::console::fail;
use crate::exit::Exit;

/// Appends an observation whenever the plan has changed.
pub(crate) struct Recorder {
    file: Option<PathBuf>,
    last: Option<Plan>,
    result: Result<(), Exit>,
}

impl Recorder {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, last: None, result: Ok(()) }
    }

    pub(crate) fn note(&mut self, reconciler: &Reconciler) {
        let (Some(file), Some(seen)) = (&self.file, reconciler.seen()) else { return };
        let plan = reconciler.plan();
        if self.last.as_ref() == Some(plan) {
            return;
        }
        self.last = Some(plan.clone());
        let observation = Observation { snapshot: seen.clone(), plan: plan.clone() };
        if let Err(error) = append(file, &observation) {
            let what = format!("cannot record to {}: {error}", file.display());
            self.result = Err(fail(Exit::Unexpected, &what));
        }
    }

    /// Whether everything was recorded.
    pub(crate) fn result(&self) -> Result<(), Exit> {
        self.result
    }
}

/// Existing content is never changed.
fn append(file: &Path, observation: &Observation) -> io::Result<()> {
    // Each line is one write, so that a crash leaves no partial line.
    let mut line = Vec::new();
    let mut file = fs::OpenOptions::new().append(true).create(true).open(file)?;
    if file.metadata()?.len() == 0 {
        recording_header(&mut line)?;
    }
    append_observation(observation, &mut line)?;
    file.write_all(&line)
}

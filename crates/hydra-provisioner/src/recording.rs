//! `--record FILE`: snapshots and plans, for `sim replay`.

use std::path::PathBuf;

use planner::Plan;
use reconciler::Reconciler;

use crate::console::fail;
use crate::exit::Exit;
#[cfg(feature = "sim")]
use crate::sim::recording::append;

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
        if let Err(error) = append(file, seen, plan) {
            let what = format!("cannot record to {}: {error}", file.display());
            self.result = Err(fail(Exit::Unexpected, &what));
        }
    }

    /// Whether everything was recorded.
    pub(crate) fn result(&self) -> Result<(), Exit> {
        self.result
    }
}

#[cfg(not(feature = "sim"))]
fn append(_: &std::path::Path, _: &planner::Snapshot, _: &Plan) -> std::io::Result<()> {
    Err(std::io::Error::other("this program was built without the simulator (cargo feature `sim`)"))
}

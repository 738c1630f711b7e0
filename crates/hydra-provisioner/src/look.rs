//! `plan` and `status`: look at everything once and change nothing, also while a service runs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use adapters::config::Config;
use adapters::driver::{Driver, Mode};
use planner::Snapshot;

use crate::commands::fail;
use crate::exit::Exit;
use crate::session::end_children;

/// What a look may take beyond the time limit of its questions.
const SLACK: Duration = Duration::from_secs(5);

/// The farm as it is now.
pub(crate) fn look(config: &Config) -> Result<Snapshot, Exit> {
    let deadline = Instant::now() + config.limits.status_timeout + SLACK;
    let mut driver =
        Driver::open(config.clone(), Mode::Look).map_err(|error| fail(Exit::Unexpected, &error))?;
    driver.run(Some(deadline), &mut |reconciler, _| {
        if reconciler.has_looked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let snapshot = driver.reconciler().snapshot();
    end_children();
    Ok(snapshot)
}

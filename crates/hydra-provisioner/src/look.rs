//! `plan` and `status`: look at everything once and change nothing, also while a service runs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use adapters::config::Config;
use adapters::driver::{Driver, Mode};
use adapters::{lock, state};
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
    driver.run(Some(deadline), &mut |step| {
        if step.reconciler.has_looked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let snapshot = driver.reconciler().snapshot();
    end_children();
    Ok(snapshot)
}

/// What there is to say of the run that is at work: what it has under way is in the plan and the table.
pub(crate) fn at_work(config: &Config) -> String {
    let Some(holder) = lock::holder(&config.state_dir) else { return String::new() };
    let what = if holder.contains(", serving ") { "a service runs" } else { "a run is at work" };
    let refused = state::refused(&config.state_dir)
        .map(|reason| {
            format!("its configuration was NOT reloaded, the old one goes on: {reason}\n")
        })
        .unwrap_or_default();
    format!("{what} ({holder})\n{refused}")
}

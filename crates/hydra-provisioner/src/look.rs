//! `plan` and `status`: read everything once and change nothing, even while a service runs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use adapters::config::Config;
use adapters::driver::{Driver, Mode};
use adapters::{lock, state};
use planner::Snapshot;

use crate::console::fail;
use crate::exit::Exit;
use crate::session::end_children;

/// Additional time beyond the time limits of the requests.
const SLACK: Duration = Duration::from_secs(5);

/// The current state of the farm.
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

/// A line about the active run or service. Its running operations are in the plan and the table.
pub(crate) fn at_work(config: &Config) -> String {
    let Some(holder) = lock::holder(&config.state_dir) else { return String::new() };
    let what = if holder.contains(", serving ") {
        "a service runs"
    } else if stands_by(&holder) {
        "a service stands by: another host is the active one, see its log"
    } else {
        "a run is at work"
    };
    let refused = state::refused(&config.state_dir)
        .map(|reason| {
            format!("its configuration was NOT reloaded, the old one stays active: {reason}\n")
        })
        .unwrap_or_default();
    format!("{what} ({holder})\n{refused}")
}

/// Whether the holder of a lock waits for a lease.
pub(crate) fn stands_by(holder: &str) -> bool {
    holder.contains(", standing by ")
}

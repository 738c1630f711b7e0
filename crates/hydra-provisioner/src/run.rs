//! `run CONF`: one run, until its operations have ended.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use adapters::config::Config;
use adapters::driver::Ended;
use planner::{QueueStatus, ReleaseStep};
use reconciler::{Happening, HistoryEntry, Published, Reconciler};

use crate::args::RunArgs;
use crate::console::{fail, load, print};
use crate::exit::Exit;
use crate::recording::Recorder;
use crate::session::{Place, Session, end_children, kill_children};
use crate::standby::ask_once;

/// Additional time beyond the time limits of operations.
const SLACK: Duration = Duration::from_secs(60);

/// Runs until no operation is running and the plan starts no more.
pub(crate) fn run_once(args: &RunArgs) -> Result<Exit, Exit> {
    let config = load(&args.conf)?;
    let wait = args.wait.map_or_else(|| longest_wait(&config), Duration::from_secs);
    let place = Place::take("running", &args.conf, &config)?;
    let lease = ask_once(&config)?;
    let mut session = Session::open(place, lease, config)?;
    session.heed_signals(|| tracing::info!("nothing to reload: this run ends by itself"))?;
    let mut account = Account::new(args);
    let deadline = Instant::now() + wait;
    let (driver, lock) = session.split();
    let ended = driver.run(Some(deadline), &mut |step| {
        let reconciler = step.reconciler;
        account.step(reconciler, step.happened);
        let is_over = reconciler.has_looked() && reconciler.is_settled();
        if is_over || !lock.is_still_ours() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let lost = !lock.is_still_ours();
    if let Some(reason) = session.lost_lease() {
        kill_children();
        let what = format!("not the active host any more, this run ended: {reason}");
        return Err(fail(Exit::Unexpected, &what));
    }
    if ended == Ended::Deadline {
        tracing::warn!("not all that was begun has ended within {} s (--wait)", wait.as_secs());
    }
    end_children();
    if lost {
        return Err(fail(
            Exit::Unexpected,
            &"stateDir was deleted or replaced during this run; it ended",
        ));
    }
    account.close(session.driver.reconciler(), ended)
}

fn longest_wait(config: &Config) -> Duration {
    let limits = config.limits;
    limits.create_timeout + limits.deploy_timeout + limits.release_timeout + SLACK
}

/// The output of a run, and its exit code.
struct Account {
    recorder: Recorder,
    is_plan_printed: bool,
    /// Results to print after the plan.
    lines: Vec<String>,
    has_failed: bool,
    has_published: bool,
    printed: Result<(), Exit>,
}

impl Account {
    fn new(args: &RunArgs) -> Self {
        Self {
            recorder: Recorder::new(args.record.clone()),
            is_plan_printed: false,
            lines: Vec::new(),
            has_failed: false,
            has_published: false,
            printed: Ok(()),
        }
    }

    fn step(&mut self, reconciler: &Reconciler, happened: &[HistoryEntry]) {
        self.recorder.note(reconciler);
        self.has_failed |= happened.iter().any(|entry| is_failure(&entry.what));
        let published = reconciler.published_file().map(|(_, published)| published);
        self.has_published |= published == Some(Published::Changed);
        self.lines.extend(happened.iter().filter_map(result_line));
        if reconciler.has_looked() {
            self.print_plan(reconciler);
            self.print_lines();
        }
    }

    /// Prints the first plan; of later plans only the results are printed.
    fn print_plan(&mut self, reconciler: &Reconciler) {
        if !std::mem::replace(&mut self.is_plan_printed, true) {
            for warning in &reconciler.plan().warnings {
                tracing::warn!("{warning}");
            }
            self.print(&format!("{}results\n", reconciler.plan()));
        }
    }

    fn print_lines(&mut self) {
        for line in std::mem::take(&mut self.lines) {
            self.print(&format!("  {line}\n"));
        }
    }

    fn print(&mut self, text: &str) {
        if self.printed.is_ok() {
            self.printed = print(text);
        }
    }

    fn close(mut self, reconciler: &Reconciler, ended: Ended) -> Result<Exit, Exit> {
        self.print_plan(reconciler);
        self.print_lines();
        let is_whole = self.print_machines_file(reconciler);
        for release in &reconciler.plan().release {
            if let ReleaseStep::Await(reason) = &release.step {
                self.print(&format!("  {}: not released yet: {reason}\n", release.name));
            }
        }
        self.printed?;
        self.recorder.result()?;
        let snapshot = reconciler.snapshot();
        let is_well =
            is_whole && snapshot.unlistable.is_empty() && snapshot.storage_error.is_none();
        Ok(match snapshot.queue {
            _ if ended == Ended::Stopped => Exit::Unexpected,
            _ if self.has_failed || !is_well || ended == Ended::Deadline => Exit::SomeFailed,
            QueueStatus::Unavailable(_) => Exit::QueueUnavailable,
            QueueStatus::Up(_) => Exit::Done,
        })
    }

    /// Whether the machines file is written and complete.
    fn print_machines_file(&mut self, reconciler: &Reconciler) -> bool {
        if let Some(error) = reconciler.publication_error() {
            self.print(&format!("  machines file: FAILED, nothing was released: {error}\n"));
            return false;
        }
        let Some((file, published)) = reconciler.published_file() else {
            self.print("  machines file: not published\n");
            return true;
        };
        let machines = planner::counted(file.entries.len() as u64, "machine");
        let text = match published {
            Published::NotWanted => "not wanted, builders register themselves".to_owned(),
            _ if self.has_published => format!("published, {machines}"),
            _ => format!("unchanged, {machines}"),
        };
        self.print(&format!("  machines file: {text}\n"));
        for line in &file.left_out {
            let line = planner::escape(line);
            self.print(&format!("  left out of the machines file: {line}\n"));
        }
        file.left_out.is_empty()
    }
}

/// Whether `entry` is a failure. An unavailable queue status has its own exit code; for providers, only the last listing
/// counts.
fn is_failure(what: &Happening) -> bool {
    matches!(
        what,
        Happening::Failed { .. }
            | Happening::Abandoned { .. }
            | Happening::NotPublished { .. }
            | Happening::StorageFailed { .. }
    )
}

/// The line for `entry` in the results. The plan and the machines file show the rest.
fn result_line(entry: &HistoryEntry) -> Option<String> {
    let name = entry.machine.as_ref()?;
    let text = match &entry.what {
        Happening::Ready { .. } => "ready".to_owned(),
        Happening::Warning { text } => format!("warning: {}", planner::escape(text)),
        failed @ (Happening::Failed { .. } | Happening::Abandoned { .. }) => {
            format!("FAILED: {}", planner::escape(&failed.to_string()))
        }
        Happening::Requested
        | Happening::Created { .. }
        | Happening::Started { .. }
        | Happening::Published
        | Happening::Unpublished
        | Happening::Leaving { .. } => return None,
        other => planner::escape(&other.to_string()).to_string(),
    };
    Some(format!("{name}: {text}"))
}

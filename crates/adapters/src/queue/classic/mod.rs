//! Classic Hydra: `hydra-queue-runner --status` (`State::dumpStatus`, before 2022-11 `getStatus`, and
//! `State::showStatus` in the C++ `hydra-queue-runner/hydra-queue-runner.cc`, up to March 2026).
//!
//! What its releases omit has a meaning:
//! - January 2023 to April 2025: no `machines` before the first machine is listed (fixed by `a5b17d06`);
//! - February to June 2023: `machineTypes` is always empty (fixed by `5c35d1be`);
//! - since February 2023: no `lastActive` and no `waitTime` by type, because they are written to a copy.

mod demand;
mod machines;

use std::time::Duration;

use crate::queue::QueueSource;
use planner::{MachineKeys, Queue, QueueMachine, QueueStatus, Seconds, counted};
use serde_json::{Map, Value};

use super::clock::{Asked, Clock};
use super::lenient::{Fields, Warnings, object, quoted};
use crate::command::{Invocation, Output};

/// Runs a command that prints the status.
#[derive(Clone, Debug)]
pub struct Source {
    command: Vec<String>,
    limit: Duration,
}

impl Source {
    /// `command` prints the status within `limit`.
    pub fn new(command: Vec<String>, limit: Duration) -> Self {
        Self { command, limit }
    }
}

impl QueueSource for Source {
    fn queue_status(&mut self) -> QueueStatus {
        let invocation = Invocation::new(&self.command, self.limit);
        let asked_at = crate::clock::now();
        match invocation.run() {
            Err(error) => QueueStatus::Unavailable(format!("statusCommand: {error}")),
            Ok(output) if !output.succeeded() => {
                QueueStatus::Unavailable(failure_message(&invocation.command_line(), &output))
            }
            Ok(output) => parse(&output.stdout, Asked::until_now(asked_at)),
        }
    }
}

/// If the queue runner does not answer within 5 s, the command prints its last known status before it fails:
/// a machine that is idle there may be building by now. So the output is ignored.
fn failure_message(command_line: &str, output: &Output) -> String {
    let said = output.stderr_tail();
    let said = if said.is_empty() { "nothing on standard error".to_owned() } else { said };
    let printed = if output.stdout.is_empty() { "" } else { ", its output may be wrong" };
    format!("statusCommand {command_line} ended with exit code {}{printed}: {said}", output.code)
}

/// Parses the output of the command, which ran during `asked`. Absent and unknown keys are fine, and invalid
/// details become [`Queue::warnings`]. The result is [`QueueStatus::Unavailable`] if a busy machine or
/// waiting steps could be missed.
pub fn parse(bytes: &[u8], asked: Asked) -> QueueStatus {
    match read(bytes, asked) {
        Ok(queue) => QueueStatus::Up(queue),
        Err(reason) => QueueStatus::Unavailable(reason),
    }
}

fn read(bytes: &[u8], asked: Asked) -> Result<Queue, String> {
    let status = object(bytes, "the queue status")?;
    is_up(&status)?;
    let mut warnings = Warnings::default();
    let fields = Fields::new(&status, "");
    let clock = Clock::new(fields.time_of_answer("time")?, asked, &mut warnings);
    let demand = demand::read(&status, clock, &mut warnings)?;
    let listed = machines::read(&status, &demand, clock, &mut warnings)?;
    let runnable_total = fields.count_or_warn("nrRunnableSteps", &mut warnings);
    demand::check_types_are_reported(&demand, runnable_total)?;
    let unsupported_steps = fields.count_or_warn("nrUnsupportedSteps", &mut warnings).unwrap_or(0);
    warnings.extend(aborted(unsupported_steps, runnable_total));
    Ok(Queue {
        uptime: fields.seconds("uptime", 1).unwrap_or(Seconds(0)),
        time: clock.time,
        clock_offset_seconds: clock.offset_seconds,
        demand,
        runnable_total,
        unsupported_steps,
        copying_steps: copying_steps(fields, listed.reported_jobs, &mut warnings),
        machines: listed.machines,
        keys: MachineKeys::Address,
        warnings: warnings.into_lines(),
    })
}

fn is_up(status: &Map<String, Value>) -> Result<(), String> {
    match status.get("status").and_then(Value::as_str) {
        Some("up") => Ok(()),
        Some("down") => Err("the queue runner is down".to_owned()),
        Some(other) => Err(format!("the queue runner is {}", quoted(other))),
        None => Err("the queue status does not say whether the runner is up".to_owned()),
    }
}

/// Active steps beyond the jobs of all machines. Since April 2025 a machine's job ends when its outputs begin
/// to be copied (`reservation.reset()` in `State::buildRemote`, `build-remote.cc`), and the step ends only
/// after that. `reported_jobs` is the number of reported jobs of all machines. The phases of active steps are
/// counted separately; of counts that contradict each other the greater one is used.
fn copying_steps(status: Fields<'_>, reported_jobs: u64, warnings: &mut Warnings) -> u64 {
    let mut count = |key| match status.count(key) {
        Ok(count) => count.unwrap_or(0),
        Err(problem) => {
            warnings.add(format!("queue status: {problem}; outputs may be being copied"));
            reported_jobs.saturating_add(1)
        }
    };
    let phases = ["nrStepsCopyingTo", "nrStepsBuilding", "nrStepsCopyingFrom"].map(&mut count);
    let in_phases = phases.into_iter().fold(0, u64::saturating_add);
    count("nrActiveSteps").max(in_phases).saturating_sub(reported_jobs)
}

/// `State::abortUnsupported` (`dispatcher.cc`) counts the steps that no machine supports, and removes the
/// aborted ones from the runnable ones.
fn aborted(unsupported: u64, runnable: Option<u64>) -> Option<String> {
    let gone = unsupported.checked_sub(runnable?).filter(|gone| *gone > 0)?;
    let (them, gone) = match (unsupported, gone) {
        (1, _) => ("it", "it no longer waits: it was".to_owned()),
        (_, 1) => ("them", "1 of them no longer waits: it was".to_owned()),
        _ => ("them", format!("{gone} of them no longer wait: they were")),
    };
    let steps = counted(unsupported, "step");
    let what = format!("{steps} had no machine that supports {them}, and {gone}");
    Some(format!(
        "queue status: {what} canceled, or aborted (status 9, \"unsupported system type\"); max_unsupported_time in \
         hydra.conf (0 by default) must be longer than the creation of a machine takes"
    ))
}

/// What the status reports of the machines.
struct Listed {
    machines: Vec<QueueMachine>,
    reported_jobs: u64,
}

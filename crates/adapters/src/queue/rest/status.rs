//! `/status`: the queue runner, its counts by system, the connected builders.

use std::collections::BTreeMap;

use planner::{AcceptsJobs, Host, QueueMachine, Seconds, System, Timestamp, counted};
use serde_json::{Map, Value};

use crate::queue::clock::{Asked, Clock};
use crate::queue::lenient::{Fields, Warnings, not_a_time, object, quoted};

/// A builder pings every 10 s (`pingInterval` in `hydra-builder`).
const LONGEST_SILENCE: Seconds = Seconds(300);

/// The content of `/status`.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) uptime: Seconds,
    pub(super) clock: Clock,
    pub(super) counts: BTreeMap<System, Result<Counts, String>>,
    pub(super) runnable: Option<u64>,
    pub(super) unsupported: u64,
    pub(super) machines: Vec<QueueMachine>,
    pub(super) warnings: Warnings,
}

/// The counts of one system's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// `nrRunnableWaiting`: steps that the last dispatch left waiting.
    pub(super) waiting: u64,
    /// `activeRunnable`: steps being built.
    pub(super) running: u64,
}

/// Parses the body of `/status`.
///
/// # Errors
/// When it cannot be trusted: the queue runner is not up, or a busy machine could be missed.
pub(super) fn parse(body: &[u8], asked: Asked) -> Result<Status, String> {
    let status = object(body, "/status")?;
    let runner = status
        .get("queueRunner")
        .and_then(Value::as_object)
        .ok_or("/status has no queueRunner: is this the REST server of Hydra's queue runner?")?;
    match runner.get("status").and_then(Value::as_str) {
        Some("up") => {}
        Some(other) => return Err(format!("the queue runner is {}", quoted(other))),
        None => return Err("/status does not say whether the queue runner is up".to_owned()),
    }
    let listed = status
        .get("machines")
        .and_then(Value::as_object)
        .ok_or("/status has no object machines: builds could be missed")?;
    let mut warnings = Warnings::default();
    let fields = Fields::new(runner, "queueRunner.");
    let clock = Clock::new(time(runner)?, asked, &mut warnings);
    let counts = match runner.get("queueStats") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(systems)) => counts(systems),
        Some(_) => return Err("queueStats of /status is not an object".to_owned()),
    };
    let machines =
        listed.iter().map(|(key, entry)| queue_machine(key, entry, clock, &mut warnings));
    let mut machines: Vec<_> = machines.collect();
    suspect_hidden_builders(fields, &mut machines, &mut warnings);
    let unsupported = fields.count_or_warn("nrUnsupportedSteps", &mut warnings).unwrap_or(0);
    let aborted = fields.count_or_warn("nrUnsupportedStepsAborted", &mut warnings);
    warnings.extend(aborted.filter(|aborted| *aborted > 0).map(aborted_warning));
    Ok(Status {
        uptime: fields.seconds("uptime", 1).unwrap_or(Seconds(0)),
        clock,
        counts,
        // Steps being built are runnable too (`Steps::len_runnable` in `state/step.rs`).
        runnable: fields.count_or_warn("runnableCount", &mut warnings),
        unsupported,
        machines,
        warnings,
    })
}

/// `time` is RFC 3339 with a fraction of a second.
fn time(runner: &Map<String, Value>) -> Result<Option<Timestamp>, String> {
    let Some(value) = runner.get("time") else { return Ok(None) };
    let time = parse_time(value);
    time.map(Some).ok_or_else(|| not_a_time("queueRunner.", "time", value))
}

/// Removes the fraction of the second.
pub(super) fn parse_time(value: &Value) -> Option<Timestamp> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    u64::try_from(time.as_second()).ok().map(Timestamp)
}

/// `State::abort_unsupported` in `state/mod.rs`.
fn aborted_warning(aborted: u64) -> String {
    let (were, them) = if aborted == 1 { ("was", "it") } else { ("were", "them") };
    let steps = counted(aborted, "step");
    format!(
        "queue status: {steps} {were} aborted since the queue runner's start because no builder supported \
         {them} for maxUnsupportedTimeInS (120 by default); it must be longer than the creation of a machine takes"
    )
}

fn counts(systems: &Map<String, Value>) -> BTreeMap<System, Result<Counts, String>> {
    let read = |(system, stats): (&String, &Value)| {
        let place = format!("queueStats.{}", quoted(system));
        let stats = stats.as_object().ok_or_else(|| format!("{place} is not an object"))?;
        let place = format!("{place}.");
        let fields = Fields::new(stats, &place);
        // Not `totalRunnable`: it also counts the steps being built.
        let waiting = fields.count("nrRunnableWaiting")?.unwrap_or(0);
        let running = fields.count("activeRunnable")?.unwrap_or(0);
        Ok(Counts { waiting, running })
    };
    systems.iter().map(|entry| (System::new(entry.0), read(entry))).collect()
}

/// A builder's key is its `gethostname` (`hydra-builder/src/state.rs`; no option changes it).
fn queue_machine(
    host_name: &str,
    entry: &Value,
    clock: Clock,
    warnings: &mut Warnings,
) -> QueueMachine {
    let empty = Map::new();
    let stats = entry.get("stats").and_then(Value::as_object).unwrap_or(&empty);
    let place = format!("machines.{}.stats.", quoted(host_name));
    let fields = Fields::new(stats, &place);
    let current_jobs = jobs(entry, fields, &place, warnings);
    let idle_since = fields.past("idleSince", clock, warnings);
    // `null` before the first ping.
    let has_pinged = stats.get("sinceLastPing").is_some_and(|value| !value.is_null());
    let silent_for = has_pinged.then(|| fields.count_or_warn("sinceLastPing", warnings)).flatten();
    let silent_for = silent_for.unwrap_or(0);
    if silent_for >= LONGEST_SILENCE.0 && current_jobs > 0 {
        warnings.add(silence(host_name, Seconds(silent_for), current_jobs));
    }
    QueueMachine {
        // A builder is listed as long as it is connected, and may get a step at any time. It cannot be
        // drained: on SIGTERM it aborts its builds and disconnects (`stop_application` in
        // `hydra-builder/src/main.rs`). So only an idle one may be stopped.
        accepts_jobs: AcceptsJobs::Yes,
        current_jobs,
        idle_since: idle_since.filter(|_| current_jobs == 0),
        disabled_until: clock.ours(fields.time("disabledUntil", warnings)),
        consecutive_failures: fields.count_or_warn("consecutiveFailures", warnings).unwrap_or(0),
        last_failure: fields.past("lastFailure", clock, warnings),
        steps_done: fields.count_or_warn("nrStepsDone", warnings),
        total_step_time: fields.seconds("totalStepTimeMs", 1000),
        total_build_time: fields.seconds("totalStepBuildTimeMs", 1000),
        ..QueueMachine::new(Host::new(host_name))
    }
}

/// Seen with a machine that was cut off: the queue runner keeps its steps and reports nothing.
fn silence(host_name: &str, silent_for: Seconds, jobs: u64) -> String {
    let (steps, them) = match jobs {
        1 => ("its step never ends".to_owned(), "it"),
        _ => (format!("its {jobs} steps never end"), "them"),
    };
    format!(
        "builder {} has not pinged the queue runner for {silent_for}: if its machine is lost, {steps}; \
         restarting the queue runner retries {them}",
        quoted(host_name)
    )
}

/// The counted or listed jobs, whichever is more. A step is listed until its outputs are uploaded
/// (`complete_build` in `server/grpc.rs` follows that).
fn jobs(entry: &Value, stats: Fields<'_>, place: &str, warnings: &mut Warnings) -> u64 {
    let problem = match stats.count("currentJobs") {
        Ok(Some(counted)) => {
            let listed = entry.get("jobs").and_then(Value::as_array).map_or(0, Vec::len);
            return counted.max(listed as u64);
        }
        Ok(None) => format!("{place}currentJobs is missing"),
        Err(problem) => problem,
    };
    warnings.add(format!("queue status: {problem}; the machine counts as busy"));
    1
}

/// The queue runner identifies builders by a number and lists them by host name (`status::get` in
/// `server/http.rs`). Of two with the same name only one is listed, and the other may be building: until
/// their names differ, no builder counts as idle.
fn suspect_hidden_builders(
    runner: Fields<'_>,
    machines: &mut [QueueMachine],
    warnings: &mut Warnings,
) {
    let total = runner.count_or_warn("machinesTotal", warnings).unwrap_or(0);
    let hidden = total.saturating_sub(machines.len() as u64);
    if hidden == 0 {
        return;
    }
    warnings.add(format!(
        "queue status: {total} builders are connected but {} listed: several have one host name, so none \
         counts as idle; give each its own (networking.hostName)",
        machines.len()
    ));
    for machine in machines {
        machine.current_jobs = machine.current_jobs.max(1);
        machine.idle_since = None;
    }
}

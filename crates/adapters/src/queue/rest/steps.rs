//! `/status/queues`: the waiting and running steps, by system.

use std::collections::{BTreeMap, BTreeSet};

use planner::{System, Timestamp};
use serde_json::Value;

use super::status::parse_time;
use crate::queue::derivations::DrvPath;
use crate::queue::lenient::{Warnings, object, quoted};

/// The content of `/status/queues`. Systems with invalid lists are skipped.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) by_system: BTreeMap<System, Vec<Step>>,
    pub(super) warnings: Warnings,
}

/// A waiting or running step.
#[derive(Debug)]
pub(super) struct Step {
    /// `None` if the answer's `drvPath` is not a derivation.
    pub(super) derivation: Option<DrvPath>,
    pub(super) phase: Phase,
    /// Since when it has been runnable, by the queue runner's clock.
    pub(super) runnable_since: Option<Timestamp>,
}

/// The phase of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Running,
}

impl Steps {
    pub(super) fn derivations(&self) -> BTreeSet<DrvPath> {
        self.by_system.values().flatten().filter_map(|step| step.derivation.clone()).collect()
    }
}

/// Parses the body of `/status/queues`.
///
/// # Errors
/// When it has no queues.
pub(super) fn parse(body: &[u8]) -> Result<Steps, String> {
    let answer = object(body, "/status/queues")?;
    let queues = answer
        .get("queues")
        .and_then(Value::as_object)
        .ok_or("/status/queues has no object queues")?;
    let mut warnings = Warnings::default();
    let mut by_system = BTreeMap::new();
    for (system, steps) in queues {
        let place = format!("queues.{}", quoted(system));
        let Some(steps) = steps.as_array() else {
            warnings.add(format!("queue status: {place} is not a list; it is skipped"));
            continue;
        };
        let steps = steps.iter().filter_map(|step| read_step(step, &place, &mut warnings));
        by_system.insert(System::new(system), steps.collect());
    }
    Ok(Steps { by_system, warnings })
}

/// `None` for a step that neither waits nor runs: finished, canceled, or its dependencies are not built.
fn read_step(step: &Value, place: &str, warnings: &mut Warnings) -> Option<Step> {
    let Some(fields) = step.as_object() else {
        warnings.add(format!("queue status: a step in {place} is not an object; it is skipped"));
        return None;
    };
    let is = |name| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
    if !is("runnable") || is("finished") || is("cancelled") {
        return None;
    }
    let path = fields.get("drvPath").and_then(Value::as_str).unwrap_or_default();
    let derivation = DrvPath::parse(path)
        .inspect_err(|problem| warnings.add(format!("queue status: a step in {place}: {problem}")))
        .ok();
    let phase = if is("alreadyScheduled") { Phase::Running } else { Phase::Waiting };
    let runnable_since = fields.get("runnableSince").and_then(parse_time);
    Some(Step { derivation, phase, runnable_since })
}

//! Waiting and running steps, by machine type.

use std::collections::BTreeMap;

use planner::{Demand, DemandKey, Feature, counted};
use serde_json::{Map, Value};

use crate::queue::clock::Clock;
use crate::queue::lenient::{Fields, Warnings, quoted};
use crate::queue::system_for;

/// The demand by kind. Types that differ only in the order of their features are one kind.
///
/// # Errors
/// When waiting steps could be missed.
pub(super) fn read(
    status: &Map<String, Value>,
    clock: Clock,
    warnings: &mut Warnings,
) -> Result<Vec<Demand>, String> {
    let types = match status.get("machineTypes") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(types)) => types,
        Some(_) => return Err("machineTypes of the queue status is not an object".to_owned()),
    };
    let mut by_kind: BTreeMap<DemandKey, Demand> = BTreeMap::new();
    for (key, entry) in types {
        let place = format!("machineTypes.{}", quoted(key));
        let entry = entry
            .as_object()
            .ok_or_else(|| format!("{place} of the queue status is not an object"))?;
        let kind = demand_key(key);
        let demand = by_kind.entry(kind.clone()).or_insert_with(|| Demand::none_of(kind));
        add(demand, Fields::new(entry, &format!("{place}.")), clock, warnings)?;
    }
    Ok(by_kind.into_values().collect())
}

fn add(
    demand: &mut Demand,
    entry: Fields<'_>,
    clock: Clock,
    warnings: &mut Warnings,
) -> Result<(), String> {
    let runnable = entry.count("runnable")?.unwrap_or(0);
    let running = entry.count("running")?.unwrap_or(0);
    let last_active = entry.past("lastActive", clock, warnings);
    demand.runnable = demand.runnable.saturating_add(runnable);
    demand.running = demand.running.saturating_add(running);
    demand.last_active = demand.last_active.max(last_active);
    // The sum over the runnable steps, computed when asked.
    if let Some(waited) = entry.count_or_warn("waitTime", warnings) {
        demand.wait_seconds = Some(demand.wait_seconds.unwrap_or(0).saturating_add(waited));
    }
    Ok(())
}

/// A type is `SYSTEM` or `SYSTEM:FEATURE,FEATURE` (`createStep` in `queue-monitor.cc`). The feature `local`
/// there means `preferLocalBuild`, which the planner handles.
fn demand_key(key: &str) -> DemandKey {
    let (system, features) = key.split_once(':').unwrap_or((key, ""));
    let features = features.split(',').filter(|feature| !feature.is_empty());
    DemandKey { system: system_for(system), features: features.map(Feature::new).collect() }
}

/// Releases of February to June 2023 report no types at all: their steps must not be missed. (Every queue
/// runner reports none for some seconds after its start.)
///
/// # Errors
/// When steps wait and their types are not reported.
pub(super) fn check_types_are_reported(
    demand: &[Demand],
    runnable: Option<u64>,
) -> Result<(), String> {
    match runnable {
        Some(runnable) if runnable > 0 && demand.is_empty() => Err(format!(
            "{} {} runnable, but machineTypes of the queue status is empty: the queue runner has \
             just started, or it is a release of February to June 2023, which never reports types; update Hydra",
            counted(runnable, "step"),
            if runnable == 1 { "is" } else { "are" }
        )),
        _ => Ok(()),
    }
}

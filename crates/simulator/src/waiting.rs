//! What a farm that does not come to rest waits for, and why.

use std::collections::BTreeMap;

use crate::queue_runner::{Offer, Phase};
use crate::simulation::Simulation;

/// One line for each kind of step that has not ended, then the remaining machines.
pub fn what_waits(simulation: &Simulation) -> Vec<String> {
    let world = simulation.world();
    let workload = world.workload();
    let mut kinds: BTreeMap<usize, BTreeMap<Phase, u64>> = BTreeMap::new();
    for (record, spec) in world.queue_runner().records().iter().zip(workload.steps()) {
        if !record.phase.is_final() {
            let kind = usize::from(workload.class_of(spec).kind);
            *kinds.entry(kind).or_default().entry(record.phase).or_default() += 1;
        }
    }
    let mut lines: Vec<_> = kinds
        .into_iter()
        .map(|(kind, phases)| {
            let name = &workload.kinds()[kind];
            let built =
                simulation.policy().pools.values().any(|pool| Offer::from(pool).supports(name));
            let why = if built { "" } else { ": no machine type builds them" };
            let counts =
                phases.into_iter().map(|(phase, count)| format!("{count} {}", word(phase)));
            format!("steps of {name}: {}{why}", counts.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let machines: Vec<_> = world
        .machines()
        .map(|machine| format!("{} ({:?})", machine.name, machine.lifecycle()).to_lowercase())
        .collect();
    if !machines.is_empty() {
        const SHOWN: usize = 5;
        let more = machines.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = machines.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        lines.push(format!("machines that are left: {shown}{more}"));
    }
    lines
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Future => "not submitted",
        Phase::Waiting => "wait for others",
        Phase::Runnable => "wait for a machine",
        Phase::Delayed => "wait to be tried again",
        Phase::Running => "run",
        Phase::Succeeded
        | Phase::Aborted
        | Phase::Unsupported
        | Phase::DependencyFailed
        | Phase::Canceled => "ended",
    }
}

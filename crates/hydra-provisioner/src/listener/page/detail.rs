//! One machine, or one type.

use maud::{Markup, html};
use planner::Timestamp;
use reconciler::HistoryEntry;

use super::{Refresh, encode, frame, history, machines, or_dash, state};
use crate::cost::cents;
use crate::listener::board::Sample;
use crate::status::{MachineStatus, Status, TypeStatus};

/// A chart's width and height in its own units: minutes of a day, and percent.
const CHART: (u32, u32) = (1440, 100);

/// A machine: its verdict, how to reach it, and its history.
pub(in crate::listener) fn machine(
    name: &str,
    found: Option<&MachineStatus>,
    entries: &[(i64, HistoryEntry)],
    now: Timestamp,
    refresh: Refresh,
) -> Markup {
    let here = format!("/machine/{}", encode(name));
    frame(
        &format!("{name} · Hydra provisioner"),
        refresh,
        &here,
        &html! {
            h2 { (name) }
            @match found {
                None => p { "It does not exist now." },
                Some(machine) => {
                    ul {
                        li { "Type: " a href={ "/type/" (encode(&machine.machine_type)) } { (machine.machine_type) } }
                        li { "State: " (state(machine, now)) }
                        li { "Verdict: " (machine.verdict) }
                        li { "Builds: " (or_dash(machine.jobs.map(|jobs| jobs.to_string()))) " of " (machine.slots) }
                        li { "Paid until: " (or_dash(machine.paid_until.map(|at| at.to_string()))) }
                        @if let Some(ssh) = &machine.ssh {
                            li { "Connect with: " code { (ssh) } }
                            li { "To investigate a failure: " code { "hydra-provisioner keep " (name) " --for 2h" } }
                        }
                    }
                }
            }
            (history(entries, now))
        },
    )
}

/// A type: its calculation, its last 24 hours, its machines.
pub(in crate::listener) fn machine_type(
    kind: &TypeStatus,
    status: &Status,
    samples: &[Sample],
    refresh: Refresh,
) -> Markup {
    let here = format!("/type/{}", encode(&kind.name));
    let own: Vec<_> =
        status.machines.iter().filter(|m| m.machine_type == kind.name).cloned().collect();
    frame(
        &format!("{} · Hydra provisioner", kind.name),
        refresh,
        &here,
        &html! {
            h2 { (kind.name) }
            p { (kind.sizing) "." }
            ul {
                li { "minMachines " (kind.min_machines) ", maxMachines " (kind.max_machines) }
                li { "ready " (kind.ready) ", building " (kind.busy) }
                li { (cents(kind.hourly_cost_micro_dollars)) " per hour" }
            }
            h2 { "24 hours" }
            (chart(&kind.name, samples, status.at))
            (machines(status, &own))
        },
    )
}

/// Waiting steps and machines over the last day, each scaled to its own maximum.
fn chart(name: &str, samples: &[Sample], now: Timestamp) -> Markup {
    let own: Vec<_> =
        samples.iter().filter_map(|sample| Some((sample.at, *sample.types.get(name)?))).collect();
    let most =
        |value: fn(&(u64, u64)) -> u64| own.iter().map(|(_, it)| value(it)).max().unwrap_or(0);
    let (most_waiting, most_machines) = (most(|it| it.0), most(|it| it.1));
    let line = |value: fn(&(u64, u64)) -> u64, most: u64| -> String {
        let points = own.iter().map(|(at, it)| {
            let x = i64::from(CHART.0) - i64::try_from(now.since(*at).0 / 60).unwrap_or(0);
            let height = u128::from(value(it)) * u128::from(CHART.1) / u128::from(most.max(1));
            let y = u128::from(CHART.1).saturating_sub(height);
            format!("{x},{y}")
        });
        points.collect::<Vec<_>>().join(" ")
    };
    html! {
        p { "Waiting steps (dashed, at most " (most_waiting) ") and machines (at most " (most_machines)
            ") since this process started, at most 24 hours." }
        svg viewBox={ "0 0 " (CHART.0) " " (CHART.1) } preserveAspectRatio="none" role="img"
            aria-label={ "waiting steps and machines of " (name) " over 24 hours" } {
            polyline.b points=(line(|it| it.0, most_waiting)) {}
            polyline points=(line(|it| it.1, most_machines)) {}
        }
    }
}

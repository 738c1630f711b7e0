//! The machines as a table.

use comfy_table::{Table, presets};
use planner::{Machine, Plan, QueueStatus, Seconds, Snapshot};

use crate::status::verdict;

/// One line per machine: type, state, address, age, jobs, paid time left, verdict.
pub(crate) fn render(snapshot: &Snapshot, plan: &Plan) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NAME", "TYPE", "STATE", "ADDRESS", "AGE", "JOBS", "PAID FOR", "VERDICT"]);
    let mut machines: Vec<_> = snapshot.machines.iter().collect();
    machines.sort_by_key(|machine| &machine.name);
    for machine in machines {
        let now = snapshot.taken_at;
        table.add_row([
            machine.name.to_string(),
            machine.machine_type.to_string(),
            state(machine),
            or_dash(machine.address.clone()),
            or_dash(machine.started_at.map(|at| now.since(at).to_string())),
            jobs(&snapshot.queue, machine),
            or_dash(Some(machine.paid_time_left(now)).filter(|left| *left > Seconds(0))),
            verdict(snapshot, plan, machine),
        ]);
    }
    table
}

/// The state that its provider reports, and its running operation.
fn state(machine: &Machine) -> String {
    let memory = &machine.memory;
    match memory.under_way {
        Some(under_way) => format!("{} ({})", machine.state, under_way.operation),
        None if memory.missing.is_some() => "missing".to_owned(),
        None => machine.state.to_string(),
    }
}

fn jobs(queue: &QueueStatus, machine: &Machine) -> String {
    match queue {
        QueueStatus::Unavailable(_) => "?".to_owned(),
        QueueStatus::Up(queue) => or_dash(planner::jobs_of(queue, machine)),
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

//! The status page: rendered on the server, works without JavaScript, loads no external resources.

mod detail;

use maud::{DOCTYPE, Markup, html};
use planner::{Seconds, Timestamp};
use reconciler::{HistoryEntry, Severity};

use crate::cost::{Costs, cents};
use crate::needs::NeedSeverity;
use crate::status::{Condition, MachineStatus, Status, TypeStatus};

pub(super) use detail::{machine, machine_type};

pub(super) const STYLE: &str = include_str!("style.css");
pub(super) const SCRIPT: &str = include_str!("live.js");
/// Without JavaScript, the page reloads at this interval, in seconds.
const REFRESH_SECONDS: u32 = 15;
/// The state of a machine that its provider has not confirmed.
const REQUESTED: &str = "requested";

/// Whether the page reloads automatically.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    Live,
    Stopped,
}

/// The content of the page.
pub(super) struct Shown<'a> {
    pub(super) status: &'a Status,
    pub(super) history: &'a [(i64, HistoryEntry)],
    pub(super) costs: &'a Costs,
    pub(super) limits: planner::CostLimits,
}

/// The complete page.
pub(super) fn overview(shown: &Shown<'_>, refresh: Refresh) -> Markup {
    let status = shown.status;
    frame(
        &title(status),
        refresh,
        "/",
        &html! {
            p.sentence role="status" { (sentence(status)) }
            (needs(status))
            (types(status))
            (machines(status, &status.machines))
            (next(status))
            (history(shown.history, status.at))
            (money(shown))
        },
    )
}

fn frame(title: &str, refresh: Refresh, here: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/style.css";
                @if refresh == Refresh::Live {
                    noscript { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
                    script src="/live.js" defer {}
                }
            }
            body {
                header {
                    h1 { a #home href="/" { "Hydra provisioner" } }
                    @if refresh == Refresh::Live {
                        p { span #live {} " " a #stop href={ (here) "?stop" } { "stop refreshing" } }
                    } @else {
                        p { "Does not refresh. " a href=(here) { "Refresh again" } }
                    }
                    p { a href="/status.json" { "JSON" } " · " a href="/metrics" { "metrics" } }
                }
                main { (main) }
            }
        }
    }
}

/// `2 FAILED · 8/25 · $0.96/h`.
fn title(status: &Status) -> String {
    let failed = match status.failed() {
        0 => String::new(),
        failed => format!("{failed} FAILED · "),
    };
    let (machines, most) = (status.machines.len(), status.max_machines);
    let cost = cents(status.hourly_cost_micro_dollars);
    format!("{failed}{machines}/{most} · {cost}/h · Hydra provisioner")
}

fn sentence(status: &Status) -> String {
    let requested = status.machines.iter().filter(|it| it.state == REQUESTED).count();
    let machines = planner::counted((status.machines.len() - requested) as u64, "machine");
    let requested =
        if requested == 0 { String::new() } else { format!(" and {requested} requested") };
    let (busy, slots) = (status.busy_slots, status.slots);
    let steps = planner::counted(status.waiting_steps, "step");
    let queue = match (&status.queue_error, status.wait_seconds.zip(status.wait_kind.as_ref())) {
        (Some(_), _) => "the queue's status is not known".to_owned(),
        (None, Some((wait, kind))) => {
            format!("{steps} waiting, those of {kind} longest: {wait} on average")
        }
        (None, None) => format!("{steps} waiting"),
    };
    let age = status.queue_age_seconds.map(|age| format!("; the queue was asked {age} ago"));
    let age = age.unwrap_or_default();
    format!("{machines}{requested}, {busy} of {slots} slots busy, {queue}{age}.")
}

fn needs(status: &Status) -> Markup {
    html! {
        h2 { "Needs attention" }
        @if status.needs.is_empty() && status.queue_error.is_none() {
            p.good { "✔ Nothing." }
        } @else {
            ul {
                @for need in &status.needs {
                    @let (sign, class) = match need.severity {
                        NeedSeverity::Failed => ("✖ failed: ", "bad"),
                        NeedSeverity::Warning => ("⚠ warning: ", "warn"),
                        NeedSeverity::Note => ("✎ order: ", ""),
                    };
                    li {
                        span class=(class) { (sign) (need.text) }
                        @if let Some(remedy) = &need.remedy { " " span.dim { "→ " (remedy) } }
                    }
                }
            }
        }
    }
}

fn types(status: &Status) -> Markup {
    html! {
        h2 { "Types" }
        table {
            caption { "Waiting steps of each type, and its machines: existing, wanted for the steps, allowed by the limits." }
            thead { tr {
                th scope="col" { "Type" } th.n scope="col" { "Waiting" }
                th.n scope="col" { "Mean wait" } th.n scope="col" { "Running" } th.n scope="col" { "Machines" }
                th.n scope="col" { "Wanted" } th.n scope="col" { "Allowed" } th.n scope="col" { "Per hour" }
                th scope="col" { "Why" }
            } }
            tbody { @for kind in &status.types { (type_row(kind)) } }
        }
    }
}

fn type_row(kind: &TypeStatus) -> Markup {
    let waiting = kind.waiting_steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
    html! { tr {
        th scope="row" { a id={ "t-" (kind.name) } href={ "/type/" (encode(&kind.name)) } { (kind.name) } }
        td.n data-l="waiting" { (waiting) }
        td.n data-l="mean wait" { (or_dash(kind.wait_seconds.map(|wait| wait.to_string()))) }
        td.n data-l="running" { (kind.running_steps) }
        td.n data-l="machines" { (kind.machines) " of " (kind.max_machines) }
        td.n data-l="wanted" { (kind.wanted) }
        td.n data-l="allowed" { (kind.allowed) }
        td.n data-l="per hour" { (cents(kind.hourly_cost_micro_dollars)) }
        td data-l="why" { (kind.sizing) }
    } }
}

fn machines(status: &Status, machines: &[MachineStatus]) -> Markup {
    html! {
        h2 { "Machines" }
        @if machines.is_empty() { p { "None." } } @else {
            table {
                caption { "All machines, problems first." }
                thead { tr {
                    th scope="col" { "Machine" } th scope="col" { "State" } th.n scope="col" { "Builds" }
                    th.n scope="col" { "Age" } th.n scope="col" { "Paid for" } th.n scope="col" { "Per hour" }
                    th scope="col" { "Verdict" }
                } }
                tbody { @for machine in machines { (machine_row(machine, status.at)) } }
            }
        }
    }
}

fn machine_row(machine: &MachineStatus, now: Timestamp) -> Markup {
    let age = |at: Option<Timestamp>| or_dash(at.map(|at| now.since(at).to_string()));
    let jobs = machine.jobs.map_or_else(|| "?".to_owned(), |jobs| jobs.to_string());
    let left = machine.paid_until.map(|at| at.since(now).to_string());
    html! { tr {
        th scope="row" {
            a id={ "m-" (machine.name) } href={ "/machine/" (encode(&machine.name)) } { (machine.name) }
        }
        td.k data-l="state" { (state(machine, now)) }
        td.n data-l="builds" { (jobs) "/" (machine.slots) }
        td.n data-l="age" { (age(machine.started_at)) }
        td.n data-l="paid for" { (or_dash(left)) }
        td.n data-l="per hour" { (or_dash(machine.hourly_cost_micro_dollars.map(|m| m.to_string()))) }
        td data-l="verdict" { (machine.verdict) }
    } }
}

/// Symbol, word and color of the condition, and since when.
fn state(machine: &MachineStatus, now: Timestamp) -> Markup {
    let (sign, word, class) = match machine.condition {
        Condition::Failing => ("✖", "failing", "bad"),
        Condition::Unhealthy => ("⚠", "unhealthy", "warn"),
        Condition::Coming => ("◔", "starting", ""),
        Condition::Ready => ("✔", "ready", "good"),
        Condition::Leaving => ("↓", "releasing", ""),
        Condition::Off => ("○", "off", "dim"),
    };
    let doing = match machine.under_way {
        Some(operation) => format!("{operation}, "),
        None => format!("{}, ", machine.state),
    };
    let since = or_dash(machine.since.map(|at| now.since(at).to_string()));
    html! { span class=(class) { (sign) " " (word) } " (" (doing) (since) ")" }
}

fn next(status: &Status) -> Markup {
    html! {
        h2 { "Next" }
        @if status.next.is_empty() { p { "Nothing to do." } } @else {
            ul { @for line in &status.next { li { (line) } } }
        }
    }
}

fn history(entries: &[(i64, HistoryEntry)], now: Timestamp) -> Markup {
    html! {
        h2 #history { "History" }
        @if entries.is_empty() { p { "No events yet." } } @else {
            table {
                caption { "Events, the latest first. Times are UTC." }
                thead { tr {
                    th scope="col" { "Time" } th scope="col" { "Machine or type" } th scope="col" { "Event" }
                } }
                tbody { @for (_, entry) in entries { (history_row(entry, now)) } }
            }
            @if let Some((last, _)) = entries.last() {
                p { a #earlier href={ "/?before=" (last) "#history" } { "Earlier" } " · "
                    a href="/history.jsonl" { "as JSON lines" } }
            }
        }
    }
}

fn history_row(entry: &HistoryEntry, now: Timestamp) -> Markup {
    let (sign, class) = match entry.what.severity() {
        Severity::Info => ("", ""),
        Severity::Warning => ("⚠ ", "warn"),
        Severity::Error => ("✖ ", "bad"),
    };
    let text = entry.what.to_string();
    let machine = entry.machine.as_ref().map(ToString::to_string);
    let about = machine.or_else(|| entry.machine_type.as_ref().map(ToString::to_string));
    let time = entry.at.to_string();
    let is_today = now.since(entry.at) < Seconds(43_200);
    html! { tr {
        td.k { time datetime={ (time.replace(' ', "T")) "Z" } { @if is_today { (time[11..]) } @else { (time) } } }
        td.k { (or_dash(about)) }
        td class=(class) { (sign) (planner::escape(&text)) }
    } }
}

fn money(shown: &Shown<'_>) -> Markup {
    let (total, limits) = (&shown.costs.total, shown.limits);
    let by_use = shown.status.hourly_cost_by_use;
    let limit = |limit: Option<planner::Money>| or_dash(limit.map(|money| money.to_string()));
    let rows = [
        ("per hour, now", shown.status.hourly_cost_micro_dollars, limit(limits.hourly)),
        ("of it machines that build", by_use.busy, "-".to_owned()),
        ("idle machines", by_use.idle, "-".to_owned()),
        ("machines that are not ready yet", by_use.booting, "-".to_owned()),
        ("last 24 hours", total.day, limit(limits.daily)),
        ("last 7 days", total.week, "-".to_owned()),
        ("last 30 days", total.month, limit(limits.monthly)),
        ("next 30 days, at the rate of the last 7 at most", total.forecast, "-".to_owned()),
    ];
    html! {
        h2 { "Cost" }
        table {
            caption { "By dollarsPerHour, or the provider's price where that is not set, for each second that machines ran." }
            thead { tr { th scope="col" { "When" } th.n scope="col" { "Cost" } th.n scope="col" { "Limit" } } }
            tbody { @for (what, money, limit) in rows { tr {
                th scope="row" { (what) } td.n data-l="cost" { (cents(money)) } td.n data-l="limit" { (limit) }
            } } }
        }
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// Encodes `text` for a path: all except plain characters become `%XX`.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:,".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

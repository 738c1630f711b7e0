//! `sim report`: one page that compares configurations on the same trace. No script, no external resources.

mod charts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use simulator::bound::Bracket;
use simulator::detail::{Detail, Point, Waits};
use simulator::engine::Millis;
use simulator::results::{Metrics, Results};
use simulator::statistics::Estimate;

use super::args::Options;
use super::bound::LEFT_OUT;
use super::conf_arg::ConfArg;
use super::report::{by_seed, seeds_and_phases, time, vary};
use super::runs::Run;
use crate::console::fail;
use crate::exit::Exit;

const STYLE: &str = include_str!("style.css");
/// The terms of the page.
const TERMS: &str = "A build consists of steps. A machine has slots; each runs one step. A step waits from when it could be built \
                     until the try that finishes it starts. p95, p99: one step in twenty, in a hundred, waits longer.";
/// Maximum number of groups.
const MOST_GROUPS: usize = 20;

/// Simulates, writes the page, and returns the runs.
pub(super) fn report(
    confs: &[ConfArg],
    trace: &Path,
    output: &Path,
    target: Millis,
    mut options: Options,
) -> Result<Exit, Exit> {
    options.detail = Some(target);
    options.bound = true;
    let runs = super::simulate(confs, &[PathBuf::from(trace)], &options)?;
    let text = page(&runs, trace).into_string();
    std::fs::write(output, text).map_err(|error| {
        fail(Exit::Unexpected, &format!("cannot write {}: {error}", output.display()))
    })?;
    Ok(super::warn(&runs))
}

/// The runs of one configuration, sorted by seed; the first of them is shown in detail.
struct Shown<'a> {
    letter: String,
    run: &'a Run,
    results: &'a Results,
    detail: &'a Detail,
    all: Vec<&'a Run>,
}

impl Shown<'_> {
    /// Over the seeds; phases of one seed are not independent.
    fn mean(&self, value: impl Fn(&Run) -> Option<f64>) -> Estimate {
        Estimate::of(&by_seed(&self.all, |run| seed_of(run), |run| value(run)))
    }

    fn of_results(&self, value: fn(&Results) -> f64) -> Estimate {
        self.mean(|run| run.results.as_ref().map(value))
    }
}

fn seed_of(run: &Run) -> u64 {
    run.results.as_ref().map_or(0, |results| results.seed)
}

fn page(runs: &[Run], trace: &Path) -> Markup {
    let shown: Vec<_> = runs
        .chunk_by(|a, b| a.conf == b.conf)
        .enumerate()
        .filter_map(|(at, runs)| {
            let run = runs.first()?;
            let letter = u32::try_from(at).ok().filter(|at| *at < 26);
            let letter = letter.and_then(|at| char::from_u32(65 + at));
            Some(Shown {
                letter: letter.map_or_else(|| at.to_string(), String::from),
                run,
                results: run.results.as_ref()?,
                detail: run.detail.as_ref()?,
                all: runs.iter().filter(|run| run.results.is_some()).collect(),
            })
        })
        .collect();
    let name = trace.file_name().unwrap_or_default().to_string_lossy();
    let varies = vary(runs);
    // One scale for all: they are compared.
    let last = |one: &Shown<'_>| one.detail.quantiles.last().map(|(_, wait)| *wait);
    let longest = shown.iter().filter_map(|one| last(one).max(Some(one.detail.target))).max();
    let longest = longest.unwrap_or_default();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Build farm on " (name) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                h1 { "What would " (name) " cost, and how long would builds wait?" }
                p.soft { (about(&shown, seeds_and_phases(runs), varies)) }
                p.soft { (TERMS) }
                @for one in &shown { (headline(one, shown.len() > 1)) }
                @if shown.len() > 1 { (comparison(&shown)) }
                @for one in &shown { (course(one, shown.len() > 1, longest)) }
                (assumptions(&shown))
            } }
        }
    }
}

/// `varies`: results depend on the seed.
fn about(shown: &[Shown<'_>], (seeds, phases): (usize, usize), varies: bool) -> String {
    let Some(first) = shown.first() else { return "No run was begun.".to_owned() };
    let results = first.results;
    let days = float(results.total.makespan.whole_seconds()) / 86_400.0;
    let mut text = format!(
        "A simulation by hydra-provisioner: {} of {} in {days:.1} days, seed {} (of the random numbers).",
        planner::counted(results.total.built, "step"),
        planner::counted(results.builds, "build"),
        results.seed
    );
    if seeds > 1 && !varies {
        let _ = write!(
            text,
            " All {seeds} seeds have the same results: nothing in this trace and farm is left to chance."
        );
    }
    let of_phases =
        format!("{phases} phases (times of the polls and of the queue runner's checks)");
    let means = match (seeds > 1 && varies, phases > 1) {
        (true, true) => format!("{seeds} seeds, each the mean of {of_phases}, with 95 % intervals"),
        (true, false) => format!("{seeds} seeds with 95 % intervals"),
        (false, true) => of_phases,
        (false, false) => return text,
    };
    let _ = write!(
        text,
        " The comparison shows means of {means}, all configurations with the same random numbers; everything else is of \
         the first run."
    );
    text
}

/// The summary.
fn headline(one: &Shown<'_>, is_one_of_many: bool) -> Markup {
    let (results, total) = (one.results, &one.results.total);
    let cost = dollars(total);
    let each = cost / float(total.built.max(1));
    let [building, idle, booting] =
        [total.busy, total.idle, total.booting].map(|part| percent(part.0, total.paid.0));
    let late = percent(one.detail.all.late, one.detail.all.steps);
    let wait = |millis: u64| time(float(millis));
    html! {
        div.headline {
            p.name {
                @if is_one_of_many { b { (one.letter) ": " } } (one.run.conf)
                @if one.all.len() > 1 { span.soft { " (the first run, seed " (results.seed) ")" } }
            }
            p.soft { "Settings: " (one.run.settings.join(". ")) "." }
            p {
                "It costs " b { (format!("${cost:.2}")) } (format!(" (${each:.4} a step). "))
                "Half of the steps wait less than " b { (wait(total.wait.p50)) } ", one in twenty longer than "
                b { (wait(total.wait.p95)) } "; " (late) " wait longer than the target of " (wait(one.detail.target.0))
                " (--target). Half of the builds end within " (wait(results.build_times.p50))
                " of their submission, one in twenty takes longer than " (wait(results.build_times.p95)) "."
            }
            p {
                "In " (building) " of the paid machine time at least one slot of the machine builds, in " (idle)
                " the machine is idle, in " (booting) " it boots. " (total.created) " machines are created in all"
                @if total.lost > 0 { ", " (total.lost) " are lost" } "."
                @if total.failed > 0 { " " (total.failed) " steps are aborted." }
                @if !results.at_rest { " It does not come to rest: " (one.run.waits.join("; ")) "." }
            }
            @if let Some(bracket) = &one.run.bracket { p { (savings(one.run, bracket)) } }
        }
    }
}

/// What the bounds say about a run.
fn savings(run: &Run, bracket: &Bracket) -> String {
    let (Some(clairvoyant), Some(least)) = (run.ratio(|b| b.clairvoyant), run.ratio(|b| b.least))
    else {
        return "By calculation, the least possible cost is $0.".to_owned();
    };
    format!(
        "What could be saved: the best schedule found that knows all builds in advance, with the same p95 wait, costs \
         ${:.2} (this one costs {clairvoyant:.2} times that). By calculation, none costs less than ${:.2} ({least:.2} \
         times); whether that can be reached is not known.",
        bracket.clairvoyant, bracket.least
    )
}

fn comparison(shown: &[Shown<'_>]) -> Markup {
    let points: Vec<_> = shown
        .iter()
        .map(|one| {
            let wait = one.of_results(|r| float(r.total.wait.p95) / 1000.0).mean;
            (one.letter.clone(), wait, one.of_results(|r| dollars(&r.total)).mean)
        })
        .collect();
    let ratio = |one: &Shown<'_>| {
        if one.all.iter().all(|run| run.ratio(|b| b.least).is_none()) {
            return "it is $0".to_owned();
        }
        estimate(one.mean(|run| run.ratio(|b| b.least)), |v| format!("{v:.2}"))
    };
    let builds = |r: &Results| share(r.total.busy.0, r.total.paid.0);
    let less_first = |one: &Shown<'_>| {
        let first = shown.first()?;
        let difference = |(one, first): (&&Run, &&Run)| {
            let (one, first) = (one.results.as_ref()?, first.results.as_ref()?);
            let difference = dollars(&one.total) - dollars(&first.total);
            (one.seed == first.seed).then_some((one.seed, difference))
        };
        let differences: Vec<_> = one.all.iter().zip(&first.all).filter_map(difference).collect();
        let differences = by_seed(&differences, |one| one.0, |one| Some(one.1));
        Some(estimate(Estimate::of(&differences), |v| format!("{v:.2}")))
    };
    html! {
        h2 { "Configurations compared" }
        (scrollable("Configurations compared", &html! { table {
            thead { tr {
                th { "configuration" } th { "cost" } th { "cost - A, $" } th { "wait, p95" } th { "wait, p99" }
                th { "paid time that builds" } th { "times the lower bound" }
            } }
            tbody { @for one in shown { tr {
                td { b { (one.letter) } " " (breakable(&one.run.conf)) }
                td { (estimate(one.of_results(|r| dollars(&r.total)), |v| format!("${v:.2}"))) }
                td { (less_first(one).unwrap_or_default()) }
                td { (estimate(one.of_results(|r| float(r.total.wait.p95)), time)) }
                td { (estimate(one.of_results(|r| float(r.total.wait.p99)), time)) }
                td { (estimate(one.of_results(builds), |v| format!("{v:.1} %"))) }
                td { (ratio(one)) }
            } } }
        } }))
        figure {
            figcaption { "Cost (up) and wait that one step in twenty exceeds (right). Blue: no other is better in both." }
            (charts::pareto(&points))
        }
    }
}

/// Machines and queue over time, the breakdown of the cost, and waits.
fn course(one: &Shown<'_>, is_one_of_many: bool, longest: Millis) -> Markup {
    let detail = one.detail;
    html! {
        @if is_one_of_many { h2.name { (one.letter) ": " (one.run.conf) } }
        h2 { "Breakdown of the cost" }
        (split(&one.results.total))
        h2 { "Machines over time" }
        figure {
            (charts::machines(&detail.course))
            figcaption {
                "Most machines of all types at once: " b { (detail.peaks.machines.count) } ", first "
                (into_the_run(detail.peaks.machines.at)) ". Each point of the chart is the mean of "
                (interval(&detail.course)) ", so short peaks look lower."
            }
        }
        h2 { "The queue over time" }
        figure {
            (charts::queue(&detail.course))
            figcaption {
                "Most steps that wait at once: " b { (detail.peaks.waiting.count) } ", first "
                (into_the_run(detail.peaks.waiting.at)) ". Means, as above; the line is not added to the area."
            }
        }
        h2 { "Waits" }
        figure {
            figcaption {
                "Share of the steps (up) that waited at most this long (right; the left edge is 1 s or less). Dashed: the target of "
                (time(float(detail.target.0))) "."
            }
            (charts::waits(&detail.quantiles, detail.target, longest))
        }
        (groups(&one.letter, "machine type", &detail.by_type))
        (groups(&one.letter, "jobset", &detail.by_jobset))
        @if let Some(fairness) = detail.fairness() {
            p {
                "Fairness between jobsets: " b { (format!("{fairness:.2}")) }
                " (Jain's index of the jobsets' mean slowdowns: 1 if all are slowed alike, "
                (format!("{:.2}", 1.0 / float(detail.by_jobset.len().max(1) as u64))) " or little more if one is slowed far more than the others)."
            }
        }
        (groups(&one.letter, "priority", &detail.by_priority))
    }
}

/// `10 d 04:30 after the start`.
fn into_the_run(at: Millis) -> String {
    let minutes = at.whole_seconds() / 60;
    let (days, hours) = (minutes / 1440, minutes / 60 % 24);
    format!("{days} d {hours:02}:{:02} after the start", minutes % 60)
}

/// The time that a point of the course stands for.
fn interval(course: &[Point]) -> String {
    let length = |pair: &[Point]| pair.last().zip(pair.first()).map(|(b, a)| b.at.since(a.at));
    let lengths = course.windows(2).filter_map(length);
    time(float(lengths.max().unwrap_or_default().0))
}

/// By paid machine time; disks of stopped machines are billed separately.
fn split(total: &Metrics) -> Markup {
    let stopped = total.stopped_micro_dollars;
    let running = wide(total.cost_micro_dollars.saturating_sub(stopped)) / 1e6;
    let part = |time: Millis| running * float(time.0) / float(total.paid.0.max(1));
    let parts = [
        ("building", "building", part(total.busy)),
        ("idle", "idle", part(total.idle)),
        ("booting or being deployed", "booting", part(total.booting)),
        ("stopped (disks)", "stopped", wide(stopped) / 1e6),
    ];
    html! {
        figure {
            div.legend {
                @for (name, class, value) in parts.iter().filter(|part| part.2 > 0.0) {
                    span { i class=(class) {} (name) " " b { (format!("${value:.2}")) } }
                }
            }
            (charts::bar(&parts))
            figcaption {
                "Shares of the machine time that is paid. Slots of ready machines are used to "
                (format!("{:.0} %", float(total.utilization) / 10.0)) "."
            }
        }
    }
}

/// A table that may be wider than a phone: it can be scrolled with the keyboard too, so it has a name.
fn scrollable(name: &str, table: &Markup) -> Markup {
    html! { div.wide role="region" tabindex="0" aria-label=(name) { (table) } }
}

fn groups(letter: &str, what: &str, groups: &[Waits]) -> Markup {
    let mut largest: Vec<_> = groups.iter().collect();
    largest.sort_by_key(|group| std::cmp::Reverse(group.steps));
    let left_out = largest.len().saturating_sub(MOST_GROUPS);
    largest.truncate(MOST_GROUPS);
    html! {
        h3 { "By " (what) }
        (scrollable(&format!("{letter}: by {what}"), &html! { table {
            thead { tr {
                th { (what) } th { "steps" } th { "median" } th { "p95" } th { "p99" } th { "longest" }
                th { "over the target" } th { "mean slowdown" }
            } }
            tbody { @for group in largest { tr {
                td { (group.name) } td { (group.steps) }
                @for wait in [group.wait.p50, group.wait.p95, group.wait.p99, group.wait.max] {
                    td { (time(float(wait))) }
                }
                td { (percent(group.late, group.steps)) }
                td { (format!("{:.2}", float(group.slowdown) / 1000.0)) }
            } } }
        } }))
        @if left_out > 0 { p.soft { "and " (left_out) " smaller ones" } }
    }
}

fn assumptions(shown: &[Shown<'_>]) -> Markup {
    let warm_up = shown.iter().map(|one| one.results.warm_up).max().unwrap_or_default();
    let mut prices: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in shown {
        for price in &one.run.prices {
            prices.entry(price).or_default().push(&one.letter);
        }
    }
    html! {
        h2 { "Assumptions" }
        ul {
            @for (price, letters) in &prices {
                li { @if shown.len() > 1 { (letters.join(", ")) ": " } "price of " (price) }
            }
            li { "tries of a step that were lost with their machine are part of its wait" }
            li { "slowdown of a step: (wait + build time) / build time, build times below 10 s counted as 10 s" }
            @if warm_up > Millis::ZERO {
                li { "waits are without steps submitted in the first " (time(float(warm_up.0))) }
            }
            @for one in shown { @if let Some(left_out) = one.run.bracket.map(|b| b.left_out).filter(|n| *n > 0) {
                li { "the bounds leave out " (planner::counted(left_out, "step")) " " (LEFT_OUT) }
            } }
            li { "models and bounds: docs/simulator.md of hydra-provisioner" }
        }
    }
}

/// Text that may wrap at punctuation.
fn breakable(name: &str) -> Markup {
    html! { @for part in name.split_inclusive([',', '/']) { (part) wbr; } }
}

fn estimate(estimate: Estimate, show: impl Fn(f64) -> String) -> String {
    match estimate.half_width.filter(|half_width| *half_width > 0.0) {
        None => show(estimate.mean),
        Some(half_width) => format!("{} ± {}", show(estimate.mean), show(half_width)),
    }
}

fn dollars(metrics: &Metrics) -> f64 {
    wide(metrics.cost_micro_dollars) / 1e6
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", share(part, whole))
}

/// In percent.
fn share(part: u64, whole: u64) -> f64 {
    float(part) / float(whole.max(1)) * 100.0
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn float(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn wide(value: u128) -> f64 {
    value as f64
}

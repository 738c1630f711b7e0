//! Results as a table, JSON or CSV.

use std::fmt::Write as _;

use planner::MachineType;
use serde_json::json;
use simulator::bound::Bracket;
use simulator::results::{Metrics, Results};
use simulator::statistics::Estimate;

use super::bound::{CSV_COLUMNS, csv_cells};
use super::layout::{Grid, quoted, wrapped};
use super::runs::{Completion, Run};

/// The unit of a number.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    /// Milliseconds, as hours, minutes and seconds.
    Time,
    /// Milliseconds, as hours.
    Hours,
    /// Micro-dollars.
    Dollars,
    /// Thousandths, as a factor.
    Factor,
    /// Thousandths, as a percentage.
    Percent,
}

/// A number of one machine type or of all: its names in CSV and in tables, its unit, its value.
type Row<T> = (&'static str, &'static str, Unit, fn(&T) -> u128);

const OF_TYPES: [Row<Metrics>; 27] = [
    ("costMicroDollars", "cost, $", Unit::Dollars, |m| m.cost_micro_dollars),
    ("paidMs", "machine hours paid", Unit::Hours, |m| m.paid.0.into()),
    ("busyMs", "  building", Unit::Hours, |m| m.busy.0.into()),
    ("idleMs", "  idle", Unit::Hours, |m| m.idle.0.into()),
    ("bootingMs", "  booting", Unit::Hours, |m| m.booting.0.into()),
    ("utilizationThousandths", "utilization", Unit::Percent, |m| m.utilization.into()),
    ("waitMeanMs", "wait, mean", Unit::Time, |m| m.wait.mean.into()),
    ("waitP50Ms", "wait, p50", Unit::Time, |m| m.wait.p50.into()),
    ("waitP95Ms", "wait, p95", Unit::Time, |m| m.wait.p95.into()),
    ("waitP99Ms", "wait, p99", Unit::Time, |m| m.wait.p99.into()),
    ("waitMaxMs", "wait, max", Unit::Time, |m| m.wait.max.into()),
    ("slowdownMean", "bounded slowdown, mean", Unit::Factor, |m| m.bounded_slowdown.mean.into()),
    ("slowdownP50", "bounded slowdown, p50", Unit::Factor, |m| m.bounded_slowdown.p50.into()),
    ("slowdownP95", "bounded slowdown, p95", Unit::Factor, |m| m.bounded_slowdown.p95.into()),
    ("slowdownP99", "bounded slowdown, p99", Unit::Factor, |m| m.bounded_slowdown.p99.into()),
    ("slowdownMax", "bounded slowdown, max", Unit::Factor, |m| m.bounded_slowdown.max.into()),
    ("makespanMs", "makespan", Unit::Time, |m| m.makespan.0.into()),
    ("built", "steps built", Unit::Count, |m| m.built.into()),
    ("failed", "steps aborted", Unit::Count, |m| m.failed.into()),
    ("unsupported", "  no machine for too long", Unit::Count, |m| m.unsupported.into()),
    ("canceled", "  build canceled", Unit::Count, |m| m.canceled.into()),
    ("unfinished", "steps not finished", Unit::Count, |m| m.unfinished.into()),
    ("created", "machines created", Unit::Count, |m| m.created.into()),
    ("lost", "machines lost", Unit::Count, |m| m.lost.into()),
    ("churn", "churn", Unit::Count, |m| m.churn.into()),
    ("underMs", "time with too few machines", Unit::Time, |m| m.under_provisioned.0.into()),
    ("overMs", "time with too many machines", Unit::Time, |m| m.over_provisioned.0.into()),
];

/// Numbers of the whole farm only.
const OF_ALL: [Row<Results>; 6] = [
    ("builds", "builds ended", Unit::Count, |r| r.builds.into()),
    ("buildMeanMs", "build time, mean", Unit::Time, |r| r.build_times.mean.into()),
    ("buildP50Ms", "build time, p50", Unit::Time, |r| r.build_times.p50.into()),
    ("buildP95Ms", "build time, p95", Unit::Time, |r| r.build_times.p95.into()),
    ("buildMaxMs", "build time, max", Unit::Time, |r| r.build_times.max.into()),
    ("turns", "control loop iterations", Unit::Count, |r| r.turns.into()),
];

/// Runs of one configuration on one trace, for one column.
struct Column<'a> {
    name: String,
    runs: Vec<&'a Results>,
    /// Runs of another configuration: the column shows the difference of `runs` to these.
    less: Option<Vec<&'a Results>>,
    /// `None`: all types.
    kind: Option<&'a MachineType>,
}

impl Column<'_> {
    /// The column's cell in one row. Differences are paired by seed, so both runs have the same work and the same random
    /// numbers (common random numbers).
    fn cell(&self, unit: Unit, number: impl Fn(&Results) -> Option<u128>) -> String {
        let number = |run: &&Results| number(run).map(to_float);
        let values = |runs: &[&Results]| by_seed(runs, |run| run.seed, number);
        let Some(less) = &self.less else {
            return show_estimate(Estimate::of(&values(&self.runs)), unit);
        };
        let pairs = self.runs.iter().zip(less).filter(|(run, other)| run.seed == other.seed);
        // Both are sorted by seed and phase.
        let (runs, others): (Vec<_>, Vec<_>) = pairs.unzip();
        let pairs = values(&runs).into_iter().zip(values(&others));
        let differences: Vec<_> = pairs.map(|(one, other)| one - other).collect();
        show_difference(Estimate::of(&differences), unit)
    }
}

/// One value per seed, the mean over its phases: phases of one seed are not independent. `runs` are sorted by seed.
pub(super) fn by_seed<T>(
    runs: &[T],
    seed: impl Fn(&T) -> u64,
    number: impl Fn(&T) -> Option<f64>,
) -> Vec<f64> {
    let of_seed = |runs: &[T]| {
        let values: Vec<_> = runs.iter().filter_map(&number).collect();
        (!values.is_empty()).then(|| Estimate::of(&values).mean)
    };
    runs.chunk_by(|a, b| seed(a) == seed(b)).filter_map(of_seed).collect()
}

/// One table per trace: its types side by side.
pub(super) fn tables_by_type(runs: &[Run]) -> String {
    tables(runs, "", |runs| {
        let results: Vec<_> = runs.iter().filter_map(|run| run.results.as_ref()).collect();
        let kinds = results.first().map(|results| results.types.keys()).into_iter().flatten();
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            runs: results.clone(),
            less: None,
            kind,
        };
        let mut columns = vec![column("total", None)];
        columns.extend(kinds.map(|kind| column(kind.as_str(), Some(kind))));
        columns
    })
}

/// One table per trace: configurations side by side, then the differences to the first.
pub(super) fn tables_by_conf(runs: &[Run]) -> String {
    let note =
        "* The 95 % interval of the difference, seed by seed, leaves out zero: it is no chance.";
    let letters = |at: usize| u32::try_from(at).ok().and_then(|at| char::from_u32(65 + at));
    tables(runs, note, |runs| {
        let mut columns: Vec<_> = runs
            .chunk_by(|a, b| a.conf == b.conf)
            .enumerate()
            .map(|(at, runs)| Column {
                name: letters(at).filter(|_| at < 26).map_or_else(|| at.to_string(), String::from),
                runs: runs.iter().filter_map(|run| run.results.as_ref()).collect(),
                less: None,
                kind: None,
            })
            .collect();
        let differences: Vec<_> = columns
            .iter()
            .skip(1)
            .zip(columns.first().into_iter().cycle())
            .map(|(column, first)| Column {
                name: format!("{} - {}", column.name, first.name),
                runs: column.runs.clone(),
                less: Some(first.runs.clone()),
                kind: None,
            })
            .collect();
        columns.extend(differences);
        columns
    })
}

/// `note` is for several seeds.
fn tables(runs: &[Run], note: &str, columns: impl Fn(&[Run]) -> Vec<Column<'_>>) -> String {
    let mut text = String::new();
    for runs in runs.chunk_by(|a, b| a.trace == b.trace) {
        let begun: Vec<_> = runs.iter().filter_map(|run| run.results.as_ref()).collect();
        let Some(first) = begun.first() else { continue };
        let trace = runs.first().map_or("", |run| run.trace.as_str());
        text += &wrapped(&format!("{trace}: {}", what_ran(runs, first)));
        let mut columns = columns(runs);
        let varies = vary(runs);
        if !varies {
            for column in &mut columns {
                column.runs.retain(|run| run.seed == first.seed);
            }
        }
        if columns.iter().any(|column| column.less.is_some()) {
            let confs = runs.chunk_by(|a, b| a.conf == b.conf).filter_map(|runs| runs.first());
            for (column, run) in columns.iter().zip(confs) {
                let _ = writeln!(text, "{}: {}", column.name, run.conf);
            }
        }
        text += &rows(&columns).to_text();
        text += &wrapped(if varies { note } else { "" });
        text += &wrapped(WAIT);
        text += &phases(runs);
        text += &bounds(runs);
        text += &assumptions(runs);
        text.push('\n');
    }
    text
}

fn what_ran(runs: &[Run], first: &Results) -> String {
    let (seeds, phases) = seeds_and_phases(runs);
    let each = if phases > 1 { format!(", {phases} phases each") } else { String::new() };
    let mut text = match seeds {
        1 => format!("seed {}{each}", first.seed),
        many if !vary(runs) => format!(
            "{many} seeds from {} on{each}, all with the same results: nothing in this trace and farm is left to chance, \
             one seed tells as much",
            first.seed
        ),
        many => format!("{many} seeds from {} on{each}, means ± 95 % confidence", first.seed),
    };
    let cut = runs.iter().filter(|run| run.completion == Completion::CutShort).count();
    if cut > 0 {
        let _ = write!(text, "; {cut} runs were cut short");
    }
    let restless =
        runs.iter().filter_map(|run| run.results.as_ref()).filter(|r| !r.at_rest).count();
    if restless > cut {
        let _ = write!(text, "; {} did not come to rest in 30 days", restless - cut);
    }
    text
}

/// Whether results depend on the seed: runs with the same phase are compared.
pub(super) fn vary(runs: &[Run]) -> bool {
    let (_, phases) = seeds_and_phases(runs);
    runs.chunk_by(|a, b| a.conf == b.conf).any(|runs| {
        let results: Vec<_> = runs.iter().filter_map(|run| run.results.as_ref()).collect();
        let later = results.iter().skip(phases);
        results.iter().zip(later).any(|(one, later)| !one.is_same_but_for_seed(later))
    })
}

/// How many seeds, and how many phases of each (at least 1).
pub(super) fn seeds_and_phases(runs: &[Run]) -> (usize, usize) {
    let of_conf = runs.chunk_by(|a, b| a.conf == b.conf).next().unwrap_or_default();
    let results: Vec<_> = of_conf.iter().filter_map(|run| run.results.as_ref()).collect();
    let seeds = results.chunk_by(|a, b| a.seed == b.seed).count();
    (seeds, (results.len() / seeds.max(1)).max(1))
}

/// Range of the results over the times of the polls and of the queue runner's checks, averaged over the seeds.
fn phases(runs: &[Run]) -> String {
    let (_, phases) = seeds_and_phases(runs);
    let mut text = String::new();
    if phases < 2 {
        return text;
    }
    for runs in runs.chunk_by(|a, b| a.conf == b.conf) {
        let results: Vec<_> = runs.iter().filter_map(|run| run.results.as_ref()).collect();
        let range = |unit, number: fn(&Metrics) -> u128| {
            let mean = |phase: usize| {
                let values = results.iter().skip(phase).step_by(phases);
                let values = values.map(|one| to_float(number(&one.total))).collect::<Vec<_>>();
                Estimate::of(&values).mean
            };
            let means = (0..phases).map(mean);
            let least = means.clone().fold(f64::INFINITY, f64::min);
            format!("{} to {}", show(least, unit), show(means.fold(0.0, f64::max), unit))
        };
        text += &wrapped(&format!(
            "{}, by when provisioner and queue runner look: cost $ {}, wait mean {}, p95 {}.",
            runs.first().map_or("", |run| run.conf.as_str()),
            range(Unit::Dollars, |m| m.cost_micro_dollars),
            range(Unit::Time, |m| m.wait.mean.into()),
            range(Unit::Time, |m| m.wait.p95.into())
        ));
    }
    text
}

const WAIT: &str =
    "Wait: from when a step could be built until its last try began; failed tries count.";

/// Cost of each configuration as a ratio to the bounds, averaged over the seeds.
fn bounds(runs: &[Run]) -> String {
    let mut text = String::new();
    for runs in runs.chunk_by(|a, b| a.conf == b.conf) {
        let Some(run) = runs.first().filter(|run| run.bracket.is_some()) else { continue };
        let ratio = |of: fn(&Bracket) -> f64| {
            let ratios: Vec<_> = runs.iter().filter_map(|run| run.ratio(of)).collect();
            (!ratios.is_empty()).then(|| format!("{:.2} times", Estimate::of(&ratios).mean))
        };
        let clairvoyant = "a schedule that knows all builds in advance";
        let ratios = match (ratio(|bracket| bracket.least), ratio(|bracket| bracket.clairvoyant)) {
            (Some(least), Some(best)) => {
                format!(
                    " costs {least} the lower bound for the same p95 wait, and {best} {clairvoyant}"
                )
            }
            (None, Some(best)) => {
                format!(" costs {best} {clairvoyant}, for the same p95 wait; the lower bound is $0")
            }
            (_, None) => ": the bounds of its cost are $0, so there is no ratio to them".to_owned(),
        };
        text += &wrapped(&format!("{}{ratios}.", run.conf));
    }
    text
}

/// Assumptions behind the numbers.
fn assumptions(runs: &[Run]) -> String {
    let mut text = String::new();
    let warm_ups: Vec<_> = runs.iter().filter_map(|run| run.results.as_ref()).collect();
    if let Some(longest) = warm_ups.iter().map(|results| results.warm_up.0).max().filter(|m| *m > 0)
    {
        let longest = show(to_float(longest.into()), Unit::Time);
        text += &wrapped(&format!(
            "Warm-up: waits and slowdowns are without steps submitted in the first {longest} (at most); costs are whole."
        ));
    }
    for runs in runs.chunk_by(|a, b| a.prices == b.prices) {
        for price in runs.first().map(|run| &run.prices).into_iter().flatten() {
            text += &wrapped(&format!("Price of {price}."));
        }
    }
    text
}

fn rows(columns: &[Column<'_>]) -> Grid {
    let mut grid = Grid::new(columns.iter().map(|column| column.name.as_str()));
    for (_, name, unit, value) in &OF_TYPES {
        let cells = columns
            .iter()
            .map(|column| column.cell(*unit, |run| metrics(run, column.kind).map(value)));
        grid.add(name, cells.collect());
    }
    for (_, name, unit, value) in &OF_ALL {
        let cells = columns.iter().map(|column| match column.kind {
            None => column.cell(*unit, |run| Some(value(run))),
            Some(_) => String::new(),
        });
        grid.add(name, cells.collect());
    }
    grid
}

fn metrics<'a>(results: &'a Results, kind: Option<&MachineType>) -> Option<&'a Metrics> {
    kind.map_or(Some(&results.total), |kind| results.types.get(kind))
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn to_float(number: u128) -> f64 {
    number as f64
}

/// An interval of no width is not shown: the value is the same for all seeds.
fn show_estimate(Estimate { mean, half_width }: Estimate, unit: Unit) -> String {
    match half_width.filter(|half_width| *half_width > 0.0) {
        None => show(mean, unit),
        Some(half_width) => format!("{} ± {}", show(mean, unit), show(half_width, unit)),
    }
}

/// A difference with its sign, and a star if it is significant.
fn show_difference(difference: Estimate, unit: Unit) -> String {
    let Estimate { mean, half_width } = difference;
    let sign = if mean < 0.0 { "-" } else { "+" };
    let text = format!("{sign}{}", show_estimate(Estimate { mean: mean.abs(), half_width }, unit));
    match half_width {
        Some(_) if !difference.holds(0.0) => text + " *",
        Some(_) | None => text,
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count if value.fract() == 0.0 => format!("{value}"),
        Unit::Count => format!("{value:.1}"),
        Unit::Hours => format!("{:.2}", value / 3_600_000.0),
        Unit::Dollars => format!("{:.4}", value / 1_000_000.0),
        Unit::Factor => format!("{:.2}", value / 1000.0),
        Unit::Percent => format!("{:.1} %", value / 10.0),
        Unit::Time => time(value),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
pub(super) fn time(millis: f64) -> String {
    let seconds = (millis / 1000.0) as u64;
    match seconds {
        0..60 => format!("{:.1}s", millis / 1000.0),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Every number of every run.
pub(super) fn json(runs: &[Run]) -> serde_json::Value {
    let runs = runs.iter().map(|run| {
        json!({
            "conf": run.conf,
            "trace": run.trace,
            "phase": run.phase,
            "complete": run.completion == Completion::Whole,
            "results": run.results,
            "bounds": run.bracket,
        })
    });
    runs.collect()
}

/// One line per run and machine type, and one with all types as `total`.
pub(super) fn csv(runs: &[Run]) -> String {
    let mut text = "conf,trace,seed,complete,atRest,type".to_owned();
    let names = OF_TYPES.iter().map(|row| row.0).chain(OF_ALL.iter().map(|row| row.0));
    names.for_each(|name| text = format!("{text},{name}"));
    let _ = writeln!(text, ",phase,{CSV_COLUMNS}");
    for run in runs {
        let Some(results) = &run.results else { continue };
        let kinds = results.types.iter().map(|(kind, metrics)| (kind.as_str(), metrics));
        for (kind, metrics) in std::iter::once(("total", &results.total)).chain(kinds) {
            let complete = run.completion == Completion::Whole;
            let (seed, at_rest) = (results.seed, results.at_rest);
            let (conf, trace) = (quoted(&run.conf), quoted(&run.trace));
            let _ = write!(text, "{conf},{trace},{seed},{complete},{at_rest},{}", quoted(kind));
            for (_, _, _, value) in &OF_TYPES {
                let _ = write!(text, ",{}", value(metrics));
            }
            for (_, _, _, value) in &OF_ALL {
                let _ = if kind == "total" {
                    write!(text, ",{}", value(results))
                } else {
                    write!(text, ",")
                };
            }
            let bracket = run.bracket.as_ref().filter(|_| kind == "total");
            let _ = writeln!(text, ",{},{}", run.phase, csv_cells(bracket));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, unit, text) in [
            (12.0, Unit::Count, "12"),
            (12.34, Unit::Count, "12.3"),
            (59_940.0, Unit::Time, "59.9s"),
            (61_000.0, Unit::Time, "1m01s"),
            (7_260_000.0, Unit::Time, "2h01m"),
            (5_400_000.0, Unit::Hours, "1.50"),
            (1_234_567.0, Unit::Dollars, "1.2346"),
            (1_500.0, Unit::Factor, "1.50"),
            (423.0, Unit::Percent, "42.3 %"),
        ] {
            assert_eq!(show(value, unit), text);
        }
    }
}

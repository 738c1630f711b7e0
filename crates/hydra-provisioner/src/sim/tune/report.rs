//! The result of a search, as text.

use std::fmt::Write as _;

use simulator::statistics::Estimate;
use simulator::tuning::{Outcome, Score, Settings, front, is_no_worse_anywhere, mean, score};

use super::shard::{Part, Tried};
use crate::sim::layout::{Grid, wrapped};
use crate::sim::report::time;

/// Results on the held-out traces, as logarithms of ratios to the current configuration.
struct Saving {
    cost: Estimate,
    p95: Estimate,
}

/// A candidate on the Pareto front.
struct Found<'a> {
    tried: &'a Tried,
    training: Vec<Score>,
    saving: Saving,
}

/// The whole report; the same for any number of shards.
pub(super) fn text(part: &Part) -> String {
    let Some(own) = part.tried.first() else { return "Nothing was tried.\n".to_owned() };
    let found = found(part, own);
    let best = recommended(part, &found);
    let mut text = wrapped(&headline(part));
    text.push('\n');
    text += &table(&found, best);
    text += &wrapped(
        "Cost (per step built) and p95 wait on the held-out traces, as ratios to the current configuration, \
         ± 95 %; 1.00 is unchanged. No other candidate has both a lower cost and a shorter wait.",
    );
    if part.what.is_fixed {
        text += &wrapped(
            "No seed changes anything (recorded work, fixed times): one run for each trace. The held-out numbers of the \
             searched traces are those of the search; --hold-out with another trace verifies them.",
        );
    }
    for price in &part.what.prices {
        text += &wrapped(&format!("Price of {price}."));
    }
    text.push('\n');
    text += &match best.and_then(|at| found.get(at)) {
        Some(best) => advice(part, best, own, &found),
        None => wrapped(
            "No candidate keeps the wait limit on every trace: the configuration stays as it is. More --candidates may \
             help, or another --wait.",
        ),
    };
    text
}

fn headline(part: &Part) -> String {
    let what = &part.what;
    let names = |list: &[(String, Vec<u64>)]| {
        let name = |(trace, seeds): &(String, Vec<u64>)| {
            let (first, count) = (seeds.first().copied().unwrap_or(0), seeds.len());
            format!("{trace} ({count} seeds from {first} on)")
        };
        list.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let whole: usize = what.training.iter().map(|(_, seeds)| seeds.len()).sum();
    let given_up = part.tried.iter().filter(|one| one.training.len() < whole).count();
    format!(
        "{} settings were tried for {}; {given_up} were dropped early. Searched on {}. Held out: {}.",
        part.tried.len(),
        what.conf,
        names(&what.training),
        names(&what.held_out)
    )
}

/// The Pareto front by increasing cost.
fn found<'a>(part: &'a Part, own: &Tried) -> Vec<Found<'a>> {
    let whole = own.training.len();
    let left: Vec<_> = part.tried.iter().filter(|one| one.training.len() == whole).collect();
    let scores = |outcomes: &[Outcome], own: &[Outcome]| -> Vec<Score> {
        outcomes.iter().zip(own).map(|(one, own)| score(one, own)).collect()
    };
    let training: Vec<_> = left.iter().map(|one| scores(&one.training, &own.training)).collect();
    let means: Vec<_> = training.iter().map(|scores| mean(scores)).collect();
    let on_front = front(&means).into_iter().filter(|at| !left[*at].held_out.is_empty());
    on_front
        .map(|at| {
            let held_out = scores(&left[at].held_out, &own.held_out);
            let of = |value: fn(&Score) -> f64| {
                Estimate::of(&held_out.iter().map(value).collect::<Vec<_>>())
            };
            let saving = Saving { cost: of(|one| one.cost), p95: of(|one| one.p95) };
            Found { tried: left[at], training: training[at].clone(), saving }
        })
        .collect()
}

/// The index of the cheapest one that keeps the wait limit in the search.
fn recommended(part: &Part, found: &[Found<'_>]) -> Option<usize> {
    let traces = part.what.training.len();
    // There, results are sorted by round; here, by trace.
    let of_trace = |trace: usize| (trace..).step_by(traces.max(1));
    let waits_no_longer = |one: &Found<'_>| {
        let Some(seconds) = part.what.wait else {
            let scores = (0..traces).flat_map(|trace| {
                of_trace(trace).map_while(|at| one.training.get(at).copied()).collect::<Vec<_>>()
            });
            let scores: Vec<_> = scores.collect();
            return is_no_worse_anywhere(&scores, scores.len() / traces.max(1));
        };
        (0..traces).all(|trace| {
            let outcomes: Vec<_> =
                of_trace(trace).map_while(|at| one.tried.training.get(at)).collect();
            let sum: u64 = outcomes.iter().map(|outcome| outcome.p95_ms).sum();
            sum <= seconds.saturating_mul(1000).saturating_mul(outcomes.len() as u64)
        })
    };
    found.iter().position(|one| {
        waits_no_longer(one) && one.tried.training.iter().all(|outcome| outcome.at_rest)
    })
}

fn table(found: &[Found<'_>], best: Option<usize>) -> String {
    let mut grid = Grid::new(["cost", "p95 wait"].into_iter());
    let mut settings = String::new();
    for (at, one) in found.iter().enumerate() {
        let mark = if best == Some(at) { "*" } else { " " };
        let number = one.tried.number;
        grid.add(&format!("{mark}{number}"), vec![ratio(one.saving.cost), ratio(one.saving.p95)]);
        let words = one.tried.settings.map_or_else(|| "as it is".to_owned(), |s| s.to_string());
        let _ = writeln!(settings, "{number}: {words}");
    }
    grid.to_text() + &settings
}

/// A ratio with its interval, from logarithms.
fn ratio(Estimate { mean, half_width }: Estimate) -> String {
    let ratio = libm::exp(mean);
    match half_width {
        Some(half_width) => format!("{ratio:.2} ± {:.2}", ratio * half_width),
        None => format!("{ratio:.2}"),
    }
}

fn advice(part: &Part, best: &Found<'_>, own: &Tried, found: &[Found<'_>]) -> String {
    let Some(settings) = best.tried.settings else {
        return wrapped(
            "Nothing that was tried is cheaper without longer waits: the configuration stays as it is.",
        );
    };
    let percent = 100.0 * (1.0 - libm::exp(best.saving.cost.mean));
    let off =
        best.saving.cost.half_width.map_or(0.0, |half| 100.0 * half * (1.0 - percent / 100.0));
    let mut text = wrapped(&format!(
        "On the held-out traces, settings {} cost {percent:.1} % less (± {off:.1}) and the p95 wait is {} instead of {}:",
        best.tried.number,
        mean_wait(&best.tried.held_out),
        mean_wait(&own.held_out)
    ));
    text.push('\n');
    text += &snippet(part, &settings);
    text.push('\n');
    for warning in warnings(part, best, found) {
        text += &wrapped(&format!("Note: {warning}"));
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn mean_wait(outcomes: &[Outcome]) -> String {
    let sum: u64 = outcomes.iter().map(|outcome| outcome.p95_ms).sum();
    time(sum as f64 / outcomes.len().max(1) as f64)
}

/// Lines for conf.nix.
fn snippet(part: &Part, settings: &Settings) -> String {
    let mut text = format!("pollInterval = {};\n", settings.poll_interval);
    for name in &part.what.types {
        let _ = writeln!(text, "systemTypes.\"{name}\" = {{ {} }};", settings.of_type());
    }
    text
}

/// Warnings about significance.
fn warnings(part: &Part, best: &Found<'_>, found: &[Found<'_>]) -> Vec<String> {
    let mut warnings = Vec::new();
    let cost = best.saving.cost;
    let hoped = mean(&best.training).cost;
    match cost.half_width {
        None if part.what.is_fixed => {}
        None => warnings.push(
            "one held-out seed gives no confidence interval; use --held-out-seeds.".to_owned(),
        ),
        Some(_) if cost.holds(0.0) => {
            warnings.push("the saving may be chance: its interval holds zero.".to_owned());
        }
        Some(half_width) if cost.mean - half_width > hoped => warnings.push(format!(
            "on the traces of the search it saves {:.1} %. That number is biased, because the best of many was chosen: use the held-out one.",
            100.0 * (1.0 - libm::exp(hoped))
        )),
        Some(_) => {}
    }
    if !best.saving.p95.holds(0.0) && best.saving.p95.mean > 0.0 {
        warnings.push("steps wait longer than now on the held-out traces.".to_owned());
    }
    let alike = found.iter().filter(|other| {
        let width = |saving: &Saving| saving.cost.half_width.unwrap_or(0.0);
        other.tried.number != best.tried.number
            && (other.saving.cost.mean - cost.mean).abs()
                < width(&other.saving) + width(&best.saving)
    });
    let alike: Vec<_> = alike.map(|other| other.tried.number.to_string()).collect();
    if !alike.is_empty() {
        warnings.push(format!(
            "its cost does not differ significantly from that of {} (the intervals overlap); more seeds may.",
            alike.join(", ")
        ));
    }
    warnings
}

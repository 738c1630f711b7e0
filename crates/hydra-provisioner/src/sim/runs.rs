//! Runs simulations in parallel; results are in a fixed order.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use signal_hook::consts::{SIGINT, SIGTERM};
use simulator::bound::{Bracket, bracket};
use simulator::detail::{Detail, Recorder};
use simulator::engine::Millis;
use simulator::results::{Results, WarmUp};
use simulator::waiting::what_waits;
use simulator::world::Farm;

use super::conf::{Begun, Conf};
use super::input::{Trace, bad};
use crate::console::fail;
use crate::exit::Exit;
use crate::sim::args::Options;

/// A farm that is not at rest this long after the last submission counts as stuck.
pub(super) const PATIENCE: Millis = Millis::from_hours(30 * 24);

/// The outcome of one simulation.
pub(super) struct Run {
    pub(super) conf: String,
    pub(super) trace: String,
    /// From 0, see `--phases`.
    pub(super) phase: u64,
    /// `None`: Ctrl-C came before it started.
    pub(super) results: Option<Results>,
    pub(super) completion: Completion,
    /// For a complete run that did not come to rest: what waits, and why.
    pub(super) waits: Vec<String>,
    /// With `--bound`: the 95th percentile of the waits of all built steps, also of those in the warm-up. They are part of
    /// the work that the bounds are for.
    wait_p95_of_all: Option<Millis>,
    /// The bounds of the cost at that wait.
    pub(super) bracket: Option<Bracket>,
    /// Details for the HTML report.
    pub(super) detail: Option<Detail>,
    /// The prices of each type, in words.
    pub(super) prices: Vec<String>,
    /// The settings, in words.
    pub(super) settings: Vec<String>,
    /// The first rule violation, with the events that led to it.
    pub(super) violation: Option<String>,
}

impl Run {
    /// Its cost as a ratio to a bound of it. `None` without bounds, and if the bound is $0.
    pub(super) fn ratio(&self, bound: impl Fn(&Bracket) -> f64) -> Option<f64> {
        let bound = self.bracket.as_ref().map(bound).filter(|dollars| *dollars > 0.0)?;
        #[allow(clippy::cast_precision_loss, reason = "for people to read")]
        let cost = self.results.as_ref()?.total.cost_micro_dollars as f64;
        Some(cost / 1e6 / bound)
    }
}

/// Whether a run is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    Whole,
    /// Ctrl-C: results so far.
    CutShort,
}

/// Every configuration on every trace with every seed, in this order.
pub(super) fn run_all(
    confs: &[Conf],
    traces: &[Trace],
    options: &Options,
) -> Result<Vec<Run>, Exit> {
    warn_of_unknown_types(confs, traces);
    check_warm_up(traces, options)?;
    let mut jobs = Vec::new();
    for trace in traces {
        for conf in confs {
            for seed in seeds("--seed", trace.first_seed(options.seed), options.seeds)? {
                jobs.extend((0..options.phases.max(1)).map(|phase| (conf, trace, seed, phase)));
            }
        }
    }
    let stop = stop_on_signals()?;
    let progress = progress_bar(jobs.len() as u64 * 1000, "about");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|error| fail(Exit::Unexpected, &error))?;
    let runs = pool.install(|| {
        jobs.into_par_iter()
            .map(|(conf, trace, seed, phase)| {
                let mut setup = conf.setup(trace, seed)?;
                shift(&mut setup.farm, phase, options.phases.max(1));
                let mut run = simulate(conf.begin(setup.clone()), options, &stop, &progress);
                run.bracket = run.wait_p95_of_all.map(|wait| bracket(&setup, wait));
                run.conf.clone_from(&conf.name);
                run.trace.clone_from(&trace.name);
                run.phase = phase;
                Ok(run)
            })
            .collect()
    });
    progress.finish_and_clear();
    runs
}

/// Several seeds, counted up from the first. `source`: where it is set.
pub(super) fn seeds(source: &str, first: u64, count: u64) -> Result<RangeInclusive<u64>, Exit> {
    let last = first.checked_add(count.saturating_sub(1));
    let problem = || {
        fail(
            Exit::BadConfig,
            &format!("{source} {first} leaves no {count} seeds up to {}", u64::MAX),
        )
    };
    last.map(|last| first..=last).ok_or_else(problem)
}

/// Refuses a warm-up that is longer than a trace: without any step, waits would be shown as 0.
fn check_warm_up(traces: &[Trace], options: &Options) -> Result<(), Exit> {
    let WarmUp::Until(time) = options.warm_up else { return Ok(()) };
    for trace in traces {
        let (workload, _) = trace.work(trace.first_seed(options.seed))?;
        let last = workload.last_submission();
        if time > last {
            let time = time.whole_seconds();
            let problem = format!(
                "its last step is submitted at {last}, so --warm-up {time} excludes all steps"
            );
            return Err(bad(&trace.name, &problem));
        }
    }
    Ok(())
}

/// The times of the provisioner's polls and of the queue runner's checks, as they are in one of several phases. The
/// checks are shifted by multiples of the golden ratio, so that few phases cover both.
fn shift(farm: &mut Farm, phase: u64, phases: u64) {
    let cycle = &mut farm.cycle;
    cycle.first += Millis(cycle.interval.0.saturating_mul(phase) / phases);
    let thousandths = phase.saturating_mul(618) % 1000;
    let queue_runner = &mut farm.queue_runner;
    queue_runner.started_before += Millis(queue_runner.interval().0 * thousandths / 1000);
}

/// Each farm once, even if several configurations use it.
fn warn_of_unknown_types(confs: &[Conf], traces: &[Trace]) {
    let mut farms: BTreeMap<String, &Farm> = BTreeMap::new();
    for conf in confs {
        match conf.given_farm() {
            Some((file, farm)) => {
                farms.insert(file.display().to_string(), farm);
            }
            None => farms.extend(
                traces.iter().filter_map(|trace| Some((trace.name.clone(), trace.farm()?))),
            ),
        }
    }
    for (file, farm) in farms {
        super::conf::warn_of_unknown_types(&file, farm, confs);
    }
}

/// Interval of progress updates and of a report's samples.
const LOOK_INTERVAL: Millis = Millis::from_minutes(5);

/// One run, to its end or a signal. The progress bar counts thousandths of a run.
fn simulate(begun: Begun, options: &Options, stop: &AtomicBool, progress: &ProgressBar) -> Run {
    let Begun { seed, prices, settings, mut simulation } = begun;
    let last = simulation.world().workload().last_submission();
    let mut run = Run {
        conf: String::new(),
        trace: String::new(),
        phase: 0,
        results: None,
        completion: Completion::CutShort,
        waits: Vec::new(),
        wait_p95_of_all: None,
        bracket: None,
        detail: None,
        prices,
        settings,
        violation: None,
    };
    if stop.load(Ordering::Relaxed) {
        return run;
    }
    let limit = last + PATIENCE;
    let mut recorder = Recorder::default();
    let mut shown = 0;
    let mut at_rest = false;
    while !at_rest && simulation.world().now() < limit && !stop.load(Ordering::Relaxed) {
        at_rest = simulation.run_until(limit.min(simulation.world().now() + LOOK_INTERVAL));
        if options.detail.is_some() {
            recorder.look(&simulation);
        }
        let share = simulation.world().now().0.saturating_mul(1000) / last.0.max(1);
        progress.inc(share.min(1000) - shown);
        shown = share.min(1000);
    }
    progress.inc(1000 - shown);
    if !stop.load(Ordering::Relaxed) {
        run.completion = Completion::Whole;
        if !simulation.is_at_rest() {
            run.waits = what_waits(&simulation);
        }
    }
    run.violation = simulation.world().violations().first().map(ToString::to_string);
    let results = Results::after(options.warm_up, seed, &simulation);
    run.detail =
        options.detail.map(|target| Detail::of(recorder, target, results.warm_up, &simulation));
    if options.bound {
        let all = match options.warm_up {
            WarmUp::Nothing => results.total.wait,
            _ => Results::of(seed, &simulation).total.wait,
        };
        run.wait_p95_of_all = Some(Millis(all.p95));
    }
    run.results = Some(results);
    run
}

/// The first signal ends the runs and keeps their results; the second kills the process.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>, Exit> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| fail(Exit::Unexpected, &error))?;
    }
    Ok(stop)
}

/// `sure` is the format of the remaining time.
pub(super) fn progress_bar(length: u64, sure: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = format!("{{bar:40}} {{percent}}% {{elapsed}} ({sure} {{eta}} to go)");
    let style = ProgressStyle::with_template(&template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

//! `sim`: the same planner and control loop on a virtual clock.

pub(crate) mod args;
mod bound;
mod conf;
mod conf_arg;
mod hydra_database;
mod import;
mod input;
mod layout;
mod page;
mod prices;
pub(crate) mod recording;
mod report;
mod runs;
mod serve;
mod settings;
mod threads;
mod tune;
mod zstd;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use simulator::campaign::{shrink, trial};
use simulator::engine::{Millis, Seed};
use simulator::trace::{RecordingReader, write_workload};
use simulator::world::Planted;

use crate::console::{fail, load, plan_for, print, print_json};
use crate::exit::Exit;
use args::{Format, Options, Sim};
use conf::Conf;
use conf_arg::ConfArg;
use input::Trace;
use runs::{Completion, Run, run_all};

pub(crate) fn sim(what: Sim) -> Result<Exit, Exit> {
    match what {
        Sim::Run { conf, options, show, traces } => {
            let runs = simulate(&[conf], &traces, &Options { bound: show.bound, ..options })?;
            print_runs(&runs, show.format, report::tables_by_type)
        }
        Sim::Compare { confs, traces, options, show } => {
            let runs = simulate(&confs, &traces, &Options { bound: show.bound, ..options })?;
            print_runs(&runs, show.format, report::tables_by_conf)
        }
        Sim::Bound(args) => bound::bound(&args),
        Sim::Report { confs, trace, output, target, options } => {
            page::report(&confs, &trace, &output, Millis::from_seconds(target), options)
        }
        Sim::Tune(args) => tune::tune(&args),
        Sim::Merge { shards } => tune::merge(&shards),
        Sim::Campaign { seed, seeds, shrink, knobs } => campaign(seed, seeds, shrink, knobs),
        Sim::Replay { conf, recording } => replay(&conf, &recording),
        Sim::Generate { scenario, seed, output } => generate(&scenario, seed, &output),
        Sim::Serve(args) => serve::serve(&args),
        Sim::Import(what) => import::import(what),
    }
}

fn simulate(confs: &[ConfArg], traces: &[PathBuf], options: &Options) -> Result<Vec<Run>, Exit> {
    // Their runs would be mixed up.
    let names: Vec<_> = confs.iter().map(ToString::to_string).collect();
    let files: Vec<_> = traces.iter().map(|trace| trace.display().to_string()).collect();
    if let Some(name) = named_twice(&names).or_else(|| named_twice(&files)) {
        return Err(fail(Exit::BadConfig, &format!("{name} is named twice")));
    }
    // All of them are read, so that all errors are reported at once.
    let confs = conf_arg::with_files(confs)?;
    let confs = Conf::read_all(&confs, options);
    let traces: Vec<_> = traces.iter().map(|trace| Trace::read(trace)).collect();
    let confs = confs?;
    let traces = traces.into_iter().collect::<Result<Vec<_>, _>>()?;
    run_all(&confs, &traces, options)
}

fn named_twice(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

/// Prints results, and logs what the user must know besides them.
fn print_runs(runs: &[Run], format: Format, tables: fn(&[Run]) -> String) -> Result<Exit, Exit> {
    match format {
        Format::Table => print(tables(runs))?,
        Format::Json => print_json(&report::json(runs))?,
        Format::Csv => print(report::csv(runs))?,
    }
    Ok(warn(runs))
}

/// What the user must know besides results.
fn warn(runs: &[Run]) -> Exit {
    warn_of_unsupported(runs);
    let mut exit = Exit::Done;
    for run in runs {
        if let Some(violation) = &run.violation {
            exit = fail(
                Exit::SomeFailed,
                &format!(
                    "{} on {}: a rule was broken, which is a bug of ours: {violation}",
                    run.conf, run.trace
                ),
            );
        }
    }
    for run in runs.iter().filter(|run| !run.waits.is_empty()) {
        let seed = run.results.as_ref().map_or(0, |results| results.seed);
        let (conf, trace, waits) = (&run.conf, &run.trace, run.waits.join("; "));
        let message =
            format!("{conf} on {trace}, seed {seed}: did not come to rest in 30 days: {waits}");
        exit = fail(Exit::SomeFailed, &message);
    }
    let cut = runs.iter().filter(|run| run.completion == Completion::CutShort).count();
    if cut > 0 {
        exit = fail(Exit::Unexpected, &format!("{cut} of {} runs were cut short", runs.len()));
    }
    exit
}

/// The usual cause: the real queue runner's time limit is longer than the simulated one's.
fn warn_of_unsupported(runs: &[Run]) {
    for runs in runs.chunk_by(|a, b| (&a.conf, &a.trace) == (&b.conf, &b.trace)) {
        let steps: u64 =
            runs.iter().flat_map(|run| &run.results).map(|r| r.total.unsupported).sum();
        if let (Some(run), 1..) = (runs.first(), steps) {
            tracing::warn!(
                "{} on {}: {steps} steps were aborted since no machine supported them in time; if your queue runner \
                 waits longer (classic: max_unsupported_time, REST: maxUnsupportedTimeInS), set queueRunner.maxUnsupported of \
                 the farm, in milliseconds",
                run.conf,
                run.trace
            );
        }
    }
}

/// Trials per batch: small enough to report a violation soon.
const TRIALS_AT_ONCE: usize = 64;

/// Results in the order of the seeds.
fn campaign(first: u64, count: u64, shrinks: bool, knobs: bool) -> Result<Exit, Exit> {
    runs::seeds("--seed", first, count)?;
    let mut exit = Exit::Done;
    for begin in (0..count).step_by(TRIALS_AT_ONCE) {
        let end = count.min(begin.saturating_add(TRIALS_AT_ONCE as u64));
        let seeds: Vec<_> = (begin..end).filter_map(|number| first.checked_add(number)).collect();
        let trials = seeds.into_par_iter().map(|seed| trial(Seed(seed), planner::plan));
        for trial in trials.collect::<Vec<_>>() {
            if knobs {
                print_json(&trial.knobs)?;
            }
            print(&trial)?;
            if !trial.violations.is_empty() {
                exit = Exit::SomeFailed;
                if shrinks && let Some(shrunk) = shrink(trial.knobs, Planted::NOTHING) {
                    print(shrunk)?;
                }
            }
        }
    }
    Ok(exit)
}

/// Prints every cycle that would be decided differently.
fn replay(conf: &Path, recording: &Path) -> Result<Exit, Exit> {
    let config = load(conf)?;
    let name = recording.display().to_string();
    let wrong = |error| fail(Exit::BadConfig, &error);
    let (mut cycles, mut others) = (0_u64, 0_u64);
    for observation in RecordingReader::new(&name, input::open(recording)?).map_err(wrong)? {
        let observation = observation.map_err(wrong)?;
        cycles += 1;
        let plan = plan_for(&config, &observation.snapshot);
        if plan != observation.plan {
            others += 1;
            let at = observation.snapshot.taken_at.0;
            print(format!("cycle {cycles}, at {at}: was\n{}would be\n{plan}\n", observation.plan))?;
        }
    }
    print(format!("{others} of {cycles} cycles would be decided otherwise\n"))?;
    Ok(Exit::Done)
}

fn generate(scenario: &Path, seed: Option<u64>, output: &Path) -> Result<Exit, Exit> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut input::open(scenario)?, &mut text)
        .map_err(|error| input::unreadable(scenario, &error))?;
    let name = scenario.display();
    let scenario = input::scenario(scenario, &text)?;
    let seed = seed.unwrap_or(scenario.seed);
    let workload = input::generated(name, &scenario, seed)?;
    let description = format!("{} (seed {seed})", scenario.description);
    input::write(output, |out| write_workload(&workload, &description, out))?;
    Ok(Exit::Done)
}

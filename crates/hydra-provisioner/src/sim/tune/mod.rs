//! `sim tune`: finds better settings by trying many on the same work; `sim merge` combines shards.

mod args;
mod instances;
mod report;
mod shard;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use rayon::prelude::*;
use simulator::engine::Seed;
use simulator::tuning::{ANCHORS, Outcome, Score, Settings, candidate, front, mean, score, stays};

use super::input;
use super::runs::{progress_bar, stop_on_signals};
use crate::console::{fail, print};
use crate::exit::Exit;
pub(crate) use args::Tune;
use instances::{Instance, Instances, List};
use shard::{Part, Tried};

/// Searches, and prints the result or writes a shard.
pub(super) fn tune(args: &Tune) -> Result<Exit, Exit> {
    let instances = Instances::read(args)?;
    let search = Search { stop: &*stop_on_signals()?, args, instances: &instances };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let pool = pool.map_err(|error| fail(Exit::Unexpected, &error))?;
    let tried = pool.install(|| search.run())?;
    let part = Part { what: instances.what(args), shard: args.shard, tried };
    match &args.output {
        Some(output) => part.write(output).map(|()| Exit::Done),
        None => print(report::text(&part)).map(|()| Exit::Done),
    }
}

/// Prints the combined result of shards: the same as of one search.
pub(super) fn merge(shards: &[PathBuf]) -> Result<Exit, Exit> {
    let parts: Result<Vec<_>, _> = shards.iter().map(|path| Part::read(path)).collect();
    let part = shard::merged(parts?).map_err(|problem| fail(Exit::BadConfig, &problem))?;
    print(report::text(&part)).map(|()| Exit::Done)
}

/// The candidates and instances of a search.
struct Search<'a> {
    args: &'a Tune,
    instances: &'a Instances,
    stop: &'a AtomicBool,
}

impl Search<'_> {
    fn run(&self) -> Result<Vec<Tried>, Exit> {
        let numbers = (0..self.args.candidates).filter(|number| self.args.shard.has(*number));
        let mut tried: Vec<_> = numbers
            .map(|number| Tried::new(number, candidate(Seed(self.args.seed), number)))
            .collect();
        let rounds = self.instances.training_rounds();
        let progress = self.progress(tried.len(), &rounds);
        let mut alive: Vec<_> = (0..tried.len()).collect();
        for (at, round) in rounds.iter().enumerate() {
            self.try_on(&mut tried, &alive, round, &progress, |one| &mut one.training)?;
            let before = alive.len();
            give_up(&tried, &mut alive);
            let left: u64 = rounds[at + 1..].iter().map(List::weight).sum();
            progress.set_length(
                progress.length().unwrap_or(0).saturating_sub((before - alive.len()) as u64 * left),
            );
        }
        let scores: Vec<_> = alive.iter().map(|at| mean(&scores(&tried, *at))).collect();
        let on_front = front(&scores).into_iter().map(|place| alive[place]);
        // The current configuration, which all candidates are compared with.
        let mut kept: Vec<_> = [0].into_iter().chain(on_front).collect();
        kept.sort_unstable();
        kept.dedup();
        let held_out = self.instances.held_out();
        progress.set_length(progress.position() + kept.len() as u64 * held_out.weight());
        self.try_on(&mut tried, &kept, &held_out, &progress, |one| &mut one.held_out)?;
        progress.finish_and_clear();
        Ok(tried)
    }

    /// All runs of a round, in parallel; results are in the order of the instances.
    fn try_on(
        &self,
        tried: &mut [Tried],
        alive: &[usize],
        round: &List<'_>,
        progress: &ProgressBar,
        outcomes: fn(&mut Tried) -> &mut Vec<Outcome>,
    ) -> Result<(), Exit> {
        let jobs: Vec<_> = alive
            .iter()
            .flat_map(|at| round.iter().map(|instance| (*at, tried[*at].settings, instance)))
            .collect();
        let run = |(at, settings, instance): (usize, Option<Settings>, &Instance)| {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let outcome = instance.run(settings.as_ref(), self.stop);
            progress.inc(instance.weight());
            outcome.map(|outcome| (at, outcome))
        };
        let done: Vec<_> = jobs.into_par_iter().map(run).collect();
        for one in done {
            let Some((at, outcome)) = one else {
                return Err(fail(Exit::Unexpected, &"the search was cut short"));
            };
            outcomes(&mut tried[at]).push(outcome);
        }
        Ok(())
    }

    /// The remaining time is an upper limit: it assumes that no more candidates are dropped.
    fn progress(&self, candidates: usize, rounds: &[List<'_>]) -> ProgressBar {
        const ON_FRONT: u64 = 12;
        let training: u64 = rounds.iter().map(List::weight).sum();
        let held_out = self.instances.held_out().weight() * ON_FRONT;
        progress_bar(candidates as u64 * training + held_out, "at most")
    }
}

/// Drops candidates that an anchor beats. The current configuration and the anchors stay.
fn give_up(tried: &[Tried], alive: &mut Vec<usize>) {
    let anchors: Vec<_> = (0..tried.len())
        .filter(|at| is_anchor(tried[*at].number))
        .map(|at| scores(tried, at))
        .collect();
    alive.retain(|at| {
        is_anchor(tried[*at].number) || {
            let own = scores(tried, *at);
            anchors.iter().all(|anchor| stays(&own, anchor))
        }
    });
}

fn is_anchor(number: u64) -> bool {
    number <= ANCHORS.len() as u64
}

/// Results of the search, compared with the current configuration.
fn scores(tried: &[Tried], at: usize) -> Vec<Score> {
    let Some(reference) = tried.first() else { return Vec::new() };
    tried[at].training.iter().zip(&reference.training).map(|(one, own)| score(one, own)).collect()
}

//! `sim tune`: finds better settings by trying many on the same work; `sim merge` combines shards.

mod args;
mod instances;
mod report;
mod shard;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use rayon::prelude::*;
use simulator::engine::Seed;
use simulator::tuning::{
    ANCHORS, LEVELS, Level, Outcome, Score, Settings, best, candidate, front, group, mean, score,
    stays,
};

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
        let progress = progress_bar(0, "at most");
        let mut alive: Vec<_> = (0..tried.len()).collect();
        for level in LEVELS {
            if let Some(slices) = self.instances.sliced(level) {
                self.expect(&progress, &alive, &[List::of(&slices)]);
                let outcomes = self.try_on(&tried, &alive, &List::of(&slices), &progress)?;
                alive = best_of_groups(&tried, &alive, &outcomes, level);
            }
        }
        for (at, round) in rounds.iter().enumerate() {
            self.expect(&progress, &alive, &rounds[at..]);
            let outcomes = self.try_on(&tried, &alive, round, &progress)?;
            for (place, outcomes) in alive.iter().zip(outcomes) {
                tried[*place].training.extend(outcomes);
            }
            give_up(&tried, &mut alive);
        }
        let scores: Vec<_> = alive.iter().map(|at| mean(&scores(&tried, *at))).collect();
        let on_front = front(&scores).into_iter().map(|place| alive[place]);
        // The current configuration, which all candidates are compared with.
        let mut kept: Vec<_> = [0].into_iter().chain(on_front).collect();
        kept.sort_unstable();
        kept.dedup();
        let held_out = self.instances.held_out();
        progress.set_length(progress.position() + kept.len() as u64 * held_out.weight());
        let outcomes = self.try_on(&tried, &kept, &held_out, &progress)?;
        for (place, outcomes) in kept.iter().zip(outcomes) {
            tried[*place].held_out = outcomes;
        }
        progress.finish_and_clear();
        Ok(tried)
    }

    /// All runs of a round, in parallel: for each candidate, the outcomes in the order of the instances.
    fn try_on(
        &self,
        tried: &[Tried],
        alive: &[usize],
        round: &List<'_>,
        progress: &ProgressBar,
    ) -> Result<Vec<Vec<Outcome>>, Exit> {
        let jobs: Vec<_> = alive
            .iter()
            .flat_map(|at| round.iter().map(|instance| (tried[*at].settings, instance)))
            .collect();
        let run = |(settings, instance): (Option<Settings>, &Instance)| {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let outcome = instance.run(settings.as_ref(), self.stop);
            progress.inc(instance.weight());
            outcome
        };
        let done: Option<Vec<_>> = jobs.into_par_iter().with_max_len(1).map(run).collect();
        let Some(done) = done else {
            return Err(fail(Exit::Unexpected, &"the search was cut short"));
        };
        let of_candidate = done.len().checked_div(alive.len()).unwrap_or(0).max(1);
        Ok(done.chunks(of_candidate).map(<[_]>::to_vec).collect())
    }

    /// The remaining time is an upper limit: it assumes that no candidate is dropped in these rounds.
    fn expect(&self, progress: &ProgressBar, alive: &[usize], rounds: &[List<'_>]) {
        const ON_FRONT: u64 = 12;
        let weight: u64 = rounds.iter().map(List::weight).sum();
        let held_out = self.instances.held_out().weight() * ON_FRONT;
        progress.set_length(progress.position() + alive.len() as u64 * weight + held_out);
    }
}

/// The current configuration, the anchors, and the best of each group on a slice of every trace.
fn best_of_groups(
    tried: &[Tried],
    alive: &[usize],
    outcomes: &[Vec<Outcome>],
    level: Level,
) -> Vec<usize> {
    let Some(reference) = outcomes.first() else { return alive.to_vec() };
    let mut groups: BTreeMap<Option<u64>, Vec<(usize, Score)>> = BTreeMap::new();
    for (at, outcomes) in alive.iter().zip(outcomes) {
        let group = groups.entry(group(tried[*at].number)).or_default();
        group.push((*at, mean(&scores_of(outcomes, reference))));
    }
    let mut stay = Vec::new();
    for (group, members) in groups {
        let count = if group.is_some() { level.stays_one_of } else { 1 };
        let scores: Vec<_> = members.iter().map(|(_, score)| *score).collect();
        let best = best(&scores, members.len().div_ceil(count));
        stay.extend(best.into_iter().map(|place| members[place].0));
    }
    stay.sort_unstable();
    stay
}

/// Drops candidates that an anchor beats, other anchors included. The current configuration stays.
fn give_up(tried: &[Tried], alive: &mut Vec<usize>) {
    let anchors = alive.iter().filter(|at| is_anchor(tried[**at].number));
    let anchors: Vec<_> = anchors.map(|at| scores(tried, *at)).collect();
    alive.retain(|at| {
        let own = scores(tried, *at);
        tried[*at].number == 0 || anchors.iter().all(|anchor| stays(&own, anchor))
    });
}

fn is_anchor(number: u64) -> bool {
    number <= ANCHORS.len() as u64
}

/// Results of the search, compared with the current configuration.
fn scores(tried: &[Tried], at: usize) -> Vec<Score> {
    let Some(reference) = tried.first() else { return Vec::new() };
    scores_of(&tried[at].training, &reference.training)
}

fn scores_of(outcomes: &[Outcome], reference: &[Outcome]) -> Vec<Score> {
    outcomes.iter().zip(reference).map(|(one, own)| score(one, own)).collect()
}

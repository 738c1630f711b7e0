//! The instances of a search: traces with seeds, some for the search and some held out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use simulator::engine::Millis;
use simulator::results::Results;
use simulator::simulation::{Setup, Simulation};
use simulator::tuning::{Level, Outcome, Settings};

use super::Tune;
use crate::exit::Exit;
use crate::sim::args::Options;
use crate::sim::conf::{Conf, warn_of_unknown_types};
use crate::sim::input::{Trace, Work};
use crate::sim::prices;
use crate::sim::runs::{PATIENCE, seeds};

/// The parameters of a search, equal for all its shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct What {
    pub(super) conf: String,
    /// The names of the machine types.
    pub(super) types: Vec<String>,
    pub(super) candidates: u64,
    pub(super) seed: u64,
    /// By trace, the seeds of the search.
    pub(super) training: Vec<(String, Vec<u64>)>,
    pub(super) held_out: Vec<(String, Vec<u64>)>,
    /// In seconds, see [`Tune::wait`].
    pub(super) wait: Option<u64>,
    pub(super) prices: Vec<String>,
    /// No seed changes anything: recorded work, fixed times.
    pub(super) is_fixed: bool,
}

/// A trace with a seed, with the current configuration.
pub(super) struct Instance {
    trace: String,
    setup: Setup,
}

/// A list of instances.
pub(super) struct List<'a>(Vec<&'a Instance>);

/// All instances.
pub(super) struct Instances {
    conf: String,
    types: Vec<String>,
    is_fixed: bool,
    /// One list for each trace.
    training: Vec<Vec<Instance>>,
    held_out: Vec<Vec<Instance>>,
}

impl Instances {
    pub(super) fn read(args: &Tune) -> Result<Self, Exit> {
        let options = Options::with_farm(args.farm.clone());
        args.conf.without_policy("settings are searched for our own rules")?;
        let conf = Conf::read(&args.conf, &options)?;
        let read = |paths: &[PathBuf]| -> Result<Vec<Trace>, Exit> {
            paths.iter().map(|path| Trace::read(path)).collect()
        };
        let (traces, held_out_traces) = (read(&args.traces)?, read(&args.held_out)?);
        if let Some((file, farm)) = conf.given_farm() {
            let file = file.display().to_string();
            warn_of_unknown_types(&file, farm, std::slice::from_ref(&conf));
        }
        let all: Vec<_> = traces.iter().chain(&held_out_traces).collect();
        let is_fixed = are_fixed(&conf, &all)?;
        let seeds = |trace: &Trace, skip: u64, count: u64| -> Result<_, Exit> {
            let count = if is_fixed { 1 } else { count };
            let source = format!("{}: seed", trace.name);
            let all = seeds(&source, trace.first_seed(None), skip.saturating_add(count))?;
            // Not beyond the end, because there are at least `skip` of them.
            Ok(all.start().saturating_add(skip)..=*all.end())
        };
        let instances = |traces: &[Trace], skip, count| -> Result<Vec<Vec<Instance>>, Exit> {
            let of_trace = |trace: &Trace| {
                let seeds = seeds(trace, skip, count)?;
                let instance = |seed| {
                    Ok(Instance { trace: trace.name.clone(), setup: conf.setup(trace, seed)? })
                };
                seeds.map(instance).collect()
            };
            traces.iter().map(of_trace).collect()
        };
        let training = instances(&traces, 0, args.seeds)?;
        let mut held_out = instances(&traces, args.seeds, args.held_out_seeds)?;
        held_out.extend(instances(&held_out_traces, 0, args.held_out_seeds)?);
        warn_of_steps_without_a_type(training.iter().chain(&held_out).flatten());
        let types = conf.policy().pools.keys().map(ToString::to_string).collect();
        Ok(Self { conf: conf.name.clone(), types, is_fixed, training, held_out })
    }

    pub(super) fn what(&self, args: &Tune) -> What {
        let named = |lists: &[Vec<Instance>]| {
            let named = lists.iter().filter_map(|list| {
                let seeds = list.iter().map(|instance| instance.setup.seed.0).collect();
                Some((list.first()?.trace.clone(), seeds))
            });
            named.collect()
        };
        let first = self.training.first().and_then(|list| list.first());
        What {
            conf: self.conf.clone(),
            types: self.types.clone(),
            candidates: args.candidates,
            seed: args.seed,
            training: named(&self.training),
            held_out: named(&self.held_out),
            wait: args.wait,
            is_fixed: self.is_fixed,
            prices: first.map(|instance| prices::of(&instance.setup)).unwrap_or_default(),
        }
    }

    /// With the first seed, the slice of every trace; `None` if all of them are whole.
    pub(super) fn sliced(&self, level: Level) -> Option<Vec<Instance>> {
        let first: Vec<_> = self.training.iter().filter_map(|list| list.first()).collect();
        let slices: Vec<_> = first.iter().map(|instance| instance.slice(level)).collect();
        let weight = |instance: &Instance| instance.weight();
        let is_part = first.iter().zip(&slices).any(|(whole, part)| weight(part) < weight(whole));
        is_part.then_some(slices)
    }

    /// Each round has one seed of every trace.
    pub(super) fn training_rounds(&self) -> Vec<List<'_>> {
        let seeds = self.training.iter().map(Vec::len).max().unwrap_or(0);
        let round = |at: usize| self.training.iter().filter_map(move |list| list.get(at));
        (0..seeds).map(|at| List(round(at).collect())).collect()
    }

    /// In the order of [`What::held_out`].
    pub(super) fn held_out(&self) -> List<'_> {
        List(self.held_out.iter().flatten().collect())
    }
}

/// Whether all work is recorded and nothing in the farms is random.
fn are_fixed(conf: &Conf, traces: &[&Trace]) -> Result<bool, Exit> {
    for trace in traces {
        let is_recorded = matches!(trace.work, Work::Recorded(_));
        if !is_recorded || !conf.setup(trace, trace.first_seed(None))?.farm.is_fixed() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<'a> List<'a> {
    pub(super) fn of(instances: &'a [Instance]) -> Self {
        Self(instances.iter().collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Instance> {
        self.0.iter().copied()
    }

    pub(super) fn weight(&self) -> u64 {
        self.iter().map(Instance::weight).sum()
    }
}

impl Instance {
    /// The approximate cost of a run: its steps.
    pub(super) fn weight(&self) -> u64 {
        self.setup.workload.steps().len() as u64 + 1
    }

    /// With only a part of the steps. The farm has no machines when it begins, for every candidate alike.
    fn slice(&self, level: Level) -> Self {
        let mut setup = self.setup.clone();
        let positions = level.slice(setup.workload.steps().len());
        setup.workload = Arc::new(setup.workload.slice(positions));
        let submitted = setup.workload.steps().first().map(simulator::workload::StepSpec::submit);
        setup.farm.cycle.first = setup.farm.cycle.first.max(submitted.unwrap_or_default());
        Self { trace: self.trace.clone(), setup }
    }

    /// Runs to the end, unless interrupted by the user.
    pub(super) fn run(&self, settings: Option<&Settings>, stop: &AtomicBool) -> Option<Outcome> {
        const LOOK_INTERVAL: Millis = Millis::from_hours(24);
        let mut setup = self.setup.clone();
        if let Some(settings) = settings {
            settings.apply(&mut setup.policy);
            setup.farm.cycle.interval = Millis::from_seconds(settings.poll_interval);
        }
        let seed = setup.seed.0;
        let limit = setup.workload.last_submission() + PATIENCE;
        let mut simulation = Simulation::new(setup);
        while simulation.world().now() < limit && !stop.load(Ordering::Relaxed) {
            if simulation.run_until(limit.min(simulation.world().now() + LOOK_INTERVAL)) {
                break;
            }
        }
        let whole = !stop.load(Ordering::Relaxed);
        whole.then(|| Outcome::from(&Results::of(seed, &simulation)))
    }
}

/// Such a trace does not come to rest with any settings, or its steps are aborted.
fn warn_of_steps_without_a_type<'a>(instances: impl Iterator<Item = &'a Instance>) {
    let mut found = BTreeSet::new();
    for Instance { trace, setup } in instances {
        let kinds = setup.workload.kinds().iter();
        let without = kinds.filter(|kind| planner::pool_for(&setup.policy, kind).is_none());
        found.extend(without.map(|kind| (trace, kind.to_string())));
    }
    for (trace, kind) in found {
        tracing::warn!("{trace}: no machine type builds its steps of {kind}, with any settings");
    }
}

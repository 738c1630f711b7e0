//! A configuration to simulate, with its environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use adapters::config::{Config, QueueSettings, nearest};
use adapters::providers::ProviderSettings;
use planner::MachineType;
use simulator::cloud::{BillingModel, PriceSeries};
use simulator::comparators::Comparator;
use simulator::engine::{Millis, Seed};
use simulator::queue_runner::Settings;
use simulator::simulation::{Setup, Simulation};
use simulator::world::{Farm, Limits};

use super::args::Options;
use super::conf_arg::ConfArg;
use super::input::{self, Trace};
use super::prices;
use super::settings;
use crate::console::load;
use crate::exit::Exit;

/// A simulation before its first event.
pub(super) struct Begun {
    pub(super) seed: u64,
    /// The prices of its machines, in words.
    pub(super) prices: Vec<String>,
    /// Its settings, in words.
    pub(super) settings: Vec<String>,
    pub(super) simulation: Simulation,
}

/// A configuration with its name and its environment.
pub(super) struct Conf {
    pub(super) name: String,
    /// The comparator that decides instead of the planner.
    pub(super) comparator: Option<Comparator>,
    config: Config,
    /// Seconds between cycles.
    interval: Option<u64>,
    /// The farm file and its content.
    farm: Option<(PathBuf, Farm)>,
}

impl Conf {
    /// Reads all; each file is evaluated once. All errors are reported before the first of them is returned.
    pub(super) fn read_all(args: &[ConfArg], options: &Options) -> Result<Vec<Self>, Exit> {
        let paths: BTreeSet<_> = args.iter().map(|arg| &arg.path).collect();
        let files: Vec<_> = paths.into_iter().map(|path| Ok((path, load(path)?))).collect();
        let files = files.into_iter().collect::<Result<BTreeMap<_, _>, _>>()?;
        let conf =
            |arg: &ConfArg| Some(Self::with_config(arg, files.get(&arg.path)?.clone(), options));
        args.iter().filter_map(conf).collect()
    }

    /// Settings that the configuration does not set are taken from `options`.
    pub(super) fn read(arg: &ConfArg, options: &Options) -> Result<Self, Exit> {
        Self::with_config(arg, load(&arg.path)?, options)
    }

    fn with_config(arg: &ConfArg, config: Config, options: &Options) -> Result<Self, Exit> {
        let farm = match arg.farm.as_ref().or(options.farm.as_ref()) {
            Some(file) => Some((file.clone(), input::farm(file)?)),
            None => None,
        };
        Ok(Self {
            name: arg.to_string(),
            comparator: arg.comparator,
            config,
            interval: arg.interval.or(options.interval),
            farm,
        })
    }

    pub(super) fn policy(&self) -> &planner::Policy {
        &self.config.policy
    }

    /// The farm given on the command line, with its file name.
    pub(super) fn given_farm(&self) -> Option<(&Path, &Farm)> {
        self.farm.as_ref().map(|(file, farm)| (file.as_path(), farm))
    }

    /// Everything that one run of `trace` with `seed` needs.
    pub(super) fn setup(&self, trace: &Trace, seed: u64) -> Result<Setup, Exit> {
        let (workload, _) = trace.work(seed)?;
        let farm = self.farm(trace.farm());
        Ok(Setup {
            seed: Seed(seed),
            policy: self.policy().clone(),
            limits: self.limits(),
            farm,
            workload,
        })
    }

    /// A new simulation of this configuration.
    pub(super) fn begin(&self, setup: Setup) -> Begun {
        let (seed, prices) = (setup.seed.0, prices::of(&setup));
        let settings = match self.comparator {
            Some(comparator) => vec![format!("decided by the rules of {}", comparator.word())],
            None => settings::of(&setup),
        };
        let simulation = match self.comparator {
            Some(comparator) => Simulation::compared(comparator, setup),
            None => Simulation::new(setup),
        };
        Begun { seed, prices, settings, simulation }
    }

    /// Its time limits and parallelism.
    pub(super) fn limits(&self) -> Limits {
        let limits = self.config.limits;
        Limits {
            create_timeout: millis(limits.create_timeout),
            deploy_timeout: millis(limits.deploy_timeout),
            release_timeout: millis(limits.release_timeout),
            parallelism: u32::try_from(limits.parallelism).unwrap_or(u32::MAX),
        }
    }

    /// The given farm, otherwise the scenario's, otherwise the default with the queue runner that the configuration
    /// connects to.
    fn farm(&self, of_scenario: Option<&Farm>) -> Farm {
        let given = self.farm.as_ref().map(|(_, farm)| farm);
        let mut farm = given.or(of_scenario).cloned().unwrap_or_else(|| self.usual_farm());
        // The configuration's prices, billing and intervals apply if the farm has none.
        for (name, pool) in &self.config.policy.pools {
            let Some(price) = pool.dollars_per_hour else { continue };
            let model = farm.machines.entry(name.clone()).or_default();
            if !farm.given.prices.contains(name) {
                model.tariff.price = PriceSeries::constant(price.0);
            }
        }
        // Hetzner bills by the hour begun.
        for (name, provider) in &self.config.providers {
            if matches!(provider, ProviderSettings::Hcloud(_)) && !farm.given.billing.contains(name)
            {
                let model = farm.machines.entry(name.clone()).or_default();
                model.tariff.billing = BillingModel::PerStartedHour;
            }
        }
        let timing = self.config.timing;
        if !farm.given.poll {
            farm.cycle.interval = millis(timing.poll_interval);
        }
        if !farm.given.list_interval {
            farm.cycle.list_interval = millis(timing.list_interval);
        }
        let given = self.interval.map(Millis::from_seconds);
        if let Some(interval) = given.or_else(|| self.comparator?.usual_interval()) {
            farm.cycle.interval = interval;
        }
        farm
    }

    fn usual_farm(&self) -> Farm {
        let queue_runner = match self.config.queue {
            QueueSettings::Classic { .. } => Settings::CLASSIC,
            QueueSettings::Rest { .. } => Settings::REST,
        };
        Farm { queue_runner, ..Farm::default() }
    }
}

fn millis(length: std::time::Duration) -> Millis {
    Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

/// Warns of types in a farm that no configuration has: they would have no effect.
pub(super) fn warn_of_unknown_types(file: &str, farm: &Farm, confs: &[Conf]) {
    let known = || confs.iter().flat_map(|conf| conf.policy().pools.keys());
    for name in farm.types().into_iter().filter(|name| !known().any(|known| known == *name)) {
        let hint = nearest(name.as_str(), known().map(MachineType::as_str))
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        tracing::warn!("{file}: no configuration has the machine type {name}{hint}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults of `conf.nix` are those of the simulator's tests.
    #[test]
    fn limits_are_those_of_an_empty_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("conf.json");
        std::fs::write(
            &file,
            r#"{"tag":"t","statusCommand":["false"],"systemTypes":{"x86_64-linux":{
                "provider":{"command":{"program":["false"]}},"runnablesPerMachine":1}}}"#,
        )
        .unwrap();
        let options = Options::default();
        let arg = file.display().to_string().parse().unwrap();
        let Ok(conf) = Conf::read(&arg, &options) else { panic!("a good configuration") };
        assert_eq!(conf.limits(), Limits::default());
    }
}

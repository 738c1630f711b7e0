//! A configuration to simulate, with its settings from the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use adapters::config::{Config, QueueSettings};
use simulator::cloud::{PriceSeries, Tariff};
use simulator::comparators::Comparator;
use simulator::engine::Millis;
use simulator::queue_runner::Settings;
use simulator::simulation::{Setup, Simulation};
use simulator::world::{Farm, Limits};

use super::args::Options;
use super::{input, prices};
use crate::commands::{fail, load};
use crate::exit::Exit;

/// The longest interval, in seconds.
const DAY: u64 = 86_400;

/// `CONF[,interval=SECONDS][,farm=FILE][,policy=COMPARATOR]`; `COMPARATOR` alone is the first configuration's machine
/// types with that policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfArg {
    text: String,
    /// Empty: the first configuration's.
    path: PathBuf,
    comparator: Option<Comparator>,
    interval: Option<u64>,
    farm: Option<PathBuf>,
}

impl FromStr for ConfArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut conf = Self {
            text: text.to_owned(),
            path: PathBuf::new(),
            comparator: None,
            interval: None,
            farm: None,
        };
        let mut rest = text;
        while let Some((before, name, value)) = last_setting(rest) {
            match name {
                "interval" => conf.interval = Some(seconds(value)?),
                "farm" if !value.is_empty() => conf.farm = Some(value.into()),
                "farm" => return Err("farm: a file is missing".to_owned()),
                "policy" => conf.comparator = Some(comparator(value)?),
                other => {
                    return Err(format!(
                        "unknown setting `{other}`; there are interval, farm and policy"
                    ));
                }
            }
            rest = before;
        }
        match (Comparator::named(rest), conf.comparator) {
            (Some(word), None) => conf.comparator = Some(word),
            _ => conf.path = rest.into(),
        }
        Ok(conf)
    }
}

/// `BEFORE,NAME=VALUE`; commas without a name belong to paths.
fn last_setting(text: &str) -> Option<(&str, &str, &str)> {
    let (before, setting) = text.rsplit_once(',')?;
    let (name, value) = setting.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    is_name.then_some((before, name, value))
}

fn comparator(word: &str) -> Result<Comparator, String> {
    let words = Comparator::ALL.map(Comparator::word).join(", ");
    Comparator::named(word).ok_or(format!("policy is {word:?}, must be one of {words}"))
}

/// Gives comparators without a file the file of the first configuration that has one.
pub(super) fn with_files(confs: &[ConfArg]) -> Result<Vec<ConfArg>, Exit> {
    let mut confs = confs.to_vec();
    let first = confs.iter().map(|conf| &conf.path).find(|path| !path.as_os_str().is_empty());
    let Some(first) = first.cloned() else {
        let message = "a configuration is missing: the others are compared on its machine types";
        return Err(fail(Exit::BadConfig, &message));
    };
    for conf in confs.iter_mut().filter(|conf| conf.path.as_os_str().is_empty()) {
        conf.path.clone_from(&first);
    }
    Ok(confs)
}

fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=DAY).contains(seconds));
    seconds.ok_or(format!("interval is {text:?}, must be a number of seconds from 1 to {DAY}"))
}

impl fmt::Display for ConfArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A simulation before its first event.
pub(super) struct Begun {
    pub(super) seed: u64,
    /// The prices of its machines, in words.
    pub(super) prices: Vec<String>,
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
    pub(super) fn told_farm(&self) -> Option<(&Path, &Farm)> {
        self.farm.as_ref().map(|(file, farm)| (file.as_path(), farm))
    }

    /// A new simulation of this configuration.
    pub(super) fn begin(&self, setup: Setup) -> Begun {
        let (seed, prices) = (setup.seed.0, prices::of(&setup));
        let simulation = match self.comparator {
            Some(comparator) => Simulation::compared(comparator, setup),
            None => Simulation::new(setup),
        };
        Begun { seed, prices, simulation }
    }

    /// Its time limits and parallelism.
    pub(super) fn limits(&self) -> Limits {
        let millis = |length: std::time::Duration| {
            Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
        };
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
    pub(super) fn farm(&self, of_scenario: Option<&Farm>) -> Farm {
        let reported = self.farm.as_ref().map(|(_, farm)| farm);
        let mut farm = reported.or(of_scenario).cloned().unwrap_or_else(|| self.usual_farm());
        // The configuration's prices apply if the farm has none.
        for (name, pool) in &self.config.policy.pools {
            let Some(price) = pool.dollars_per_hour else { continue };
            let model = farm.machines.entry(name.clone()).or_default();
            if model.tariff == Tariff::default() {
                model.tariff.price = PriceSeries::constant(price.0);
            }
        }
        let reported = self.interval.map(Millis::from_seconds);
        if let Some(interval) = reported.or_else(|| self.comparator?.usual_interval()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_follow_the_path() {
        let conf: ConfArg = "a,b.nix,interval=30,farm=x=y.json".parse().unwrap();
        assert_eq!(conf.path, Path::new("a,b.nix"));
        assert_eq!((conf.interval, conf.farm), (Some(30), Some("x=y.json".into())));
        let conf: ConfArg = "conf.nix".parse().unwrap();
        assert_eq!((conf.interval, &conf.farm), (None, &None));
        let word: ConfArg = "original,interval=60".parse().unwrap();
        assert_eq!((word.comparator, word.interval), (Some(Comparator::Original), Some(60)));
        let reported: ConfArg = "original,policy=fixed-farm".parse().unwrap();
        assert_eq!(reported.path, Path::new("original"));
        let Ok(both) = with_files(&[word, conf]) else { panic!("there is a file") };
        assert_eq!(both[0].path, Path::new("conf.nix"));
        for (text, message) in [
            ("c.nix,interval=0", "interval is \"0\", must be a number of seconds from 1 to 86400"),
            ("c.nix,farm=", "farm: a file is missing"),
            ("c.nix,poll=3", "unknown setting `poll`; there are interval, farm and policy"),
            (
                "c.nix,policy=best",
                "policy is \"best\", must be one of original, ci-runners, machine-per-job, cluster-autoscaler, fixed-farm",
            ),
        ] {
            assert_eq!(text.parse::<ConfArg>().unwrap_err(), message);
        }
    }

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

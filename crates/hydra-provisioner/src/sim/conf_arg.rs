//! A configuration on the command line: its file and its settings.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use simulator::comparators::Comparator;

use crate::console::fail;
use crate::exit::Exit;

/// The longest interval, in seconds.
const DAY: u64 = 86_400;

/// `CONF[,interval=SECONDS][,farm=FILE][,policy=COMPARATOR]`; `COMPARATOR` alone is the first configuration's machine
/// types with that policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfArg {
    text: String,
    /// Empty: the first configuration's.
    pub(super) path: PathBuf,
    pub(super) comparator: Option<Comparator>,
    pub(super) interval: Option<u64>,
    pub(super) farm: Option<PathBuf>,
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
        let mut seen = Vec::new();
        while let Some((before, name, value)) = last_setting(rest) {
            if seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            seen.push(name);
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

impl ConfArg {
    /// Refuses the rules of another provisioner where they would have no effect.
    pub(super) fn without_policy(&self, why: &str) -> Result<(), Exit> {
        let is_without = self.comparator.is_none() && !self.path.as_os_str().is_empty();
        let message = || format!("{self}: {why}: name a configuration without another policy");
        if is_without { Ok(()) } else { Err(fail(Exit::BadConfig, &message())) }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        let with_policy: ConfArg = "original,policy=fixed-farm".parse().unwrap();
        assert_eq!(with_policy.path, Path::new("original"));
        let Ok(both) = with_files(&[word, conf]) else { panic!("there is a file") };
        assert_eq!(both[0].path, Path::new("conf.nix"));
        for (text, message) in [
            ("c.nix,interval=0", "interval is \"0\", must be a number of seconds from 1 to 86400"),
            ("c.nix,farm=", "farm: a file is missing"),
            ("c.nix,interval=5,farm=x,interval=6", "interval is given twice"),
            ("c.nix,poll=3", "unknown setting `poll`; there are interval, farm and policy"),
            (
                "c.nix,policy=best",
                "policy is \"best\", must be one of original, original-by-second, ci-runners, machine-per-job, cluster-autoscaler, fixed-farm",
            ),
        ] {
            assert_eq!(text.parse::<ConfArg>().unwrap_err(), message);
        }
    }
}

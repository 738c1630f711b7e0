//! The command line of `sim tune`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde::{Deserialize, Serialize};
use simulator::tuning::group;

use crate::sim::conf_arg::ConfArg;
use crate::sim::threads::threads;

/// What is searched, and where.
#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// conf.nix, or a .json file: the settings found are compared with it
    pub(crate) conf: ConfArg,
    /// Traces or scenarios
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,
    /// A trace or a scenario used only to verify the settings found; may be repeated
    #[arg(long = "hold-out", value_name = "TRACE")]
    pub(crate) held_out: Vec<PathBuf>,
    /// Number of candidate settings
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub(crate) candidates: u64,
    /// Random seed of the candidate settings
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Number of seeds per trace for the search, counted up from the trace's own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) seeds: u64,
    /// Number of further seeds used only to verify the settings found
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) held_out_seeds: u64,
    /// Recommend the cheapest settings with a p95 wait of at most this many seconds on every trace, instead of at most
    /// that of CONF
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u64>,
    /// File with machines, prices, queue runner, incidents and faults (JSON), instead of a scenario's own
    #[arg(long, value_name = "FILE")]
    pub(crate) farm: Option<PathBuf>,
    /// Try only the K-th of N parts of the settings, in groups of 16; needs --output, for `sim merge`
    #[arg(
        long,
        value_name = "K/N",
        default_value = "1/1",
        hide_default_value = true,
        requires = "output"
    )]
    pub(crate) shard: Shard,
    /// Write results (JSON, for `sim merge`) instead of a report
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Number of threads; results do not depend on it
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = threads)]
    pub(crate) threads: usize,
}

/// `K/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// From 1.
    pub(super) number: u64,
    pub(super) of: u64,
}

impl Shard {
    /// The whole search.
    pub(super) const WHOLE: Self = Self { number: 1, of: 1 };

    /// Whether this shard tries the candidate. All shards try the anchors; the others are shared out in groups.
    pub(super) fn has(self, candidate: u64) -> bool {
        group(candidate).is_none_or(|group| group % self.of == self.number - 1)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| {
            Some(Self { number: number.parse().ok()?, of: of.parse().ok()? })
        });
        let shard = parts.filter(|shard| (1..=shard.of).contains(&shard.number));
        shard.ok_or_else(|| "must be K/N, with K from 1 to N".to_owned())
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_parts_of_all() {
        let shards: Vec<Shard> =
            ["1/3", "2/3", "3/3"].iter().map(|text| text.parse().unwrap()).collect();
        for candidate in 6..100 {
            assert_eq!(shards.iter().filter(|shard| shard.has(candidate)).count(), 1);
        }
        assert!(shards.iter().all(|shard| (0..6).all(|anchor| shard.has(anchor))));
        assert!((0..100).all(|candidate| Shard::WHOLE.has(candidate)));
        for bad in ["0/3", "4/3", "3", "a/b", "1/0"] {
            assert_eq!(bad.parse::<Shard>().unwrap_err(), "must be K/N, with K from 1 to N");
        }
    }
}

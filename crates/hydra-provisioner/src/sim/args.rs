//! The command line of `sim`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use simulator::engine::Millis;
use simulator::results::WarmUp;

use super::conf_arg::ConfArg;
use super::hydra_database::Database;
use super::threads::threads;
use super::tune::Tune;

/// The subcommands of `sim`.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Show what a configuration would cost, and how long steps would wait
    Run {
        /// conf.nix, or a .json file
        conf: ConfArg,
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        show: Show,
        /// Traces (.jsonl, .jsonl.gz, .jsonl.zst) or scenarios (.json); each is a separate run
        #[arg(required = true, value_name = "TRACE")]
        traces: Vec<PathBuf>,
    },
    /// Compare configurations on the same trace
    Compare {
        /// conf.nix or .json files, optionally with their own interval and farm; or other provisioners, with the machine
        /// types of the first file: original (the Python script, bugs included), ci-runners (idle count and time),
        /// machine-per-job, cluster-autoscaler, fixed-farm
        #[arg(required = true, num_args = 2.., value_name = "CONF[,interval=SECONDS][,farm=FILE][,policy=NAME]|NAME")]
        confs: Vec<ConfArg>,
        /// A trace or a scenario; may be repeated
        #[arg(long = "trace", required = true, value_name = "TRACE")]
        traces: Vec<PathBuf>,
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        show: Show,
    },
    /// Compute bounds of the cost for an allowed wait: the least possible cost, and that of a clairvoyant schedule
    Bound(Bound),
    /// Write a self-contained HTML page that compares configurations on the same trace
    Report {
        /// conf.nix or .json files, optionally with their own interval and farm
        #[arg(
            required = true,
            value_name = "CONF[,interval=SECONDS][,farm=FILE][,policy=NAME]|NAME"
        )]
        confs: Vec<ConfArg>,
        /// A trace or a scenario
        #[arg(long, value_name = "TRACE")]
        trace: PathBuf,
        /// Output file
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Target wait in seconds; longer waits are counted
        #[arg(long, default_value_t = 300)]
        target: u64,
        #[command(flatten)]
        options: Options,
    },
    /// Search for cheaper settings: tries many on the same work, drops bad ones early, verifies on held-out seeds
    Tune(Tune),
    /// Combine the shards of one `sim tune`
    Merge {
        /// Files written by `sim tune --shard K/N --output FILE`, one for every K
        #[arg(required = true, value_name = "SHARD")]
        shards: Vec<PathBuf>,
    },
    /// Test random farms, traces and faults for violations of the safety rules
    Campaign {
        /// The first seed
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Number of seeds, counted up from the first
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Shrink each seed that breaks a rule: remove faults and steps while the same rule still breaks, and print
        /// what remains
        #[arg(long)]
        shrink: bool,
        /// Print the parameters drawn from the seed as JSON
        #[arg(long)]
        knobs: bool,
    },
    /// Show where this configuration decides differently from a recording
    Replay {
        /// conf.nix, or a .json file
        conf: PathBuf,
        /// Written by `run --record`
        recording: PathBuf,
    },
    /// Write the work of a scenario as a trace
    Generate {
        /// A scenario (.json)
        scenario: PathBuf,
        /// Random seed, instead of the scenario's
        #[arg(long)]
        seed: Option<u64>,
        /// .jsonl or .jsonl.gz
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Act as the queue runner for a real provisioner, with the steps of TRACE. Its machines need not exist
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Convert other formats to a trace
    #[command(subcommand)]
    Import(Import),
}

const SERVE_HELP: &str = "\
Classic (conf.nix: statusCommand = [ \"cat\" \"FILE\" ]; machinesFile = \"MACHINES\";):
  sim serve TRACE --machines-file MACHINES --status-file FILE

REST (conf.nix: queue.url = \"http://ADDRESS:PORT\";), without a machines file:
  sim serve TRACE --listen ADDRESS:PORT
Builders join with PUT /builders/NAME and their capacity as JSON ({\"systems\":[\"x86_64-linux\"],\"maxJobs\":4}),
and leave with DELETE /builders/NAME. Send these where resumeCommand and drainCommand start and stop real builders.
GET /derivations shows the features that waiting steps require, in the format of `nix derivation show`.";

/// The bounds of what. They do not depend on who decides, and when.
#[derive(Debug, Args)]
pub(crate) struct Bound {
    /// conf.nix, or a .json file: the machine types
    #[arg(value_name = "CONF[,farm=FILE]")]
    pub(crate) conf: ConfArg,
    /// Traces or scenarios
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,
    /// Allowed 95th percentile of the wait, in seconds; separate several by commas
    #[arg(long, value_delimiter = ',', default_values_t = [0, 60, 300, 900, 3600],
          value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    pub(crate) wait: Vec<u64>,
    /// Random seed, instead of the scenario's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Farm file (JSON) with machines, prices and the queue runner, instead of the scenario's
    #[arg(long, value_name = "FILE")]
    pub(crate) farm: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// How the queue runner is simulated.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("answers").required(true).multiple(true).args(["listen", "status_file"]))]
pub(crate) struct Serve {
    /// A trace or a scenario
    pub(crate) trace: PathBuf,
    /// Act as the classic queue runner and read the provisioner's machines file: machines in it build steps, as many
    /// as they have slots. Without it, act as the REST queue runner
    #[arg(long, value_name = "FILE", required_unless_present = "listen")]
    pub(crate) machines_file: Option<PathBuf>,
    /// Answer GET /status and /status/queues as the REST queue runner does, and GET /classic
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Keep FILE updated with the output of the classic `hydra-queue-runner --status`
    #[arg(long, value_name = "FILE", requires = "machines_file")]
    pub(crate) status_file: Option<PathBuf>,
    /// Farm file (JSON) with the queue runner's settings (`queueRunner`), instead of the scenario's
    #[arg(long, value_name = "FILE")]
    pub(crate) farm: Option<PathBuf>,
    /// Simulated seconds per real second
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) speed: u64,
    /// Random seed, instead of the scenario's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// The formats of `sim import`.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// The builds of a Hydra, from its database (read-only; without TLS: use a socket or a tunnel)
    Postgres {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// The Standard Workload Format of the Parallel Workloads Archive
    Swf {
        /// The archive's file, optionally .gz
        file: PathBuf,
        /// System of all jobs
        #[arg(long, default_value = "x86_64-linux")]
        system: String,
        /// How to convert a job with several processors: Hydra gives a step one slot of one machine
        #[arg(long, value_enum, default_value = "steps")]
        processors: Processors,
        #[command(flatten)]
        output: Output,
    },
    /// A recording of `run --record`: what the queue runner asked of the farm
    Recording {
        /// The recording, optionally .gz
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// A dependency graph: a folder of .drv files, or the output of `nix derivation show -r` (older Nix: `nix
    /// show-derivation -r`)
    Derivations {
        /// A folder, or a JSON file; `-` is standard input
        file: PathBuf,
        /// Median build time in seconds (Nix does not record build times)
        #[arg(long, default_value_t = 30)]
        median: u64,
        /// Spread of the build times: standard deviation of the natural logarithm
        #[arg(long, default_value_t = 1.5)]
        sigma: f64,
        /// Random seed
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Jobset of the builds
        #[arg(long, default_value = "project:jobset")]
        jobset: String,
        #[command(flatten)]
        output: Output,
    },
}

/// How a job with several processors is converted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Processors {
    /// One step per processor, each as long as the job: the total work stays the same
    Steps,
    /// One step per job: less work than recorded
    Ignore,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// .jsonl or .jsonl.gz
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Random seed, instead of the scenario's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of seeds, counted up from the first; shows confidence intervals of the means
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) seeds: u64,
    /// Run each seed this many times, with polls and the queue runner's checks at different times within their
    /// intervals, and show the range of the results
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) phases: u64,
    /// Farm file (JSON): machines, prices, queue runner, incidents and faults, instead of the scenario's
    #[arg(long, value_name = "FILE")]
    pub(crate) farm: Option<PathBuf>,
    /// Seconds between polls of the queue
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: Option<u64>,
    /// Exclude the start, when the farm has no machines yet, from waits and slowdowns: seconds, or `mser5` to determine
    /// them automatically. Costs cover the whole run
    #[arg(long, value_name = "SECONDS|mser5", value_parser = warm_up, default_value = "0", hide_default_value = true)]
    pub(crate) warm_up: WarmUp,
    /// Record details over time, and compare waits with this target.
    #[arg(skip)]
    pub(crate) detail: Option<Millis>,
    /// See [`Show::bound`].
    #[arg(skip)]
    pub(crate) bound: bool,
    /// Number of threads; results do not depend on it
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = threads)]
    pub(crate) threads: usize,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Show {
    /// Also show each cost as a ratio to the bounds (see `sim bound`); JSON and CSV: the bounds
    #[arg(long)]
    pub(crate) bound: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

impl Options {
    /// All defaults, on another farm if one is given.
    pub(super) fn with_farm(farm: Option<PathBuf>) -> Self {
        Self { farm, ..Self::default() }
    }
}

fn warm_up(text: &str) -> Result<WarmUp, String> {
    match text {
        "0" => Ok(WarmUp::Nothing),
        "mser5" => Ok(WarmUp::Mser5),
        seconds => seconds
            .parse()
            .map(|seconds| WarmUp::Until(Millis::from_seconds(seconds)))
            .map_err(|_| "must be a number of seconds, or mser5".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// All numbers, in milliseconds and millionths of a dollar
    Json,
    /// The same, one line for each run and machine type
    Csv,
}

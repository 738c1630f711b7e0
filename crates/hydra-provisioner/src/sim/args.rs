//! What the user may say to `sim`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use simulator::engine::Millis;
use simulator::results::WarmUp;

use super::conf::ConfArg;
use super::hydra_database::Database;

/// What is simulated.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// What would this configuration cost, and how long would builds wait?
    Run {
        /// conf.nix, or a .json file
        conf: ConfArg,
        #[command(flatten)]
        options: Options,
        /// Workloads (.jsonl, .jsonl.gz, .jsonl.zst) or scenarios (.json); each is run by itself
        #[arg(required = true, value_name = "TRACE")]
        traces: Vec<PathBuf>,
    },
    /// Show configurations side by side, each on the same work
    Compare {
        /// conf.nix or .json files, each with its own interval and farm where told; or how others decide, on the machine
        /// types of the first file: original (the Python script, mistakes included), ci-runners (idle count and time),
        /// machine-per-job, cluster-autoscaler, fixed-farm
        #[arg(required = true, num_args = 2.., value_name = "CONF[,interval=SECONDS][,farm=FILE][,policy=WORD]|WORD")]
        confs: Vec<ConfArg>,
        /// A workload or a scenario; may be given several times
        #[arg(long = "trace", required = true, value_name = "TRACE")]
        traces: Vec<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// What the work costs at least, whoever decides, for how long a step may wait; and what who knows the future pays
    Bound {
        /// conf.nix, or a .json file: the machine types
        conf: ConfArg,
        /// Workloads or scenarios
        #[arg(required = true, value_name = "TRACE")]
        traces: Vec<PathBuf>,
        /// 95 % of the steps wait at most this many seconds; several are separated by commas
        #[arg(long, value_delimiter = ',', default_values_t = [0, 60, 300, 900, 3600])]
        wait: Vec<u64>,
        #[command(flatten)]
        options: Options,
    },
    /// One page (HTML, nothing else needed) about configurations on the same work, to look at and to pass on
    Report {
        /// conf.nix or .json files, each with its own interval and farm where told
        #[arg(
            required = true,
            value_name = "CONF[,interval=SECONDS][,farm=FILE][,policy=WORD]|WORD"
        )]
        confs: Vec<ConfArg>,
        /// A workload or a scenario
        #[arg(long, value_name = "TRACE")]
        trace: PathBuf,
        /// Where the page is written
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Waits longer than this many seconds are counted
        #[arg(long, default_value_t = 300)]
        target: u64,
        #[command(flatten)]
        options: Options,
    },
    /// Draw farms, work and trouble from seeds and watch that no rule is broken
    Campaign {
        /// The first seed
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How many seeds, counted up from the first
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Print what is drawn from the seed as JSON
        #[arg(long)]
        knobs: bool,
    },
    /// Show where this configuration would decide otherwise than was decided when RECORDING was written
    Replay {
        /// conf.nix, or a .json file
        conf: PathBuf,
        /// Written by `run --record`
        recording: PathBuf,
    },
    /// Write the work of a scenario as a workload
    Generate {
        /// A scenario (.json)
        scenario: PathBuf,
        /// Instead of the scenario's own seed
        #[arg(long)]
        seed: Option<u64>,
        /// .jsonl or .jsonl.gz
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Be the queue runner for a real provisioner: a model of it over TRACE. Its machines need not exist
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Turn the records of others into a workload
    #[command(subcommand)]
    Import(Import),
}

const SERVE_HELP: &str = "\
Classic (conf.nix: statusCommand = [ \"cat\" \"FILE\" ]; machinesFile = \"MACHINES\";):
  sim serve TRACE --machines-file MACHINES --status-file FILE

REST (conf.nix: queue.url = \"http://ADDRESS:PORT\";), without a machines file:
  sim serve TRACE --listen ADDRESS:PORT
Builders join by PUT /builders/NAME with what they offer, as JSON ({\"systems\":[\"x86_64-linux\"],\"maxJobs\":4}),
and leave by DELETE /builders/NAME: where real ones are started and stopped, by resumeCommand and drainCommand.
GET /derivations tells, as `nix derivation show` does, which features the waiting steps require.";

/// How the queue runner is played.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("answers").required(true).multiple(true).args(["listen", "status_file"]))]
pub(crate) struct Serve {
    /// A workload or a scenario
    pub(crate) trace: PathBuf,
    /// Play the classic queue runner, over the machines file that the provisioner writes: machines in it take
    /// steps, as many as they offer. Without it the REST queue runner is played
    #[arg(long, value_name = "FILE", required_unless_present = "listen")]
    pub(crate) machines_file: Option<PathBuf>,
    /// Answer GET /status and /status/queues as the REST queue runner does, and GET /classic
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Keep what the classic `hydra-queue-runner --status` would print in FILE
    #[arg(long, value_name = "FILE", requires = "machines_file")]
    pub(crate) status_file: Option<PathBuf>,
    /// The queue runner's settings (`queueRunner` of a farm, JSON) instead of a scenario's own
    #[arg(long, value_name = "FILE")]
    pub(crate) farm: Option<PathBuf>,
    /// Seconds of the trace in one second
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) speed: u64,
    /// Where chance comes from, instead of the scenario's own seed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// Where work is imported from.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// What a Hydra built, from its own database, which is only read (without TLS: use a socket or a tunnel)
    Postgres {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// The Standard Workload Format of the Parallel Workloads Archive
    Swf {
        /// The archive's file, which may be .gz
        file: PathBuf,
        /// The system that its jobs are taken to be built on
        #[arg(long, default_value = "x86_64-linux")]
        system: String,
        /// What a job's processors become: Hydra gives a step one slot of one machine
        #[arg(long, value_enum, default_value = "steps")]
        processors: Processors,
        #[command(flatten)]
        output: Output,
    },
    /// A dependency graph: a folder of .drv files, or what `nix derivation show -r` (older Nix: `nix
    /// show-derivation -r`) prints
    Derivations {
        /// A folder, or a file of JSON; `-` is standard input
        file: PathBuf,
        /// Nix does not tell how long a derivation takes: half are taken to build in less than this many seconds
        #[arg(long, default_value_t = 30)]
        median: u64,
        /// How much they differ: standard deviation of the natural logarithm
        #[arg(long, default_value_t = 1.5)]
        sigma: f64,
        /// Where chance comes from
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The jobset that they are builds of
        #[arg(long, default_value = "project:jobset")]
        jobset: String,
        #[command(flatten)]
        output: Output,
    },
}

/// What a job of several processors becomes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Processors {
    /// As many steps as processors, each as long as the job: the work stays the same, spread over slots
    Steps,
    /// One step, whatever the processors: less work than was recorded
    Ignore,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// .jsonl or .jsonl.gz
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Options {
    /// Where chance comes from, instead of the scenario's own seed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Run this many seeds, counted up from the first, and tell how sure the means are
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) seeds: u64,
    /// Run each seed this many times, with the first look spread over the interval, and show from where to where results
    /// go: when the provisioner looks is chance too
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) phases: u64,
    /// Machines, prices, queue runner, incidents and faults (JSON), instead of a scenario's own
    #[arg(long, value_name = "FILE")]
    pub(crate) farm: Option<PathBuf>,
    /// Seconds from the start of one cycle to the start of the next
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: Option<u64>,
    /// Leave the beginning, when the farm has no machines yet, out of waits and slowdowns: seconds from the start, or
    /// `mser5`, which finds the place by itself. Costs are of the whole
    #[arg(long, value_name = "SECONDS|mser5", value_parser = warm_up, default_value = "0", hide_default_value = true)]
    pub(crate) warm_up: WarmUp,
    /// Write down the course of things, and compare waits with this.
    #[arg(skip)]
    pub(crate) detail: Option<Millis>,
    /// Say also how many times what it costs at least each configuration costs (see `sim bound`)
    #[arg(long)]
    pub(crate) bound: bool,
    /// Threads; results do not depend on it
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// How results are printed
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
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

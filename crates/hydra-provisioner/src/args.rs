//! The command line.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, CommandFactory as _, Parser, Subcommand};

use adapters::config::{LONGEST_SECONDS, nearest};

use crate::console::installed_conf;
use crate::exit::EXIT_CODES;
use crate::listener::Listen;
use crate::logging::{self, LoggingArgs};
use crate::orders;

/// Autoscaler for Hydra build machines: creates machines when build steps wait, and releases machines that are not needed.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// conf.nix (or a .json file); short for `run CONF`
    #[arg(required = true)]
    pub(crate) conf: Option<PathBuf>,
}

/// Reports a command-line error, or prints `--help`. Clap reads the first word that is not a command as CONF and
/// rejects the second: this suggests what was probably meant.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let hint = match first_word(&words) {
        Some(word) if error.kind() == ErrorKind::UnknownArgument && !is_command(word) => {
            Some(misspelt_command(word).unwrap_or_else(|| {
                "CONF alone means `run CONF`; with options, write `run CONF --watch`.".to_owned()
            }))
        }
        _ => None,
    };
    let hint = hint.map(|hint| format!("\n{hint}\n")).unwrap_or_default();
    if error.use_stderr() && wants_json(&words) {
        logging::start(&LoggingArgs {
            log_format: logging::LogFormat::Json,
            log: "info".to_owned(),
        });
        tracing::error!("{}{hint}", error.render());
    } else {
        // Standard error may be closed; the exit code is the same.
        let _closed = error.print().and_then(|()| io::stderr().write_all(hint.as_bytes()));
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The hint for a CONF that is not a file but resembles a command: `statsu`.
pub(crate) fn misspelt_command(conf: &OsStr) -> Option<String> {
    if Path::new(conf).exists() {
        return None;
    }
    let word = conf.to_str()?;
    let top = Args::command();
    let name = nearest(word, top.get_subcommands().map(clap::Command::get_name))?;
    Some(format!("there is no command or file '{word}'; did you mean '{name}'?"))
}

/// The first word that is neither an option nor an option's value.
fn first_word(words: &[OsString]) -> Option<&OsStr> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--log" | "--log-format") => drop(words.next()),
            Some(option) if option.starts_with('-') => {}
            _ => return Some(word),
        }
    }
    None
}

fn is_command(word: &OsStr) -> bool {
    Args::command().get_subcommands().any(|command| word == command.get_name())
}

/// Whether a command line that clap rejects contains `--log-format json`.
fn wants_json(words: &[OsString]) -> bool {
    let separate = words.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
    separate || words.iter().any(|word| word == "--log-format=json")
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
    #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
    pub(crate) conf: PathBuf,
    /// Run as a service: poll the queue every pollInterval, until SIGTERM (supports systemd readiness and watchdog)
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: poll the queue every SECONDS, instead of pollInterval
    #[arg(long, value_name = "SECONDS", requires = "watch",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: Option<u64>,
    /// With --watch: serve the status page and metrics at ADDRESS:PORT, or on the socket unix:PATH
    #[arg(long, visible_alias = "metrics", value_name = "WHERE", requires = "watch")]
    pub(crate) listen: Option<Listen>,
    /// Without --watch: wait at most SECONDS for operations to end (default: their time limits)
    #[arg(long, value_name = "SECONDS", conflicts_with = "watch",
          value_parser = clap::value_parser!(u64).range(..=LONGEST_SECONDS))]
    pub(crate) wait: Option<u64>,
    /// Append every snapshot and plan to FILE, for `sim replay`
    #[arg(long, value_name = "FILE", hide = cfg!(not(feature = "sim")))]
    pub(crate) record: Option<PathBuf>,
}

impl RunArgs {
    /// `run CONF` without options.
    pub(crate) fn once(conf: PathBuf) -> Self {
        Self { conf, watch: false, interval: None, listen: None, wait: None, record: None }
    }
}

/// For packagers.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Write manual pages into a folder
    Man {
        /// Created if it does not exist
        folder: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a plan, carry it out, wait for its operations, and print the plan and the results
    Run(RunArgs),
    /// Show what would be done and why, for each machine; change nothing
    Plan {
        /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// Print the plan as JSON
        #[arg(long)]
        json: bool,
        /// Plan for this recorded snapshot (JSON) instead of the current state
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        /// Print the snapshot as JSON instead of the plan
        #[arg(long, conflicts_with_all = ["json", "snapshot"])]
        print_snapshot: bool,
        /// Show only what differs from the decisions of the service's configuration, or of OTHER (a file), for the same
        /// snapshot
        #[arg(long, value_name = "OTHER", num_args = 0..=1, require_equals = true,
              conflicts_with_all = ["json", "print_snapshot"])]
        #[allow(clippy::option_option, reason = "an option with an optional value")]
        diff: Option<Option<PathBuf>>,
    },
    /// Show past events: machines created, ready, released and why, failures
    History {
        /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// Only events of the last 90s, 10m, 2h, 1d
        #[arg(long, value_name = "LENGTH", default_value = "1d", value_parser = crate::history::length)]
        since: u64,
        /// Only events of this machine
        #[arg(long, value_name = "NAME")]
        machine: Option<String>,
        /// Only failures
        #[arg(long)]
        failed: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Prevent the release of a machine for some time, for example to investigate a failure
    Keep(orders::Keep),
    /// Give a machine no new builds, and keep it when it is idle
    Drain(orders::Drain),
    /// Destroy a machine as soon as it is idle and can get no new builds
    Release(orders::OfMachine),
    /// Delete the record of a machine that its provider no longer lists
    Forget(orders::Forget),
    /// Treat a machine as ours although neither its name nor its tag says so; its provider must list it
    Adopt(orders::Adopt),
    /// Create, start and release no machines of a type, or of all types (all); the order of a machine itself takes precedence
    Pause(orders::Pause),
    /// Cancel the order (keep, drain, release, pause) for a machine or a type; `all` cancels only `pause all`
    Resume(orders::Resume),
    /// End the back-off of a type: try to create machines now
    Retry(orders::Retry),
    /// Write a commented conf.nix, after three questions
    Init(crate::init::Init),
    /// Validate the configuration; change nothing
    Check {
        /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// Also try the calls that the providers need (EC2: dry runs; others: reads), and name missing permissions
        #[arg(long)]
        online: bool,
    },
    /// Generate manual pages and shell completions
    #[command(subcommand)]
    Generate(Generate),
    /// Simulate: what would a configuration cost, and how long would steps wait?
    #[cfg(feature = "sim")]
    #[command(subcommand)]
    Sim(crate::sim::args::Sim),
    /// Explain a machine's verdict or a type's number of machines: the rule, its inputs, and when it changes
    Why {
        /// A machine or a type
        #[arg(value_name = "NAME|TYPE")]
        name: String,
        /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
    },
    /// Show the cost of the last day, 7 and 30 days by type, and a forecast for 30 days
    Cost {
        /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// As JSON, in micro-dollars
        #[arg(long)]
        json: bool,
    },
    /// Show the machines and their verdicts as a table
    Status {
        /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// As JSON, like /status.json of the service
        #[arg(long)]
        json: bool,
        /// Refresh until Ctrl-C; with --json one object per line
        #[arg(long)]
        watch: bool,
        /// With --watch: seconds between refreshes
        #[arg(long, value_name = "SECONDS", requires = "watch", default_value = "10",
              value_parser = clap::value_parser!(u64).range(1..=86_400))]
        interval: u64,
    },
}

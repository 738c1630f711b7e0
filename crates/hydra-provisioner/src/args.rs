//! What the user may say.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, CommandFactory as _, Parser, Subcommand, ValueEnum};

use simulator::json::nearest;

use crate::exit::EXIT_CODES;
use crate::logging;
use crate::orders;

/// Creates build machines when a Hydra queue grows, and releases them when they are not worth their cost.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// conf.nix (or a .json file): short for `run CONF`
    #[arg(required = true)]
    pub(crate) conf: Option<PathBuf>,
}

/// Says what is wrong with the command line, or prints `--help`. Clap takes the first word that is no command
/// for CONF and wonders about the second: say what was probably meant.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let hint = match first_word(&words) {
        Some(word) if error.kind() == ErrorKind::UnknownArgument && !is_command(word) => {
            Some(misspelt_command(word).unwrap_or_else(|| {
                "CONF alone stands for `run CONF`; with options write `run CONF --watch` and the like."
                    .to_owned()
            }))
        }
        _ => None,
    };
    let hint = hint.map(|hint| format!("\n{hint}\n")).unwrap_or_default();
    if error.use_stderr() && wants_json(&words) {
        logging::start(&LoggingArgs { log_format: LogFormat::Json, log: "info".to_owned() });
        tracing::error!("{}{hint}", error.render());
    } else {
        // Nobody may be listening, which changes nothing.
        let _unheard = error.print().and_then(|()| io::stderr().write_all(hint.as_bytes()));
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What to say of a CONF that is no file but looks like a command: `statsu`.
pub(crate) fn misspelt_command(conf: &OsStr) -> Option<String> {
    if Path::new(conf).exists() {
        return None;
    }
    let word = conf.to_str()?;
    let top = Args::command();
    let name = nearest(word, top.get_subcommands().map(clap::Command::get_name))?;
    Some(format!("there is no command or file '{word}'; did you mean '{name}'?"))
}

/// The first word that is no option and no option's value.
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

/// Whether `--log-format json` stands in a command line that clap does not take.
fn wants_json(words: &[OsString]) -> bool {
    let separate = words.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
    separate || words.iter().any(|word| word == "--log-format=json")
}

/// Where the NixOS module puts the configuration of its service, for commands that name none.
const INSTALLED_CONF: [&str; 2] =
    ["/etc/hydra-provisioner/conf.json", "/etc/hydra-provisioner/conf.nix"];

/// The installed configuration; where there is none, the name that it would have.
pub(crate) fn installed_conf() -> PathBuf {
    let is_there = |conf: &&str| Path::new(conf).exists();
    INSTALLED_CONF.into_iter().find(is_there).unwrap_or(INSTALLED_CONF[0]).into()
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LoggingArgs {
    /// How logs are written to standard error
    #[arg(long, value_enum, default_value = "human", global = true)]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or a tracing filter such as `adapters=debug`
    #[arg(long, default_value = "info", global = true, value_name = "FILTER")]
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
    #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
    pub(crate) conf: PathBuf,
    /// Stay and look at the queue every pollInterval, until SIGTERM (tells systemd when ready, and its watchdog)
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: seconds from one look at the queue to the next, in place of pollInterval
    #[arg(long, value_name = "SECONDS", requires = "watch",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: Option<u64>,
    /// With --watch: serve Prometheus metrics at http://ADDRESS:PORT/metrics
    #[arg(long, value_name = "ADDRESS:PORT", requires = "watch")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Without --watch: how many seconds to wait for what was begun (by default as long as operations may take)
    #[arg(long, value_name = "SECONDS", conflicts_with = "watch")]
    pub(crate) wait: Option<u64>,
    /// Append what was seen and decided to FILE, for `sim replay`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

impl RunArgs {
    /// `run CONF` and nothing else.
    pub(crate) fn once(conf: PathBuf) -> Self {
        Self { conf, watch: false, interval: None, metrics: None, wait: None, record: None }
    }
}

/// For packagers.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Write manual pages into a folder
    Man {
        /// Made if it is not there
        folder: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look, plan, act until what was begun has ended, and print the plan and what came of it
    Run(RunArgs),
    /// Say what would be done and why, machine by machine, and do nothing
    Plan {
        /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// Print the plan as JSON
        #[arg(long)]
        json: bool,
        /// Plan for this recorded snapshot (JSON) instead of the world as it is
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        /// Print the snapshot that would be planned for as JSON, and no plan
        #[arg(long, conflicts_with_all = ["json", "snapshot"])]
        print_snapshot: bool,
    },
    /// Show what happened: machines created, ready, released and why, failures
    History {
        /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// From when on: 90s, 10m, 2h, 1d ago
        #[arg(long, value_name = "LENGTH", default_value = "1d", value_parser = crate::history::length)]
        since: u64,
        /// Of this machine only
        #[arg(long, value_name = "NAME")]
        machine: Option<String>,
        /// Failures only
        #[arg(long)]
        failed: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Keep a machine from being released for a time, for example to look at a failure
    Keep(orders::Keep),
    /// Give a machine no more builds; it stays when it is idle
    Drain(orders::Drain),
    /// Let a machine go: destroyed as soon as it is idle and can get no more builds
    Release(orders::OfMachine),
    /// Forget a machine that its provider does not list any more
    Forget(orders::Forget),
    /// Create, start and release no machines of a type, or of any (all)
    Pause(orders::Pause),
    /// Take back what was said of a machine, a type, or all
    Resume(orders::Resume),
    /// Try again now to create machines of a type, without waiting for the back-off
    Retry(orders::Retry),
    /// Check the configuration and do nothing else
    Check {
        /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
    },
    /// Make manual pages and shell completions
    #[command(subcommand)]
    Generate(Generate),
    /// Simulate: what would a configuration cost, and how long would builds wait?
    #[command(subcommand)]
    Sim(crate::sim::args::Sim),
    /// Say why a machine stays or goes, or a type has so many: the rule, its inputs, and when it changes
    Why {
        /// A machine or a type
        #[arg(value_name = "NAME|TYPE")]
        name: String,
        /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
    },
    /// Show what machines have cost: the last day, 7 and 30 days, by type, and the next 30 days
    Cost {
        /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// As JSON, in micro-dollars
        #[arg(long)]
        json: bool,
    },
    /// Show a table of the machines with what would become of them
    Status {
        /// conf.nix, or a .json file. Without it: /etc/hydra-provisioner/conf.json or conf.nix
        #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
        conf: PathBuf,
        /// As JSON, like /status.json of the service
        #[arg(long)]
        json: bool,
    },
}

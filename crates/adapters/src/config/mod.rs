//! `conf.nix`: evaluated by Nix and checked; all problems are reported together.

mod cloud;
mod cost;
mod ec2;
mod ec2_checks;
mod evaluate;
mod hcloud;
mod lease;
mod machines_file;
mod notify;
mod parse;
mod provider;
mod quantities;
mod reader;
mod schedule;
mod settings;
mod system_type;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use planner::counted;
use serde_json::Value;
use thiserror::Error;

pub use cost::HourlyCost;
pub use lease::LeaseSettings;
pub use notify::{NotifySettings, Occasion, Recipient};
pub use parse::{option_names, parse};
pub use quantities::LONGEST_SECONDS;
pub use reader::{Problem, nearest};
pub use schedule::ScheduleEntry;
pub use settings::{
    Config, Limits, MachinesFileMode, MachinesFileSettings, MachinesFileTarget, QueueSettings,
    ScheduledPolicy, SshSettings, Timing,
};

/// A configuration that cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read or evaluated.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The error of Nix or the system.
        reason: String,
    },
    /// Nix could not evaluate it now, for a reason outside of the file.
    #[error("{}: {reason}", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What happened to Nix.
        reason: String,
    },
    /// Its options are invalid.
    #[error("{}", list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All problems, by place; not empty.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Whether the same file may be usable later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Loads and checks the configuration in `path`.
///
/// # Errors
/// With all problems.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    from_source(path, evaluate::evaluate(path)?)
}

/// The configuration that the file `path` had when it was `source`.
///
/// # Errors
/// With all problems.
pub fn from_source(path: &Path, source: Value) -> Result<Config, ConfigError> {
    match parse(&source) {
        Ok(config) => Ok(Config { source, path: std::path::absolute(path).ok(), ..config }),
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), problems }),
    }
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let mut text = format!("{}: {}", path.display(), counted(problems.len() as u64, "problem"));
    for problem in problems {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {problem}");
    }
    text
}

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
    /// Its options are invalid.
    #[error("{}", list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All problems, by place; not empty.
        problems: Vec<Problem>,
    },
}

/// Loads and checks the configuration in `path`.
///
/// # Errors
/// With all problems.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let source = evaluate::evaluate(path)?;
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

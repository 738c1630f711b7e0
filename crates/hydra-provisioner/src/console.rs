//! Shared by all commands: they load the configuration, print results and report failures here.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use adapters::config::{self, Config, ConfigError};
use planner::Snapshot;

use crate::exit::Exit;

/// Where the NixOS module puts the configuration of its service: the default of CONF.
const INSTALLED_CONF: [&str; 2] =
    ["/etc/hydra-provisioner/conf.json", "/etc/hydra-provisioner/conf.nix"];

/// The path of the installed configuration; the first candidate if none exists.
pub(crate) fn installed_conf() -> PathBuf {
    let is_there = |conf: &&str| Path::new(conf).exists();
    INSTALLED_CONF.into_iter().find(is_there).unwrap_or(INSTALLED_CONF[0]).into()
}

/// The configuration as written. The effect of its schedules depends on the time for which it is used.
pub(crate) fn load(conf: &Path) -> Result<Config, Exit> {
    try_load(conf).map_err(|error| fail(Exit::of(&error), &error))
}

/// As [`load`], for a command beside a service: that one does not need the file that cannot be used.
pub(crate) fn load_beside_service(conf: &Path) -> Result<Config, Exit> {
    load(conf).inspect_err(|_| {
        tracing::error!(
            "a service that is running continues with the configuration that it loaded before: see its page or /status.json, or \
             give this command a corrected copy of {} with the same stateDir",
            conf.display()
        );
    })
}

pub(crate) fn try_load(conf: &Path) -> Result<Config, ConfigError> {
    let config = config::load(conf)?;
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", conf.display());
    }
    Ok(config)
}

/// The plan for `snapshot`, with the schedules' settings at the time of the snapshot.
pub(crate) fn plan_for(config: &Config, snapshot: &Snapshot) -> planner::Plan {
    planner::plan(&config.policy_at(snapshot.taken_at).policy, snapshot)
}

pub(crate) fn now() -> planner::Timestamp {
    planner::Timestamp(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0))
}

pub(crate) fn fail(exit: Exit, error: &impl Display) -> Exit {
    tracing::error!("{error}");
    exit
}

/// Data goes to standard output; a reader that has exited (`| head`) must not cause a panic.
pub(crate) fn print(data: impl Display) -> Result<(), Exit> {
    let text = data.to_string();
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(planner::escape_within_lines(&text).as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::Unexpected,
            _ => fail(Exit::Unexpected, &format!("cannot write to standard output: {error}")),
        })
}

pub(crate) fn print_json(data: &impl serde::Serialize) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(data)
        .map_err(|error| fail(Exit::Unexpected, &format!("cannot write JSON: {error}")))?;
    print(format!("{text}\n"))
}

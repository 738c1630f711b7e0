//! The configuration of the service, shared by the active host and a standby.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use adapters::config::{self, Config, ConfigError};
use adapters::state;

use crate::args::RunArgs;
use crate::console::{fail, try_load};
use crate::exit::Exit;

/// In the environment of a program that replaced itself: the `stateDir` with the configuration that was in force.
const STATE_DIR: &str = "HYDRA_PROVISIONER_REPLACED_ITSELF";

/// The current configuration with the command line's settings.
pub(crate) fn configure(args: &RunArgs) -> Result<Config, ConfigError> {
    Ok(with_args(try_load(&args.conf)?, args))
}

fn with_args(mut config: Config, args: &RunArgs) -> Config {
    if let Some(seconds) = args.interval {
        config.timing.poll_interval = Duration::from_secs(seconds);
    }
    config
}

/// The configuration at the start. If the file cannot be used, a program that replaced itself continues with the one that was
/// in force; the second value is then why the file is refused.
pub(crate) fn configure_at_start(args: &RunArgs) -> Result<(Config, Option<String>), Exit> {
    let error = match configure(args) {
        Ok(config) => return Ok((config, None)),
        Err(error) => error,
    };
    let Some(config) = earlier_configuration(args) else {
        return Err(fail(Exit::of(&error), &error));
    };
    tracing::error!("not loaded, the earlier configuration stays active: {error}");
    Ok((config, Some(error.to_string())))
}

fn earlier_configuration(args: &RunArgs) -> Option<Config> {
    let source = state::configuration(Path::new(&env::var_os(STATE_DIR)?))?;
    let config = config::from_source(&args.conf, source).ok()?;
    Some(with_args(config, args))
}

/// Lets `program`, which replaces ours, continue with the configuration in `state_dir`.
pub(crate) fn pass_configuration(state_dir: &Path, program: &mut Command) {
    program.env(STATE_DIR, state_dir);
}

/// Identifies a version of a file.
pub(crate) type FileVersion = Option<(u64, i64, i64, u64)>;

pub(crate) fn file_version(conf: &Path) -> FileVersion {
    fs::metadata(conf).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size()))
}

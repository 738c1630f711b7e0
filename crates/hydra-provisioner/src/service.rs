//! The configuration of the service, shared by the active host and a standby.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use adapters::config::{Config, ConfigError};

use crate::args::RunArgs;
use crate::console::try_load;

/// The current configuration with the command line's settings.
pub(crate) fn configure(args: &RunArgs) -> Result<Config, ConfigError> {
    let mut config = try_load(&args.conf)?;
    if let Some(seconds) = args.interval {
        config.timing.poll_interval = Duration::from_secs(seconds);
    }
    Ok(config)
}

/// Identifies a version of a file.
pub(crate) type FileVersion = Option<(u64, i64, i64, u64)>;

pub(crate) fn file_version(conf: &Path) -> FileVersion {
    fs::metadata(conf).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size()))
}

//! The one list of exit codes.

use std::process::ExitCode;

use adapters::config::ConfigError;

/// How a run ended. Shown in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success, or nothing to do.
    Done = 0,
    /// Unexpected error: a state file cannot be read, Nix is not there or was killed, standard output is closed; or terminated
    /// by a signal.
    Unexpected = 1,
    /// The configuration or the command line is wrong; nothing was changed.
    BadConfig = 2,
    /// Another run holds the lock; nothing was changed.
    Locked = 3,
    /// A machine, a provider or the machines file failed, or took longer than `--wait`.
    SomeFailed = 4,
    /// The queue status is unavailable: no machine was released.
    QueueUnavailable = 5,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success, or nothing to do
  1  unexpected error (a state file cannot be read, Nix is not there or was killed, standard output is closed), or
     terminated by a signal
  2  the configuration or the command line is wrong; nothing was changed
  3  another run holds the lock; nothing was changed
  4  a machine, a provider or the machines file failed, or took longer than --wait
  5  the queue status is unavailable: no machine was released";

impl Exit {
    /// The code for a configuration that cannot be used. systemd starts the service again unless the file is wrong.
    pub(crate) fn of(error: &ConfigError) -> Self {
        if error.is_temporary() { Self::Unexpected } else { Self::BadConfig }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes.
        Self::from(exit as u8)
    }
}

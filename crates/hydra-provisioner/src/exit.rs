//! The one list of exit codes.

use std::process::ExitCode;

/// How a run ended. Shown in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All done, or nothing to do.
    Done = 0,
    /// Something unexpected: a state file cannot be read, standard output is closed.
    Unexpected = 1,
    /// The configuration or the command line is wrong; nothing was touched.
    BadConfig = 2,
    /// Another run holds the lock; nothing was touched.
    Locked = 3,
    /// The cycle ended, but a machine, a provider or the machines file failed.
    SomeFailed = 4,
    /// The queue status is unavailable: machines were kept, none was released.
    QueueUnavailable = 5,
}

impl Exit {
    /// One word, for metrics and service status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unexpected => "unexpected",
            Self::BadConfig => "bad-config",
            Self::Locked => "locked",
            Self::SomeFailed => "some-failed",
            Self::QueueUnavailable => "queue-unavailable",
        }
    }
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  something unexpected (a state file cannot be read, standard output is closed)
  2  the configuration or the command line is wrong; nothing was touched
  3  another run holds the lock; nothing was touched
  4  the cycle ended, but a machine, a provider or the machines file failed
  5  the queue status is unavailable: machines were kept, none was released";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes.
        Self::from(exit as u8)
    }
}

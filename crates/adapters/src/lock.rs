//! One provisioner at a time on one state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::atomic_file::create_folder;

/// Holds the lock until it is dropped or the process ends, however it ends (flock(2)).
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What one may do in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look: nothing is written down, so that no lock is needed.
    ReadOnly,
    /// Whatever is needed, while one holds its [`Lock`].
    ReadWrite,
}

/// The lock cannot be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another run holds {}: {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}: {source}; see stateDir", path.display())]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of `state_dir` and writes `holder` (who, since when) into it for others to read.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it; never waits.
    pub fn acquire(state_dir: &Path, holder: &str) -> Result<Self, LockError> {
        let path = state_dir.join("lock");
        match Self::try_acquire(&path, holder) {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(holder)) => Err(LockError::Held { path, holder }),
            Err(source) => Err(LockError::Unusable { path, source }),
        }
    }

    /// The lock, or what its holder wrote.
    fn try_acquire(path: &Path, holder: &str) -> io::Result<Result<Self, String>> {
        if let Some(directory) = path.parent() {
            create_folder(directory)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(4096).read_to_string(&mut holder)?;
                return Ok(Err(match holder.trim() {
                    "" => "a process that has just started".to_owned(),
                    holder => holder.to_owned(),
                }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{holder}")?;
        Ok(Ok(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_the_next_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::acquire(directory.path(), "pid 1, run a.nix").unwrap();
        let error = Lock::acquire(directory.path(), "pid 2").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("another run holds {}/lock: pid 1, run a.nix", directory.path().display())
        );
        drop(first);
        Lock::acquire(directory.path(), "pid 3").unwrap();
    }
}

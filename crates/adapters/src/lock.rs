//! At most one provisioner per state directory.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid, test_kill_process};
use thiserror::Error;

use crate::atomic_file::{create_folder, create_private, identity};

/// No access for others: anyone who can open the file can lock it, and so block us.
const MODE: u32 = 0o600;
/// How long the children of a killed holder may take to end.
const CHILDREN_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Holds the lock until it is dropped or the process ends in any way (flock(2)).
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// Access to the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only: nothing is recorded, so no lock is needed.
    ReadOnly,
    /// Full access, while the [`Lock`] is held.
    ReadWrite,
}

/// Why the lock cannot be acquired.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
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
        /// The system's error.
        source: io::Error,
    },
}

impl Lock {
    /// Acquires the lock of `state_dir`. Writes this process's id and `details` (what runs, since when) into
    /// it, for others to read. If the last holder was killed, or was this process before it replaced itself by another
    /// program, waits a few seconds for its children to end.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it.
    pub fn acquire(state_dir: &Path, details: &str) -> Result<Self, LockError> {
        let path = state_dir.join("lock");
        let deadline = Instant::now() + CHILDREN_TIMEOUT;
        loop {
            match Self::try_acquire(&path, details) {
                Ok(Attempt::Acquired(lock)) => return Ok(lock),
                Ok(Attempt::Replaced) => {}
                Ok(Attempt::HeldBy(holder)) if is_gone(&holder) && Instant::now() < deadline => {
                    thread::sleep(POLL_INTERVAL);
                }
                Ok(Attempt::HeldBy(holder)) => return Err(LockError::Held { path, holder }),
                Err(source) => return Err(LockError::Unusable { path, source }),
            }
        }
    }

    fn try_acquire(path: &Path, details: &str) -> io::Result<Attempt> {
        if let Some(directory) = path.parent() {
            create_folder(directory)?;
        }
        create_private(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = options.open(path)?;
        // Its mode and content are changed below: not those of a device or a pipe that a link leads to.
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("{} is not a regular file", path.display())));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(4096).read_to_string(&mut holder)?;
                return Ok(Attempt::HeldBy(match holder.trim() {
                    "" => "a process that has just started".to_owned(),
                    holder => holder.to_owned(),
                }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let lock = Self { path: path.to_owned(), file: file.try_clone()? };
        if !lock.is_still_ours() {
            // Someone deleted the folder between our open and our lock, and perhaps locked a new one.
            return Ok(Attempt::Replaced);
        }
        file.set_permissions(Permissions::from_mode(MODE))?;
        lock.describe(details)?;
        Ok(Attempt::Acquired(lock))
    }

    /// Writes what its holder does now, for others to read.
    ///
    /// # Errors
    /// When it cannot be written; the lock is held anyway.
    pub fn describe(&self, details: &str) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "pid {}, {details}", std::process::id())
    }

    /// Whether the lock file is still the one that we locked. It is not if someone has deleted the state
    /// directory: another run may then hold a new one, so nothing may be done any more. Check this before any
    /// action with an effect.
    pub fn is_still_ours(&self) -> bool {
        let (ours, there) = (&self.file.metadata(), &fs::metadata(&self.path));
        matches!((ours, there), (Ok(ours), Ok(there)) if identity(ours) == identity(there))
    }

    /// Shares the lock with a process that outlives this one. It is held until that process has ended too, or
    /// until this lock is dropped.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // This also unlocks it for processes that share it. If it fails, the end of the process unlocks it.
        let _unlocked = self.file.unlock();
    }
}

enum Attempt {
    Acquired(Lock),
    /// Another file has replaced the locked one.
    Replaced,
    /// The text that the holder wrote.
    HeldBy(String),
}

/// What the process that holds the lock of `state_dir` wrote about itself: `pid N, ...`.
pub fn holder(state_dir: &Path) -> Option<String> {
    let file = File::open(state_dir.join("lock")).ok()?;
    let mut holder = String::new();
    (&file).take(4096).read_to_string(&mut holder).ok()?;
    let holder = holder.trim();
    // If nobody holds it, this function holds it for a moment. A process that starts at that time waits as for a holder
    // that has just ended.
    let is_held =
        !has_ended(holder) && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_held.then(|| holder.to_owned())
}

/// Whether the program that wrote `holder` runs no more, and only its children hold the lock.
fn is_gone(holder: &str) -> bool {
    has_ended(holder) || process_of(holder) == Some(getpid())
}

/// Whether the process that wrote `holder` has ended.
fn has_ended(holder: &str) -> bool {
    process_of(holder).is_some_and(|id| test_kill_process(id) == Err(rustix::io::Errno::SRCH))
}

fn process_of(holder: &str) -> Option<Pid> {
    let id = holder.strip_prefix("pid ").and_then(|rest| rest.split(',').next());
    id.and_then(|id| id.parse().ok()).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_the_next_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::acquire(directory.path(), "run a.nix").unwrap();
        let error = Lock::acquire(directory.path(), "run b.nix").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "another run holds {}/lock: pid {}, run a.nix",
                directory.path().display(),
                std::process::id()
            )
        );
        drop(first);
        Lock::acquire(directory.path(), "run c.nix").unwrap();
    }

    #[test]
    fn nobody_else_can_open_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        fs::write(&path, "of an older version").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let _lock = Lock::acquire(directory.path(), "").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Run as root, a link to /dev/null would take it from all other programs.
    #[test]
    fn what_is_no_regular_file_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::set_permissions(&pipe, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&pipe, directory.path().join("lock")).unwrap();
        let error = Lock::acquire(directory.path(), "").unwrap_err().to_string();
        assert!(error.contains("lock is not a regular file"), "{error}");
        assert_eq!(fs::metadata(&pipe).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_deleted_folder_takes_the_lock_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().join("state");
        let first = Lock::acquire(&state_dir, "first").unwrap();
        assert!(first.is_still_ours());
        fs::remove_dir_all(&state_dir).unwrap();
        assert!(!first.is_still_ours());
        let second = Lock::acquire(&state_dir, "second").unwrap();
        assert!(!first.is_still_ours() && second.is_still_ours());
    }

    #[test]
    fn the_children_of_a_holder_that_is_gone_are_waited_for() {
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        killed.wait().unwrap();
        // Our own process: it has replaced itself.
        for id in [killed.id(), std::process::id()] {
            let directory = tempfile::tempdir().unwrap();
            let lock = Lock::acquire(directory.path(), "gone").unwrap();
            fs::write(directory.path().join("lock"), format!("pid {id}, gone")).unwrap();
            thread::scope(|threads| {
                let next = threads.spawn(|| Lock::acquire(directory.path(), "next"));
                thread::sleep(Duration::from_millis(200));
                drop(lock);
                next.join().unwrap().unwrap();
            });
        }
    }
}

//! A machine's folder: everything about it on this host.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use planner::{MachineName, MachineType, Tag, Timestamp};
use reconciler::OperationErrorKind;
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::atomic_file;
use crate::providers::ProviderError;

const VERSION: u32 = 1;
/// The maximum length of `sockaddr_un` (unix(7)), including its final zero.
const SOCKET_PATH_LIMIT_BYTES: usize = 108;
/// No process has this id.
const NO_PROCESS: i32 = 0;
/// Choosing an address or admitting a machine takes moments. A longer wait means that another process is
/// starting the machine.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval between two attempts to lock.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of the console shown in an error message.
const CONSOLE_TAIL_LINES: usize = 8;
/// Only this much of the console's end is read.
const CONSOLE_TAIL_BYTES: u64 = 16 << 10;

/// The settings of a machine, fixed from its creation until it is destroyed; only the keys that may log in are read anew at
/// each start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) version: u32,
    pub(super) tag: Tag,
    pub(super) name: MachineName,
    #[serde(rename = "type")]
    pub(super) machine_type: MachineType,
    /// This machine's own loopback address.
    pub(super) address: String,
    /// In the format of machine-id(5). Empty if an earlier version of this program created the machine, which
    /// then has its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) machine_id: String,
    pub(super) settings: Settings,
}

impl Spec {
    pub(super) fn new(
        tag: Tag,
        name: MachineName,
        machine_type: MachineType,
        address: String,
        machine_id: String,
        settings: Settings,
    ) -> Self {
        Self { version: VERSION, tag, name, machine_type, address, machine_id, settings }
    }
}

/// The folder of one machine, which may not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// # Errors
    /// When the name cannot be a folder name, or the path is too long for the sockets in it.
    pub(super) fn new(machines: &Path, name: &MachineName) -> Result<Self, ProviderError> {
        let text = name.as_str();
        if text.is_empty() || text.starts_with('.') || text.contains(['/', '\0']) {
            return Err(ProviderError::failed(format!("{text:?} is not a valid machine name")));
        }
        let folder = Self { path: machines.join(text) };
        let longest = folder.identity_socket();
        if longest.as_os_str().len() >= SOCKET_PATH_LIMIT_BYTES {
            return Err(ProviderError::failed(format!(
                "the path {} is too long for a socket ({SOCKET_PATH_LIMIT_BYTES} bytes); set provider.qemu.stateDir to a shorter one",
                longest.display()
            )));
        }
        Ok(folder)
    }

    /// The folders of all machines. Folders without a specification are incomplete and are skipped.
    ///
    /// # Errors
    /// When some machines could not be read.
    pub(super) fn all(machines: &Path) -> Result<Vec<(Self, Spec)>, ProviderError> {
        let entries = match fs::read_dir(machines) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(machines, &error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| unreadable(machines, &error))?.path();
            let folder = Self { path };
            if let Some(spec) = folder.spec()? {
                all.push((folder, spec));
            }
        }
        all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        Ok(all)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.path.join("disk.qcow2")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    pub(super) fn monitor_socket(&self) -> PathBuf {
        self.path.join("qmp.sock")
    }

    pub(super) fn identity_socket(&self) -> PathBuf {
        self.path.join("identity.sock")
    }

    /// The identity of the guest, with its private host key.
    pub(super) fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }

    pub(super) fn host_key(&self) -> PathBuf {
        self.path.join("host_key")
    }

    fn spec_file(&self) -> PathBuf {
        self.path.join("machine.json")
    }

    /// The process id of the boot in which ssh has answered.
    fn ready_file(&self) -> PathBuf {
        self.path.join("ready")
    }

    /// Which base image the overlay depends on.
    fn base_file(&self) -> PathBuf {
        self.path.join("base")
    }

    /// The machine's specification; `None` if there is no such machine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn spec(&self) -> Result<Option<Spec>, ProviderError> {
        let path = self.spec_file();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let spec: Spec = serde_json::from_slice(&bytes)
            .map_err(|error| unreadable(&path, &io::Error::from(error)))?;
        if spec.version != VERSION {
            return Err(ProviderError::failed(format!(
                "{} has version {}, this program knows {VERSION}",
                path.display(),
                spec.version
            )));
        }
        Ok(Some(spec))
    }

    /// Creates the folder with its specification, before anything else of the machine.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn create(&self, spec: &Spec) -> Result<(), ProviderError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.and_then(|()| {
            let text = serde_json::to_vec_pretty(spec)?;
            atomic_file::write(&self.spec_file(), &text, 0o600)
        })
        .map_err(|error| unwritable(&self.path, &error))
    }

    /// Removes everything. The specification is removed last, before the folder, so that an interrupted
    /// removal is still listed or leaves an empty folder.
    ///
    /// # Errors
    /// When any part may be left.
    pub(super) fn remove(&self) -> Result<(), ProviderError> {
        let failed = |error: &io::Error| {
            ProviderError::failed(format!("cannot remove {}: {error}", self.path.display()))
        };
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| failed(&error))?.path();
            if path != self.spec_file() {
                fs::remove_file(&path).map_err(|error| failed(&error))?;
            }
        }
        fs::remove_dir_all(&self.path).map_err(|error| failed(&error))
    }

    /// Marks that this process is starting the machine, until the result is dropped or the process ends in
    /// any way (flock(2)). The folder must exist.
    ///
    /// # Errors
    /// When it cannot be locked, or another process is starting it.
    pub(super) fn hold(&self) -> Result<fs::File, ProviderError> {
        lock_directory(&self.path, LOCK_TIMEOUT)
    }

    /// Whether any process is starting the machine.
    pub(super) fn is_held(&self) -> bool {
        let looked = fs::File::open(&self.path).map(|file| file.try_lock_shared());
        matches!(looked, Ok(Err(fs::TryLockError::WouldBlock)))
    }

    /// Forgets that ssh has answered: the process of the next boot may have the same id.
    pub(super) fn mark_booting(&self) -> Result<(), ProviderError> {
        if self.was_ever_ready() { self.mark_ready(NO_PROCESS) } else { Ok(()) }
    }

    /// Records that ssh has answered in the boot of process `pid`.
    pub(super) fn mark_ready(&self, pid: i32) -> Result<(), ProviderError> {
        atomic_file::write(&self.ready_file(), pid.to_string().as_bytes(), 0o600)
            .map_err(|error| unwritable(&self.path, &error))
    }

    /// Whether ssh has answered in the boot of process `pid`.
    pub(super) fn is_ready(&self, pid: i32) -> bool {
        fs::read_to_string(self.ready_file()).is_ok_and(|text| text == pid.to_string())
    }

    /// Whether ssh has answered in any boot.
    pub(super) fn was_ever_ready(&self) -> bool {
        self.ready_file().exists()
    }

    /// Records which file the overlay depends on.
    pub(super) fn record_base(&self, base: &Path) -> Result<(), ProviderError> {
        let fingerprint = fingerprint(base).map_err(|error| unreadable(base, &error))?;
        atomic_file::write(&self.base_file(), fingerprint.as_bytes(), 0o600)
            .map_err(|error| unwritable(&self.path, &error))
    }

    /// Whether the base is still the file that the overlay was created on. On another file the overlay is
    /// useless.
    pub(super) fn has_same_base(&self, base: &Path) -> bool {
        let recorded = fs::read_to_string(self.base_file()).ok();
        recorded.is_some() && recorded == fingerprint(base).ok()
    }

    /// Whether another file has replaced the base. A base that is temporarily missing does not count.
    pub(super) fn has_lost_base(&self, base: &Path) -> bool {
        let recorded = fs::read_to_string(self.base_file());
        matches!((recorded, fingerprint(base)), (Ok(then), Ok(now)) if then != now)
    }

    /// When its QEMU was last started.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        let modified = fs::metadata(self.pid_file()).ok()?.mtime();
        u64::try_from(modified).ok().map(Timestamp)
    }

    fn console_lines(&self) -> Vec<String> {
        let text = read_end(&self.console(), CONSOLE_TAIL_BYTES).unwrap_or_default();
        printable_lines(&text)
    }

    /// The last line of the console; empty if there is none.
    pub(super) fn console_line(&self) -> String {
        self.console_lines().pop().unwrap_or_default()
    }

    /// The last lines of the console, for an error message.
    pub(super) fn console_tail(&self) -> String {
        let lines = self.console_lines();
        if lines.is_empty() {
            return "its console printed nothing".to_owned();
        }
        let last = &lines[lines.len().saturating_sub(CONSOLE_TAIL_LINES)..];
        format!("its console's last lines: {}", last.join(" | "))
    }
}

fn read_end(path: &Path, limit: u64) -> io::Result<String> {
    use io::{Read as _, Seek as _};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines without the escape sequences of terminals (ECMA-48, "CSI").
fn printable_lines(text: &str) -> Vec<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\n' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Waits until no other process holds `directory`, then holds it until the result is dropped.
///
/// # Errors
/// When it cannot be locked, or another process has held it for `limit`.
pub(super) fn lock_directory(directory: &Path, limit: Duration) -> Result<fs::File, ProviderError> {
    let failed = |error: &io::Error| {
        ProviderError::failed(format!("cannot lock {}: {error}", directory.display()))
    };
    let file = fs::File::open(directory).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_POLL_INTERVAL);
            }
            Err(fs::TryLockError::WouldBlock) => {
                let message = format!(
                    "another process has locked {} for {} s; it is retried later",
                    directory.display(),
                    limit.as_secs()
                );
                return Err(ProviderError { kind: OperationErrorKind::TimedOut, message });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(&error)),
        }
    }
}

/// A fingerprint that changes with the file and its content.
pub(super) fn fingerprint(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    Ok(format!("{} {} {}.{:09}", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> ProviderError {
    ProviderError::failed(format!("cannot read {}: {error}", path.display()))
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> ProviderError {
    ProviderError::failed(format!(
        "cannot write {}: {error}; see provider.qemu.stateDir",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_console_is_readable() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), &MachineName::new("m-0")).unwrap();
        assert_eq!(folder.console_tail(), "its console printed nothing");
        fs::create_dir(folder.path()).unwrap();
        let boot = "\u{1b}c\u{1b}[?7l\u{1b}[2JSeaBIOS\r\n\r\n[    0.0] Linux\r\n\u{1b}[0;32m  OK  \u{1b}[0m] Started\r\n";
        fs::write(folder.console(), format!("{}{boot}", "line\n".repeat(20_000))).unwrap();
        assert_eq!(
            folder.console_tail(),
            "its console's last lines: line | line | line | line | line | SeaBIOS | [    0.0] Linux | OK  ] Started"
        );
    }

    #[test]
    fn names_that_leave_the_folder_and_paths_too_long_for_sockets_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", ".hidden"] {
            assert!(Folder::new(Path::new("/x"), &MachineName::new(name)).is_err(), "{name:?}");
        }
        let long = PathBuf::from(format!("/{}", "x".repeat(90)));
        assert!(Folder::new(&long, &MachineName::new("hydra-provisioned-0")).is_err());
    }

    #[test]
    fn another_base_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), &MachineName::new("m-0")).unwrap();
        fs::create_dir(folder.path()).unwrap();
        let base = directory.path().join("base.qcow2");
        fs::write(&base, "one").unwrap();
        assert!(!folder.has_same_base(&base), "nothing recorded yet");
        folder.record_base(&base).unwrap();
        assert!(folder.has_same_base(&base));
        fs::write(directory.path().join("new"), "two").unwrap();
        fs::rename(directory.path().join("new"), &base).unwrap();
        assert!(!folder.has_same_base(&base) && folder.has_lost_base(&base));
        fs::remove_file(&base).unwrap();
        assert!(!folder.has_same_base(&base) && !folder.has_lost_base(&base), "it may come back");
    }

    #[test]
    fn a_lock_is_not_waited_for_longer_than_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock_directory(directory.path(), Duration::ZERO).unwrap();
        let error = lock_directory(directory.path(), Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::TimedOut);
        assert!(error.message.starts_with("another process has locked "), "{}", error.message);
        drop(held);
        lock_directory(directory.path(), Duration::ZERO).unwrap();
    }

    /// In the format of the previous version.
    #[test]
    fn a_machine_without_a_machine_id_of_ours_is_read() {
        let spec = r#"{ "version": 1, "tag": "t", "name": "t-0", "type": "x86_64-linux", "address": "127.91.0.1",
            "settings": SETTINGS }"#;
        let settings = serde_json::to_string(&Settings::new("/image".into())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), &MachineName::new("t-0")).unwrap();
        fs::create_dir(folder.path()).unwrap();
        fs::write(folder.spec_file(), spec.replace("SETTINGS", &settings)).unwrap();
        assert_eq!(folder.spec().unwrap().unwrap().machine_id, "");
    }

    #[test]
    fn a_machine_is_held_as_long_as_somebody_starts_it() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), &MachineName::new("m-0")).unwrap();
        assert!(!folder.is_held(), "it is not there");
        fs::create_dir(folder.path()).unwrap();
        assert!(!folder.is_held());
        let hold = folder.hold().unwrap();
        assert!(folder.is_held());
        drop(hold);
        assert!(!folder.is_held());
    }

    #[test]
    fn a_new_boot_is_not_ready_though_its_process_has_the_last_ones_number() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), &MachineName::new("m-0")).unwrap();
        folder.mark_booting().unwrap();
        assert!(!folder.was_ever_ready());
        folder.mark_ready(7).unwrap();
        folder.mark_booting().unwrap();
        assert!(folder.was_ever_ready() && !folder.is_ready(7));
    }
}

//! Files that are replaced as a whole or not at all, even in a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Replaces `path` by `contents` with mode `mode`. A reader sees the old or the new file. After the return
/// the new file survives a power failure. The caller holds a lock: the temporary file's name is fixed, so
/// that a killed writer leaves at most one, which the next writer replaces.
///
/// # Errors
/// On any failure. `path` is then unchanged, or new and complete.
pub fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_folder(directory)?;
    let temporary = temporary_path(path)?;
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        // The disk is probably full: do not keep the half-written file.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Creates a folder and its parents, each durably recorded in its parent.
///
/// # Errors
/// When one of them cannot be created.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

/// Creates an empty file for its owner alone, unless it exists. In the folder of another user, root creates it for that
/// user: the service could not open it otherwise.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    };
    if geteuid().is_root()
        && let Some(Ok(folder)) = path.parent().map(fs::metadata)
        && let Err(error) = fchown(&file, Some(folder.uid()), Some(folder.gid()))
    {
        tracing::warn!("{} cannot be given to its folder's owner: {error}", path.display());
    }
    Ok(())
}

/// The device and inode of a file: those of two names, or of a name and an open file, are equal if it is the same one.
pub(crate) fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn temporary_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name")
    })?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".hydra-provisioner.tmp");
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/file");
        write(&path, b"old", 0o600).unwrap();
        fs::write(temporary_path(&path).unwrap(), "left behind by a killed writer").unwrap();
        write(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn root_creates_files_for_the_owner_of_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let owner = if geteuid().is_root() { 4321 } else { geteuid().as_raw() };
        std::os::unix::fs::chown(folder.path(), Some(owner), None).unwrap();
        create_private(&path).unwrap();
        let created = fs::metadata(&path).unwrap();
        assert_eq!((created.uid(), created.mode() & 0o777), (owner, 0o600));
        fs::write(&path, "something").unwrap();
        create_private(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"something");
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("something"), "").unwrap();
        assert!(write(&path, b"new", 0o600).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the directory itself");
    }
}

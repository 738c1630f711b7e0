//! The database: opening it, its contents, and writing changes to it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::MachineType;
use reconciler::Change;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, params};
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::atomic_file::{create_folder, create_private};

/// How long to wait while another process reads or writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Older history is deleted.
const HISTORY_SECONDS: u64 = 90 * 86_400;
/// Maximum number of history entries: about 200 bytes each.
const MAX_HISTORY: u64 = 500_000;
/// The format of this version.
const VERSION: u32 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS machines (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS back_off (type TEXT PRIMARY KEY, back_off TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS experience (type TEXT PRIMARY KEY, experience TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS orders (subject TEXT PRIMARY KEY, entry TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS providers (
        identity TEXT NOT NULL, type TEXT NOT NULL, settings TEXT NOT NULL, PRIMARY KEY (identity, type)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS history (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, machine TEXT, type TEXT, entry TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS history_at ON history (at);
    CREATE INDEX IF NOT EXISTS history_machine ON history (machine);
";

/// Why the database cannot be used, and the remedy.
#[derive(Debug, Error)]
pub(super) enum DatabaseError {
    /// An error of `rusqlite`.
    #[error("{0}; see to room and permissions in stateDir")]
    Database(rusqlite::Error),
    /// Its contents are invalid.
    #[error(
        "{0}: it is damaged; move it away (with -wal and -shm): machines are found again by their tag, but not what is \
         under way"
    )]
    Damaged(rusqlite::Error),
    /// A later version wrote it; this program could lose data that it does not know.
    #[error(
        "a newer hydra-provisioner wrote it (format {found}, this one knows {VERSION}); run that version, or move the \
         file elsewhere: machines are found again by their tag, but operations under way are not"
    )]
    Newer {
        /// The version of its format.
        found: String,
    },
    /// It is another user's.
    #[error(
        "{error}: it belongs to the user with the number {owner}, and this program runs as {user}; give it to the user of the \
         service: chown --reference={} {}*", folder.display(), path.display()
    )]
    OfAnotherUser {
        /// The database's own message.
        error: rusqlite::Error,
        /// Its user's number.
        owner: u32,
        /// Our user's number.
        user: u32,
        /// `stateDir`.
        folder: PathBuf,
        /// Its path.
        path: PathBuf,
    },
    /// The open file is not the one of that name any more.
    #[error("it was deleted or replaced; the whole state is written again")]
    Replaced,
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        let is_nonsense = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ) || matches!(error, rusqlite::Error::FromSqlConversionFailure(..));
        if is_nonsense { Self::Damaged(error) } else { Self::Database(error) }
    }
}

impl DatabaseError {
    /// Names the file's owner if it is another user.
    fn with_owner(self, path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(metadata) => self.of_owner(path, metadata.uid()),
            Err(_) => self,
        }
    }

    fn of_owner(self, path: &Path, owner: u32) -> Self {
        let Self::Database(error) = self else { return self };
        let is_refused = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly)
        );
        let user = geteuid().as_raw();
        match path.parent() {
            Some(folder) if is_refused && owner != user => Self::OfAnotherUser {
                error,
                owner,
                user,
                folder: folder.to_owned(),
                path: path.to_owned(),
            },
            _ => Self::Database(error),
        }
    }
}

/// Opens it read-only.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, DatabaseError> {
    try_open_to_read(path).map_err(|error| error.with_owner(path))
}

fn try_open_to_read(path: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_version(&connection)?;
    Ok(connection)
}

/// Opens it for writing, and creates it if it does not exist.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, DatabaseError> {
    try_open_to_write(path).map_err(|error| error.with_owner(path))
}

fn try_open_to_write(path: &Path) -> Result<Connection, DatabaseError> {
    if let Some(folder) = path.parent() {
        create_folder(folder).map_err(|_| rusqlite::Error::InvalidPath(folder.to_owned()))?;
    }
    // Its mode is changed below: not that of a device or a pipe that a link leads to.
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(rusqlite::Error::InvalidPath(path.to_owned()).into());
    }
    create_private(path).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    })?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_version(&connection)?;
    // Readers learn host names and addresses; writers decide what is destroyed.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|_| rusqlite::Error::InvalidPath(path.to_owned()))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Written data is durable on return: an intent must survive a crash of the host.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    connection.execute(
        "INSERT OR IGNORE INTO meta VALUES ('version', ?1)",
        params![VERSION.to_string()],
    )?;
    Ok(connection)
}

/// Checks the version before anything is changed.
fn check_version(connection: &Connection) -> Result<(), DatabaseError> {
    let is_new = !connection.table_exists(None, "meta")?;
    let found = if is_new { None } else { meta(connection, "version")? };
    match found {
        Some(found) if found.parse::<u32>().is_ok_and(|found| found <= VERSION) => Ok(()),
        Some(found) => Err(DatabaseError::Newer { found }),
        None => Ok(()),
    }
}

/// Reads a single value.
pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let query = "SELECT value FROM meta WHERE key = ?1";
    connection.query_row(query, params![key], |row| row.get(0)).optional()
}

/// Writes or deletes a single value.
pub(super) fn set_meta(
    connection: &Connection,
    key: &str,
    value: Option<&str>,
) -> rusqlite::Result<()> {
    match value {
        Some(value) => connection
            .execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])?,
        None => connection.execute("DELETE FROM meta WHERE key = ?1", params![key])?,
    };
    Ok(())
}

/// Applies one change.
pub(super) fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Put(record) => transaction
            .prepare_cached("INSERT OR REPLACE INTO machines VALUES (?1, ?2)")?
            .execute(params![record.machine.name.as_str(), to_json(record)?])?,
        Change::Remove(name) => transaction
            .prepare_cached("DELETE FROM machines WHERE name = ?1")?
            .execute(params![name.as_str()])?,
        Change::BackOff(machine_type, Some(back_off)) => transaction
            .prepare_cached("INSERT OR REPLACE INTO back_off VALUES (?1, ?2)")?
            .execute(params![machine_type.as_str(), to_json(back_off)?])?,
        Change::BackOff(machine_type, None) => transaction
            .prepare_cached("DELETE FROM back_off WHERE type = ?1")?
            .execute(params![machine_type.as_str()])?,
        Change::Experience(machine_type, experience) => transaction
            .prepare_cached("INSERT OR REPLACE INTO experience VALUES (?1, ?2)")?
            .execute(params![machine_type.as_str(), to_json(experience)?])?,
        Change::OrderDone(order) => transaction
            // Unless another order was given since.
            .prepare_cached("DELETE FROM orders WHERE subject = ?1 AND entry = ?2")?
            .execute(params![order.kind.subject(), to_json(order)?])?,
        Change::History(entry) => transaction
            .prepare_cached(
                "INSERT INTO history (at, machine, type, entry) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                i64::try_from(entry.at.0).unwrap_or(i64::MAX),
                entry.machine.as_ref().map(planner::MachineName::as_str),
                entry.machine_type.as_ref().map(MachineType::as_str),
                to_json(entry)?
            ])?,
    };
    Ok(())
}

/// Deletes history that is too old or too long, relative to the newest entry.
pub(super) fn trim(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    let times = changes.iter().filter_map(|change| match change {
        Change::History(entry) => Some(entry.at.0),
        _ => None,
    });
    let Some(newest) = times.max() else { return Ok(()) };
    let oldest = i64::try_from(newest.saturating_sub(HISTORY_SECONDS)).unwrap_or(0);
    transaction.execute("DELETE FROM history WHERE at < ?1", params![oldest])?;
    transaction.execute(
        "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?1",
        params![i64::try_from(MAX_HISTORY).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// The rows of a query for a key and a JSON text.
pub(super) fn rows<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
) -> rusqlite::Result<Vec<(String, T)>> {
    let mut statement = connection.prepare(query)?;
    let rows =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| row.and_then(|(key, text)| Ok((key, from_json(&text)?)))).collect()
}

pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As after an order that root gave before the service's first start.
    #[test]
    fn the_database_belongs_to_the_owner_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.sqlite");
        let owner = if geteuid().is_root() { 4321 } else { geteuid().as_raw() };
        std::os::unix::fs::chown(folder.path(), Some(owner), None).unwrap();
        let _open = open_to_write(&path).unwrap();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            assert_eq!(file.metadata().unwrap().uid(), owner, "{file:?}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_named_with_its_owner_and_the_remedy() {
        let path = Path::new("/state/state.sqlite");
        let error = |code| {
            let error = rusqlite::ffi::Error::new(code);
            let error = DatabaseError::Database(rusqlite::Error::SqliteFailure(error, None));
            let owner = if geteuid().is_root() { 4321 } else { 0 };
            error.of_owner(path, owner).to_string()
        };
        let text = error(rusqlite::ffi::SQLITE_CANTOPEN);
        assert!(text.contains("chown --reference=/state /state/state.sqlite*"), "{text}");
        assert!(!error(rusqlite::ffi::SQLITE_FULL).contains("chown"));
    }

    #[test]
    fn what_is_no_regular_file_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::set_permissions(&pipe, fs::Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("state.sqlite");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert!(open_to_write(&link).is_err());
        assert_eq!(fs::metadata(&pipe).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

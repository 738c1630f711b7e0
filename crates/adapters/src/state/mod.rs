//! What the provisioner remembers, in one embedded database: `stateDir/state.sqlite`.
//!
//! It may be deleted without losing a machine: machines are found again by their tag.

mod legacy;
mod orders;

pub use orders::{machines, orders, say, take_back};

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::{BackOff, Experience, MachineType, Tag, Timestamp};
use reconciler::{Change, HistoryEntry, ProviderId, Record, State};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::atomic_file::create_folder;
use crate::lock::Access;
use crate::providers::ProviderSettings;

/// How long another process may write, or read, before it is in the way.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
/// History that is older goes.
const HISTORY_SECONDS: u64 = 90 * 86_400;
/// Entries that are kept at the most: some 200 bytes each.
const MOST_HISTORY: u64 = 500_000;
/// Between two looks for what is too old, in entries.
const TRIM_EVERY: u64 = 1000;
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

/// The types and settings that machines were made with, by provider.
pub(crate) type Remembered = BTreeMap<ProviderId, BTreeMap<MachineType, ProviderSettings>>;

/// The state cannot be used.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct StateError {
    reason: String,
}

/// The state of one state directory.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    access: Access,
    tag: Tag,
    /// `None` after a failure, or where there is nothing to read: it is opened anew then.
    connection: Option<Connection>,
    written_since_trim: u64,
    /// The version of the database in which orders were last looked for.
    orders_seen: Option<i64>,
}

impl Store {
    /// Opens the state of the provisioner with `tag`, and reads it.
    ///
    /// # Errors
    /// When it cannot be read, is another program's, or belongs to another tag.
    pub(crate) fn open(
        state_dir: &Path,
        tag: &Tag,
        access: Access,
    ) -> Result<(Self, State, Remembered), StateError> {
        let path = state_dir.join("state.sqlite");
        let mut store = Self {
            path,
            access,
            tag: tag.clone(),
            connection: None,
            written_since_trim: 0,
            orders_seen: None,
        };
        if access == Access::ReadOnly && !store.path.exists() {
            let (state, remembered) = legacy::read(state_dir)?.unwrap_or_default();
            return Ok((store, state, remembered));
        }
        let (state, remembered) = store.read().map_err(|error| store.explain(&error))?;
        store.check_tag(&state)?;
        let Some((state, remembered)) = store.take_over(state_dir, &state)? else {
            return Ok((store, state, remembered));
        };
        Ok((store, state, remembered))
    }

    /// Takes over what earlier versions wrote down, once.
    fn take_over(
        &mut self,
        state_dir: &Path,
        present: &State,
    ) -> Result<Option<(State, Remembered)>, StateError> {
        let Some((state, remembered)) = legacy::read(state_dir)? else { return Ok(None) };
        if !present.records.is_empty() {
            return Ok(None);
        }
        if self.access == Access::ReadWrite {
            let puts = state.records.iter().map(|record| Change::Put(Box::new(record.clone())));
            let puts: Vec<_> = puts.collect();
            self.write(&puts).map_err(|reason| StateError { reason })?;
            self.remember_providers(&remembered).map_err(|reason| StateError { reason })?;
            legacy::put_away(state_dir)?;
        }
        Ok(Some((state, remembered)))
    }

    fn connect(&mut self) -> rusqlite::Result<&mut Connection> {
        if self.connection.is_none() {
            self.orders_seen = None;
            self.connection = Some(self.new_connection()?);
        }
        self.connection.as_mut().ok_or(rusqlite::Error::InvalidQuery)
    }

    fn new_connection(&self) -> rusqlite::Result<Connection> {
        if self.access == Access::ReadOnly {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY_PATIENCE)?;
            return Ok(connection);
        }
        connect_to_write(&self.path)
    }

    fn read(&mut self) -> rusqlite::Result<(State, Remembered)> {
        let connection = self.connect()?;
        let records = rows(connection, "SELECT name, record FROM machines ORDER BY name")?;
        let back_off: Vec<(String, BackOff)> =
            rows(connection, "SELECT type, back_off FROM back_off ORDER BY type")?;
        let experience: Vec<(String, Experience)> =
            rows(connection, "SELECT type, experience FROM experience ORDER BY type")?;
        let orders = orders::read(connection)?;
        let state = State {
            orders,
            records: records.into_iter().map(|(_, record): (String, Record)| record).collect(),
            back_off: back_off.into_iter().map(|(t, b)| (MachineType::new(t), b)).collect(),
            experience: experience.into_iter().map(|(t, e)| (MachineType::new(t), e)).collect(),
        };
        let mut remembered = Remembered::new();
        let providers: Vec<(String, ProviderSettings)> =
            rows(connection, "SELECT json_array(identity, type), settings FROM providers")?;
        for (key, settings) in providers {
            let [identity, machine_type]: [String; 2] = from_json(&key)?;
            let types = remembered.entry(ProviderId(identity)).or_default();
            types.insert(MachineType::new(machine_type), settings);
        }
        Ok((state, remembered))
    }

    /// Machines of another tag would not be listed, and so be forgotten.
    fn check_tag(&mut self, state: &State) -> Result<(), StateError> {
        let known: Option<String> = self.connection.as_ref().and_then(|c| {
            c.query_row("SELECT value FROM meta WHERE key = 'tag'", [], |r| r.get(0)).ok()
        });
        if let Some(old) = known.filter(|old| *old != self.tag.as_str())
            && !state.records.is_empty()
        {
            let names: Vec<_> = state.records.iter().map(|r| r.machine.name.as_str()).collect();
            return Err(StateError {
                reason: format!(
                    "tag is {}, but the machines in {} were made with tag {old}, and would be forgotten: {}; set \
                     tag back until they are gone (maxMachines = 0), or use another stateDir",
                    self.tag,
                    self.path.display(),
                    names.join(", ")
                ),
            });
        }
        if self.access == Access::ReadWrite {
            let tag = self.tag.to_string();
            let set = |c: &mut Connection| {
                c.execute("INSERT OR REPLACE INTO meta VALUES ('tag', ?1)", params![tag])
            };
            self.connect().and_then(set).map_err(|error| self.explain(&error))?;
        }
        Ok(())
    }

    /// Writes `changes`, all or none; they are durable when it returns.
    ///
    /// # Errors
    /// In words for the operator. It is opened anew the next time.
    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<(), String> {
        if !self.path.exists() {
            // Deleted while we ran: what is written now must not go into a file that nobody finds.
            self.connection = None;
        }
        let trims = self.written_since_trim >= TRIM_EVERY;
        let written = self.connect().and_then(|connection| {
            let transaction = connection.transaction()?;
            for change in changes {
                apply(&transaction, change)?;
            }
            if trims {
                trim(&transaction, changes)?;
            }
            transaction.commit()
        });
        self.written_since_trim =
            if trims { 0 } else { self.written_since_trim + changes.len() as u64 };
        written.map_err(|error| {
            self.connection = None;
            self.explain(&error).to_string()
        })
    }

    /// Remembers how machines of configured types are made, so that they are reached when the configuration has
    /// changed. What no machine was made with any more is forgotten.
    pub(crate) fn remember_providers(&mut self, providers: &Remembered) -> Result<(), String> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let written = self.connect().and_then(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "DELETE FROM providers WHERE identity NOT IN (SELECT record ->> '$.provider' FROM machines)",
                [],
            )?;
            for (identity, types) in providers {
                for (machine_type, settings) in types {
                    let row = params![identity.0, machine_type.as_str(), to_json(settings)?];
                    let insert = "INSERT OR REPLACE INTO providers VALUES (?1, ?2, ?3)";
                    transaction.execute(insert, row)?;
                }
            }
            transaction.commit()
        });
        written.map_err(|error| self.explain(&error).to_string())
    }

    fn explain(&self, error: &dyn Display) -> StateError {
        let path = self.path.display();
        StateError {
            reason: format!(
                "cannot use {path}: {error}; see to room and permissions in stateDir. The file can be deleted: machines \
                 are found again by their tag"
            ),
        }
    }
}

fn connect_to_write(path: &Path) -> rusqlite::Result<Connection> {
    if let Some(folder) = path.parent() {
        create_folder(folder).map_err(|_| rusqlite::Error::InvalidPath(folder.to_owned()))?;
    }
    let connection = Connection::open(path)?;
    // Whoever may read it knows host names and addresses; whoever may write it decides what is destroyed.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|_| rusqlite::Error::InvalidPath(path.to_owned()))?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What is written is durable when it returns: an intent has to outlive a crash of the host.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    connection.execute(
        "INSERT OR IGNORE INTO meta VALUES ('version', ?1)",
        params![VERSION.to_string()],
    )?;
    Ok(connection)
}

/// The history of `state_dir` from `since` on, oldest first, of one machine or of all.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn history(
    state_dir: &Path,
    since: Timestamp,
    machine: Option<&str>,
) -> Result<Vec<HistoryEntry>, StateError> {
    let path = state_dir.join("state.sqlite");
    let read = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_PATIENCE)?;
        let mut statement = connection.prepare(
            "SELECT entry FROM history WHERE at >= ?1 AND (?2 IS NULL OR machine = ?2) ORDER BY id",
        )?;
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![since, machine], |row| row.get::<_, String>(0))?;
        rows.map(|text| from_json(&text?)).collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| StateError {
        reason: format!("cannot read the history in {}: {error}", path.display()),
    })
}

fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
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
            // Unless something else was said meanwhile.
            .prepare_cached("DELETE FROM orders WHERE subject = ?1 AND entry = ?2")?
            .execute(params![order.word.subject(), to_json(order)?])?,
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

/// Deletes history that is too old or too much, by the time of the newest entry.
fn trim(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    let times = changes.iter().filter_map(|change| match change {
        Change::History(entry) => Some(entry.at.0),
        _ => None,
    });
    let Some(newest) = times.max() else { return Ok(()) };
    let oldest = i64::try_from(newest.saturating_sub(HISTORY_SECONDS)).unwrap_or(0);
    transaction.execute("DELETE FROM history WHERE at < ?1", params![oldest])?;
    transaction.execute(
        "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?1",
        params![i64::try_from(MOST_HISTORY).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// The rows of a query for a key and a JSON text.
fn rows<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
) -> rusqlite::Result<Vec<(String, T)>> {
    let mut statement = connection.prepare(query)?;
    let rows =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| row.and_then(|(key, text)| Ok((key, from_json(&text)?)))).collect()
}

fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

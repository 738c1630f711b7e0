//! The provisioner's state, in one embedded database: `stateDir/state.sqlite`.
//!
//! It may be deleted without losing a machine: machines are found again by their tag.

mod database;
mod legacy;
mod orders;
mod recorder;

pub use orders::{machines, orders, recent, record_order, revoke_order};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use planner::{BackOff, Experience, Machine, MachineType, Policy, Tag, Timestamp, is_ours};
use reconciler::{Change, HistoryEntry, ProviderId, Record, State};
use rusqlite::{Connection, Transaction, params};
use serde_json::Value;
use thiserror::Error;

use crate::atomic_file::identity;
use crate::config::Config;
use crate::lock::Access;
use crate::providers::ProviderSettings;
use database::{DatabaseError, apply, from_json, rows, set_meta, to_json, trim};
pub(crate) use recorder::Recorder;

/// History entries between two trims.
const TRIM_EVERY: u64 = 1000;
/// The key of the owner's tag.
const TAG: &str = "tag";
/// The key of the reason why a configuration was rejected.
const REFUSED: &str = "refused";
/// The configuration in force.
const CONFIGURATION: &str = "configuration";
/// The path of its file.
const CONFIGURATION_PATH: &str = "configurationPath";

/// The types and settings that machines were created with, by provider.
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
    /// `None` after a failure, or if there is nothing to read: it is then opened again.
    connection: Option<Connection>,
    /// The device and inode of the open file.
    file: Option<(u64, u64)>,
    /// What else was recorded, for a new file.
    notes: Notes,
    written_since_trim: u64,
    /// The version of the database when orders were last read.
    orders_seen: Option<i64>,
}

/// What is recorded besides changes.
#[derive(Debug, Default)]
struct Notes {
    meta: BTreeMap<&'static str, Option<String>>,
    providers: Option<Remembered>,
}

impl Notes {
    fn write(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        for (key, value) in &self.meta {
            set_meta(&transaction, key, value.as_deref())?;
        }
        if let Some(providers) = &self.providers {
            put_providers(&transaction, providers)?;
        }
        transaction.commit()
    }
}

impl Store {
    /// Opens the state of the provisioner with the tag of `policy`, and reads it.
    ///
    /// # Errors
    /// When it cannot be read, belongs to another program, or to another tag.
    pub(crate) fn open(
        state_dir: &Path,
        policy: &Policy,
        access: Access,
    ) -> Result<(Self, State, Remembered), StateError> {
        let mut store = Self {
            path: path(state_dir),
            access,
            connection: None,
            file: None,
            notes: Notes::default(),
            written_since_trim: 0,
            orders_seen: None,
        };
        if access == Access::ReadOnly && !store.path.exists() {
            let (state, remembered) = legacy::read(state_dir)?.unwrap_or_default();
            return Ok((store, state, remembered));
        }
        let (state, remembered) = store.read().map_err(|error| store.explain(&error))?;
        store.take(policy, &state)?;
        let Some((state, remembered)) = store.take_over(state_dir, &state)? else {
            return Ok((store, state, remembered));
        };
        Ok((store, state, remembered))
    }

    /// Imports the state of earlier versions, once.
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
            legacy::mark_imported(state_dir)?;
        }
        Ok(Some((state, remembered)))
    }

    fn connect(&mut self) -> Result<&mut Connection, DatabaseError> {
        if let Some(connection) = self.connection.take() {
            return Ok(self.connection.insert(connection));
        }
        self.orders_seen = None;
        let connection = match self.access {
            Access::ReadOnly => database::open_to_read(&self.path)?,
            Access::ReadWrite => {
                let mut connection = database::open_to_write(&self.path)?;
                self.notes.write(&mut connection)?;
                connection
            }
        };
        self.file = self.file_there();
        Ok(self.connection.insert(connection))
    }

    /// The device and inode of the file at our path.
    fn file_there(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().as_ref().map(identity)
    }

    /// Whether the open file is no longer the one at our path: others read and write a new one, or will.
    fn is_replaced(&self) -> bool {
        self.connection.is_some() && self.file != self.file_there()
    }

    /// Closes the file if it was deleted or replaced, and returns a message for the operator. The caller must then write the
    /// whole state.
    pub(crate) fn notice_replacement(&mut self) -> Option<String> {
        if self.access == Access::ReadOnly || !self.is_replaced() {
            return None;
        }
        self.connection = None;
        Some(self.explain(&DatabaseError::Replaced).to_string())
    }

    fn read(&mut self) -> Result<(State, Remembered), DatabaseError> {
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

    /// Records the owner of the state, unless it belongs to another provisioner.
    fn take(&mut self, policy: &Policy, state: &State) -> Result<(), StateError> {
        check_owner(&self.path, policy, &state.records)?;
        if self.access == Access::ReadWrite {
            let tag = Some(policy.tag.to_string());
            self.set(REFUSED, None).and_then(|()| self.set(TAG, tag))?;
        }
        Ok(())
    }

    /// Writes `changes`, all or none. They are durable on return.
    ///
    /// # Errors
    /// With a message for the operator. The database is opened again on the next call. The caller must then
    /// write the whole state: the file may have been deleted or replaced.
    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<(), String> {
        let trims = self.written_since_trim >= TRIM_EVERY;
        let written = self.try_write(changes, trims);
        self.written_since_trim =
            if trims { 0 } else { self.written_since_trim + changes.len() as u64 };
        written.map_err(|error| {
            self.connection = None;
            self.explain(&error).to_string()
        })
    }

    fn try_write(&mut self, changes: &[Change], trims: bool) -> Result<(), DatabaseError> {
        if self.is_replaced() {
            return Err(DatabaseError::Replaced);
        }
        let transaction = self.connect()?.transaction()?;
        for change in changes {
            apply(&transaction, change)?;
        }
        if trims {
            trim(&transaction, changes)?;
        }
        Ok(transaction.commit()?)
    }

    /// Records why a new configuration was rejected, or that it was accepted.
    pub(crate) fn note_refusal(&mut self, reason: Option<&str>) -> Result<(), String> {
        self.set(REFUSED, reason.map(str::to_owned)).map_err(|error| error.to_string())
    }

    fn set(&mut self, key: &'static str, value: Option<String>) -> Result<(), StateError> {
        let written = self.connect().and_then(|c| Ok(set_meta(c, key, value.as_deref())?));
        self.notes.meta.insert(key, value);
        written.map_err(|error| self.explain(&error))
    }

    /// Whether the machines of another configuration would be destroyed with `config`; if not, `config` is recorded as the
    /// one that uses this state.
    ///
    /// # Errors
    /// When the state is used with another file, and machines are of types that only that one has.
    pub(crate) fn take_configuration(
        &mut self,
        config: &Config,
        records: &[Record],
    ) -> Result<(), StateError> {
        let read = |c: &mut Connection| Ok(database::meta(c, CONFIGURATION_PATH)?);
        let other = self.connect().and_then(read).map_err(|error| self.explain(&error))?;
        check_configuration(&self.path, config, other.as_deref(), records)?;
        let Some(path) = config.path.as_ref().map(|path| path.to_string_lossy()) else {
            return Ok(());
        };
        self.set(CONFIGURATION_PATH, Some(path.into_owned()))
    }

    /// Records the configuration in force.
    pub(crate) fn note_configuration(&mut self, source: &Value) -> Result<(), String> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        self.set(CONFIGURATION, Some(source.to_string())).map_err(|error| error.to_string())
    }

    /// Remembers how machines of the configured types are created, so that they can be reached after a change of the
    /// configuration. Other entries are deleted.
    pub(crate) fn remember_providers(&mut self, providers: &Remembered) -> Result<(), String> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let written = self.connect().and_then(|connection| {
            let transaction = connection.transaction()?;
            put_providers(&transaction, providers)?;
            Ok(transaction.commit()?)
        });
        self.notes.providers = Some(providers.clone());
        written.map_err(|error| self.explain(&error).to_string())
    }

    fn explain(&self, error: &DatabaseError) -> StateError {
        StateError { reason: format!("cannot use {}: {error}", self.path.display()) }
    }
}

fn put_providers(transaction: &Transaction<'_>, providers: &Remembered) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM providers", [])?;
    for (identity, types) in providers {
        for (machine_type, settings) in types {
            let row = params![identity.0, machine_type.as_str(), to_json(settings)?];
            transaction.execute("INSERT INTO providers VALUES (?1, ?2, ?3)", row)?;
        }
    }
    Ok(())
}

/// The configuration that the service or run with this `state_dir` loaded last. May contain secrets.
pub fn configuration(state_dir: &Path) -> Option<Value> {
    let connection = database::open_to_read(&path(state_dir)).ok()?;
    let text = database::meta(&connection, CONFIGURATION).ok()??;
    serde_json::from_str(&text).ok()
}

/// Records the configuration of a standby, which [`configuration`] returns.
///
/// # Errors
/// When it cannot be written.
pub fn record_configuration(config: &Config) -> Result<(), StateError> {
    let path = path(&config.state_dir);
    let text = config.source.to_string();
    let written = database::open_to_write(&path)
        .and_then(|connection| Ok(set_meta(&connection, CONFIGURATION, Some(&text))?));
    written.map_err(|error| StateError {
        reason: format!("cannot record the configuration in {}: {error}", path.display()),
    })
}

/// Machines of another tag would not be listed, and so would be forgotten.
fn check_owner(path: &Path, policy: &Policy, records: &[Record]) -> Result<(), StateError> {
    let is_ours = |record: &&Record| {
        let machine = &record.machine;
        let by_tag = policy.tags().any(|tag| is_ours(tag, &machine.name, machine.tag.as_ref()));
        // A destroyed machine has nothing to lose.
        by_tag || record.adopted_at.is_some() || machine.memory.destroyed_at.is_some()
    };
    let foreign: Vec<_> = records.iter().filter(|record| !is_ours(record)).collect();
    let Some(first) = foreign.first().map(|record| &record.machine) else { return Ok(()) };
    let by_name = first.name.as_str().rsplit_once('-').map_or("", |(tag, _)| tag);
    let old = first.tag.as_ref().map_or(by_name, Tag::as_str);
    let names: Vec<_> = foreign.iter().map(|record| record.machine.name.to_string()).collect();
    Err(StateError {
        reason: format!(
            "tag is {}, but the machines in {} were made with tag {old}, and would be forgotten: {}; to continue with \
             them set formerTags = [ {old:?} ], else set tag back, or use another stateDir",
            policy.tag,
            path.display(),
            names.join(", ")
        ),
    })
}

/// Whether machines are of types that only another file has, which was used with this state and is still there. With
/// `config` they would be destroyed. In the Nix store earlier versions of a file stay: there, another path means nothing.
fn check_configuration(
    state: &Path,
    config: &Config,
    other: Option<&str>,
    records: &[Record],
) -> Result<(), StateError> {
    let (Some(other), Some(path)) = (other.map(Path::new), &config.path) else { return Ok(()) };
    let is_in_store = |path: &Path| path.starts_with("/nix/store");
    let (Ok(there), Ok(here)) = (other.canonicalize(), path.canonicalize()) else { return Ok(()) };
    if there == here || is_in_store(other) || is_in_store(path) {
        return Ok(());
    }
    let is_lost = |machine: &&Machine| {
        machine.memory.destroyed_at.is_none()
            && !config.policy.pools.contains_key(&machine.machine_type)
    };
    let lost = records.iter().map(|record| &record.machine).filter(is_lost);
    let names: Vec<_> = lost.map(|m| format!("{} ({})", m.name, m.machine_type)).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(StateError {
        reason: format!(
            "{} is used with {}, and machines are of types that {} does not have; they would be destroyed: {}; set another \
             stateDir and tag in one of the two, or, if it replaces {}, remove that file",
            state.display(),
            other.display(),
            path.display(),
            names.join(", "),
            other.display()
        ),
    })
}

/// Whether `state_dir` belongs to another provisioner, for read-only commands. Unreadable state belongs to nobody.
///
/// # Errors
/// A message for the operator.
pub fn check_state_dir(config: &Config) -> Result<(), StateError> {
    let Ok(records) = machines(&config.state_dir) else { return Ok(()) };
    let state = path(&config.state_dir);
    check_owner(&state, &config.policy, &records)?;
    let other =
        database::open_to_read(&state).and_then(|c| Ok(database::meta(&c, CONFIGURATION_PATH)?));
    check_configuration(&state, config, other.ok().flatten().as_deref(), &records)
}

/// Why nothing could be recorded in `state_dir`, as far as can be seen without writing.
pub fn cannot_use(state_dir: &Path) -> Option<String> {
    let kind = fs::metadata(state_dir);
    match kind {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("{}: {error}", state_dir.display())),
        Ok(metadata) if !metadata.is_dir() => {
            return Some(format!("{} is not a folder", state_dir.display()));
        }
        Ok(_) => {}
    }
    if let Err(error) = rustix::fs::access(state_dir, rustix::fs::Access::WRITE_OK) {
        let error = io::Error::from(error);
        return Some(format!("cannot write into {}: {error}", state_dir.display()));
    }
    let lock = state_dir.join("lock");
    if fs::metadata(&lock).is_ok_and(|metadata| !metadata.is_file()) {
        return Some(format!("{} is not a regular file", lock.display()));
    }
    let path = path(state_dir);
    if !path.exists() {
        return None;
    }
    let opened = database::open_to_read(&path).and_then(|c| Ok(database::meta(&c, REFUSED)?));
    opened.err().map(|error| format!("cannot use {}: {error}", path.display()))
}

/// Why the service with this `state_dir` rejected its configuration when it last read it.
pub fn refused(state_dir: &Path) -> Option<String> {
    let connection = database::open_to_read(&path(state_dir)).ok()?;
    database::meta(&connection, REFUSED).ok()?
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("state.sqlite")
}

/// The history in `state_dir` from `since` on, oldest first, of one machine or of all.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn history(
    state_dir: &Path,
    since: Timestamp,
    machine: Option<&str>,
) -> Result<Vec<HistoryEntry>, StateError> {
    let path = path(state_dir);
    let read = || {
        let connection = database::open_to_read(&path)?;
        let mut statement = connection.prepare(
            "SELECT entry FROM history WHERE at >= ?1 AND (?2 IS NULL OR machine = ?2) ORDER BY id",
        )?;
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![since, machine], |row| row.get::<_, String>(0))?;
        let entries = rows.map(|text| from_json(&text?)).collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(entries)
    };
    read().map_err(|error: DatabaseError| StateError {
        reason: format!("cannot read the history in {}: {error}", path.display()),
    })
}

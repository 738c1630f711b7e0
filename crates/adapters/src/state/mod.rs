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

use planner::{BackOff, Experience, MachineType, Tag, Timestamp};
use reconciler::{Change, HistoryEntry, ProviderId, Record, State};
use rusqlite::{Connection, params};
use thiserror::Error;

use crate::lock::Access;
use crate::providers::ProviderSettings;
use database::{DatabaseError, apply, from_json, rows, set_meta, to_json, trim};
pub(crate) use recorder::Recorder;

/// History entries between two trims.
const TRIM_EVERY: u64 = 1000;
/// The key of the reason why a configuration was rejected.
const REFUSED: &str = "refused";

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
    tag: Tag,
    /// `None` after a failure, or if there is nothing to read. It is opened again when needed.
    connection: Option<Connection>,
    written_since_trim: u64,
    /// The version of the database when orders were last read.
    orders_seen: Option<i64>,
}

impl Store {
    /// Opens and reads the state of the provisioner with `tag`.
    ///
    /// # Errors
    /// When it cannot be read, belongs to another program, or to another tag.
    pub(crate) fn open(
        state_dir: &Path,
        tag: &Tag,
        access: Access,
    ) -> Result<(Self, State, Remembered), StateError> {
        let mut store = Self {
            path: path(state_dir),
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
            Access::ReadWrite => database::open_to_write(&self.path)?,
        };
        Ok(self.connection.insert(connection))
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

    /// Machines of another tag would not be listed, and so be forgotten.
    fn check_tag(&mut self, state: &State) -> Result<(), StateError> {
        let known = self.connect().and_then(|c| Ok(database::meta(c, "tag")?));
        let known = known.map_err(|error| self.explain(&error))?;
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
                set_meta(c, REFUSED, None)?;
                Ok(set_meta(c, "tag", Some(&tag))?)
            };
            self.connect().and_then(set).map_err(|error| self.explain(&error))?;
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
        if self.connection.is_some() && !self.path.exists() {
            return Err(DatabaseError::Deleted);
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
        let written = self.connect().and_then(|c| Ok(set_meta(c, REFUSED, reason)?));
        written.map_err(|error| self.explain(&error).to_string())
    }

    /// Records how machines of configured types are created, so that they can be reached after the
    /// configuration has changed. Settings without machines are deleted.
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
            Ok(transaction.commit()?)
        });
        written.map_err(|error| self.explain(&error).to_string())
    }

    fn explain(&self, error: &DatabaseError) -> StateError {
        StateError { reason: format!("cannot use {}: {error}", self.path.display()) }
    }
}

/// Why the service with the state in `state_dir` rejected its configuration when it last read it.
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

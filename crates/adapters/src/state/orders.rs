//! The operator's orders. Other processes write them; the process with the loop notices by the database's
//! version.

use std::path::Path;

use planner::{Order, Timestamp};
use reconciler::{Change, Happening, HistoryEntry, Record};
use rusqlite::{Connection, Transaction, params};

use super::database::{
    DatabaseError, apply, from_json, open_to_read, open_to_write, rows, to_json,
};
use super::{StateError, Store, path};
use crate::lock::Access;

/// All orders, sorted by subject. A database of an earlier version has none.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<Order>> {
    let exists = "SELECT count(*) FROM sqlite_master WHERE name = 'orders'";
    if connection.query_row(exists, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare_cached("SELECT entry FROM orders ORDER BY subject")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|text| from_json(&text?)).collect()
}

impl Store {
    /// The orders, if another process may have changed them since the last read. On a read failure the next
    /// call retries.
    pub(crate) fn new_orders(&mut self) -> Option<Vec<Order>> {
        if self.access == Access::ReadOnly {
            return None;
        }
        let connection = self.connection.as_ref()?;
        let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0)).ok()?;
        if self.orders_seen == Some(version) {
            return None;
        }
        let orders = read(connection).ok()?;
        self.orders_seen = Some(version);
        Some(orders)
    }
}

/// The records of all machines in `state_dir`, read-only.
///
/// # Errors
/// When they cannot be read.
pub fn machines(state_dir: &Path) -> Result<Vec<Record>, StateError> {
    look(state_dir, |connection| {
        let records = rows(connection, "SELECT name, record FROM machines ORDER BY name")?;
        Ok(records.into_iter().map(|(_, record): (String, Record)| record).collect())
    })
}

/// The latest `most` history entries before entry number `before` (of one machine, or of all), newest first,
/// with their numbers.
///
/// # Errors
/// When they cannot be read.
pub fn recent(
    state_dir: &Path,
    before: Option<i64>,
    most: u32,
    machine: Option<&str>,
) -> Result<Vec<(i64, HistoryEntry)>, StateError> {
    look(state_dir, |connection| {
        let mut statement = connection.prepare(
            "SELECT id, entry FROM history WHERE id < ?1 AND (?2 IS NULL OR machine = ?2) \
             ORDER BY id DESC LIMIT ?3",
        )?;
        let rows = statement
            .query_map(params![before.unwrap_or(i64::MAX), machine, most], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?))
            })?;
        rows.map(|row| row.and_then(|(id, text)| Ok((id, from_json(&text)?)))).collect()
    })
}

/// The orders now in force in `state_dir`.
///
/// # Errors
/// When it cannot be read.
pub fn orders(state_dir: &Path) -> Result<Vec<Order>, StateError> {
    look(state_dir, read)
}

fn look<T: Default>(
    state_dir: &Path,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StateError> {
    let path = path(state_dir);
    if !path.exists() {
        return Ok(T::default());
    }
    let look = || Ok(read(&open_to_read(&path)?)?);
    look().map_err(|error| explain(&path, &error))
}

/// Records `order`. It replaces an earlier order with the same subject. A running provisioner notices within
/// a second; otherwise the next run reads it.
///
/// # Errors
/// When it cannot be written.
pub fn record_order(state_dir: &Path, order: &Order) -> Result<(), StateError> {
    write(state_dir, |transaction| {
        transaction.execute(
            "INSERT OR REPLACE INTO orders VALUES (?1, ?2)",
            params![order.kind.subject(), to_json(order)?],
        )?;
        note(transaction, order.at, order, Happening::Ordered { order: order.clone() })
    })
}

/// Revokes the order with `subject`, and returns it.
///
/// # Errors
/// When it cannot be written.
pub fn revoke_order(
    state_dir: &Path,
    subject: &str,
    by: &str,
    now: Timestamp,
) -> Result<Option<Order>, StateError> {
    let before = orders(state_dir)?.into_iter().find(|order| order.kind.subject() == subject);
    let Some(order) = before else { return Ok(None) };
    write(state_dir, |transaction| {
        transaction.execute("DELETE FROM orders WHERE subject = ?1", params![subject])?;
        let what = Happening::TakenBackOrder { order: order.clone(), by: by.to_owned() };
        note(transaction, now, &order, what)
    })?;
    Ok(Some(order))
}

fn write(
    state_dir: &Path,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), StateError> {
    let path = path(state_dir);
    let write = || {
        let mut connection = open_to_write(&path)?;
        let transaction = connection.transaction()?;
        change(&transaction)?;
        Ok(transaction.commit()?)
    };
    write().map_err(|error| explain(&path, &error))
}

fn note(
    transaction: &Transaction<'_>,
    at: Timestamp,
    order: &Order,
    what: Happening,
) -> rusqlite::Result<()> {
    let machine_type = match &order.kind {
        planner::OrderKind::Pause(machine_type) | planner::OrderKind::Retry(machine_type) => {
            Some(machine_type.clone())
        }
        _ => None,
    };
    let machine = order.kind.machine().cloned();
    apply(
        transaction,
        &Change::History(HistoryEntry { at, machine, machine_type, what, dollars_per_hour: None }),
    )
}

fn explain(path: &Path, error: &DatabaseError) -> StateError {
    let path = path.display();
    StateError {
        reason: format!(
            "cannot use {path}: {error}; giving orders needs write access to it (run as root, or as the service's user)"
        ),
    }
}

//! One active provisioner per tag on several hosts: a session-level advisory lock in Hydra's own database.
//!
//! The holder asks the server every second whether it still has the lock. The server ends a session that is silent for
//! [`SESSION`], and with it the lock: its host may be dead, frozen or disconnected. The holder stops [`STOP_AFTER`] its
//! last answered request, and if it cannot, another process kills it at [`KILL_AFTER`]. A new holder waits for
//! [`TAKE_OVER_AFTER`] before it acts, which is longer: the old session may have ended a moment after that last answer.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use planner::Tag;
use postgres::error::SqlState;
use postgres::{Client, NoTls, Statement};
use sha2::{Digest as _, Sha256};

use crate::clock::Uptime;
use crate::command::limit_life;
use crate::config::LeaseSettings;

/// Time between two requests.
const BEAT: Duration = Duration::from_secs(1);
/// How long the server keeps a silent session.
const SESSION: Duration = Duration::from_secs(5);
/// Counted from when the last answered request was sent.
const STOP_AFTER: Duration = Duration::from_secs(4);
const KILL_AFTER: Duration = Duration::from_millis(4500);
/// Counted from when the lock was acquired.
const TAKE_OVER_AFTER: Duration = Duration::from_millis(5500);
/// Time limit of connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// After this long without any answer, the connection hangs and may never be closed.
const STUCK_AFTER: Duration = Duration::from_secs(15);

const TRY: &str = "SELECT pg_try_advisory_lock($1)";
/// Whether this is the session that acquired the lock and still holds it: a connection pooler could switch sessions.
const HAS: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() \
                   AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = $1)";
const HOLDER: &str = "SELECT coalesce(min(application_name), '') FROM pg_locks JOIN pg_stat_activity USING (pid) \
                      WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
                      AND ((classid::bigint << 32) | objid::bigint) = $1";

/// The state of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The database has not answered yet.
    Asking,
    /// The database is unavailable, with the reason.
    Unreachable(String),
    /// Another host has it, with its description.
    HeldBy(String),
    /// We have it, and wait until an earlier holder has certainly stopped.
    TakingOver,
    /// It is ours.
    Ours,
    /// It was ours and is lost, with the reason.
    Lost(String),
}

/// The lease of one tag. Its own thread acquires and keeps it.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    standing: Standing,
    /// Time of the last answer.
    received: Uptime,
    /// Until then nobody else can have it.
    until: Uptime,
}

impl Lease {
    /// Requests the lease of `tag` from now on. The reaper must be running.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub fn ask(settings: &LeaseSettings, tag: &Tag) -> io::Result<Self> {
        let now = Uptime::now();
        let state = State { standing: Standing::Asking, received: now, until: now };
        let lease = Self(Arc::new(Mutex::new(state)));
        let (settings, key, it) = (settings.clone(), key(tag), lease.clone());
        thread::Builder::new().name("lease".to_owned()).spawn(move || it.serve(&settings, key))?;
        Ok(lease)
    }

    /// The state of the lease.
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Whether no other host can be active now.
    pub fn is_ours(&self) -> bool {
        let state = self.lock();
        state.standing == Standing::Ours && !state.until.left().is_zero()
    }

    /// Whether the connection has been silent for so long that it will never answer.
    pub fn is_stuck(&self) -> bool {
        self.lock().received.after(STUCK_AFTER).left().is_zero()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, standing: Standing) {
        let mut state = self.lock();
        state.standing = standing;
        state.received = Uptime::now();
    }

    /// A request sent at `asked` was answered: the lease is ours.
    fn confirm(&self, asked: Uptime) {
        limit_life(asked.after(KILL_AFTER));
        let mut state = self.lock();
        state.standing = Standing::Ours;
        state.received = Uptime::now();
        state.until = asked.after(STOP_AFTER);
    }

    fn serve(&self, settings: &LeaseSettings, key: i64) {
        loop {
            let had = Session::open(settings, key).and_then(|mut session| {
                session.wait(self)?;
                Ok(session)
            });
            match had {
                Ok(mut session) => {
                    let reason = session.keep(self);
                    return self.say(Standing::Lost(reason));
                }
                Err(reason) => self.say(Standing::Unreachable(reason)),
            }
            thread::sleep(BEAT);
        }
    }
}

/// The number of the lock, derived from the tag.
fn key(tag: &Tag) -> i64 {
    let digest = Sha256::digest(format!("hydra-provisioner lease of {}", tag.as_str()));
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(digest).for_each(|(byte, digit)| *byte = digit);
    i64::from_be_bytes(bytes)
}

/// A database session, which may hold the lock.
struct Session {
    client: Client,
    key: i64,
    try_lock: Statement,
    has_lock: Statement,
}

impl Session {
    fn open(settings: &LeaseSettings, key: i64) -> Result<Self, String> {
        let mut client = connect(settings)?;
        let set = format!(
            "SET idle_session_timeout = '{0}s'; SET statement_timeout = '{0}s'",
            SESSION.as_secs()
        );
        client.batch_execute(&set).map_err(|error| match error.code() {
            Some(&SqlState::UNDEFINED_OBJECT) => {
                "a lease needs PostgreSQL 14 or newer (idle_session_timeout)".to_owned()
            }
            _ => cause(&error),
        })?;
        let mut prepare = |query| client.prepare(query).map_err(|error| cause(&error));
        let (try_lock, has_lock) = (prepare(TRY)?, prepare(HAS)?);
        Ok(Self { client, key, try_lock, has_lock })
    }

    fn ask(&mut self, question: &Statement) -> Result<bool, String> {
        let row = self.client.query_one(question, &[&self.key]);
        row.and_then(|row| row.try_get(0)).map_err(|error| cause(&error))
    }

    /// Returns when the lock is ours and no earlier holder can act any more.
    fn wait(&mut self, lease: &Lease) -> Result<(), String> {
        while !self.ask(&self.try_lock.clone())? {
            lease.say(Standing::HeldBy(self.holder()?));
            thread::sleep(BEAT);
        }
        let begin = Uptime::now().after(TAKE_OVER_AFTER);
        loop {
            lease.say(Standing::TakingOver);
            let left = begin.left();
            thread::sleep(left.min(BEAT));
            let asked = Uptime::now();
            if !self.ask(&self.has_lock.clone())? {
                return Err("the lock was taken away again".to_owned());
            }
            if begin.left().is_zero() {
                lease.confirm(asked);
                return Ok(());
            }
        }
    }

    /// Returns the reason when the lock is lost.
    fn keep(&mut self, lease: &Lease) -> String {
        loop {
            thread::sleep(BEAT);
            let asked = Uptime::now();
            match self.ask(&self.has_lock.clone()) {
                Ok(true) => lease.confirm(asked),
                Ok(false) => return "this session does not have the lock any more; is there a pooler in between?".to_owned(),
                Err(error) => return error,
            }
        }
    }

    fn holder(&mut self) -> Result<String, String> {
        let row = self.client.query_one(HOLDER, &[&self.key]);
        let name: String = row.and_then(|row| row.try_get(0)).map_err(|error| cause(&error))?;
        Ok(if name.is_empty() { "another provisioner".to_owned() } else { name })
    }
}

fn connect(settings: &LeaseSettings) -> Result<Client, String> {
    let mut config: postgres::Config =
        settings.postgresql.parse().map_err(|error| cause(&error))?;
    if let Some(file) = &settings.password_file {
        let password = fs::read_to_string(file).map_err(|error| {
            format!("cannot read lease.passwordFile {}: {error}", file.display())
        })?;
        config.password(password.trim_end());
    }
    let node = rustix::system::uname();
    let host = node.nodename().to_string_lossy();
    config
        .application_name(&format!("{host}, pid {}, hydra-provisioner", std::process::id()))
        .connect_timeout(CONNECT_LIMIT)
        .tcp_user_timeout(STOP_AFTER)
        .keepalives_idle(BEAT)
        .keepalives_interval(BEAT)
        .keepalives_retries(3);
    config.connect(NoTls).map_err(|error| cause(&error))
}

/// The error itself only says "db error"; its cause has the details.
fn cause(error: &postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(reported), _) => reported.message().to_owned(),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_one_number_and_times_leave_no_gap() {
        assert_eq!(key(&Tag::new("a")), key(&Tag::new("a")));
        assert_ne!(key(&Tag::new("a")), key(&Tag::new("b")));
        const { assert!(STOP_AFTER.as_millis() < KILL_AFTER.as_millis()) };
        const { assert!(KILL_AFTER.as_millis() < TAKE_OVER_AFTER.as_millis()) };
    }
}

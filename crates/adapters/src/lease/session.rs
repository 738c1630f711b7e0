//! The session in PostgreSQL that holds the lock.

use std::fs;
use std::thread;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, NoTls, Statement};

use super::{BEAT, Lease, STOP_AFTER, Standing, TAKE_OVER_AFTER};
use crate::clock::Uptime;
use crate::config::LeaseSettings;

/// How long the server keeps a silent session.
const SESSION: Duration = Duration::from_secs(5);
/// Time limit of connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

const TRY: &str = "SELECT pg_try_advisory_lock($1)";
/// Whether this is the session that acquired the lock and still holds it: a connection pooler could switch sessions.
const HAS: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() \
                   AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = $1)";
const HOLDER: &str = "SELECT coalesce(min(application_name), '') FROM pg_locks JOIN pg_stat_activity USING (pid) \
                      WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
                      AND ((classid::bigint << 32) | objid::bigint) = $1";

/// A database session, which may hold the lock.
pub(super) struct Session {
    client: Client,
    key: i64,
    try_lock: Statement,
    has_lock: Statement,
}

impl Session {
    pub(super) fn open(settings: &LeaseSettings, key: i64) -> Result<Self, String> {
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
    pub(super) fn wait(&mut self, lease: &Lease) -> Result<(), String> {
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
    pub(super) fn keep(&mut self, lease: &Lease) -> String {
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

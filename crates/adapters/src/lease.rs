//! One active provisioner per tag on several hosts: a session-level advisory lock in Hydra's own database.
//!
//! The holder asks the server every second whether it still has the lock. The server ends a session that is silent for
//! 5 s, and with it the lock: its host may be dead, frozen or disconnected. The holder stops [`STOP_AFTER`] its
//! last answered request, and if it cannot, another process kills it at [`KILL_AFTER`]. A new holder waits for
//! [`TAKE_OVER_AFTER`] before it acts, which is longer: the old session may have ended a moment after that last answer.

#[cfg_attr(not(feature = "lease"), path = "lease/absent.rs")]
mod session;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use planner::Tag;
use sha2::{Digest as _, Sha256};

use crate::clock::Uptime;
use crate::command::limit_life;
use crate::config::LeaseSettings;
use session::Session;

/// Time between two requests.
const BEAT: Duration = Duration::from_secs(1);
/// Counted from when the last answered request was sent.
const STOP_AFTER: Duration = Duration::from_secs(4);
const KILL_AFTER: Duration = Duration::from_millis(4500);
/// Counted from when the lock was acquired.
const TAKE_OVER_AFTER: Duration = Duration::from_millis(5500);
/// After this long without any answer, the connection hangs and may never be closed.
const STUCK_AFTER: Duration = Duration::from_secs(15);

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

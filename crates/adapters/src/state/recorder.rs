//! Writes the state on its own thread. A busy database or a slow disk delays only the effects that require
//! recorded state.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use reconciler::{BatchId, Change, Event};
use serde_json::Value;

use crate::panics::caught;

use super::{Remembered, StateError, Store};

/// How often it checks for new orders.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

enum Job {
    Write(BatchId, Vec<Change>),
    Providers(Remembered),
    Refusal(Option<String>),
    Configuration(Value),
}

/// Takes state changes to write, in order.
pub(crate) struct Recorder {
    jobs: Sender<Job>,
    handed_in: u64,
    progress: Arc<Progress>,
}

/// The number of finished jobs.
#[derive(Debug, Default)]
struct Progress {
    done: Mutex<u64>,
    changed: Condvar,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All jobs queued before a moment.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    number: u64,
    progress: Arc<Progress>,
}

impl Ticket {
    /// Waits until all of them are written or have failed.
    pub(crate) fn wait(&self) {
        let waiting = |done: &mut u64| *done < self.number;
        let done = self.progress.changed.wait_while(self.progress.lock(), waiting);
        drop(done.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits at most `limit`.
    pub(crate) fn wait_at_most(&self, limit: Duration) {
        let waiting = |done: &mut u64| *done < self.number;
        let waited = self.progress.changed.wait_timeout_while(self.progress.lock(), limit, waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Recorder {
    /// Writes to `store` from now on. `report` gets the result of each batch, and changed orders.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(crate) fn start(
        store: Store,
        report: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, StateError> {
        let (jobs, todo) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let shown = Arc::clone(&progress);
        let mut store = store;
        let work = move || {
            loop {
                match todo.recv_timeout(LOOK_INTERVAL) {
                    Ok(job) => {
                        store.carry_out(job, &report);
                        *shown.lock() += 1;
                        shown.changed.notify_all();
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if let Some(error) = store.notice_replacement() {
                    report(Event::Recorded { batch: BatchId::default(), result: Err(error) });
                }
                if let Some(orders) = store.new_orders() {
                    report(Event::Ordered(orders));
                }
            }
        };
        thread::Builder::new().name("state".to_owned()).spawn(work).map_err(|error| {
            StateError { reason: format!("cannot start a thread to write the state: {error}") }
        })?;
        Ok(Self { jobs, handed_in: 0, progress })
    }

    pub(crate) fn write(&mut self, batch: BatchId, changes: Vec<Change>) {
        self.enqueue(Job::Write(batch, changes));
    }

    pub(crate) fn remember_providers(&mut self, providers: Remembered) {
        self.enqueue(Job::Providers(providers));
    }

    pub(crate) fn note_refusal(&mut self, reason: Option<String>) {
        self.enqueue(Job::Refusal(reason));
    }

    pub(crate) fn note_configuration(&mut self, source: Value) {
        self.enqueue(Job::Configuration(source));
    }

    fn enqueue(&mut self, job: Job) {
        // Its thread ends with us.
        if self.jobs.send(job).is_ok() {
            self.handed_in += 1;
        }
    }

    /// For effects that require everything queued so far to be written.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { number: self.handed_in, progress: Arc::clone(&self.progress) }
    }
}

impl Store {
    fn carry_out(&mut self, job: Job, report: &impl Fn(Event)) {
        let noted = match job {
            Job::Write(batch, changes) => {
                let result = attempt(|| self.write(&changes));
                report(Event::Recorded { batch, result });
                Ok(())
            }
            Job::Providers(providers) => attempt(|| self.remember_providers(&providers)),
            Job::Configuration(source) => attempt(|| self.note_configuration(&source)),
            Job::Refusal(reason) => attempt(|| self.note_refusal(reason.as_deref())),
        };
        if let Err(error) = noted {
            tracing::warn!("{error}");
        }
    }
}

/// A panic is a failure too: effects wait for each job to end.
fn attempt(job: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    caught(job).and_then(|result| result)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use planner::{MachineName, Policy, Tag};
    use rusqlite::Connection;

    use super::*;
    use crate::lock::Access;

    /// Queuing returns at once while another process holds the database; only effects that require the write
    /// wait.
    #[test]
    fn a_busy_database_keeps_only_those_waiting_who_need_it() {
        let folder = tempfile::tempdir().unwrap();
        let policy = Policy::new(Tag::new("t"), BTreeMap::new());
        let (store, ..) = Store::open(folder.path(), &policy, Access::ReadWrite).unwrap();
        let (sender, results) = mpsc::channel();
        let mut recorder = Recorder::start(store, move |event| {
            if let Event::Recorded { batch, result } = event {
                let _gone = sender.send((batch, result));
            }
        })
        .unwrap();
        let other = Connection::open(folder.path().join("state.sqlite")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        for batch in [1, 2] {
            let gone = Change::Remove(MachineName::new("t-0"));
            recorder.write(BatchId(batch), vec![gone]);
        }
        let ticket = recorder.ticket();
        ticket.wait_at_most(Duration::from_millis(100));
        assert!(
            results.try_recv().is_err(),
            "it was written while the other process held the lock"
        );
        other.execute_batch("COMMIT").unwrap();
        ticket.wait();
        let written: Vec<_> = results.try_iter().collect();
        assert_eq!(written, [(BatchId(1), Ok(())), (BatchId(2), Ok(()))]);
    }
}

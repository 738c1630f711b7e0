//! What the loop knows, for whoever asks: a whole view at a time, which never changes once it is here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use planner::{Plan, Policy, QueueStatus, Sequence, Snapshot, Tag, Timestamp};
use reconciler::Reconciler;

/// The farm at one moment.
#[derive(Debug)]
pub(crate) struct View {
    /// What is known.
    pub(crate) snapshot: Snapshot,
    /// What is to be done about it.
    pub(crate) plan: Plan,
    /// What the operator wants.
    pub(crate) policy: Policy,
    /// When the queue status changed hands last. `None` before the first.
    pub(crate) status_at: Option<Timestamp>,
}

impl View {
    /// What `reconciler` knows, after `last`.
    pub(super) fn of(reconciler: &Reconciler, last: &Self) -> Self {
        let snapshot = reconciler.snapshot();
        let is_newer = snapshot.queue_asked > last.snapshot.queue_asked;
        let status_at = if is_newer { Some(snapshot.taken_at) } else { last.status_at };
        Self {
            plan: reconciler.plan().clone(),
            policy: reconciler.policy().clone(),
            status_at,
            snapshot,
        }
    }

    fn empty() -> Self {
        let unasked = QueueStatus::Unavailable("it has not been asked yet".to_owned());
        let snapshot =
            Snapshot { queue_asked: Sequence(0), ..Snapshot::new(Timestamp(0), unasked) };
        Self {
            snapshot,
            plan: Plan::default(),
            policy: Policy::new(Tag::new(""), std::collections::BTreeMap::new()),
            status_at: None,
        }
    }
}

/// Where the view hangs.
#[derive(Debug)]
pub(crate) struct Board {
    /// Held only to copy or replace the pointer.
    view: Mutex<Arc<View>>,
    turned_at: AtomicU64,
    /// Why the configuration in its file is not the one in force.
    refused: Mutex<Option<String>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            view: Mutex::new(Arc::new(View::empty())),
            turned_at: AtomicU64::new(0),
            refused: Mutex::new(None),
        }
    }
}

impl Board {
    /// The latest view.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put(&self, view: View) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// The loop turned.
    pub(super) fn turned(&self, at: Timestamp) {
        self.turned_at.store(at.0, Ordering::Relaxed);
    }

    /// When the loop last turned.
    pub(super) fn turned_at(&self) -> Timestamp {
        Timestamp(self.turned_at.load(Ordering::Relaxed))
    }

    /// The configuration was read again: `refused` says why it was not taken.
    pub(crate) fn reloaded(&self, refused: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! The control loop's latest view, for the listener's threads. A view is complete and immutable.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use planner::{DemandKey, Plan, Policy, QueueStatus, Seconds, Sequence, Snapshot, Tag, Timestamp};
use reconciler::Reconciler;
use tokio::sync::watch;

use crate::console::now;
use crate::status::Status;

const SAMPLE_INTERVAL: Seconds = Seconds::from_minutes(5);
/// One per sample, for 24 hours.
const MOST_SAMPLES: usize = 288;

/// The farm at one moment.
#[derive(Debug)]
pub(crate) struct View {
    /// The snapshot.
    pub(crate) snapshot: Snapshot,
    /// The plan.
    pub(crate) plan: Plan,
    /// The policy.
    pub(crate) policy: Policy,
    /// When the last queue status arrived. `None` before the first.
    pub(crate) status_at: Option<Timestamp>,
    /// Increases with every view that differs from the last.
    pub(super) version: u64,
}

impl View {
    /// The view of `reconciler` after `last`.
    pub(super) fn of(reconciler: &Reconciler, last: &Self) -> Self {
        let snapshot = reconciler.shown();
        let is_newer = snapshot.queue_asked > last.snapshot.queue_asked;
        let status_at = if is_newer { Some(snapshot.taken_at) } else { last.status_at };
        let plan = reconciler.plan().clone();
        let tells_more = plan != last.plan
            || snapshot.machines != last.snapshot.machines
            || demand(&snapshot) != demand(&last.snapshot);
        let version = last.version + u64::from(tells_more);
        Self { plan, policy: reconciler.policy().clone(), status_at, version, snapshot }
    }

    /// The status for people and programs.
    pub(super) fn status(&self, refused: Option<&str>) -> Status {
        Status::of(&self.snapshot, &self.plan, &self.policy, self.status_at, refused)
    }

    fn empty(reason: &str, version: u64) -> Self {
        let unasked = QueueStatus::Unavailable(reason.to_owned());
        let snapshot =
            Snapshot { queue_asked: Sequence(0), ..Snapshot::new(Timestamp(0), unasked) };
        Self {
            snapshot,
            plan: Plan::default(),
            policy: Policy::new(Tag::new(""), BTreeMap::new()),
            status_at: None,
            version,
        }
    }
}

/// What waits and runs, without how long: that grows all the time.
fn demand(snapshot: &Snapshot) -> Option<Vec<(&DemandKey, u64, u64)>> {
    match &snapshot.queue {
        QueueStatus::Up(queue) => {
            let demand = queue.demand.iter();
            Some(demand.map(|it| (&it.kind, it.runnable, it.running)).collect())
        }
        QueueStatus::Unavailable(_) => None,
    }
}

/// A summary of the farm, every few minutes.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    /// Waiting steps and machines, by type.
    pub(super) types: BTreeMap<String, (u64, u64)>,
}

/// Holds the latest view.
#[derive(Debug)]
pub(crate) struct Board {
    /// Held only to copy or replace the pointer.
    view: Mutex<Arc<View>>,
    /// The number of the latest view.
    version: watch::Sender<u64>,
    samples: Mutex<VecDeque<Sample>>,
    state_dir: OnceLock<PathBuf>,
    turned_at: AtomicU64,
    stands_by: AtomicBool,
    /// Why the changed configuration was rejected.
    refused: Mutex<Option<String>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            view: Mutex::new(Arc::new(View::empty("it has not been asked yet", 0))),
            version: watch::Sender::new(0),
            samples: Mutex::default(),
            state_dir: OnceLock::new(),
            turned_at: AtomicU64::new(0),
            stands_by: AtomicBool::new(false),
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
        self.sample(&view);
        let version = view.version;
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.version.send_if_modified(|last| std::mem::replace(last, version) != version);
    }

    /// Changes with every view that shows something new.
    pub(super) fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn sample(&self, view: &View) {
        let now = view.snapshot.taken_at;
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|last| now.since(last.at) < SAMPLE_INTERVAL) {
            return;
        }
        if samples.len() >= MOST_SAMPLES {
            samples.pop_front();
        }
        let types = view.plan.sizing.iter().map(|(name, sizing)| {
            let waiting = sizing.runnable.unwrap_or(0);
            (name.to_string(), (waiting, u64::from(sizing.present)))
        });
        samples.push_back(Sample { at: now, types: types.collect() });
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().cloned().collect()
    }

    /// This host is not active; `text` names the active one, or says that it is not known.
    pub(crate) fn stands_by(&self, text: &str) {
        self.stands_by.store(true, Ordering::Relaxed);
        self.turned(now());
        let last = self.view();
        if last.snapshot.queue != QueueStatus::Unavailable(text.to_owned()) {
            self.put(View::empty(text, last.version + 1));
        }
    }

    /// This host is active.
    pub(crate) fn is_active(&self) {
        self.stands_by.store(false, Ordering::Relaxed);
    }

    pub(super) fn active(&self) -> bool {
        !self.stands_by.load(Ordering::Relaxed)
    }

    /// The folder with the history.
    pub(crate) fn state_is_in(&self, state_dir: &Path) {
        let _is_the_same = self.state_dir.set(state_dir.to_owned());
    }

    pub(super) fn state_dir(&self) -> Option<&Path> {
        self.state_dir.get().map(PathBuf::as_path)
    }

    /// Records progress of the control loop.
    pub(super) fn turned(&self, at: Timestamp) {
        self.turned_at.store(at.0, Ordering::Relaxed);
    }

    /// When the control loop last progressed.
    pub(super) fn turned_at(&self) -> Timestamp {
        Timestamp(self.turned_at.load(Ordering::Relaxed))
    }

    /// Records a reload of the configuration; `refused` is the reason if it was refused.
    pub(crate) fn reloaded(&self, refused: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

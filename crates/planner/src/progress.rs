//! Whether a building machine makes progress.
//!
//! A builder with steps that hang stays busy forever: its place is taken, and nothing reports it. Hydra ends a build that runs longer
//! than its `meta.timeout` (10 h if it says nothing), so a machine that finishes no step for longer than that hangs.

use crate::matching::SeenInQueue;
use crate::memory::Progress;
use crate::snapshot::{QueueStatus, Snapshot};
use crate::time::Timestamp;

/// The progress of a machine, with the queue runner's entry for it and its progress `before`. `None`: it builds
/// nothing, or the queue runner does not count its steps. While the queue status is unavailable, nothing changes.
pub(crate) fn progress(
    before: Option<Progress>,
    seen: Option<SeenInQueue>,
    snapshot: &Snapshot,
) -> Option<Progress> {
    let QueueStatus::Up(queue) = &snapshot.queue else { return before };
    let seen = seen.filter(|seen| seen.jobs > 0)?;
    let steps_done = seen.built?.steps;
    let same = before.filter(|before| before.steps_done == steps_done);
    // What was built before the queue runner's start is built again.
    let restarted_at = Timestamp(snapshot.taken_at.0.saturating_sub(queue.uptime.0));
    let since = same.map_or(snapshot.taken_at, |before| before.since.max(restarted_at));
    Some(Progress { steps_done, since })
}

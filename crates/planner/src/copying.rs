//! Machines with outputs that are being copied although the queue runner counts no job on them any more.
//!
//! Since April 2025 the classic queue runner ends a machine's job when it begins to copy the step's outputs
//! (`State::buildRemote` in `build-remote.cc`); the step itself stays active. Releasing the machine then
//! would break the copy, and the step would be built again. The queue runner does not report which machines
//! it copies from.

use crate::snapshot::{Queue, QueueMachine};
use crate::time::Seconds;

/// A machine without a job for this long has no outputs that are being copied.
const LONGEST_COPY: Seconds = Seconds::from_minutes(15);

/// How many steps `entry` of `queue` counts as building: its jobs, or one while outputs are being copied that
/// may be its own.
pub(crate) fn jobs(queue: &Queue, entry: &QueueMachine) -> u64 {
    let copying = queue.copying_steps > 0 && built_recently(queue, entry);
    entry.current_jobs.max(u64::from(copying))
}

/// If unknown, yes. A machine that never ended a job is reported without an idle time and with no steps done.
fn built_recently(queue: &Queue, entry: &QueueMachine) -> bool {
    match (entry.idle_since, queue.answered_at()) {
        (None, _) => entry.steps_done != Some(0),
        (Some(_), None) => true,
        (Some(since), Some(now)) => now.since(since) < LONGEST_COPY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Host;
    use crate::time::Timestamp;

    #[test]
    fn which_machines_may_be_copied_from() {
        for (copying_steps, time, idle_since, steps_done, current_jobs, jobs_taken) in [
            (0, Some(10_000), Some(9_990), Some(5), 0, 0),
            (1, Some(10_000), Some(9_990), Some(5), 0, 1),
            (1, Some(10_000), Some(9_990), Some(0), 0, 1),
            (1, Some(10_000), Some(9_101), Some(5), 0, 1),
            (1, Some(10_000), Some(9_100), Some(5), 0, 0),
            // The queue runner's clock is ahead of ours.
            (1, Some(10_000), Some(10_500), Some(5), 0, 1),
            (1, Some(10_000), None, Some(0), 0, 0),
            (1, Some(10_000), None, Some(5), 0, 1),
            (1, Some(10_000), None, None, 0, 1),
            (1, None, Some(9_100), Some(5), 0, 1),
            (1, Some(10_000), None, Some(5), 3, 3),
        ] {
            let queue = Queue { copying_steps, time: time.map(Timestamp), ..Queue::default() };
            let entry = QueueMachine {
                idle_since: idle_since.map(Timestamp),
                steps_done,
                current_jobs,
                ..QueueMachine::new(Host::new("10.0.0.1"))
            };
            let case = (copying_steps, time, idle_since, steps_done);
            assert_eq!(jobs(&queue, &entry), jobs_taken, "{case:?}");
        }
    }
}

//! Which machines of a type are more than its running steps need (`idleTimeout = "auto"`, or `pack`).
//!
//! The queue runner distributes steps over all machines. So when there is less work, all machines stay in use, each with few
//! steps. With `r` running steps, and `used` machines wanted for the waiting ones, these have a slot for each running step:
//!
//! ```text
//! needed = max(used, ceil(r / maxJobs), 1)
//! ```
//!
//! Of the machines that are not used, those with the most steps are needed first. All others are surplus. With `"auto"`
//! they have no idle timeout, so they get no new builds and are released when they are idle. A surplus machine is used again
//! as soon as the waiting steps need it, without a start. This is the first half of consolidation in Karpenter (empty and
//! underutilized nodes), without its second half: nothing that runs is moved.
//!
//! With `pack` and an idle timeout in seconds, surplus machines that build stay in the machines file, and the queue runner fills
//! them last: their speed factor there is a thousandth. The classic queue runner sorts machines by `round(jobs / speed)`
//! (`doDispatch` in `dispatcher.cc`), so they get a step only when no other machine has a free slot. One without a step
//! would come first whatever its speed is (0 / speed), so it gets no new builds for the rest of its idle timeout, unless
//! waiting steps need it.

use std::collections::BTreeSet;

use crate::observed::Observed;
use crate::policy::{Filling, IdleTimeout, PoolPolicy};
use crate::selection::preference;
use crate::snapshot::{MachineKeys, QueueStatus};

/// The indices of surplus machines. `staying`: the machines of the type that are neither used nor released. `running`: steps
/// that run on machines of the type.
pub(crate) fn surplus<'a>(
    pool: &PoolPolicy,
    staying: impl Iterator<Item = &'a Observed<'a>>,
    running: u64,
    used: u32,
) -> BTreeSet<usize> {
    if pool.idle_timeout != IdleTimeout::Auto && pool.filling == Filling::Spread {
        return BTreeSet::new();
    }
    let for_running = running.div_ceil(u64::from(pool.max_jobs.max(1)));
    let needed = for_running.max(u64::from(used)).max(1) - u64::from(used);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let mut staying: Vec<_> = staying.collect();
    staying.sort_by_key(|observed| preference(observed));
    staying.into_iter().skip(needed).map(|observed| observed.index).collect()
}

/// Whether surplus machines of a type are filled last, and not at all when they are idle. A builder of the REST queue
/// runner reports its own speed. Without a status it is not known which machines are surplus.
pub(crate) fn is_packed(pool: &PoolPolicy, queue: &QueueStatus) -> bool {
    pool.filling == Filling::Pack
        && matches!(queue, QueueStatus::Up(queue) if queue.keys == MachineKeys::Address)
}

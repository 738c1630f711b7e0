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
//! With `pack` and an idle timeout in seconds, surplus machines get no new builds either, and stay for their idle timeout.
//! They cost the same with a step, so `r` then includes all waiting steps. A low speed factor would not do: the classic queue
//! runner sorts machines by `round(jobs / speed)` (`doDispatch` in `dispatcher.cc`), so a machine without a step comes first
//! whatever its speed is.

use std::collections::BTreeSet;

use crate::observed::Observed;
use crate::policy::{Filling, IdleTimeout, PoolPolicy};
use crate::selection::preference;
use crate::snapshot::{AcceptsJobs, MachineKeys, QueueStatus};
use crate::time::Seconds;

/// The indices of surplus machines. `staying`: the machines of the type that are neither used nor released. `running`: steps
/// that run on machines of the type; `waiting`: its runnable steps.
pub(crate) fn surplus<'a>(
    pool: &PoolPolicy,
    staying: impl Iterator<Item = &'a Observed<'a>>,
    running: u64,
    waiting: u64,
    used: u32,
) -> BTreeSet<usize> {
    let steps = match (pool.idle_timeout, pool.filling) {
        (IdleTimeout::Auto, _) => running,
        (IdleTimeout::After(_), Filling::Pack) => running.saturating_add(waiting),
        (IdleTimeout::After(_), Filling::Spread) => return BTreeSet::new(),
    };
    let for_steps = steps.div_ceil(u64::from(pool.max_jobs.max(1)));
    let needed = for_steps.max(u64::from(used)).max(1) - u64::from(used);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let mut staying: Vec<_> = staying.collect();
    staying.sort_by_key(|observed| (observed.unhealthy.is_some(), preference(observed)));
    staying.into_iter().skip(needed).map(|observed| observed.index).collect()
}

/// Whether surplus machines of a type get new builds while they stay. A builder of the REST queue runner gets builds as
/// long as it runs.
pub(crate) fn accept_jobs(pool: &PoolPolicy, queue: &QueueStatus) -> AcceptsJobs {
    let is_classic = matches!(queue, QueueStatus::Up(queue) if queue.keys == MachineKeys::Address);
    match (pool.filling, pool.idle_timeout) {
        (Filling::Pack, IdleTimeout::After(timeout)) if timeout > Seconds(0) && is_classic => {
            AcceptsJobs::No
        }
        _ => AcceptsJobs::Yes,
    }
}

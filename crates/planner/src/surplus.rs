//! Which machines of a type are more than its running steps need (`idleTimeout = "auto"`).
//!
//! The queue runner distributes steps over all machines. So when there is less work, all machines stay in use, each with few
//! steps. With `r` running steps, and `used` machines wanted for the waiting ones, these have a slot for each running step:
//!
//! ```text
//! needed = max(used, ceil(r / maxJobs), 1)
//! ```
//!
//! Of the machines that are not used, those with the most steps are needed first. All others are surplus: they have no idle
//! timeout, so they get no new builds and are released when they are idle. A surplus machine is used again as soon as
//! the waiting steps need it, without a start. This is the first half of consolidation in Karpenter (empty and underutilized
//! nodes), without its second half: nothing that runs is moved.

use std::collections::BTreeSet;

use crate::observed::Observed;
use crate::policy::{IdleTimeout, PoolPolicy};
use crate::selection::preference;

/// The indices of surplus machines. `staying`: the machines of the type that are neither used nor released. `running`: steps
/// that run on machines of the type.
pub(crate) fn surplus<'a>(
    pool: &PoolPolicy,
    staying: impl Iterator<Item = &'a Observed<'a>>,
    running: u64,
    used: u32,
) -> BTreeSet<usize> {
    if pool.idle_timeout != IdleTimeout::Auto {
        return BTreeSet::new();
    }
    let for_running = running.div_ceil(u64::from(pool.max_jobs.max(1)));
    let needed = for_running.max(u64::from(used)).max(1) - u64::from(used);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let mut staying: Vec<_> = staying.collect();
    staying.sort_by_key(|observed| preference(observed));
    staying.into_iter().skip(needed).map(|observed| observed.index).collect()
}

//! How long an idle machine is kept for possible later steps.
//!
//! `idleTimeout` (the original's `gracePeriod`) is a number of seconds, or `"auto"`. `"auto"` is ski rental (Karlin,
//! Manasse, Rudolph, Sleator,
//! "Competitive snoopy caching", Algorithmica 3, 1988): keeping a machine costs its price by the second; replacing it
//! costs the time from the request until it is ready. Keeping it for that long never costs more than twice the best
//! choice in hindsight:
//!
//! ```text
//! idle timeout with "auto" = average time from the request for a machine of the type until it is ready
//! ```
//!
//! `keepLast` applies to the last machine of a type, if it is longer: then the first step after a pause does
//! not wait.

use crate::experience::Experience;
use crate::policy::{IdleTimeout, PoolPolicy};
use crate::time::Seconds;

/// How long an idle machine of `pool` is kept.
pub(crate) fn idle_timeout(pool: &PoolPolicy, experience: &Experience) -> Seconds {
    match pool.idle_timeout {
        IdleTimeout::After(length) => length,
        IdleTimeout::Auto => experience.start_time(),
    }
}

/// The same for the last machine of its type.
pub(crate) fn idle_timeout_of_last(pool: &PoolPolicy, experience: &Experience) -> Seconds {
    idle_timeout(pool, experience).max(pool.keep_last)
}

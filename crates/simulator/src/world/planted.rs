//! Bugs that are planted, to see them found.

use planner::QueueStatus;
use reconciler::{Event, Planner};

/// How the loop hears of what happened. It may remember one queue status.
pub type Hears = fn(&mut Option<QueueStatus>, Event) -> Event;

/// A planted bug: another planner, or a loop that hears wrongly.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// What decides.
    pub planner: Planner,
    /// What the loop hears of what happened.
    pub hears: Hears,
}

impl Planted {
    /// No bug.
    pub const NOTHING: Self = Self { planner: planner::plan, hears: |_, event| event };
}

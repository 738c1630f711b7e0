//! Planted bugs, which prove that the checks find bugs.

use planner::QueueStatus;
use reconciler::{Event, Planner};

/// Changes events before the loop sees them. It may remember one queue status.
pub type EventFilter = fn(&mut Option<QueueStatus>, Event) -> Event;

/// A planted bug: another planner, or wrong events.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The planner.
    pub planner: Planner,
    /// The filter of events.
    pub filter: EventFilter,
}

impl Planted {
    /// No bug.
    pub const NOTHING: Self = Self { planner: planner::plan, filter: |_, event| event };
}

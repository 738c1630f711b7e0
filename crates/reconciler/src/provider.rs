//! What is known of one provider.

use std::collections::{BTreeMap, BTreeSet};

use planner::{Machine, MachineName, MachineType, Money, Resource, Sequence, Timestamp};

use crate::ids::ListingId;

/// What is known of one provider, apart from its machines' records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provider {
    /// Whether a configured type uses it.
    pub(crate) is_configured: bool,
    /// The listing that is under way.
    pub(crate) asked: Option<Asked>,
    /// When it was last asked.
    pub(crate) last_asked: Option<Timestamp>,
    /// Whether to list it as soon as possible, because the outcome of an operation is not known.
    pub(crate) ask_soon: bool,
    /// Its last answer; `None` before the first one.
    pub(crate) answer: Option<Result<(), String>>,
    /// The moment when the last answered listing was requested.
    pub(crate) listed: Sequence,
    /// The resources that its machines share, as of the last listing.
    pub(crate) resources: Vec<Resource>,
    /// The next charges of its machines as of that listing, by its clock.
    pub(crate) charges: BTreeMap<MachineName, Timestamp>,
    /// When that listing was requested.
    pub(crate) charges_asked_at: Option<Timestamp>,
    /// The most that a new machine of a type may cost per hour, as of the last listing.
    pub(crate) prices: BTreeMap<MachineType, Money>,
    /// Further machines with a name that another machine already has.
    pub(crate) duplicates: BTreeMap<MachineName, Machine>,
    /// Listed machines that are not ours.
    pub(crate) not_ours: BTreeSet<MachineName>,
}

/// A listing that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) listing: ListingId,
    pub(crate) moment: Sequence,
}

impl Provider {
    /// Why its machines are not known for certain, if so.
    pub(crate) fn problem(&self) -> Option<&str> {
        match &self.answer {
            None => Some("it has not answered yet"),
            Some(Err(error)) => Some(error),
            Some(Ok(())) => None,
        }
    }
}

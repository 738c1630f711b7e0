//! What is known of one provider.

use std::collections::{BTreeMap, BTreeSet};

use planner::{Machine, MachineName, Resource, Sequence, Timestamp};

use crate::boundary::ListingId;

/// What is known of one provider, beside its machines' records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provider {
    /// Whether a configured type is made with it.
    pub(crate) is_configured: bool,
    /// The listing that is under way.
    pub(crate) asked: Option<Asked>,
    /// When it was last asked.
    pub(crate) last_asked: Option<Timestamp>,
    /// Whether to ask it as soon as possible: an outcome is not known.
    pub(crate) ask_soon: bool,
    /// How it last answered; `None` before the first time.
    pub(crate) answer: Option<Result<(), String>>,
    /// The moment when the listing that it last answered was asked for.
    pub(crate) listed: Sequence,
    /// What its machines share, as of the last listing.
    pub(crate) resources: Vec<Resource>,
    /// Machines of one name beyond the first.
    pub(crate) duplicates: BTreeMap<MachineName, Machine>,
    /// What it lists that is not ours.
    pub(crate) not_ours: BTreeSet<MachineName>,
}

/// A listing that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) listing: ListingId,
    pub(crate) moment: Sequence,
}

impl Provider {
    /// Why its machines are not known for sure, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match &self.answer {
            None => Some("it has not answered yet"),
            Some(Err(error)) => Some(error),
            Some(Ok(())) => None,
        }
    }
}

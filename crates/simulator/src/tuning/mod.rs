//! A search for settings: candidates ([`Settings`]), early elimination ([`best`] on slices of the traces, then
//! [`stays`]), and selection ([`front`]).
//!
//! All of it is pure. No decision on a candidate depends on other candidates except those of its [`group`] and the
//! anchors, which are always tried: so a search can be split into shards with the same result.

mod front;
mod halving;
mod race;
mod space;

pub use front::{front, is_no_worse_anywhere};
pub use halving::{LEVELS, Level, best, group};
pub use race::{Score, mean, score, stays};
pub use space::{ANCHORS, IdleFor, Settings, SizedBy, candidate};

use serde::{Deserialize, Serialize};

use crate::results::Results;

/// The result of one candidate on one trace with one seed. Integers: the same bytes on any machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    /// Millionths of a dollar.
    pub cost_micro_dollars: u64,
    /// Steps that were built.
    pub built: u64,
    /// Of the wait: percentile 95, in milliseconds.
    pub p95_ms: u64,
    /// The farm came to rest.
    pub at_rest: bool,
}

impl From<&Results> for Outcome {
    fn from(results: &Results) -> Self {
        let total = &results.total;
        Self {
            cost_micro_dollars: u64::try_from(total.cost_micro_dollars).unwrap_or(u64::MAX),
            built: total.built,
            p95_ms: total.wait.p95,
            at_rest: results.at_rest,
        }
    }
}

//! What goes wrong by chance.

use serde::{Deserialize, Serialize};

use crate::engine::{Distribution, Millis};

/// Chances in a million, and how long things last. Nothing goes wrong by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// Nothing goes wrong from then on.
    pub until: Millis,
    /// A cycle cannot list one type's machines.
    pub list_fails: u32,
    /// A new machine is listed only after this long: listings of clouds are eventually consistent.
    pub listed_after: Distribution,
    /// A question to the queue runner gets no answer.
    pub no_queue_status: u32,
    /// The machines file cannot be written.
    pub publish_fails: u32,
    /// The intent log cannot be read or written.
    pub log_fails: u32,
    /// A cycle is killed at one of its effects or in the middle of one.
    pub killed: u32,
    /// The provider has no capacity.
    pub no_capacity: u32,
    /// A step that is done with a machine fails without effect.
    pub step_fails: u32,
    /// A step takes effect, but its answer is lost.
    pub answer_lost: u32,
    /// A step never ends.
    pub step_hangs: u32,
    /// A machine never comes up.
    pub boot_hangs: u32,
    /// A machine fails while it boots.
    pub boot_fails: u32,
    /// A machine that is up gets into trouble within an hour.
    pub breaks: u32,
    /// One in trouble is lost for good; otherwise it stops answering for a while.
    pub is_lost: u32,
    /// How long it does not answer.
    pub broken_for: Distribution,
    /// A build fails for its machine's reasons and is tried again.
    pub build_fails: u32,
    /// The queue runner goes down within an hour.
    pub queue_runner_stops: u32,
    /// For how long.
    pub queue_runner_down_for: Distribution,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            until: Millis::NEVER,
            list_fails: 0,
            listed_after: Distribution::Fixed(Millis::ZERO),
            no_queue_status: 0,
            publish_fails: 0,
            log_fails: 0,
            killed: 0,
            no_capacity: 0,
            step_fails: 0,
            answer_lost: 0,
            step_hangs: 0,
            boot_hangs: 0,
            boot_fails: 0,
            breaks: 0,
            is_lost: 0,
            broken_for: Distribution::fixed_seconds(600),
            build_fails: 0,
            queue_runner_stops: 0,
            queue_runner_down_for: Distribution::fixed_seconds(120),
        }
    }
}

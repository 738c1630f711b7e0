//! Random faults.

use serde::{Deserialize, Serialize};

use crate::engine::{Distribution, Millis};

/// Chances in millionths, and durations. No faults by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// No faults from then on.
    pub until: Millis,
    /// A type's machines cannot be listed.
    pub list_fails: u32,
    /// A listing is wrongly empty.
    pub list_is_empty: u32,
    /// An answer (a status, a listing, the outcome of an operation) is up to two minutes late.
    pub slow_answers: u32,
    /// An answer arrives a second time, up to two minutes later.
    pub doubled_answers: u32,
    /// A new machine is listed only after this time: listings of clouds are eventually consistent.
    pub listed_after: Distribution,
    /// A listing also has machines of others.
    pub foreign_machines: u32,
    /// A listing has one machine twice, with another address.
    pub duplicate_machines: u32,
    /// A listing has no host names, or wrong ones.
    pub wrong_host_names: u32,
    /// The queue runner's answer is one that was stored before.
    pub stale_status: u32,
    /// From then on, all answers of the queue runner are the same for up to ten minutes.
    pub frozen_status: u32,
    /// The database of a killed provisioner has lost its last transactions.
    pub transactions_lost: u32,
    /// A request to the queue runner gets no answer.
    pub no_queue_status: u32,
    /// The machines file cannot be written.
    pub publish_fails: u32,
    /// The state cannot be written.
    pub log_fails: u32,
    /// The provisioner is killed within five minutes, between two effects, with all running operations.
    pub killed: u32,
    /// The clock of the provisioner or of the queue runner is set within five minutes, by up to two hours.
    pub clock_steps: u32,
    /// The provider has no capacity.
    pub no_capacity: u32,
    /// An operation fails without effect.
    pub step_fails: u32,
    /// An operation takes effect, but its answer is lost.
    pub answer_lost: u32,
    /// An operation does not end in time, or never.
    pub step_hangs: u32,
    /// A machine never comes up.
    pub boot_hangs: u32,
    /// A machine fails while it boots.
    pub boot_fails: u32,
    /// A running machine fails within an hour.
    pub breaks: u32,
    /// A failed machine is lost permanently; otherwise it stops answering for a while.
    pub is_lost: u32,
    /// How long it does not answer.
    pub broken_for: Distribution,
    /// The host name of a running machine changes within an hour; from then on its builder registers with the new name.
    pub renamed: u32,
    /// A build fails because of its machine and is tried again.
    pub build_fails: u32,
    /// The queue runner stops within an hour.
    pub queue_runner_stops: u32,
    /// For how long.
    pub queue_runner_down_for: Distribution,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            until: Millis::NEVER,
            list_fails: 0,
            list_is_empty: 0,
            slow_answers: 0,
            doubled_answers: 0,
            listed_after: Distribution::Fixed(Millis::ZERO),
            foreign_machines: 0,
            duplicate_machines: 0,
            wrong_host_names: 0,
            stale_status: 0,
            frozen_status: 0,
            transactions_lost: 0,
            no_queue_status: 0,
            publish_fails: 0,
            log_fails: 0,
            killed: 0,
            clock_steps: 0,
            no_capacity: 0,
            step_fails: 0,
            answer_lost: 0,
            step_hangs: 0,
            boot_hangs: 0,
            boot_fails: 0,
            breaks: 0,
            is_lost: 0,
            broken_for: Distribution::fixed_seconds(600),
            renamed: 0,
            build_fails: 0,
            queue_runner_stops: 0,
            queue_runner_down_for: Distribution::fixed_seconds(120),
        }
    }
}

impl Faults {
    /// All invalid values, each with its path.
    pub(super) fn problems(&self) -> Vec<String> {
        let Self { listed_after, broken_for, queue_runner_down_for, .. } = self;
        let lengths = [
            ("listedAfter", listed_after),
            ("brokenFor", broken_for),
            ("queueRunnerDownFor", queue_runner_down_for),
        ];
        let lengths = lengths.into_iter().filter_map(|(name, length)| {
            let error = length.check().err()?;
            Some(format!("faults.{name}: {error}"))
        });
        // Every other number than the time is a probability.
        let in_file = serde_json::to_value(self).unwrap_or_default();
        let all = in_file.as_object().into_iter().flatten().filter(|(name, _)| *name != "until");
        let above =
            all.filter(|(_, value)| value.as_u64().is_some_and(|chance| chance > 1_000_000));
        let above = above.map(|(name, value)| {
            format!("faults.{name}: is {value}, at most 1000000 (per million)")
        });
        lengths.chain(above).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_documented() {
        let page = include_str!("../../../../docs/simulator.md");
        let keys = serde_json::to_value(Faults::default()).unwrap();
        for key in keys.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{key}`")), "{key} is not in docs/simulator.md");
        }
    }
}

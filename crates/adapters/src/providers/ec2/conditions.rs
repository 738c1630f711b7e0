//! Conditions of instances that the listing does not contain: impaired instances, and spot instances about to
//! be interrupted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use planner::MachineState;

use super::api::{Call, Client};
use super::wire::{self, Instance};
use crate::providers::cloud::RetryBudget;

/// EC2 itself checks every minute whether an instance answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// As of the last listing. If a request fails, the previous values stay: the machines' state does not depend
/// on them.
#[derive(Debug, Default)]
pub(super) struct Conditions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    impaired: BTreeSet<String>,
    /// Spot instances with an interruption notice (two minutes).
    interrupted: BTreeSet<String>,
    /// Those whose notice was reported already.
    reported: BTreeSet<String>,
    checked: Option<Instant>,
}

impl Conditions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the conditions: notices whenever there are spot instances, impaired ones every minute.
    pub(super) fn refresh(&self, client: &Client, listed: &[Instance], retries: &mut RetryBudget) {
        if listed.iter().any(Instance::is_spot) {
            self.refresh_notices(client, retries);
        }
        if !listed.is_empty() && self.is_check_due() {
            self.refresh_impaired(client, retries);
        }
    }

    fn refresh_notices(&self, client: &Client, retries: &mut RetryBudget) {
        let call = Call::new("DescribeSpotInstanceRequests").filter(
            1,
            "status-code",
            &["marked-for-termination"],
        );
        match client.call::<wire::DescribeSpotInstanceRequests>(&call, retries) {
            Ok(answer) => self.lock().interrupted = ids(answer.spot_instance_request_set),
            Err(refused) => tracing::warn!("spot notices are not known: {}", refused.error),
        }
    }

    /// Whether to check for impaired instances. If so, other threads do not check meanwhile.
    fn is_check_due(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.checked.is_none_or(|checked| checked.elapsed() >= CHECK_INTERVAL);
        if is_due {
            state.checked = Some(Instant::now());
        }
        is_due
    }

    fn refresh_impaired(&self, client: &Client, retries: &mut RetryBudget) {
        let call =
            Call::new("DescribeInstanceStatus").filter(1, "instance-status.status", &["impaired"]);
        match client.call::<wire::DescribeInstanceStatus>(&call, retries) {
            Ok(answer) => self.lock().impaired = ids(answer.instance_status_set),
            Err(refused) => tracing::warn!("impaired instances are not known: {}", refused.error),
        }
    }

    /// The instance's state. An instance with an interruption notice counts as stopping: it gets no more
    /// builds, and is no capacity.
    pub(super) fn state(&self, instance: &Instance) -> Option<MachineState> {
        let state = instance.state()?;
        let conditions = self.lock();
        Some(match state {
            MachineState::Up | MachineState::Starting
                if conditions.interrupted.contains(&instance.instance_id) =>
            {
                MachineState::Stopping
            }
            MachineState::Up if conditions.impaired.contains(&instance.instance_id) => {
                MachineState::Unreachable
            }
            state => state,
        })
    }

    /// Whether it has an interruption notice that was not reported before.
    pub(super) fn is_new_notice(&self, instance: &Instance) -> bool {
        let mut state = self.lock();
        let id = &instance.instance_id;
        state.interrupted.contains(id) && state.reported.insert(id.clone())
    }
}

fn ids(items: wire::Items<wire::InstanceNumber>) -> BTreeSet<String> {
    items.item.into_iter().map(|one| one.instance_id).collect()
}

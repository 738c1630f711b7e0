//! What EC2 tells of instances apart from the listing: which do not answer, and which spot ones it is about to take back.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use planner::MachineState;

use super::api::{Call, Client};
use super::wire::{self, Instance};
use crate::providers::cloud::Patience;

/// EC2 itself looks every minute whether an instance answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// As of the last listing. Where it could not be told it is as before: the machines' own state does not depend on it.
#[derive(Debug, Default)]
pub(super) struct Conditions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    impaired: BTreeSet<String>,
    /// Spot instances with a notice of two minutes.
    taken_back: BTreeSet<String>,
    /// Those whose notice is no news.
    told: BTreeSet<String>,
    checked: Option<Instant>,
}

impl Conditions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again: for notices whenever there are spot instances, for impaired ones every minute.
    pub(super) fn refresh(&self, client: &Client, listed: &[Instance], patience: &mut Patience) {
        if listed.iter().any(Instance::is_spot) {
            self.refresh_notices(client, patience);
        }
        if !listed.is_empty() && self.is_check_due() {
            self.refresh_impaired(client, patience);
        }
    }

    fn refresh_notices(&self, client: &Client, patience: &mut Patience) {
        let call = Call::new("DescribeSpotInstanceRequests").filter(
            1,
            "status-code",
            &["marked-for-termination"],
        );
        match client.call::<wire::DescribeSpotInstanceRequests>(&call, patience) {
            Ok(answer) => self.lock().taken_back = ids(answer.spot_instance_request_set),
            Err(refused) => tracing::warn!("spot notices are not known: {}", refused.error),
        }
    }

    /// Whether to look for impaired instances. Others do not do so meanwhile.
    fn is_check_due(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.checked.is_none_or(|checked| checked.elapsed() >= CHECK_INTERVAL);
        if is_due {
            state.checked = Some(Instant::now());
        }
        is_due
    }

    fn refresh_impaired(&self, client: &Client, patience: &mut Patience) {
        let call =
            Call::new("DescribeInstanceStatus").filter(1, "instance-status.status", &["impaired"]);
        match client.call::<wire::DescribeInstanceStatus>(&call, patience) {
            Ok(answer) => self.lock().impaired = ids(answer.instance_status_set),
            Err(refused) => tracing::warn!("impaired instances are not known: {}", refused.error),
        }
    }

    /// The instance's state. One that is taken back is as good as stopping: it gets no more builds, and does not count as
    /// capacity.
    pub(super) fn state(&self, instance: &Instance) -> Option<MachineState> {
        let state = instance.state()?;
        let conditions = self.lock();
        Some(match state {
            MachineState::Up | MachineState::Starting
                if conditions.taken_back.contains(&instance.instance_id) =>
            {
                MachineState::Stopping
            }
            MachineState::Up if conditions.impaired.contains(&instance.instance_id) => {
                MachineState::Unreachable
            }
            state => state,
        })
    }

    /// Whether it is taken back, the first time that this is asked.
    pub(super) fn is_new_notice(&self, instance: &Instance) -> bool {
        let mut state = self.lock();
        let id = &instance.instance_id;
        state.taken_back.contains(id) && state.told.insert(id.clone())
    }
}

fn ids(items: wire::Items<wire::InstanceNumber>) -> BTreeSet<String> {
    items.item.into_iter().map(|one| one.instance_id).collect()
}

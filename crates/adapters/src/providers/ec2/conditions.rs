//! Conditions of instances that the listing does not contain: impaired instances, and spot instances about to
//! be interrupted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use planner::MachineState;

use super::api::{Call, Client};
use super::wire::{self, Instance};
use crate::providers::ProviderError;
use crate::providers::cloud::RetryBudget;

/// EC2 itself checks every minute whether an instance answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Scheduled events after which an instance is gone or off.
const ENDING_EVENTS: [&str; 2] = ["instance-stop", "instance-retirement"];

/// As of the last listing. If a request fails, the previous values stay: the machines' state does not depend
/// on them.
#[derive(Debug, Default)]
pub(super) struct Conditions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    impaired: BTreeSet<String>,
    /// Spot instances with a notice of two minutes, and instances with a scheduled end.
    interrupted: BTreeSet<String>,
    /// Spot instances with a notice that was already reported.
    reported: BTreeSet<String>,
    has_spot_instances: bool,
    checked: Option<Instant>,
}

impl Conditions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again: for notices whenever there are spot instances, for impaired ones every minute. Neither may use up
    /// the listing's time.
    pub(super) fn refresh(&self, client: &Client, listed: &[Instance], retries: &RetryBudget) {
        let has_spot_instances = listed.iter().any(Instance::is_spot);
        {
            let mut state = self.lock();
            state.has_spot_instances = has_spot_instances;
            let is_listed = |id: &String| listed.iter().any(|one| one.instance_id == *id);
            state.interrupted.retain(is_listed);
            state.reported.retain(is_listed);
        }
        if has_spot_instances {
            match Self::ask_for_notices(client, &mut retries.aside()) {
                Ok(ids) => self.add_notices(ids),
                Err(error) => tracing::warn!("spot notices are not known: {error}"),
            }
        }
        if !listed.is_empty() && self.is_check_due() {
            self.refresh_impaired(client, &mut retries.aside());
        }
    }

    /// The instances that are about to be interrupted.
    pub(super) fn ask_for_notices(
        client: &Client,
        retries: &mut RetryBudget,
    ) -> Result<Vec<String>, ProviderError> {
        let marked = ["marked-for-termination"];
        let call = Call::new("DescribeSpotInstanceRequests").filter(1, "status-code", &marked);
        let mut ids = Vec::new();
        client.pages(&call, retries, |page: wire::DescribeSpotInstanceRequests| {
            ids.extend(page.spot_instance_request_set.item.into_iter().map(|one| one.instance_id));
            page.next_token
        })?;
        Ok(ids)
    }

    pub(super) fn add_notices(&self, ids: impl IntoIterator<Item = String>) {
        self.lock().interrupted.extend(ids);
    }

    /// As of the last listing.
    pub(super) fn has_spot_instances(&self) -> bool {
        self.lock().has_spot_instances
    }

    /// Whether no interruption is known.
    pub(super) fn is_unreported(&self, id: &str) -> bool {
        !self.lock().reported.contains(id)
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

    /// Also asks for scheduled events that end an instance: it is drained and replaced before.
    fn refresh_impaired(&self, client: &Client, retries: &mut RetryBudget) {
        let call = Call::new("DescribeInstanceStatus");
        let impaired = call.clone().filter(1, "instance-status.status", &["impaired"]);
        let ending = call.filter(1, "event.code", &ENDING_EVENTS);
        let mut statuses = |call: &Call| -> Result<Vec<_>, ProviderError> {
            let mut statuses = Vec::new();
            client.pages(call, retries, |page: wire::DescribeInstanceStatus| {
                statuses.extend(page.instance_status_set.item);
                page.next_token
            })?;
            Ok(statuses)
        };
        match statuses(&impaired).and_then(|impaired| Ok((impaired, statuses(&ending)?))) {
            Ok((impaired, ending)) => {
                let mut state = self.lock();
                let impaired = impaired.into_iter().filter(wire::InstanceStatus::is_impaired);
                state.impaired = impaired.map(|one| one.instance_id).collect();
                let ending = ending.into_iter().filter(wire::InstanceStatus::has_open_event);
                state.interrupted.extend(ending.map(|one| one.instance_id));
            }
            Err(error) => {
                tracing::warn!("impaired instances and scheduled events are not known: {error}");
            }
        }
    }

    /// The instance's state.
    pub(super) fn state(&self, instance: &Instance) -> Option<MachineState> {
        let state = instance.state()?;
        let is_impaired = self.lock().impaired.contains(&instance.instance_id);
        Some(if state == MachineState::Up && is_impaired {
            MachineState::Unreachable
        } else {
            state
        })
    }

    /// Whether it is about to be interrupted.
    pub(super) fn is_interrupted(&self, instance: &Instance) -> bool {
        self.lock().interrupted.contains(&instance.instance_id)
    }

    /// Whether it is about to be interrupted, on the first call for it; `false` on later calls.
    pub(super) fn is_new_notice(&self, instance: &Instance) -> bool {
        let mut state = self.lock();
        let id = &instance.instance_id;
        state.interrupted.contains(id) && state.reported.insert(id.clone())
    }
}

//! Notices that spot instances will be interrupted in two minutes: received from a queue that EC2's events are sent to,
//! or by polling.

use std::thread;
use std::time::Duration;

use planner::MachineName;
use serde::Deserialize;

use super::api::{Call, Client, Service};
use super::conditions::Conditions;
use super::settings::Settings;
use super::wire;
use super::{Ec2Provider, Place, Purchase};
use crate::providers::ProviderError;
use crate::providers::cloud::RetryBudget;

/// One request to the queue waits as long as SQS allows; this adds the transfer time.
const LIMIT: Duration = Duration::from_secs(25);
/// Interval of polling without a queue.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The queue that EC2's events are sent to.
#[derive(Debug)]
pub(super) struct NoticeQueue(Client);

/// An event of EC2, as `EventBridge` sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Notice {
    detail_type: String,
    detail: Detail,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    instance_id: String,
}

impl NoticeQueue {
    /// `types` are the configured ones. `None` if none of them sets `spotQueue`.
    pub(super) fn new<'a>(mut types: impl Iterator<Item = &'a Settings>) -> Option<Self> {
        let settings = types.find(|settings| settings.spot_queue.is_some())?;
        Some(Self(Client::new(settings, Service::sqs(settings, settings.spot_queue.clone()?))))
    }

    /// Waits for messages. They are delivered again until they are [forgotten](Self::forget).
    fn receive(&self, retries: &mut RetryBudget) -> Result<Vec<wire::Message>, ProviderError> {
        let call = Call::new("ReceiveMessage")
            .with("MaxNumberOfMessages", "10")
            .with("WaitTimeSeconds", "20")
            .with("VisibilityTimeout", "30");
        let answer: wire::ReceiveMessage = self.0.call(&call, retries)?;
        Ok(answer.receive_message_result.messages)
    }

    /// Whether messages can be received. None is taken out.
    pub(super) fn look(&self, retries: &mut RetryBudget) -> Result<(), ProviderError> {
        let call = Call::new("ReceiveMessage")
            .with("MaxNumberOfMessages", "1")
            .with("WaitTimeSeconds", "0")
            .with("VisibilityTimeout", "0");
        self.0.call::<wire::Done>(&call, retries)?;
        Ok(())
    }

    fn forget(
        &self,
        message: &wire::Message,
        retries: &mut RetryBudget,
    ) -> Result<(), ProviderError> {
        let call = Call::new("DeleteMessage").with("ReceiptHandle", &message.receipt_handle);
        self.0.call::<wire::Done>(&call, retries)?;
        Ok(())
    }
}

/// The instance that the message announces the interruption of.
fn announced(message: &wire::Message) -> Option<String> {
    let notice: Notice = serde_json::from_str(&message.body).ok()?;
    (notice.detail_type == "EC2 Spot Instance Interruption Warning")
        .then_some(notice.detail.instance_id)
}

impl Ec2Provider {
    pub(super) fn has_spot_types(&self) -> bool {
        self.types.values().any(|settings| settings.purchase.contains(&Purchase::Spot))
    }

    /// The machines with interruption notices.
    pub(super) fn wait_for_notices(&self) -> Result<Vec<MachineName>, ProviderError> {
        let Some(queue) = &self.notice_queue else {
            thread::sleep(POLL_INTERVAL);
            return self.ask_for_notices();
        };
        let mut retries = RetryBudget::new(LIMIT);
        let messages = queue.receive(&mut retries)?;
        let names =
            self.note_notices(&messages.iter().filter_map(announced).collect::<Vec<_>>())?;
        for message in &messages {
            queue.forget(message, &mut retries)?;
        }
        Ok(names)
    }

    fn ask_for_notices(&self) -> Result<Vec<MachineName>, ProviderError> {
        if !self.conditions.has_spot_instances() {
            return Ok(Vec::new());
        }
        let mut retries = RetryBudget::new(LIMIT);
        let marked = Conditions::ask_for_notices(&self.client, &mut retries)?;
        let unreported = marked.into_iter().filter(|id| self.conditions.is_unreported(id));
        self.note_notices(&unreported.collect::<Vec<_>>())
    }

    /// Remembers interrupted instances and their offers, which are then not requested for a while.
    fn note_notices(&self, ids: &[String]) -> Result<Vec<MachineName>, ProviderError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.conditions.add_notices(ids.iter().cloned());
        let call = self.ours().filter(3, "instance-id", ids);
        let instances = self.describe(&call, &mut RetryBudget::new(LIMIT))?;
        self.note_interruptions(&instances);
        let machines = instances.iter().filter_map(|instance| self.machine(instance));
        Ok(machines.map(|machine| machine.name).collect())
    }

    /// An offer that was just interrupted is not requested again immediately.
    pub(super) fn note_interruptions(&self, instances: &[wire::Instance]) {
        for instance in instances.iter().filter(|one| self.conditions.is_new_notice(one)) {
            let (instance_type, zone) =
                (&instance.instance_type, &instance.placement.availability_zone);
            if !instance.is_spot() {
                tracing::warn!(
                    instance = instance.instance_id,
                    "EC2 has scheduled the end of the instance (retirement or stop): it is replaced"
                );
                continue;
            }
            tracing::warn!(
                instance = instance.instance_id,
                instance_type,
                zone,
                "EC2 takes the spot instance back within two minutes"
            );
            let places = [
                Place::Anywhere,
                Place::Zone(zone.clone()),
                Place::Subnet(instance.subnet_id.clone()),
            ];
            for place in places {
                let instance_type = instance_type.clone();
                let offer = super::Offer { purchase: Purchase::Spot, instance_type, place };
                self.set_aside.add(offer, "an instance was taken back".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> wire::Message {
        wire::Message { receipt_handle: String::new(), body: body.to_owned() }
    }

    /// As in EC2's documentation.
    #[test]
    fn only_a_warning_of_an_interruption_is_one() {
        let event = r#"{"version":"0","id":"1","detail-type":"EC2 Spot Instance Interruption Warning","source":"aws.ec2",
            "account":"123456789012","time":"2026-11-25T10:00:00Z","region":"eu-central-1","resources":[],
            "detail":{"instance-id":"i-1234567890abcdef0","instance-action":"terminate"}}"#;
        assert_eq!(announced(&message(event)).as_deref(), Some("i-1234567890abcdef0"));
        let other = event.replace("Interruption Warning", "Request Fulfillment");
        for text in [other.as_str(), "", "{}", "null", "[1]", r#"{"detail-type":1}"#] {
            assert_eq!(announced(&message(text)), None, "{text}");
        }
    }
}

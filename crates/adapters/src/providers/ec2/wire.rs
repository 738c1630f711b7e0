//! The parts of EC2's answers that we use (API version 2016-11-15). Unknown elements are skipped.

use std::collections::BTreeMap;

use jiff::Timestamp as Instant;
use planner::{MachineState, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::settings::{Address, Purchase};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeInstances {
    #[serde(default)]
    reservation_set: Items<Reservation>,
    #[serde(default)]
    pub(super) next_token: String,
}

impl DescribeInstances {
    pub(super) fn into_instances(self) -> impl Iterator<Item = Instance> {
        self.reservation_set.item.into_iter().flat_map(|one| one.instances_set.item)
    }
}

/// Also the answer of `RunInstances`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reservation {
    #[serde(default)]
    pub(super) instances_set: Items<Instance>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Items<T> {
    #[serde(default = "Vec::new")]
    pub(super) item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "EC2's own names")]
pub(super) struct Instance {
    pub(super) instance_id: String,
    pub(super) instance_state: Named,
    #[serde(default)]
    pub(super) instance_type: String,
    #[serde(default)]
    pub(super) image_id: String,
    launch_time: Option<Instant>,
    #[serde(default)]
    ip_address: String,
    #[serde(default)]
    private_ip_address: String,
    #[serde(default)]
    pub(super) placement: Placement,
    #[serde(default)]
    pub(super) subnet_id: String,
    #[serde(default)]
    instance_lifecycle: String,
    #[serde(default)]
    pub(super) tag_set: Items<TagItem>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Placement {
    #[serde(default)]
    pub(super) availability_zone: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct TagItem {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

impl Instance {
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tag_set.item.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }

    /// `None` if it is being terminated or is gone: terminated instances are listed for an hour.
    pub(super) fn state(&self) -> Option<MachineState> {
        Some(match self.instance_state.name.as_str() {
            "pending" => MachineState::Starting,
            "running" => MachineState::Up,
            "stopping" => MachineState::Stopping,
            "stopped" => MachineState::Stopped,
            "shutting-down" | "terminated" => return None,
            _ => MachineState::Unreachable,
        })
    }

    /// When it was last started.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        self.launch_time.and_then(|time| u64::try_from(time.as_second()).ok()).map(Timestamp)
    }

    pub(super) fn address(&self, wanted: Address) -> Option<&str> {
        let address = match wanted {
            Address::Public => &self.ip_address,
            Address::Private => &self.private_ip_address,
        };
        (!address.is_empty()).then_some(address.as_str())
    }

    pub(super) fn is_spot(&self) -> bool {
        self.instance_lifecycle == "spot"
    }

    pub(super) fn purchase(&self) -> Purchase {
        if self.is_spot() { Purchase::Spot } else { Purchase::OnDemand }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeImages {
    #[serde(default)]
    pub(super) images_set: Items<ImageItem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageItem {
    pub(super) image_id: String,
    /// Sorts by time as text.
    #[serde(default)]
    pub(super) creation_date: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetParameters {
    pub(super) parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Parameter {
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeInstanceTypes {
    #[serde(default)]
    pub(super) instance_type_set: Items<InstanceType>,
    #[serde(default)]
    pub(super) next_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "EC2's own facts of a type")]
pub(super) struct InstanceType {
    #[serde(rename = "instanceType")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) bare_metal: bool,
    #[serde(default)]
    pub(super) burstable_performance_supported: bool,
    #[serde(default)]
    pub(super) current_generation: bool,
    #[serde(default)]
    pub(super) hibernation_supported: bool,
    #[serde(default, rename = "vCpuInfo")]
    pub(super) cpu: Cpu,
    #[serde(default)]
    pub(super) memory_info: Memory,
    pub(super) gpu_info: Option<IgnoredAny>,
    pub(super) fpga_info: Option<IgnoredAny>,
    pub(super) inference_accelerator_info: Option<IgnoredAny>,
    pub(super) neuron_info: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Cpu {
    #[serde(rename = "defaultVCpus")]
    pub(super) count: u32,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Memory {
    #[serde(rename = "sizeInMiB")]
    pub(super) mebibytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeSpotPriceHistory {
    #[serde(default)]
    pub(super) spot_price_history_set: Items<SpotPrice>,
    #[serde(default)]
    pub(super) next_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpotPrice {
    pub(super) instance_type: String,
    pub(super) availability_zone: String,
    #[serde(rename = "spotPrice")]
    pub(super) price: String,
    /// Sorts by time as text.
    #[serde(default)]
    pub(super) timestamp: String,
}

/// Each product is a JSON text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetProducts {
    pub(super) price_list: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Product {
    pub(super) terms: Terms,
}

#[derive(Debug, Deserialize)]
pub(super) struct Terms {
    #[serde(default, rename = "OnDemand")]
    pub(super) on_demand: BTreeMap<String, Term>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Term {
    pub(super) price_dimensions: BTreeMap<String, PriceDimension>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PriceDimension {
    pub(super) unit: String,
    /// By currency: `USD`, in China `CNY`.
    pub(super) price_per_unit: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeInstanceStatus {
    #[serde(default)]
    pub(super) instance_status_set: Items<InstanceStatus>,
    #[serde(default)]
    pub(super) next_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceStatus {
    #[serde(default)]
    pub(super) instance_id: String,
    #[serde(default)]
    events_set: Items<ScheduledEvent>,
    #[serde(rename = "instanceStatus")]
    checks: Option<StatusSummary>,
}

#[derive(Debug, Deserialize)]
struct StatusSummary {
    #[serde(default)]
    status: String,
}

#[derive(Debug, Deserialize)]
struct ScheduledEvent {
    #[serde(default)]
    description: String,
}

impl InstanceStatus {
    /// Whether its checks fail. Only such instances were asked for, but an emulator may ignore the filter.
    pub(super) fn is_impaired(&self) -> bool {
        self.checks.as_ref().is_none_or(|summary| summary.status == "impaired")
    }

    /// Whether one of its scheduled events is still to come: past ones are listed for a week.
    pub(super) fn has_open_event(&self) -> bool {
        let is_past =
            |text: &str| text.starts_with("[Completed]") || text.starts_with("[Canceled]");
        self.events_set.item.iter().any(|event| !is_past(&event.description))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeSpotInstanceRequests {
    #[serde(default)]
    pub(super) spot_instance_request_set: Items<InstanceNumber>,
    #[serde(default)]
    pub(super) next_token: String,
}

/// Only the id of an instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceNumber {
    #[serde(default)]
    pub(super) instance_id: String,
}

/// An answer; its content is ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Done {}

/// Messages of a queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReceiveMessage {
    pub(super) receive_message_result: Messages,
}

#[derive(Debug, Deserialize)]
pub(super) struct Messages {
    #[serde(default, rename = "Message")]
    pub(super) messages: Vec<Message>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Message {
    pub(super) receipt_handle: String,
    #[serde(default)]
    pub(super) body: String,
}

/// A refusal: EC2 gives a list of errors, of one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Problem {
    errors: Option<ProblemList>,
    error: Option<ProblemText>,
}

impl Problem {
    pub(super) fn into_text(self) -> Option<ProblemText> {
        self.errors.map(|list| list.error).or(self.error)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProblemList {
    error: ProblemText,
}

/// A refusal of a service with JSON.
#[derive(Debug, Deserialize)]
pub(super) struct JsonProblem {
    #[serde(rename = "__type")]
    pub(super) code: String,
    #[serde(default, alias = "Message")]
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProblemText {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_read_and_the_unknown_skipped() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
            <DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
              <requestId>1</requestId>
              <reservationSet><item><reservationId>r-1</reservationId><ownerId>1</ownerId><groupSet/>
                <instancesSet><item>
                  <instanceId>i-1</instanceId><imageId>ami-1</imageId>
                  <instanceState><code>16</code><name>running</name></instanceState>
                  <privateDnsName/><instanceType>c8i.large</instanceType>
                  <launchTime>2026-11-25T10:32:03.000Z</launchTime>
                  <placement><availabilityZone>eu-central-1a</availabilityZone><tenancy>default</tenancy></placement>
                  <privateIpAddress>10.0.0.7</privateIpAddress><ipAddress>192.0.2.7</ipAddress>
                  <tagSet><item><key>a</key><value>1 &amp; 2</value></item><item><key>b</key><value/></item></tagSet>
                  <instanceLifecycle>spot</instanceLifecycle>
                </item></instancesSet></item></reservationSet>
              <nextToken>more</nextToken>
            </DescribeInstancesResponse>"#;
        let answer: DescribeInstances = quick_xml::de::from_str(xml).unwrap();
        assert_eq!(answer.next_token, "more");
        let instance = answer.into_instances().next().unwrap();
        assert_eq!(instance.state(), Some(MachineState::Up));
        assert_eq!((instance.tag("a"), instance.tag("b")), (Some("1 & 2"), Some("")));
        assert_eq!(instance.address(Address::Public), Some("192.0.2.7"));
        assert_eq!(instance.started_at(), Some(Timestamp(1_795_602_723)));
        assert!(instance.is_spot());
    }

    #[test]
    fn an_event_that_is_over_is_not_open() {
        let status = |description: &str| {
            let xml = format!(
                "<R><instanceStatusSet><item><instanceId>i-1</instanceId><eventsSet><item><code>instance-retirement</code>\
                 <description>{description}</description></item></eventsSet></item></instanceStatusSet></R>"
            );
            let answer: DescribeInstanceStatus = quick_xml::de::from_str(&xml).unwrap();
            answer.instance_status_set.item[0].has_open_event()
        };
        assert!(status("The instance is running on degraded hardware"));
        assert!(!status("[Completed] The instance is running on degraded hardware"));
        assert!(!status("[Canceled] The instance is running on degraded hardware"));
    }

    #[test]
    fn a_healthy_instance_is_not_impaired_even_if_it_is_listed() {
        for (status, expected) in [("ok", false), ("initializing", false), ("impaired", true)] {
            let xml = format!(
                "<R><instanceStatusSet><item><instanceId>i-1</instanceId>\
                 <instanceStatus><details/><status>{status}</status></instanceStatus></item></instanceStatusSet></R>"
            );
            let answer: DescribeInstanceStatus = quick_xml::de::from_str(&xml).unwrap();
            assert_eq!(answer.instance_status_set.item[0].is_impaired(), expected, "{status}");
        }
    }

    #[test]
    fn no_instances_and_errors_are_read() {
        let none: DescribeInstances =
            quick_xml::de::from_str("<R><reservationSet/><requestId>1</requestId></R>").unwrap();
        assert_eq!(none.into_instances().count(), 0);
        let problem: Problem = quick_xml::de::from_str(
            "<Response><Errors><Error><Code>VcpuLimitExceeded</Code><Message>No.</Message></Error></Errors><RequestID>1</RequestID></Response>",
        )
        .unwrap();
        assert_eq!(problem.into_text().unwrap().code, "VcpuLimitExceeded");
        let problem: Problem = quick_xml::de::from_str(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code></Error></ErrorResponse>",
        )
        .unwrap();
        assert_eq!(problem.into_text().unwrap().code, "AccessDenied");
    }
}

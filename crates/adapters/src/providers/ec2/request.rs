//! The `RunInstances` request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::{MachineName, MachineType, Tag};
use serde::{Deserialize, Serialize};

use super::api::Call;
use super::settings::{Address, Place, Purchase, Requirements, Settings};
use crate::providers::cloud::{NewMachine, UserDataRules};

/// Tags of instances: the owner.
pub(super) const TAG: &str = "hydra-provisioner:tag";
/// Its machine's name.
pub(super) const NAME: &str = "hydra-provisioner:name";
/// Its machine's type.
pub(super) const TYPE: &str = "hydra-provisioner:type";
/// The digest of the settings that it was made from.
pub(super) const SETTINGS: &str = "hydra-provisioner:settings";
/// The digest of the ssh keys that may log in.
pub(super) const KEYS: &str = "hydra-provisioner:keys";
/// Its public host key.
pub(super) const HOST_KEY: &str = "hydra-provisioner:host-key";
/// Maximum length of a tag's value, in characters.
pub(super) const VALUE_LIMIT: usize = 256;
/// User data is limited before it is encoded in base64.
pub(crate) const USER_DATA: UserDataRules =
    UserDataRules { option: "provider.ec2", most_bytes: 16 * 1024 };

/// One way to get an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Offer {
    pub(super) purchase: Purchase,
    pub(super) instance_type: String,
    pub(super) place: Place,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.purchase, self.instance_type, self.place)
    }
}

/// The purchase option takes precedence, then the type, then the place.
pub(super) fn offers(
    settings: &Settings,
    instance_types: &[String],
    purchase: &[Purchase],
) -> Vec<Offer> {
    let mut offers = Vec::new();
    for purchase in purchase {
        for instance_type in instance_types {
            for place in &settings.places {
                offers.push(Offer {
                    purchase: *purchase,
                    instance_type: instance_type.clone(),
                    place: place.clone(),
                });
            }
        }
    }
    offers
}

/// The offers as text. With `instanceRequirements` the types are known only online.
pub(in crate::providers) fn described_offers(settings: &Settings) -> Vec<String> {
    let types = match &settings.requirements {
        None => settings.instance_types.clone(),
        Some(Requirements { cpus, memory, architecture }) => {
            vec![format!("{architecture} with {cpus} CPUs and {memory} MiB")]
        }
    };
    offers(settings, &types, &settings.purchase).iter().map(ToString::to_string).collect()
}

/// The call for one instance, without its token.
pub(super) fn run_instances(
    settings: &Settings,
    offer: &Offer,
    image: &str,
    tags: &[(String, String)],
    new: &NewMachine,
) -> Call {
    let mut call = Call::new("RunInstances")
        .with("MinCount", "1")
        .with("MaxCount", "1")
        .with("ImageId", image)
        .with("InstanceType", &offer.instance_type)
        .with("UserData", BASE64.encode(&new.user_data))
        // A machine that powers itself off no longer costs anything.
        .with("InstanceInitiatedShutdownBehavior", "terminate")
        .with("MetadataOptions.HttpTokens", "required")
        .with("MetadataOptions.HttpPutResponseHopLimit", "1");
    if offer.purchase == Purchase::Spot {
        // One-time, and terminated on interruption: nothing is left behind.
        call = call
            .with("InstanceMarketOptions.MarketType", "spot")
            .with("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time")
            .with("InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior", "terminate");
    }
    if settings.hibernate {
        call = call.with("HibernationOptions.Configured", "true");
    }
    if settings.nested_virtualization {
        call = call.with("CpuOptions.NestedVirtualization", "enabled");
    }
    if let Some(name) = &settings.key_name {
        call = call.with("KeyName", name);
    }
    if let Some(name) = &settings.instance_profile {
        call = call.with("IamInstanceProfile.Name", name);
    }
    if let Some(volume) = &settings.root_volume {
        call = call
            .with("BlockDeviceMapping.1.DeviceName", &volume.device)
            .with("BlockDeviceMapping.1.Ebs.VolumeSize", volume.size.to_string())
            .with("BlockDeviceMapping.1.Ebs.VolumeType", &volume.volume_type)
            .with("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true");
        if volume.encrypted {
            call = call.with("BlockDeviceMapping.1.Ebs.Encrypted", "true");
        }
    }
    tagged(placed(call, settings, &offer.place), tags)
}

fn placed(call: Call, settings: &Settings, place: &Place) -> Call {
    match place {
        Place::Subnet(subnet) => {
            let is_public = settings.address == Address::Public;
            call.with("NetworkInterface.1.DeviceIndex", "0")
                .with("NetworkInterface.1.SubnetId", subnet)
                .with("NetworkInterface.1.AssociatePublicIpAddress", is_public.to_string())
                .list("NetworkInterface.1.SecurityGroupId", &settings.security_groups)
        }
        Place::Zone(zone) => call
            .with("Placement.AvailabilityZone", zone)
            .list("SecurityGroupId", &settings.security_groups),
        Place::Anywhere => call.list("SecurityGroupId", &settings.security_groups),
    }
}

fn tagged(mut call: Call, tags: &[(String, String)]) -> Call {
    for (number, resource) in [(1, "instance"), (2, "volume")] {
        call = call.with(format!("TagSpecification.{number}.ResourceType"), resource);
        for (index, (key, value)) in tags.iter().enumerate() {
            let prefix = format!("TagSpecification.{number}.Tag.{}", index + 1);
            call = call.with(format!("{prefix}.Key"), key).with(format!("{prefix}.Value"), value);
        }
    }
    call
}

/// The tags of a machine.
pub(super) fn tags(
    settings: &Settings,
    tag: &Tag,
    name: &MachineName,
    machine_type: &MachineType,
    new: &NewMachine,
    digest: &str,
) -> Vec<(String, String)> {
    let ours = [
        ("Name", name.as_str()),
        (TAG, tag.as_str()),
        (NAME, name.as_str()),
        (TYPE, machine_type.as_str()),
        (SETTINGS, digest),
        (KEYS, &new.keys),
        (HOST_KEY, new.host_key.line()),
    ];
    let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let theirs = settings.tags.iter().map(|(key, value)| (key.clone(), value.clone()));
    ours.chain(theirs).collect()
}

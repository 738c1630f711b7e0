//! `provider.ec2` in `conf.nix`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::providers::cloud::Login;
use crate::providers::{ProviderSettings, digest_of};

/// `provider.ec2` in `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent options")]
pub struct Settings {
    /// Such as `eu-central-1`.
    pub region: String,
    /// Another API address than the region's.
    pub endpoint: Option<String>,
    /// A profile of the credentials file.
    pub profile: Option<String>,
    /// The credentials file, if not the SDK's default.
    pub credentials_file: Option<PathBuf>,
    /// The image of instances.
    pub image: Image,
    /// Instance types in order of preference; empty with `requirements`.
    pub instance_types: Vec<String>,
    /// What instance types must have, instead of their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// Places in order of preference; not empty.
    pub places: Vec<Place>,
    /// Purchase options in order of preference; not empty.
    pub purchase: Vec<Purchase>,
    /// How many instances are bought with which option, if not in that order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
    /// The API address of the price list, if not AWS' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing_endpoint: Option<String>,
    /// Whether prices are fetched: no price is configured. Not part of what an instance is made from.
    #[serde(skip)]
    pub fetches_prices: bool,
    /// Whether it matters that a machine's image is not the newest. Not part of what an instance is made from.
    #[serde(skip)]
    pub watches_image: bool,
    /// The address of the queue (SQS) that interruption notices of spot instances are sent to.
    pub spot_queue: Option<String>,
    /// Ids of security groups.
    pub security_groups: Vec<String>,
    /// The name of a key pair.
    pub key_name: Option<String>,
    /// The name of an instance profile.
    pub instance_profile: Option<String>,
    /// The root volume, if not the image's.
    pub root_volume: Option<RootVolume>,
    /// Whether virtual machines can run on the instances.
    pub nested_virtualization: bool,
    /// Whether an idle instance that is stopped hibernates.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hibernate: bool,
    /// The address that we use to reach an instance.
    pub address: Address,
    /// Additional tags of instances and volumes.
    pub tags: BTreeMap<String, String>,
    /// Who may log in, and how instances get their identity.
    pub login: Login,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Settings {
    /// The account and region of the instances, as far as the settings show them.
    pub fn identity(&self) -> String {
        let Self { region, endpoint, profile, credentials_file, .. } = self;
        let given = [
            endpoint.clone(),
            profile.as_ref().map(|profile| format!("profile {profile}")),
            credentials_file.as_ref().map(|file| file.display().to_string()),
        ];
        given.into_iter().flatten().fold(format!("ec2 {region}"), |text, part| text + " " + &part)
    }

    /// A short digest of what an instance is made from.
    pub(in crate::providers) fn digest(&self) -> String {
        digest_of(&ProviderSettings::Ec2(Box::new(self.made_from())))
    }

    /// What an instance is made from.
    fn made_from(&self) -> Self {
        Self {
            endpoint: None,
            profile: None,
            credentials_file: None,
            purchase: Vec::new(),
            mix: None,
            pricing_endpoint: None,
            spot_queue: None,
            ..self.clone()
        }
    }
}

/// The image of instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Image {
    /// An id, `ami-...`.
    Id(String),
    /// The SSM parameter with the id.
    Parameter(String),
    /// The newest image of an owner with a matching name.
    Newest {
        /// An account's number or alias.
        owner: String,
        /// A name with `*`.
        name: String,
        /// `x86_64` or `arm64`.
        architecture: Option<String>,
    },
}

/// The place of an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Place {
    /// Any zone of the default network, chosen by EC2.
    Anywhere,
    /// A subnet's id.
    Subnet(String),
    /// An availability zone of the default network.
    Zone(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anywhere => "any zone",
            Self::Subnet(name) | Self::Zone(name) => name,
        })
    }
}

/// The purchase option of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purchase {
    /// At the list price.
    OnDemand,
    /// Cheaper, but interrupted at two minutes' notice.
    Spot,
}

impl fmt::Display for Purchase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        })
    }
}

/// A mix of purchase options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mix {
    /// This many instances are on-demand.
    pub base: u32,
    /// Percentage of the others that are spot.
    pub spot_share: u32,
    /// After this many creations in a row without spot capacity, on-demand is used instead.
    pub fallback_after: u32,
}

/// What instance types must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirements {
    /// The least number of virtual CPUs.
    pub cpus: u32,
    /// The least memory in MiB.
    pub memory: u64,
    /// `x86_64` or `arm64`.
    pub architecture: String,
}

/// The root volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootVolume {
    /// The device name in the image.
    pub device: String,
    /// GiB.
    pub size: u32,
    /// Such as `gp3`.
    pub volume_type: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// The address that we use to reach an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// The public one.
    #[default]
    Public,
    /// The one in its subnet; it gets no public one there.
    Private,
}

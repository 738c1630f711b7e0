//! `provider.ec2` in `conf.nix`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::providers::cloud::Login;

/// `provider.ec2` in `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Such as `eu-central-1`.
    pub region: String,
    /// Another address of the API than the region's.
    pub endpoint: Option<String>,
    /// A profile of the credentials file.
    pub profile: Option<String>,
    /// The credentials file, where it is not the SDK's own.
    pub credentials_file: Option<PathBuf>,
    /// What instances boot from.
    pub image: Image,
    /// Instance types in order of preference; not empty.
    pub instance_types: Vec<String>,
    /// Where, in order of preference; not empty.
    pub places: Vec<Place>,
    /// How they are paid for, in order of preference; not empty.
    pub purchase: Vec<Purchase>,
    /// Ids of security groups.
    pub security_groups: Vec<String>,
    /// The name of a key pair.
    pub key_name: Option<String>,
    /// The name of an instance profile.
    pub instance_profile: Option<String>,
    /// The root volume, where it is not to be the image's.
    pub root_volume: Option<RootVolume>,
    /// Whether virtual machines can run on the instances.
    pub nested_virtualization: bool,
    /// Which of its addresses an instance is reached at.
    pub address: Address,
    /// Further tags of instances and volumes.
    pub tags: BTreeMap<String, String>,
    /// Who may log in, and how instances are told who they are.
    pub login: Login,
}

impl Settings {
    /// The account and region that the instances are in, as far as it can be told from here.
    pub fn identity(&self) -> String {
        let Self { region, endpoint, profile, credentials_file, .. } = self;
        let given = [
            endpoint.clone(),
            profile.as_ref().map(|profile| format!("profile {profile}")),
            credentials_file.as_ref().map(|file| file.display().to_string()),
        ];
        given.into_iter().flatten().fold(format!("ec2 {region}"), |text, part| text + " " + &part)
    }
}

/// What instances boot from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Image {
    /// An id, `ami-...`.
    Id(String),
    /// The SSM parameter that has it.
    Parameter(String),
    /// The newest of an owner with a matching name.
    Newest {
        /// An account's number or alias.
        owner: String,
        /// A name with `*`.
        name: String,
        /// `x86_64` or `arm64`.
        architecture: Option<String>,
    },
}

/// Where an instance is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Place {
    /// Wherever EC2 likes, in the default network.
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

/// How an instance is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purchase {
    /// At the list price.
    OnDemand,
    /// Cheaper, and taken back at two minutes' notice.
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

/// The root volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootVolume {
    /// What the image calls it.
    pub device: String,
    /// GiB.
    pub size: u32,
    /// Such as `gp3`.
    pub volume_type: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// Which of its addresses an instance is reached at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// The public one.
    #[default]
    Public,
    /// The one in its subnet; it gets no public one there.
    Private,
}

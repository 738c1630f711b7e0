//! `provider.hcloud` in `conf.nix`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use planner::Money;
use serde::{Deserialize, Serialize};

use crate::providers::cloud::Login;
use crate::providers::{ProviderSettings, digest_of};

/// The URL of Hetzner's API.
pub const ENDPOINT: &str = "https://api.hetzner.cloud/v1";

/// `provider.hcloud` in `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The file with the project's API token.
    pub token_file: PathBuf,
    /// The API's URL, without a trailing slash.
    pub endpoint: String,
    /// Server types in order of preference; not empty.
    pub server_types: Vec<String>,
    /// Locations in order of preference; not empty.
    pub locations: Vec<String>,
    /// The image of servers.
    pub image: Image,
    /// Whether it matters that a machine's image is not the newest. Not part of what a server is made from.
    #[serde(skip)]
    pub watches_image: bool,
    /// Names or ids of the project's ssh keys.
    pub ssh_keys: Vec<String>,
    /// Ids of networks to attach.
    pub networks: Vec<u64>,
    /// Ids of firewalls to apply.
    pub firewalls: Vec<u64>,
    /// The id of a placement group.
    pub placement_group: Option<u64>,
    /// The address that we use to reach a server.
    pub address: Address,
    /// Dollars for one unit of the account's currency. `None`: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_rate: Option<Money>,
    /// Additional labels.
    pub labels: BTreeMap<String, String>,
    /// Who may log in, and how servers get their identity.
    pub login: Login,
}

impl Settings {
    /// A short digest of what a server is made from.
    pub(in crate::providers) fn digest(&self) -> String {
        digest_of(&ProviderSettings::Hcloud(Box::new(self.made_from())))
    }

    /// What a server is made from.
    fn made_from(&self) -> Self {
        Self {
            token_file: PathBuf::new(),
            endpoint: String::new(),
            exchange_rate: None,
            ..self.clone()
        }
    }
}

/// The image of servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Image {
    /// A name or id.
    Name(String),
    /// The newest snapshot with these labels (a label selector).
    Newest(String),
}

/// The address that we use to reach a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// The public IPv4 address.
    #[default]
    Ipv4,
    /// The first address of the public IPv6 network; no IPv4 address is paid for.
    Ipv6,
    /// The one in the first of `networks`; the server has no public address.
    Private,
}

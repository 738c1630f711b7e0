//! `provider.hcloud` in `conf.nix`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::providers::cloud::Login;

/// Where Hetzner's API is.
pub const ENDPOINT: &str = "https://api.hetzner.cloud/v1";

/// `provider.hcloud` in `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The file with the project's API token.
    pub token_file: PathBuf,
    /// The API's address, without a slash at the end.
    pub endpoint: String,
    /// Server types in order of preference; not empty.
    pub server_types: Vec<String>,
    /// Locations in order of preference; not empty.
    pub locations: Vec<String>,
    /// What servers boot from.
    pub image: Image,
    /// Names or numbers of the project's ssh keys.
    pub ssh_keys: Vec<String>,
    /// Numbers of networks to attach.
    pub networks: Vec<u64>,
    /// Numbers of firewalls to apply.
    pub firewalls: Vec<u64>,
    /// The number of a placement group.
    pub placement_group: Option<u64>,
    /// Which of its addresses a server is reached at.
    pub address: Address,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// Who may log in, and how servers are told who they are.
    pub login: Login,
}

/// What servers boot from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Image {
    /// A name or number.
    Name(String),
    /// The newest snapshot with these labels (a label selector).
    Newest(String),
}

/// Which of its addresses a server is reached at.
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

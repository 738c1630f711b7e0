//! The parts of API answers that we use (the public description of Hetzner Cloud's API, v1). Unknown keys are
//! skipped, so that the API may grow.

use std::collections::BTreeMap;

use jiff::Timestamp as Instant;
use planner::Timestamp;
use serde::Deserialize;

use super::settings::Address;

#[derive(Debug, Deserialize)]
pub(super) struct ServerList {
    pub(super) servers: Vec<Server>,
    pub(super) meta: Meta,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) pagination: Pagination,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pagination {
    pub(super) next_page: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OneServer {
    pub(super) server: Server,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) created: Instant,
    /// An action is changing it.
    #[serde(default)]
    pub(super) locked: bool,
    #[serde(default)]
    public_net: PublicNet,
    #[serde(default)]
    private_net: Vec<Ip>,
    /// Newer than `datacenter`, which is deprecated.
    #[serde(default)]
    location: Option<Named>,
    #[serde(default)]
    datacenter: Option<Datacenter>,
    #[serde(rename = "server_type")]
    made_as: Named,
    /// Absent once it is deleted.
    #[serde(default)]
    pub(super) image: Option<ImageNumber>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

/// Any other status is unknown to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Initializing,
    Starting,
    Running,
    Stopping,
    Off,
    Deleting,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PublicNet {
    ipv4: Option<Ip>,
    ipv6: Option<Ip>,
}

#[derive(Clone, Debug, Deserialize)]
struct Ip {
    /// An address; for IPv6 a network.
    ip: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Datacenter {
    location: Named,
}

impl Server {
    /// When it was created; it costs money from then on.
    pub(super) fn created_at(&self) -> Timestamp {
        Timestamp(u64::try_from(self.created.as_second()).unwrap_or(0))
    }

    /// Its address, once known. `None` if it has no address of the wanted kind.
    pub(super) fn address(&self, wanted: Address) -> Option<String> {
        let ipv4 = self.public_net.ipv4.as_ref().map(|ipv4| ipv4.ip.clone());
        let ipv6 = || self.public_net.ipv6.as_ref().and_then(|ipv6| first_host(&ipv6.ip));
        let private = || self.private_net.first().map(|net| net.ip.clone());
        match wanted {
            Address::Ipv4 => ipv4.or_else(ipv6).or_else(private),
            Address::Ipv6 => ipv6().or(ipv4).or_else(private),
            Address::Private => private(),
        }
    }

    /// The server type and the location.
    pub(super) fn place(&self) -> (&str, Option<&str>) {
        let location =
            self.location.as_ref().or(self.datacenter.as_ref().map(|center| &center.location));
        (&self.made_as.name, location.map(|location| location.name.as_str()))
    }
}

/// The address of a server in its network: the first one.
fn first_host(network: &str) -> Option<String> {
    let address: std::net::Ipv6Addr = network.split('/').next()?.parse().ok()?;
    Some(std::net::Ipv6Addr::from(u128::from(address) | 1).to_string())
}

#[derive(Debug, Deserialize)]
pub(super) struct ImageList {
    pub(super) images: Vec<ImageNumber>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ImageNumber {
    pub(super) id: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pricing {
    pub(super) pricing: PriceList,
}

#[derive(Debug, Deserialize)]
pub(super) struct PriceList {
    pub(super) currency: String,
    pub(super) server_types: Vec<TypePrices>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TypePrices {
    pub(super) name: String,
    pub(super) prices: Vec<LocationPrice>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LocationPrice {
    pub(super) location: String,
    pub(super) price_hourly: Amount,
}

#[derive(Debug, Deserialize)]
pub(super) struct Amount {
    /// With value-added tax.
    pub(super) gross: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) error: ProblemText,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProblemText {
    pub(super) code: String,
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_at_the_wanted_address() {
        let server: Server = serde_json::from_value(serde_json::json!({
            "id": 1, "name": "farm-0", "status": "migrating", "created": "2026-11-25T09:41:11+00:00",
            "public_net": {
                "ipv4": { "ip": "192.0.2.7", "blocked": false },
                "ipv6": { "ip": "2001:db8:1:2::/64" },
            },
            "private_net": [{ "network": 5, "ip": "10.0.0.2" }],
            "server_type": { "name": "cx22" },
            "datacenter": { "name": "fsn1-dc14", "location": { "name": "fsn1" } },
        }))
        .unwrap();
        assert_eq!(server.address(Address::Ipv4).as_deref(), Some("192.0.2.7"));
        assert_eq!(server.address(Address::Ipv6).as_deref(), Some("2001:db8:1:2::1"));
        assert_eq!(server.address(Address::Private).as_deref(), Some("10.0.0.2"));
        assert_eq!(server.place(), ("cx22", Some("fsn1")));
        assert_eq!(server.status, Status::Unknown);
        assert_eq!(server.created_at(), Timestamp(1_795_599_671));
    }
}

//! `systemTypes.<T>.provider.hcloud`.

use super::cloud;
use super::reader::Attrs;
use crate::providers::{ProviderSettings, hcloud};

/// The prefix of our labels.
const OUR_LABELS: &str = "hydra-provisioner/";

/// Reads the settings; `None` if they are absent or invalid.
pub(super) fn read(provider: &Attrs<'_>, ssh_key: Option<&str>) -> Option<ProviderSettings> {
    let attrs = provider.attrs("hcloud")?;
    let token_file = attrs.absolute_path("tokenFile");
    if attrs.get("tokenFile").is_none() {
        attrs.problem("tokenFile", "must be set: the file with the project's API token");
    }
    let ssh_keys = attrs.texts("sshKeys").unwrap_or_default();
    let networks = cloud::numbers(&attrs, "networks");
    let login = cloud::login(&attrs, ssh_key, !ssh_keys.is_empty());
    let settings = hcloud::Settings {
        token_file: token_file.clone().unwrap_or_default(),
        endpoint: cloud::endpoint(&attrs, "endpoint")
            .unwrap_or_else(|| hcloud::ENDPOINT.to_owned()),
        server_types: cloud::choices(&attrs, "serverTypes", "server types, such as \"cx22\""),
        locations: cloud::choices(&attrs, "locations", "locations, such as \"fsn1\""),
        image: image(&attrs),
        watches_image: false,
        ssh_keys,
        firewalls: cloud::numbers(&attrs, "firewalls"),
        placement_group: attrs.number("placementGroup", 1..=u64::MAX),
        address: address(&attrs, networks.is_empty()),
        networks,
        exchange_rate: attrs.dollars("exchangeRate"),
        labels: cloud::tags(&attrs, "labels", OUR_LABELS),
        login,
    };
    attrs.finish();
    token_file.map(|_| ProviderSettings::Hcloud(Box::new(settings)))
}

fn image(attrs: &Attrs<'_>) -> hcloud::Image {
    match (attrs.text("image"), attrs.text("imageSelector")) {
        (Some(name), None) => hcloud::Image::Name(name),
        (None, Some(selector)) => hcloud::Image::Newest(selector),
        (name, selector) => {
            attrs.problem(
                "image",
                match selector {
                    Some(_) => "is set together with imageSelector; remove one",
                    None => "must be set (a name or number), or imageSelector (the newest snapshot with these labels)",
                },
            );
            hcloud::Image::Name(name.unwrap_or_default())
        }
    }
}

fn address(attrs: &Attrs<'_>, has_no_network: bool) -> hcloud::Address {
    let Some(word) = attrs.text("address") else { return hcloud::Address::default() };
    match word.as_str() {
        "ipv4" => hcloud::Address::Ipv4,
        "ipv6" => hcloud::Address::Ipv6,
        "private" => {
            if has_no_network {
                attrs.problem("address", "is \"private\", but networks is empty");
            }
            hcloud::Address::Private
        }
        other => {
            attrs.problem(
                "address",
                format!("must be \"ipv4\", \"ipv6\" or \"private\", is {other:?}"),
            );
            hcloud::Address::default()
        }
    }
}

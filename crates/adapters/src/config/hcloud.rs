//! `systemTypes.<T>.provider.hcloud`.

use planner::PoolPolicy;

use super::cloud::{self, Processor};
use super::reader::Attrs;
use crate::providers::{ProviderSettings, hcloud};

/// The prefixes of our labels, and of Hetzner's own.
const RESERVED_LABELS: [&str; 2] = ["hydra-provisioner/", "hetzner.cloud/"];
/// The most characters of a label's name and value, and of a name's prefix.
const MOST_LABEL: usize = 63;
const MOST_LABEL_PREFIX: usize = 253;

/// Reads the settings; `None` if they are absent or invalid.
pub(super) fn read(provider: &Attrs<'_>, pool: &PoolPolicy) -> Option<ProviderSettings> {
    let attrs = provider.attrs("hcloud")?;
    let token_file = attrs.secret_path("tokenFile");
    if attrs.get("tokenFile").is_none() {
        attrs.problem("tokenFile", "must be set: the file with the project's API token");
    }
    let ssh_keys = attrs.texts("sshKeys").unwrap_or_default();
    let networks = cloud::numbers(&attrs, "networks");
    let login =
        cloud::login(&attrs, pool.ssh_key.as_deref(), !ssh_keys.is_empty(), &hcloud::USER_DATA);
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
        labels: cloud::tags(&attrs, "labels", &RESERVED_LABELS, label_problem),
        login,
    };
    cloud::check_lines(&attrs, "sshKeys", &settings.ssh_keys);
    match &settings.image {
        hcloud::Image::Name(name) if !name.is_empty() => {
            cloud::check_lines(&attrs, "image", [name]);
        }
        hcloud::Image::Name(_) => {}
        hcloud::Image::Newest(selector) => cloud::check_lines(&attrs, "imageSelector", [selector]),
    }
    cloud::warn_of_processors(&attrs, "serverTypes", &settings.server_types, processor, pool);
    attrs.finish();
    token_file.map(|_| ProviderSettings::Hcloud(Box::new(settings)))
}

fn processor(server_type: &str) -> Processor {
    if server_type.starts_with("cax") { Processor::Arm } else { Processor::X86 }
}

/// Why Hetzner refuses a label.
fn label_problem(key: &str, value: &str) -> Option<String> {
    let is_word = |word: &str| {
        let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        word.len() <= MOST_LABEL
            && is_end(word.chars().next())
            && is_end(word.chars().last())
            && word.chars().all(is_inner)
    };
    let (prefix, name) = key.split_once('/').unwrap_or(("a", key));
    let is_part = |part: &str| is_word(part) && !part.contains(['_', '.']);
    let is_prefix = prefix.len() <= MOST_LABEL_PREFIX && prefix.split('.').all(is_part);
    if !is_prefix || !is_word(name) {
        Some(format!(
            "is no name of a label: at most {MOST_LABEL} letters, digits, '-', '_' and '.', with a letter or digit at both ends, maybe after a domain and '/'"
        ))
    } else if !value.is_empty() && !is_word(value) {
        Some(format!(
            "has a value that Hetzner refuses: at most {MOST_LABEL} letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        ))
    } else {
        None
    }
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

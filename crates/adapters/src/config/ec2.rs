//! `systemTypes.<T>.provider.ec2`.

use super::cloud;
use super::reader::Attrs;
use crate::providers::{ProviderSettings, ec2};

/// The prefix of our tags.
const OUR_TAGS: &str = "hydra-provisioner:";
/// The root volume's name in the images of NixOS and Debian.
const ROOT_DEVICE: &str = "/dev/xvda";

/// Reads the settings; `None` if they are absent or invalid.
pub(super) fn read(provider: &Attrs<'_>, ssh_key: Option<&str>) -> Option<ProviderSettings> {
    let attrs = provider.attrs("ec2")?;
    let region = attrs.text("region");
    if attrs.get("region").is_none() {
        attrs.problem("region", "must be set, such as \"eu-central-1\"");
    }
    let key_name = attrs.text("keyName");
    let settings = ec2::Settings {
        region: region.clone().unwrap_or_default(),
        endpoint: cloud::endpoint(&attrs),
        profile: attrs.text("profile"),
        credentials_file: attrs.absolute_path("credentialsFile"),
        image: image(&attrs),
        instance_types: cloud::choices(
            &attrs,
            "instanceTypes",
            "instance types, such as \"c7i.4xlarge\"",
        ),
        places: places(&attrs),
        purchase: purchase(&attrs),
        spot_queue: spot_queue(&attrs),
        security_groups: attrs.texts("securityGroups").unwrap_or_default(),
        login: cloud::login(&attrs, ssh_key, key_name.is_some()),
        key_name,
        instance_profile: attrs.text("instanceProfile"),
        root_volume: root_volume(&attrs),
        nested_virtualization: attrs.flag("nestedVirtualization").unwrap_or(false),
        address: address(&attrs),
        tags: cloud::tags(&attrs, "tags", OUR_TAGS),
    };
    attrs.finish();
    region.map(|_| ProviderSettings::Ec2(Box::new(settings)))
}

fn image(attrs: &Attrs<'_>) -> ec2::Image {
    let filter = attrs.attrs("imageFilter").map(|filter| {
        let image = ec2::Image::Newest {
            owner: required(&filter, "owner", "an account's number, or such as \"amazon\""),
            name: required(&filter, "name", "a name with * for anything"),
            architecture: filter.text("architecture"),
        };
        filter.finish();
        image
    });
    let given = [
        attrs.text("image").map(ec2::Image::Id),
        attrs.text("imageParameter").map(ec2::Image::Parameter),
        filter,
    ];
    let mut given: Vec<_> = given.into_iter().flatten().collect();
    if given.len() != 1 {
        attrs.own_problem(
            "must have exactly one of image (an id, ami-...), imageParameter (an SSM parameter's name) and imageFilter (the newest of an owner with a name)",
        );
    }
    given.pop().unwrap_or(ec2::Image::Id(String::new()))
}

fn required(attrs: &Attrs<'_>, name: &'static str, what: &str) -> String {
    if attrs.get(name).is_none() {
        attrs.problem(name, format!("must be set: {what}"));
    }
    attrs.text(name).unwrap_or_default()
}

fn places(attrs: &Attrs<'_>) -> Vec<ec2::Place> {
    let subnets = attrs.texts("subnets").unwrap_or_default();
    let zones = attrs.texts("zones").unwrap_or_default();
    match (subnets.is_empty(), zones.is_empty()) {
        (false, false) => {
            attrs.problem(
                "zones",
                "is set together with subnets, each of which is in a zone; remove one",
            );
            Vec::new()
        }
        (false, true) => subnets.into_iter().map(ec2::Place::Subnet).collect(),
        (true, false) => zones.into_iter().map(ec2::Place::Zone).collect(),
        (true, true) => vec![ec2::Place::Anywhere],
    }
}

fn purchase(attrs: &Attrs<'_>) -> Vec<ec2::Purchase> {
    let Some(words) = attrs.texts("purchase") else { return vec![ec2::Purchase::OnDemand] };
    let mut kinds = Vec::new();
    for word in &words {
        match word.as_str() {
            "on-demand" => kinds.push(ec2::Purchase::OnDemand),
            "spot" => kinds.push(ec2::Purchase::Spot),
            other => attrs.problem(
                "purchase",
                format!("must be a list of \"spot\" and \"on-demand\", has {other:?}"),
            ),
        }
    }
    if words.is_empty() {
        attrs.problem("purchase", "must not be empty");
    }
    kinds
}

fn spot_queue(attrs: &Attrs<'_>) -> Option<String> {
    let url = attrs.text("spotQueue")?;
    if url.starts_with("https://") || url.starts_with("http://") {
        return Some(url);
    }
    attrs.problem("spotQueue", format!("must be a queue's address, https://sqs..., is {url:?}"));
    None
}

fn root_volume(attrs: &Attrs<'_>) -> Option<ec2::RootVolume> {
    let volume = attrs.attrs("rootVolume")?;
    let size = volume.count("size", 1);
    if volume.get("size").is_none() {
        volume.problem("size", "must be set: GiB");
    }
    let settings = ec2::RootVolume {
        device: volume.text("device").unwrap_or_else(|| ROOT_DEVICE.to_owned()),
        size: size.unwrap_or(1),
        volume_type: volume.text("type").unwrap_or_else(|| "gp3".to_owned()),
        encrypted: volume.flag("encrypted").unwrap_or(true),
    };
    volume.finish();
    Some(settings)
}

fn address(attrs: &Attrs<'_>) -> ec2::Address {
    match attrs.text("address").as_deref() {
        None | Some("public") => ec2::Address::Public,
        Some("private") => ec2::Address::Private,
        Some(other) => {
            attrs.problem("address", format!("must be \"public\" or \"private\", is {other:?}"));
            ec2::Address::default()
        }
    }
}

//! Checks of `provider.ec2` against what EC2 is known to refuse.

use planner::{IdleAction, PoolPolicy};

use super::cloud::{self, Processor};
use super::reader::Attrs;
use crate::providers::ec2;

/// Names of tags that are ours or EC2's own begin with these.
pub(super) const TAG_NAMES: [&str; 3] = ["hydra-provisioner:", "aws:", "AWS:"];
/// An instance has at most so many tags, of which some are ours.
const MOST_TAGS: usize = 50 - 7;
/// In characters.
const MOST_TAG_NAME: usize = 128;
const MOST_TAG_VALUE: usize = 256;
/// The types of volumes that an instance can boot from and that need no further settings, with their largest size in GiB.
const VOLUMES: [(&str, u32); 3] = [("gp3", 65_536), ("gp2", 16_384), ("standard", 1024)];

/// Why EC2 refuses a tag.
pub(super) fn tag_problem(key: &str, value: &str) -> Option<String> {
    if key == "Name" {
        return Some(
            "is the machine's name, which the provisioner sets; use another one".to_owned(),
        );
    }
    if key.is_empty() || key.chars().count() > MOST_TAG_NAME {
        return Some(format!(
            "is no name of a tag: it must have from 1 to {MOST_TAG_NAME} characters"
        ));
    }
    let length = value.chars().count();
    (length > MOST_TAG_VALUE)
        .then(|| format!("has a value of {length} characters; EC2 allows {MOST_TAG_VALUE}"))
}

/// Checks settings that depend on each other, or are ids of a certain form.
pub(super) fn check(attrs: &Attrs<'_>, settings: &ec2::Settings, pool: &PoolPolicy) {
    check_nesting(attrs, settings);
    check_hibernation(attrs, settings, pool.idle_action);
    cloud::check_lines(attrs, "keyName", &settings.key_name);
    cloud::check_lines(attrs, "instanceProfile", &settings.instance_profile);
    cloud::check_lines(attrs, "profile", &settings.profile);
    check_region(attrs, settings);
    check_ids(attrs, settings);
    check_queue(attrs, settings);
    check_architecture(attrs, settings);
    cloud::warn_of_processors(attrs, "instanceTypes", &settings.instance_types, processor, pool);
    if settings.tags.len() > MOST_TAGS {
        let count = settings.tags.len();
        attrs.problem("tags", format!("has {count} tags; with ours EC2 allows {MOST_TAGS}"));
    }
}

fn check_region(attrs: &Attrs<'_>, settings: &ec2::Settings) {
    let region = &settings.region;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // An endpoint of the operator's own may name its region as it likes.
    let is_region = region.chars().all(allowed)
        && (settings.endpoint.is_some()
            || (region.contains('-') && region.ends_with(|c: char| c.is_ascii_digit())));
    if region.is_empty() {
        return;
    }
    if !is_region {
        let region: String = region.chars().take(40).collect();
        attrs
            .problem("region", format!("must be a region such as \"eu-central-1\", is {region:?}"));
        return;
    }
    for place in &settings.places {
        if let ec2::Place::Zone(zone) = place
            && (!zone.starts_with(region.as_str()) || zone == region)
        {
            attrs.problem("zones", format!("{zone:?} is no zone of {region}, such as {region}a"));
        }
    }
}

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

/// Ids that are names, or of other things, are refused only when the first machine is created.
fn check_ids(attrs: &Attrs<'_>, settings: &ec2::Settings) {
    match &settings.image {
        ec2::Image::Id(id) if !id.is_empty() && !is_id(id, "ami-") => {
            let shown: String = id.chars().take(40).collect();
            attrs.problem(
                "image",
                format!(
                    "must be an id, ami-..., is {shown:?} (see imageParameter and imageFilter)"
                ),
            );
        }
        ec2::Image::Parameter(name) if name.starts_with("resolve:") => {
            attrs.problem(
                "imageParameter",
                "must be only the parameter's name, without resolve:ssm:",
            );
        }
        _ => {}
    }
    for place in &settings.places {
        if let ec2::Place::Subnet(id) = place
            && !is_id(id, "subnet-")
        {
            attrs.problem("subnets", format!("must be ids, subnet-..., has {id:?}"));
        }
    }
    for id in settings.security_groups.iter().filter(|id| !is_id(id, "sg-")) {
        attrs.problem("securityGroups", format!("must be ids, sg-... (not names), has {id:?}"));
    }
    if settings.instance_profile.as_ref().is_some_and(|name| name.contains([':', '/'])) {
        attrs.problem("instanceProfile", "must be only the profile's name, not its ARN");
    }
}

fn check_queue(attrs: &Attrs<'_>, settings: &ec2::Settings) {
    let Some(queue) = &settings.spot_queue else { return };
    if !settings.purchase.contains(&ec2::Purchase::Spot) {
        attrs.warning("spotQueue", "is not read: the type has no spot instances");
    }
    let host = queue.split('/').nth(2).unwrap_or_default();
    let region = host.strip_prefix("sqs.").and_then(|rest| rest.split('.').next());
    if let Some(region) = region.filter(|region| *region != settings.region) {
        attrs.problem(
            "spotQueue",
            format!("is in the region {region}, but must be in {}", settings.region),
        );
    }
}

fn check_architecture(attrs: &Attrs<'_>, settings: &ec2::Settings) {
    let ec2::Image::Newest { architecture: Some(image), .. } = &settings.image else { return };
    if !["x86_64", "arm64"].contains(&image.as_str()) {
        attrs.problem(
            "imageFilter",
            format!("has the architecture {image:?}, which must be \"x86_64\" or \"arm64\""),
        );
        return;
    }
    if let Some(wanted) = settings.requirements.as_ref().map(|wanted| &wanted.architecture)
        && wanted != image
        && !wanted.is_empty()
    {
        attrs.problem(
            "imageFilter",
            format!("has the architecture {image}, but instanceRequirements has {wanted}"),
        );
    }
    let processor_of_image = if image == "arm64" { Processor::Arm } else { Processor::X86 };
    for one in settings.instance_types.iter().filter(|one| processor(one) != processor_of_image) {
        attrs.problem(
            "imageFilter",
            format!("has the architecture {image}, which {one} of instanceTypes does not run"),
        );
    }
}

/// By its name: a family, its generation and its options, among which Graviton's `g` is the first (`c7gn.large`).
fn processor(instance_type: &str) -> Processor {
    let family = instance_type.split('.').next().unwrap_or_default();
    let options = family.trim_start_matches(|c: char| !c.is_ascii_digit());
    let options = options.trim_start_matches(|c: char| c.is_ascii_digit());
    if options.starts_with('g') || family == "a1" { Processor::Arm } else { Processor::X86 }
}

pub(super) fn check_volume(volume: &Attrs<'_>, settings: &ec2::RootVolume) {
    let name = settings.volume_type.as_str();
    match VOLUMES.iter().find(|(known, _)| *known == name) {
        Some((_, most)) if settings.size > *most => {
            volume.problem("size", format!("is {} GiB; a {name} volume has at most {most}", settings.size));
        }
        Some(_) => {}
        None => volume.problem(
            "type",
            format!("must be \"gp3\", \"gp2\" or \"standard\" (others need settings that are not supported, or cannot be booted from), is {name:?}"),
        ),
    }
    if !settings.device.starts_with("/dev/") {
        let device = &settings.device;
        volume.problem(
            "device",
            format!("must be a device name such as \"/dev/xvda\", is {device:?}"),
        );
    }
}

fn check_nesting(attrs: &Attrs<'_>, settings: &ec2::Settings) {
    if !settings.nested_virtualization {
        return;
    }
    let others = settings.instance_types.iter().filter(|name| !ec2::can_nest(name));
    let others: Vec<_> = others.map(String::as_str).collect();
    if !others.is_empty() {
        attrs.problem(
            "nestedVirtualization",
            format!(
                "is possible only on c8i, m8i, r8i and their flex types, not on {}",
                others.join(" and ")
            ),
        );
    }
    if settings.purchase.contains(&ec2::Purchase::Spot) {
        attrs.warning(
            "nestedVirtualization",
            "EC2 is reported to refuse it for spot instances: add \"on-demand\" to purchase",
        );
    }
}

fn check_hibernation(attrs: &Attrs<'_>, settings: &ec2::Settings, idle_action: IdleAction) {
    if !settings.hibernate {
        return;
    }
    if idle_action != IdleAction::Stop {
        attrs.problem("hibernate", "is for machines that are stopped: set stopOnIdle, too");
    }
    if settings.purchase.contains(&ec2::Purchase::Spot) {
        attrs.problem(
            "hibernate",
            "is not possible for spot instances: remove \"spot\" from purchase",
        );
    }
    if !settings.root_volume.as_ref().is_some_and(|volume| volume.encrypted) {
        attrs.problem(
            "hibernate",
            "needs rootVolume, encrypted and with room for the memory, which is written there",
        );
    }
    let memory = settings.requirements.as_ref().map_or(0, |wanted| wanted.memory);
    if let Some(volume) = &settings.root_volume
        && u64::from(volume.size) * 1024 <= memory
    {
        attrs.problem(
            "hibernate",
            format!(
                "writes the memory to rootVolume: its size, {} GiB, must be more than instanceRequirements.memory, {memory} MiB",
                volume.size
            ),
        );
    }
    let metal = settings.instance_types.iter().find(|name| name.contains(".metal"));
    if let Some(name) = metal {
        attrs.problem("hibernate", format!("is not possible for bare metal, such as {name}"));
    }
}

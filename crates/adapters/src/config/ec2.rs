//! `systemTypes.<T>.provider.ec2`.

use std::collections::BTreeMap;

use planner::{MachineType, PoolPolicy};

use super::cloud;
use super::ec2_checks::{self, TAG_NAMES};
use super::reader::Attrs;
use crate::providers::{ProviderSettings, ec2};

/// After so many creations in a row without spot capacity.
const FALLBACK_AFTER: u32 = 3;
/// The root volume's name in the images of NixOS and Debian.
const ROOT_DEVICE: &str = "/dev/xvda";

/// Reads the settings; `None` if they are absent or invalid.
pub(super) fn read(provider: &Attrs<'_>, pool: &PoolPolicy) -> Option<ProviderSettings> {
    let attrs = provider.attrs("ec2")?;
    let region = attrs.text("region");
    if attrs.get("region").is_none() {
        attrs.problem("region", "must be set, such as \"eu-central-1\"");
    }
    let endpoint = cloud::endpoint(&attrs, "endpoint");
    let key_name = attrs.text("keyName");
    let (purchase, mix) = purchase(&attrs);
    let requirements = requirements(&attrs);
    let settings = ec2::Settings {
        region: region.clone().unwrap_or_default(),
        endpoint,
        profile: attrs.text("profile"),
        credentials_file: attrs.secret_path("credentialsFile"),
        image: image(&attrs),
        instance_types: instance_types(&attrs, requirements.as_ref()),
        requirements,
        places: places(&attrs),
        purchase,
        mix,
        pricing_endpoint: cloud::endpoint(&attrs, "pricingEndpoint"),
        fetches_prices: pool.dollars_per_hour.is_none(),
        watches_image: false,
        spot_queue: spot_queue(&attrs),
        security_groups: cloud::names(&attrs, "securityGroups", "ids, sg-...").unwrap_or_default(),
        login: cloud::login(&attrs, pool.ssh_key.as_deref(), key_name.is_some(), &ec2::USER_DATA),
        key_name,
        instance_profile: attrs.text("instanceProfile"),
        root_volume: root_volume(&attrs),
        nested_virtualization: attrs.flag("nestedVirtualization").unwrap_or(false),
        hibernate: attrs.flag("hibernate").unwrap_or(false),
        address: address(&attrs),
        tags: cloud::tags(&attrs, "tags", &TAG_NAMES, ec2_checks::tag_problem),
    };
    ec2_checks::check(&attrs, &settings, pool);
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
    let subnets = cloud::names(attrs, "subnets", "ids, subnet-...").unwrap_or_default();
    let zones =
        cloud::names(attrs, "zones", "zones, such as \"eu-central-1a\"").unwrap_or_default();
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

/// In order of preference, or a mix.
fn purchase(attrs: &Attrs<'_>) -> (Vec<ec2::Purchase>, Option<ec2::Mix>) {
    let in_order = purchase_in_order(attrs);
    let Some(mix) = attrs.attrs("purchaseMix") else { return (in_order, None) };
    // The NixOS module always writes the default.
    if in_order != [ec2::Purchase::OnDemand] {
        attrs.problem("purchase", "is set together with purchaseMix; remove one");
    }
    let settings = ec2::Mix {
        base: mix.count("base", 0).unwrap_or(0),
        spot_share: mix
            .number("spotShare", 0..=100)
            .and_then(|share| share.try_into().ok())
            .unwrap_or(100),
        fallback_after: mix.count("fallbackAfter", 0).unwrap_or(FALLBACK_AFTER),
    };
    mix.finish();
    (vec![ec2::Purchase::Spot, ec2::Purchase::OnDemand], Some(settings))
}

fn purchase_in_order(attrs: &Attrs<'_>) -> Vec<ec2::Purchase> {
    let Some(words) = attrs.texts("purchase") else { return vec![ec2::Purchase::OnDemand] };
    let mut kinds = Vec::new();
    for word in &words {
        let kind = match word.as_str() {
            "on-demand" => ec2::Purchase::OnDemand,
            "spot" => ec2::Purchase::Spot,
            other => {
                attrs.problem(
                    "purchase",
                    format!("must be a list of \"spot\" and \"on-demand\", has {other:?}"),
                );
                continue;
            }
        };
        if kinds.contains(&kind) {
            attrs.problem("purchase", format!("has {word:?} twice; remove one"));
        }
        kinds.push(kind);
    }
    if words.is_empty() {
        attrs.problem("purchase", "must not be empty");
    }
    kinds
}

fn instance_types(attrs: &Attrs<'_>, requirements: Option<&ec2::Requirements>) -> Vec<String> {
    if requirements.is_none() {
        let what = "instance types, such as \"c7i.4xlarge\" (or instanceRequirements)";
        return cloud::choices(attrs, "instanceTypes", what);
    }
    if attrs.texts("instanceTypes").is_some_and(|types| !types.is_empty()) {
        attrs.problem("instanceTypes", "is set together with instanceRequirements; remove one");
    }
    Vec::new()
}

fn requirements(attrs: &Attrs<'_>) -> Option<ec2::Requirements> {
    let attrs = attrs.attrs("instanceRequirements")?;
    let architecture = required(&attrs, "architecture", "\"x86_64\" or \"arm64\"");
    if !["", "x86_64", "arm64"].contains(&architecture.as_str()) {
        attrs.problem(
            "architecture",
            format!("must be \"x86_64\" or \"arm64\", is {architecture:?}"),
        );
    }
    let requirements = ec2::Requirements {
        cpus: attrs.count("cpus", 1).unwrap_or(1),
        memory: attrs.mebibytes("memory", 0..=u64::from(u32::MAX)).unwrap_or(0),
        architecture,
    };
    attrs.finish();
    Some(requirements)
}

fn spot_queue(attrs: &Attrs<'_>) -> Option<String> {
    let url = attrs.text("spotQueue")?;
    if cloud::is_http(&url) && url.parse::<ureq::http::Uri>().is_ok() {
        return Some(url);
    }
    attrs.problem("spotQueue", format!("must be a queue's address, https://sqs..., is {url:?}"));
    None
}

/// Types that share a provider share one queue: the first one that is set.
pub(super) fn check_spot_queue(
    machine_type: &MachineType,
    attrs: &Attrs<'_>,
    providers: &BTreeMap<MachineType, ProviderSettings>,
) {
    let own = providers.get(machine_type).and_then(queue_of);
    let Some((identity, queue)) = own else { return };
    let earlier = providers.iter().take_while(|(other, _)| *other != machine_type);
    let mut queues = earlier.filter_map(|(other, settings)| Some((other, queue_of(settings)?)));
    let differs = queues.find(|(_, (its, other))| *its == identity && *other != queue);
    if let Some((other, (_, other_queue))) = differs
        && let Some(ec2) = attrs.attrs("provider").and_then(|provider| provider.attrs("ec2"))
    {
        ec2.problem(
            "spotQueue",
            format!(
                "is {queue:?}, but {other_queue:?} in {other}: types with the same region, profile and credentialsFile share one \
                 queue; set the same one"
            ),
        );
    }
}

/// The provider's identity and its queue.
fn queue_of(settings: &ProviderSettings) -> Option<(String, &str)> {
    let ProviderSettings::Ec2(settings) = settings else { return None };
    Some((settings.identity(), settings.spot_queue.as_deref()?))
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
    ec2_checks::check_volume(&volume, &settings);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Config, parse};

    fn parsed(changes: &Value) -> Result<Config, String> {
        let mut settings = json!({
            "region": "eu-central-1", "image": "ami-1", "instanceTypes": ["c8i.large"], "keyName": "k",
        });
        settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let config =
            json!({ "systemTypes": { "x86_64-linux": { "provider": { "ec2": settings } } } });
        parse(&config).map_err(|problems| problems[0].to_string())
    }

    fn settings(changes: &Value) -> ec2::Settings {
        match parsed(changes).unwrap().providers.into_values().next() {
            Some(ProviderSettings::Ec2(settings)) => *settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mix_has_defaults() {
        let mix = settings(&json!({ "purchaseMix": { "base": 2 } })).mix;
        assert_eq!(mix, Some(ec2::Mix { base: 2, spot_share: 100, fallback_after: 3 }));
        assert_eq!(settings(&json!({ "purchase": ["spot"] })).mix, None);
    }

    #[test]
    fn requirements_replace_names() {
        let wanted = json!({ "cpus": 16, "memory": "32G", "architecture": "arm64" });
        let settings = settings(&json!({ "instanceTypes": [], "instanceRequirements": wanted }));
        let requirements = settings.requirements.unwrap();
        assert_eq!((requirements.cpus, requirements.memory), (16, 32 * 1024));
        assert_eq!(settings.instance_types, [""; 0]);
    }

    #[test]
    fn types_that_share_a_provider_share_a_queue() {
        let settings = |region: &str, queue: Option<&str>| {
            json!({ "provider": { "ec2": {
                "region": region, "image": "ami-1", "instanceTypes": ["c8i.large"], "keyName": "k", "spotQueue": queue,
            } } })
        };
        let (first, second) = ("https://sqs/first", "https://sqs/second");
        let problems = |second_region: &str, second_queue: Option<&str>| {
            let types = json!({
                "a": settings("eu-central-1", Some(first)), "b": settings("eu-central-1", None),
                "c": settings(second_region, second_queue),
            });
            let problems = parse(&json!({ "systemTypes": types })).err().unwrap_or_default();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(problems("eu-central-1", Some(first)), [""; 0]);
        assert_eq!(problems("eu-central-1", None), [""; 0]);
        assert_eq!(problems("us-east-1", Some(second)), [""; 0]);
        let found = problems("eu-central-1", Some(second));
        let expected = "systemTypes.c.provider.ec2.spotQueue: is \"https://sqs/second\", but \"https://sqs/first\" in a: ";
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }

    #[test]
    fn hibernation_needs_room_for_the_memory() {
        let with_size = |gib: u32| {
            let wanted = json!({ "memory": "32G", "architecture": "arm64" });
            let settings = json!({
                "region": "eu-central-1", "image": "ami-1", "keyName": "k", "hibernate": true, "instanceRequirements": wanted,
                "rootVolume": { "size": gib },
            });
            let pool = json!({ "stopOnIdle": true, "provider": { "ec2": settings } });
            let problems = parse(&json!({ "systemTypes": { "a": pool } })).err();
            problems.map(|problems| problems[0].to_string())
        };
        assert_eq!(with_size(33), None);
        let problem = with_size(32).unwrap();
        assert!(problem.contains("its size, 32 GiB, must be more than instanceReq"), "{problem}");
    }

    #[test]
    fn mistakes_are_named() {
        for (changes, problem) in [
            (
                json!({ "purchaseMix": { "spotShare": 101 } }),
                "spotShare: must be from 0 to 100, is 101",
            ),
            (
                json!({ "purchaseMix": { "bas": 1 } }),
                "purchaseMix.bas: unknown option; did you mean base?",
            ),
            (json!({ "purchase": ["spott"] }), "must be a list of \"spot\""),
            (json!({ "instanceTypes": [] }), "instanceTypes: must be set"),
            (json!({ "instanceRequirements": {} }), "architecture: must be set"),
            (
                json!({ "instanceRequirements": { "architecture": "arm64" } }),
                "instanceTypes: is set together with instanceRequirements; remove one",
            ),
            (
                json!({ "instanceTypes": ["c8i.large", "c7i.large"], "nestedVirtualization": true }),
                "is possible only on c8i, m8i, r8i and their flex types, not on c7i.large",
            ),
            (json!({ "pricingEndpoint": "x" }), "pricingEndpoint: must start with https://"),
            (
                json!({ "tags": { "team": "a", "Name": "b" } }),
                "tags: \"Name\" is the machine's name",
            ),
            (json!({ "tags": { "hydra-provisioner:x": "b" } }), "are reserved"),
            (
                json!({ "hibernate": true, "rootVolume": { "size": 1 } }),
                "hibernate: is for machines that are stopped: set stopOnIdle, too",
            ),
        ] {
            let error = parsed(&changes).unwrap_err();
            assert!(error.contains(problem), "{problem:?} is not in {error}");
        }
        let nested = json!({ "nestedVirtualization": true, "purchase": ["spot"] });
        let warnings = parsed(&nested).unwrap().warnings;
        assert!(warnings[0].contains("refuse it for spot instances"), "{warnings:?}");
    }
}

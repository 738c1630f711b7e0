//! The top-level options of `conf.nix`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::{CostLimits, HostPattern, MachineType, Policy, PoolPolicy, Tag};
use serde_json::{Value, json};

use super::quantities::LONGEST_SECONDS;
use super::reader::{Attrs, Findings, Problem};
use super::schedule::{self, ScheduleEntry};
use super::settings::{Config, Limits, QueueSettings, SshSettings, Timing};
use super::system_type::{self, Defaults};
use super::{ec2, lease, machines_file, notify};
use crate::providers::ProviderSettings;
use crate::queue::without_login;

const DEFAULT_TAG: &str = "hydra-provisioned";
const DEFAULT_STATE_DIR: &str = "/var/lib/hydra-provisioner";
/// The unit of Hydra's NixOS module `nixos-modules/builder-module.nix`.
const BUILDER_UNIT: &str = "hydra-queue-builder-dev.service";

/// Checks a configuration.
///
/// # Errors
/// With all problems, in the order of their places.
pub fn parse(value: &Value) -> Result<Config, Vec<Problem>> {
    let findings = Findings::default();
    let config = Attrs::root(&findings, value).map(|root| {
        let config = read(&root);
        root.finish();
        config
    });
    let (problems, warnings) = findings.into_parts();
    match config {
        Some(config) if problems.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(problems),
    }
}

/// In characters. With a hyphen and ten digits a name has the 63 of a host name.
const MOST_TAG: usize = 52;

/// All options, as attribute paths. `T` stands for a type's name, `*` for each item of a list.
pub fn option_names() -> BTreeSet<String> {
    let provider = json!({ "command": {}, "ec2": {
        "imageFilter": {}, "instanceRequirements": {}, "purchaseMix": {}, "rootVolume": {},
    }, "hcloud": {}, "nixops": {}, "qemu": {} });
    let skeleton = json!({ "queue": {}, "lease": {}, "notify": [{}], "systemTypes": { "T": {
        "provider": provider, "schedule": [{}],
    } } });
    let findings = Findings::default();
    if let Some(root) = Attrs::root(&findings, &skeleton) {
        read(&root);
    }
    findings.into_options().iter().map(|name| name.replace("[1]", ".*")).collect()
}

fn read(root: &Attrs<'_>) -> Config {
    let queue = queue(root);
    let cost_limits = system_type::cost_limits(root);
    let types = types(root, cost_limits);
    let mut policy = Policy::new(tag(root), types.pools);
    policy.former_tags = former_tags(root, &policy.tag);
    let machines_file = machines_file::read(root, &queue);
    machines_file::warn_of_schemes(root, &queue, &policy.pools);
    machines_file::warn_of_pack(root, &queue, &policy.pools);
    machines_file::warn_of_decimals(root, &queue, &machines_file, &policy.pools);
    policy.other_machines = other_machines(root);
    policy.other_machines.extend(machines_file::static_hosts(&machines_file));
    policy.max_machines = root.count("maxMachines", 0);
    policy.cost_limits = cost_limits;
    Config {
        policy,
        schedules: types.schedules,
        machines_file,
        state_dir: root.absolute_path("stateDir").unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        ssh: ssh(root, &queue),
        limits: limits(root),
        timing: timing(root),
        lease: lease::read(root, &types.providers),
        notify: notify::read(root),
        providers: types.providers,
        queue,
        source: Value::Null,
        path: None,
        warnings: Vec::new(),
    }
}

/// `systemTypes`, split by kind of setting.
#[derive(Default)]
struct Types {
    pools: BTreeMap<MachineType, PoolPolicy>,
    providers: BTreeMap<MachineType, ProviderSettings>,
    schedules: BTreeMap<MachineType, Vec<ScheduleEntry>>,
}

fn types(root: &Attrs<'_>, farm_limits: CostLimits) -> Types {
    let mut types = Types::default();
    let defaults = Defaults {
        max_creates_per_cycle: root.count("maxCreatesPerCycle", 1),
        max_creating: root.count("maxCreating", 1),
    };
    let mut read = Vec::new();
    for (name, attrs) in root.attrs("systemTypes").iter().flat_map(Attrs::entries) {
        let Some(attrs) = attrs else { continue };
        let machine_type = MachineType::new(name);
        let found = system_type::read(name, &attrs, defaults);
        if types.pools.insert(machine_type.clone(), found.pool).is_some() {
            attrs.own_problem(format!(
                "is the same type as another one ({machine_type}); remove one of them"
            ));
        }
        if !found.schedule.is_empty() {
            types.schedules.insert(machine_type.clone(), found.schedule);
        }
        // Without one, a problem was reported, and this configuration is not used.
        types.providers.extend(found.provider.map(|provider| (machine_type.clone(), provider)));
        read.push((machine_type, attrs));
    }
    for (machine_type, attrs) in read {
        check_against_the_farm(&machine_type, &attrs, &types, farm_limits);
        ec2::check_spot_queue(&machine_type, &attrs, &types.providers);
        attrs.finish();
    }
    types
}

/// Checks a type against the other types and the farm.
fn check_against_the_farm(
    machine_type: &MachineType,
    attrs: &Attrs<'_>,
    types: &Types,
    farm_limits: CostLimits,
) {
    let Some(pool) = types.pools.get(machine_type) else { return };
    for other in pool.fallback.iter().flatten() {
        if other == machine_type {
            attrs.problem("fallback", "names the type itself; remove it");
        } else if !types.pools.contains_key(other) {
            attrs.problem("fallback", format!("names {other}, which is not a type in systemTypes"));
        }
    }
    let has_limit = [farm_limits, pool.cost_limits] != [CostLimits::default(); 2];
    let most = schedule::maximum(&types.schedules, machine_type, pool, |pool| pool.max_machines);
    if has_limit && attrs.get("dollarsPerHour").is_none() && most > 0 {
        attrs.problem(
            "dollarsPerHour",
            "must be set, because a cost limit includes this type (0 for machines that cost nothing)",
        );
    }
}

fn other_machines(root: &Attrs<'_>) -> Vec<HostPattern> {
    let hosts = root.texts("otherMachines").unwrap_or_default();
    if hosts.iter().any(|host| host.trim().is_empty()) {
        root.problem(
            "otherMachines",
            "must be hosts or patterns such as \"mac-*\", has an empty one",
        );
    }
    hosts.into_iter().map(HostPattern::new).collect()
}

/// The tag is the prefix of machine names, which become host names and file names.
fn tag(root: &Attrs<'_>) -> Tag {
    let tag = root.text("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned());
    if check_tag(root, "tag", &tag) {
        check_host_names(root, &tag);
    }
    Tag::new(tag)
}

/// Tags of machines that are ours too.
fn former_tags(root: &Attrs<'_>, present: &Tag) -> Vec<Tag> {
    let tags = root.texts("formerTags").unwrap_or_default();
    for tag in &tags {
        check_tag(root, "formerTags", tag);
    }
    let former = tags.into_iter().map(Tag::new).filter(|tag| tag != present);
    former.collect::<BTreeSet<_>>().into_iter().collect()
}

fn check_tag(root: &Attrs<'_>, option: &str, tag: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_tag = tag.chars().all(allowed) && tag.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !is_tag {
        root.problem(
            option,
            format!("must be letters, digits, '.', '_' and '-' and start with a letter or digit, is {tag:?}"),
        );
    }
    is_tag
}

/// Clouds refuse names of machines that are no host names.
fn check_host_names(root: &Attrs<'_>, tag: &str) {
    let parts: Vec<_> = tag.split('.').collect();
    let last = parts.len() - 1;
    let is_label = |(index, part): (usize, &&str)| {
        !part.is_empty() && !part.starts_with('-') && (index == last || !part.ends_with('-'))
    };
    if !parts.iter().enumerate().all(is_label) {
        root.problem(
            "tag",
            format!("{tag}-0 would be no host name: remove dots beside dots or hyphens"),
        );
    }
    if tag.len() > MOST_TAG {
        let length = tag.len();
        root.problem(
            "tag",
            format!(
                "has {length} characters; with {MOST_TAG} at most, names of machines are host names"
            ),
        );
    }
}

fn queue(root: &Attrs<'_>) -> QueueSettings {
    let status_command = root.command("statusCommand");
    let ssh_command = root.command("sshCommand");
    let queue = root.attrs("queue");
    if ssh_command.is_some() {
        root.warning(
            "sshCommand",
            "is the original README's wrong name for statusCommand; please rename it",
        );
    }
    if status_command.is_some() && ssh_command.is_some() {
        root.problem("sshCommand", "is the old name of statusCommand, which is set too; remove it");
    }
    let command = status_command.or(ssh_command);
    let Some(queue) = queue else {
        return QueueSettings::Classic {
            command: command
                .unwrap_or_else(|| vec!["hydra-queue-runner".into(), "--status".into()]),
        };
    };
    if command.is_some() {
        root.problem(
            "queue",
            "a Hydra has either queue.url (REST) or statusCommand (classic); remove one",
        );
    }
    let url = queue.text("url");
    match &url {
        None if queue.get("url").is_none() => {
            queue.problem("url", "must be set, for example \"http://[::1]:8080\"");
        }
        Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
            queue.problem(
                "url",
                format!("must start with http:// or https://, is {:?}", without_login(url)),
            );
        }
        _ => {}
    }
    let nix_command = queue.command("nixCommand").unwrap_or_else(|| vec!["nix".to_owned()]);
    queue.finish();
    QueueSettings::Rest {
        url: url.unwrap_or_default().trim_end_matches('/').to_owned(),
        nix_command,
    }
}

fn ssh(root: &Attrs<'_>, queue: &QueueSettings) -> SshSettings {
    let builder_command = |name: &'static str, verb: &str| {
        let given = root.command(name);
        match queue {
            QueueSettings::Rest { .. } => Some(given.unwrap_or_else(|| {
                vec!["systemctl".to_owned(), verb.to_owned(), BUILDER_UNIT.to_owned()]
            })),
            QueueSettings::Classic { .. } => {
                if given.is_some() {
                    root.problem(
                        name,
                        "is for builders of the REST queue runner; set queue.url or remove it",
                    );
                }
                None
            }
        }
    };
    let touch_keep_alive = root.flag("touchKeepAlive").unwrap_or(true);
    let check_ssh = root.flag("checkSsh").unwrap_or(true);
    if touch_keep_alive && !check_ssh {
        root.problem("checkSsh", "is false, but touchKeepAlive needs ssh: set that to false, too");
    }
    SshSettings {
        touch_keep_alive,
        check_ssh,
        drain_command: builder_command("drainCommand", "stop"),
        resume_command: builder_command("resumeCommand", "start"),
        options: root.texts("sshOptions").unwrap_or_default(),
    }
}

fn limits(root: &Attrs<'_>) -> Limits {
    let default = Limits::default();
    let parallelism = root.number("parallelism", 1..=1024).map(usize::try_from);
    Limits {
        parallelism: parallelism.and_then(Result::ok).unwrap_or(default.parallelism),
        create_timeout: duration(root, "createTimeout", default.create_timeout),
        deploy_timeout: duration(root, "deployTimeout", default.deploy_timeout),
        release_timeout: duration(root, "releaseTimeout", default.release_timeout),
        status_timeout: duration(root, "statusTimeout", default.status_timeout),
    }
}

fn timing(root: &Attrs<'_>) -> Timing {
    let default = Timing::default();
    Timing {
        poll_interval: duration(root, "pollInterval", default.poll_interval),
        list_interval: duration(root, "listInterval", default.list_interval),
        keep_alive_interval: duration(root, "keepAliveInterval", default.keep_alive_interval),
        max_status_age: duration(root, "maxStatusAge", default.max_status_age),
    }
}

fn duration(root: &Attrs<'_>, name: &'static str, default: Duration) -> Duration {
    root.seconds(name, 1..=LONGEST_SECONDS)
        .map_or(default, |seconds| Duration::from_secs(seconds.0))
}

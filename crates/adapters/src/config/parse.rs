//! The options at the top of `conf.nix`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use planner::{Policy, Tag};
use serde_json::{Value, json};

use super::reader::{Attrs, Findings, Problem};
use super::settings::{Config, Limits, MachinesFileSettings, QueueSettings, SshSettings};
use super::system_type;

const DEFAULT_TAG: &str = "hydra-provisioned";
const DEFAULT_MACHINES_FILE: &str = "/var/lib/hydra/provisioner/machines";
const DEFAULT_STATE_DIR: &str = "/var/lib/hydra-provisioner";
/// The unit of Hydra's NixOS module `nixos-modules/builder-module.nix`.
const BUILDER_UNIT: &str = "hydra-queue-builder-dev.service";

/// Checks a configuration.
///
/// # Errors
/// With all problems at once, in the order of their places.
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

/// Every option there is, as attribute paths; `T` stands for a type's name.
pub fn option_names() -> BTreeSet<String> {
    let provider = json!({ "command": {}, "nixops": {}, "qemu": {} });
    let skeleton = json!({ "queue": {}, "systemTypes": { "T": { "provider": provider } } });
    let findings = Findings::default();
    if let Some(root) = Attrs::root(&findings, &skeleton) {
        read(&root);
    }
    findings.into_options()
}

fn read(root: &Attrs<'_>) -> Config {
    let queue = queue(root);
    let mut pools = BTreeMap::new();
    let mut providers = BTreeMap::new();
    let max_creates_per_cycle = root.count("maxCreatesPerCycle", 1).unwrap_or(1);
    if let Some(types) = root.attrs("systemTypes") {
        for (name, attrs) in types.entries() {
            let Some(attrs) = attrs else { continue };
            let machine_type = planner::MachineType::new(name);
            if pools.contains_key(&machine_type) {
                attrs.own_problem(format!(
                    "means the same machines as another type ({machine_type}); remove one of them"
                ));
            }
            let (pool, provider) = system_type::read(name, &attrs, max_creates_per_cycle);
            pools.insert(machine_type.clone(), pool);
            // Without one a problem has been noted, and nobody will see this configuration.
            providers.extend(provider.map(|provider| (machine_type, provider)));
            attrs.finish();
        }
    }
    Config {
        policy: Policy::new(tag(root), pools),
        providers,
        machines_file: machines_file(root, &queue),
        state_dir: root.absolute_path("stateDir").unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        ssh: ssh(root, &queue),
        limits: limits(root),
        queue,
        warnings: Vec::new(),
    }
}

/// The tag starts machine names, which become host names and file names.
fn tag(root: &Attrs<'_>) -> Tag {
    let tag = root.text("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !tag.chars().all(allowed) || !tag.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        root.problem(
            "tag",
            format!("must be letters, digits, '.', '_' and '-' and start with a letter or digit, is {tag:?}"),
        );
    }
    Tag::new(tag)
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
            queue.problem("url", format!("must start with http:// or https://, is {url:?}"));
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

fn machines_file(root: &Attrs<'_>, queue: &QueueSettings) -> MachinesFileSettings {
    let file = root.absolute_path("machinesFile");
    let command = root.command("updateCommand");
    match (file, command) {
        (Some(file), Some(_)) => {
            root.problem("updateCommand", "machinesFile is set too; remove one of them");
            MachinesFileSettings::File(file)
        }
        (Some(file), None) => MachinesFileSettings::File(file),
        (None, Some(command)) => MachinesFileSettings::Command(command),
        (None, None) => match queue {
            QueueSettings::Classic { .. } => {
                MachinesFileSettings::File(PathBuf::from(DEFAULT_MACHINES_FILE))
            }
            QueueSettings::Rest { .. } => MachinesFileSettings::NotWanted,
        },
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
    SshSettings {
        touch_keep_alive: root.flag("touchKeepAlive").unwrap_or(true),
        drain_command: builder_command("drainCommand", "stop"),
        resume_command: builder_command("resumeCommand", "start"),
        options: root.texts("sshOptions").unwrap_or_default(),
    }
}

fn limits(root: &Attrs<'_>) -> Limits {
    /// Ten years: a limit that is none.
    const LONGEST_SECONDS: u64 = 10 * 365 * 86_400;
    let default = Limits::default();
    let seconds =
        |name, default| root.number(name, 1..=LONGEST_SECONDS).map_or(default, Duration::from_secs);
    let parallelism = root.number("parallelism", 1..=1024).map(usize::try_from);
    Limits {
        parallelism: parallelism.and_then(Result::ok).unwrap_or(default.parallelism),
        create_timeout: seconds("createTimeout", default.create_timeout),
        deploy_timeout: seconds("deployTimeout", default.deploy_timeout),
        release_timeout: seconds("releaseTimeout", default.release_timeout),
        status_timeout: seconds("statusTimeout", default.status_timeout),
    }
}

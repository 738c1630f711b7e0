//! `systemTypes.<T>.provider.<NAME>`: one function per provider.

use std::path::PathBuf;

use planner::{IdleAction, PoolPolicy};
use serde_json::{Map, Value};

use super::reader::Attrs;
use super::{ec2, hcloud};
use crate::providers::{ProviderSettings, command, nixops, qemu};

/// The names below `provider`; exactly one is allowed.
const KINDS: [&str; 5] = ["command", "ec2", "hcloud", "nixops", "qemu"];

/// Reads the provider of the type with the other settings `pool`; `None` if a problem was reported.
pub(super) fn read(attrs: &Attrs<'_>, pool: &PoolPolicy) -> Option<ProviderSettings> {
    let stops = pool.idle_action == IdleAction::Stop;
    let ssh_key = pool.ssh_key.as_deref();
    let expr = attrs.absolute_path("nixopsExpr");
    let nix_path = attrs.texts("nixPath");
    let has_expr = attrs.get("nixopsExpr").is_some();
    let Some(provider) = attrs.attrs("provider") else {
        return match expr {
            Some(expr) => Some(ProviderSettings::Nixops(nixops::Settings::classic(
                expr,
                nix_path.unwrap_or_default(),
            ))),
            None if has_expr || attrs.get("provider").is_some() => None,
            None => {
                attrs.own_problem(
                    "has no provider; set provider.command, provider.ec2, provider.hcloud, provider.nixops, provider.qemu or nixopsExpr",
                );
                None
            }
        };
    };
    let found: Vec<_> = [
        command_provider(&provider),
        ec2::read(&provider, pool),
        hcloud::read(&provider, pool),
        nixops_provider(&provider, expr, nix_path),
        qemu_provider(&provider, ssh_key),
    ]
    .into_iter()
    .flatten()
    .collect();
    let given = KINDS.iter().filter(|name| provider.get(name).is_some()).count();
    if given != 1 {
        attrs.problem("provider", "must have exactly one of command, ec2, hcloud, nixops and qemu");
    }
    if provider.get("hcloud").is_some() && stops {
        attrs.warning(
            "stopOnIdle",
            "a stopped server of Hetzner Cloud costs as much as a running one",
        );
    }
    if let Some(ProviderSettings::Ec2(settings)) =
        found.iter().find(|kind| matches!(kind, ProviderSettings::Ec2(_)))
        && settings.purchase.contains(&crate::providers::ec2::Purchase::Spot)
        && stops
    {
        attrs.warning("stopOnIdle", "a spot instance cannot be stopped: an idle one is destroyed");
    }
    if has_expr && provider.get("nixops").is_none() {
        attrs.problem("nixopsExpr", "is for the provider nixops, but another one is set");
    }
    provider.finish();
    found.into_iter().next()
}

fn command_provider(provider: &Attrs<'_>) -> Option<ProviderSettings> {
    let attrs = provider.attrs("command")?;
    let program = attrs.command("program");
    if attrs.get("program").is_none() {
        attrs.problem("program", "must be set: a list, the program and its first arguments");
    }
    let options = match attrs.get("options") {
        None => Value::Object(Map::new()),
        Some(options @ Value::Object(_)) => options.clone(),
        Some(other) => attrs.mismatch("options", "an attribute set", other)?,
    };
    attrs.finish();
    Some(ProviderSettings::Command(command::Settings { program: program?, options }))
}

fn nixops_provider(
    provider: &Attrs<'_>,
    outer_expr: Option<PathBuf>,
    outer_nix_path: Option<Vec<String>>,
) -> Option<ProviderSettings> {
    let attrs = provider.attrs("nixops")?;
    let settings = nixops::Settings {
        program: attrs.command("program").unwrap_or_else(|| vec!["nixops".to_owned()]),
        expr: attrs.absolute_path("expr").or(outer_expr),
        nix_path: attrs.texts("nixPath").or(outer_nix_path).unwrap_or_default(),
        network: attrs.absolute_path("network"),
        state_file: attrs.absolute_path("stateFile"),
    };
    match (&settings.expr, &settings.network) {
        (None, None) => attrs.own_problem(
            "must have expr (NixOps 1: the deployment's file) or network (NixOps 2: the folder of nixops.nix)",
        ),
        (Some(_), Some(_)) => {
            attrs.own_problem("has both expr (NixOps 1) and network (NixOps 2); remove one");
        }
        _ => {}
    }
    attrs.finish();
    Some(ProviderSettings::Nixops(settings))
}

fn qemu_provider(provider: &Attrs<'_>, ssh_key: Option<&str>) -> Option<ProviderSettings> {
    let attrs = provider.attrs("qemu")?;
    let image = attrs.absolute_path("image");
    if attrs.get("image").is_none() {
        attrs
            .problem("image", "must be set: a disk, or a directory created by scripts/build-image");
    }
    let mut settings = qemu::Settings::new(image.clone().unwrap_or_default());
    settings.kernel = attrs.absolute_path("kernel");
    settings.initrd = attrs.absolute_path("initrd");
    settings.kernel_params = attrs.texts("kernelParams").unwrap_or_default();
    let memory = attrs.mebibytes("memory", 1..=u64::from(u32::MAX));
    settings.memory = memory.and_then(|size| size.try_into().ok()).unwrap_or(settings.memory);
    settings.cores = attrs.count("cores", 1).unwrap_or(settings.cores);
    settings.accelerator = accelerator(&attrs).unwrap_or(settings.accelerator);
    settings.machine_type = attrs.text("machineType").unwrap_or(settings.machine_type);
    settings.program = attrs.text("program").unwrap_or(settings.program);
    settings.extra_args = attrs.texts("extraArgs").unwrap_or_default();
    settings.state_dir = attrs.absolute_path("stateDir");
    settings.host_memory = attrs.mebibytes("hostMemory", 0..=u64::MAX);
    settings.host_cores = attrs.number("hostCores", 0..=u64::MAX);
    settings.ssh_port = attrs
        .number("sshPort", 1..=u64::from(u16::MAX))
        .and_then(|port| port.try_into().ok())
        .unwrap_or(settings.ssh_port);
    let idle_timeout = attrs.seconds("idleTimeout", 1..=u64::from(u32::MAX));
    settings.idle_timeout =
        idle_timeout.and_then(|length| length.0.try_into().ok()).unwrap_or(settings.idle_timeout);
    settings.authorized_keys = attrs.texts("authorizedKeys").unwrap_or_default();
    settings.authorized_key_file = ssh_key.map(|key| PathBuf::from(format!("{key}.pub")));
    if settings.authorized_keys.is_empty() && settings.authorized_key_file.is_none() {
        attrs.problem(
            "authorizedKeys",
            "must be set (public keys that may log in), or sshKey next to provider: its .pub is then used",
        );
    }
    settings.warm_start = attrs.flag("warmStart").unwrap_or(settings.warm_start);
    attrs.finish();
    image.map(|_| ProviderSettings::Qemu(Box::new(settings)))
}

fn accelerator(attrs: &Attrs<'_>) -> Option<qemu::Accelerator> {
    match attrs.text("accelerator")?.as_str() {
        "auto" => Some(qemu::Accelerator::Auto),
        "kvm" => Some(qemu::Accelerator::Kvm),
        "tcg" => Some(qemu::Accelerator::Tcg),
        other => {
            attrs.problem(
                "accelerator",
                format!("must be \"auto\", \"kvm\" or \"tcg\", is {other:?}"),
            );
            None
        }
    }
}

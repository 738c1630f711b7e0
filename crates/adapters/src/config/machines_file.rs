//! Settings of the machines file: `machinesFile`, `updateCommand`, `machinesFileMode`, `staticMachines`, and
//! the valid values of its columns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use planner::{Destination, Filling, Host, HostPattern, MachineType, PoolPolicy, StoreUri};

use super::reader::Attrs;
use super::settings::{MachinesFileMode, MachinesFileSettings, MachinesFileTarget, QueueSettings};

/// The path of the original script; no other program writes it.
const DEFAULT_PATH: &str = "/var/lib/hydra/provisioner/machines";
/// The path that Nix itself reads.
const NIX_PATH: &str = "/etc/nix/machines";

pub(super) fn read(root: &Attrs<'_>, queue: &QueueSettings) -> MachinesFileSettings {
    let file = root.absolute_path("machinesFile");
    let command = root.command("updateCommand");
    if file.is_some() && command.is_some() {
        root.problem("updateCommand", "machinesFile is set too; remove one of them");
    }
    let mode = mode(root);
    let (target, default_mode) = match (file, command, queue) {
        (Some(file), ..) => (MachinesFileTarget::File(file), MachinesFileMode::Own),
        (None, Some(command), _) => (MachinesFileTarget::Command(command), MachinesFileMode::Own),
        (None, None, QueueSettings::Classic { .. }) => {
            (MachinesFileTarget::File(PathBuf::from(DEFAULT_PATH)), MachinesFileMode::Takeover)
        }
        (None, None, QueueSettings::Rest { .. }) => {
            (MachinesFileTarget::NotWanted, MachinesFileMode::Own)
        }
    };
    if mode.is_some() && !matches!(target, MachinesFileTarget::File(_)) {
        root.problem(
            "machinesFileMode",
            "applies to machinesFile, which is not written; remove it",
        );
    }
    let static_machines = static_machines(root);
    if !static_machines.is_empty() && target == MachinesFileTarget::NotWanted {
        root.problem(
            "staticMachines",
            "are lines of a machines file, which is not written; name their hosts in otherMachines",
        );
    }
    MachinesFileSettings { target, mode: mode.unwrap_or(default_mode), static_machines }
}

fn mode(root: &Attrs<'_>) -> Option<MachinesFileMode> {
    let text = root.text("machinesFileMode")?;
    match text.as_str() {
        "own" => Some(MachinesFileMode::Own),
        "takeover" => Some(MachinesFileMode::Takeover),
        _ => {
            root.problem(
                "machinesFileMode",
                format!("must be \"own\" or \"takeover\", is {text:?}"),
            );
            None
        }
    }
}

fn static_machines(root: &Attrs<'_>) -> Vec<String> {
    let lines = root.texts("staticMachines").unwrap_or_default();
    for (at, line) in lines.iter().enumerate() {
        let problem = if line.contains(|c: char| c.is_control() && c != '\t') {
            Some("has a line break or control character; it must be one line".to_owned())
        } else {
            host(line).err()
        };
        if let Some(problem) = problem {
            root.problem("staticMachines", format!("line {} {problem}", at + 1));
        }
    }
    lines
}

/// The host of a line; `None` for a comment.
fn host(line: &str) -> Result<Option<Host>, String> {
    let text = line.split('#').next().unwrap_or_default();
    let Some(uri) = text.split_whitespace().next() else {
        return if line.contains('#') { Ok(None) } else { Err("is empty".to_owned()) };
    };
    let destination: Destination =
        uri.parse().map_err(|error| format!("does not start with a machine: {error}"))?;
    Ok(Some(destination.endpoint.host))
}

/// The hosts of static machines: their builds are not attributed to our machines.
pub(super) fn static_hosts(settings: &MachinesFileSettings) -> impl Iterator<Item = HostPattern> {
    let hosts = settings.static_machines.iter().filter_map(|line| host(line).ok().flatten());
    hosts.map(|host| HostPattern::new(host.to_string()))
}

/// `storeUri`: the format of the first column.
pub(super) fn store_uri(attrs: &Attrs<'_>) -> Option<StoreUri> {
    let template = StoreUri::new(attrs.text("storeUri")?);
    if let Err(problem) = template.check() {
        attrs.problem("storeUri", problem);
    }
    Some(template)
}

/// The only scheme that a classic queue runner takes ("Currently, only (legacy-)ssh stores are supported!" in
/// `src/hydra-queue-runner/build-remote.cc`).
const CLASSIC_SCHEME: &str = "ssh://";

/// Where a classic queue runner reads the file, each try on a machine with another scheme fails.
pub(super) fn warn_of_schemes(
    root: &Attrs<'_>,
    queue: &QueueSettings,
    pools: &BTreeMap<MachineType, PoolPolicy>,
) {
    if matches!(queue, QueueSettings::Rest { .. }) {
        return;
    }
    for (machine_type, pool) in pools {
        let Some(store_uri) = &pool.store_uri else { continue };
        let text = store_uri.to_string();
        if text.contains("://") && !text.starts_with(CLASSIC_SCHEME) {
            root.warning(
                "systemTypes",
                &format!(
                    "storeUri {text:?} of {machine_type}: a classic queue runner builds only on machines with \
                     {CLASSIC_SCHEME}; with another scheme every build fails"
                ),
            );
        }
    }
}

/// A builder of the REST queue runner gets builds as long as it runs.
pub(super) fn warn_of_pack(
    root: &Attrs<'_>,
    queue: &QueueSettings,
    pools: &BTreeMap<MachineType, PoolPolicy>,
) {
    if !matches!(queue, QueueSettings::Rest { .. }) {
        return;
    }
    for (machine_type, _) in pools.iter().filter(|(_, pool)| pool.filling == Filling::Pack) {
        root.warning(
            "systemTypes",
            &format!(
                "pack of {machine_type} changes nothing: builders of the REST queue runner get builds as long as they run"
            ),
        );
    }
}

/// Older Nix accepts only integer speed factors (`parseMachines`, seen with 2.8); Hydra's own parser accepts
/// decimals.
pub(super) fn warn_of_decimals(
    root: &Attrs<'_>,
    queue: &QueueSettings,
    settings: &MachinesFileSettings,
    pools: &BTreeMap<MachineType, PoolPolicy>,
) {
    let is_for_nix = match &settings.target {
        MachinesFileTarget::File(path) => {
            path == Path::new(NIX_PATH) || matches!(queue, QueueSettings::Rest { .. })
        }
        MachinesFileTarget::Command(_) => matches!(queue, QueueSettings::Rest { .. }),
        MachinesFileTarget::NotWanted => false,
    };
    let decimals = pools.iter().filter(|(_, pool)| pool.speed_factor.thousandths % 1000 != 0);
    for (machine_type, pool) in decimals.filter(|_| is_for_nix) {
        let factor = pool.speed_factor;
        root.warning(
            "systemTypes",
            &format!(
                "speedFactor {factor} of {machine_type} is not whole: Nix reads this machines file, and older \
                 ones (2.8) refuse all of it; newer ones and Hydra take it"
            ),
        );
    }
}

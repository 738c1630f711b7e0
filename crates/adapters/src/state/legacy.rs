//! `machines.json`, in which earlier versions kept their records. It is imported once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use planner::{Host, InMachinesFile, Machine, MachineName, MachineState, MachineType, Timestamp};
use reconciler::{ProviderId, Record, State};
use serde::Deserialize;
use serde_json::Value;

use super::{Remembered, StateError};
use crate::providers::ProviderSettings;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    machines: BTreeMap<MachineName, OldRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldRecord {
    #[serde(rename = "type")]
    machine_type: MachineType,
    provider: ProviderSettings,
    #[serde(default)]
    requested_at: Option<Timestamp>,
    #[serde(default)]
    last_seen: Option<Value>,
    #[serde(default)]
    created: bool,
    #[serde(default)]
    host_name: Option<Host>,
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("machines.json")
}

/// The contents of `machines.json`, if it exists.
pub(super) fn read(state_dir: &Path) -> Result<Option<(State, Remembered)>, StateError> {
    let path = path(state_dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(&path, &error.to_string())),
    };
    let contents: Contents =
        serde_json::from_slice(&bytes).map_err(|error| refuse(&path, &error.to_string()))?;
    let mut remembered = Remembered::new();
    let mut state = State::default();
    for (name, old) in contents.machines {
        let provider = ProviderId(old.provider.identity());
        remembered
            .entry(provider.clone())
            .or_default()
            .insert(old.machine_type.clone(), old.provider.clone());
        state.records.push(record(name, old, provider));
    }
    Ok(Some((state, remembered)))
}

fn record(name: MachineName, old: OldRecord, provider: ProviderId) -> Record {
    let mut machine = Machine::requested(name, old.machine_type);
    let seen = old.last_seen.as_ref();
    let text = |key: &str| seen.and_then(|seen| seen.get(key)).and_then(Value::as_str);
    machine.address = text("address").map(Host::new);
    machine.host_name = old.host_name.or_else(|| text("hostName").map(Host::new));
    machine.host_key = text("hostKey").map(str::to_owned);
    if let Some(user) = text("sshUser") {
        user.clone_into(&mut machine.ssh_user);
    }
    let port = seen.and_then(|seen| seen.get("sshPort")).and_then(Value::as_u64);
    machine.ssh_port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(machine.ssh_port);
    let exists = old.created || seen.is_some();
    if exists {
        // The first listing shows its real state. It may be published and building.
        machine.state = MachineState::Unreachable;
        machine.memory.in_machines_file = InMachinesFile::Now;
    }
    machine.memory.requested_at = old.requested_at;
    machine.memory.known_since = old.requested_at;
    Record {
        machine,
        provider,
        attempt: 0,
        unknown_since: None,
        exists,
        was_listed: seen.is_some(),
        booting_since: None,
        made_in: None,
        billed_until: None,
        kept_alive_at: None,
        deployed_with: None,
        adopted_at: None,
        is_published_in_history: false,
        last_operation_ended: planner::Sequence(0),
        begin_ended: planner::Sequence(0),
        built: None,
        drains: 0,
    }
}

/// Renames it, so that it is not imported again.
pub(super) fn mark_imported(state_dir: &Path) -> Result<(), StateError> {
    let path = path(state_dir);
    fs::rename(&path, path.with_extension("json.taken-over"))
        .map_err(|error| refuse(&path, &error.to_string()))
}

fn refuse(path: &Path, reason: &str) -> StateError {
    StateError {
        reason: format!(
            "cannot take over {}: {reason}; move it away: machines are found again by their tag, but not what was under way",
            path.display()
        ),
    }
}

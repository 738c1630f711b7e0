//! Writes the machines file (`parseMachines` in Nix's `machines.cc`; `parse_machines` in Hydra's C++ queue runner).

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::{Feature, MachinesFile, MachinesFileEntry};
use reconciler::world::{MachinesFileSink, PublishError, Published};

use crate::atomic_file;
use crate::command::Invocation;
use crate::config::MachinesFileSettings;

/// The port that needs no mention.
const SSH_PORT: u16 = 22;

/// Publishes the machines file where the operator wants it.
#[derive(Clone, Debug)]
pub struct Sink {
    settings: MachinesFileSettings,
    limit: Duration,
}

impl Sink {
    /// `limit` is for one `updateCommand`.
    pub fn new(settings: MachinesFileSettings, limit: Duration) -> Self {
        Self { settings, limit }
    }
}

impl MachinesFileSink for Sink {
    fn publish(&mut self, file: &MachinesFile) -> Result<Published, PublishError> {
        let text = render(file);
        match &self.settings {
            MachinesFileSettings::NotWanted => Ok(Published::NotWanted),
            MachinesFileSettings::File(path) => {
                if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
                    return Ok(Published::Unchanged);
                }
                atomic_file::write(path, text.as_bytes(), 0o644).map_err(|error| {
                    PublishError(format!(
                        "cannot write {}: {error}; see machinesFile",
                        path.display()
                    ))
                })?;
                Ok(Published::Changed)
            }
            MachinesFileSettings::Command(words) => {
                let invocation = Invocation::new(words, self.limit).stdin(text);
                let output = invocation.run().map_err(|error| PublishError(error.to_string()))?;
                if output.succeeded() {
                    Ok(Published::Changed)
                } else {
                    Err(PublishError(format!(
                        "updateCommand {} ended with exit code {}: {}",
                        invocation.command_line(),
                        output.code,
                        output.stderr_tail()
                    )))
                }
            }
        }
    }
}

/// One machine a line, in eight columns.
pub fn render(file: &MachinesFile) -> String {
    let mut text = String::new();
    for entry in &file.entries {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {} {} {} {} {} {} {}",
            store_uri(entry),
            entry.systems.iter().map(planner::System::as_str).collect::<Vec<_>>().join(","),
            entry.ssh_key.as_deref().unwrap_or("-"),
            entry.max_jobs,
            entry.speed_factor,
            list(&entry.supported_features),
            list(&entry.mandatory_features),
            entry
                .machine
                .host_key
                .as_ref()
                .map_or_else(|| "-".to_owned(), |key| BASE64.encode(key.trim())),
        );
    }
    text
}

/// `user@address` as in the original; a port other than ssh's own needs the URI form.
fn store_uri(entry: &MachinesFileEntry) -> String {
    let user = &entry.machine.ssh_user;
    let address = &entry.address;
    match entry.machine.ssh_port {
        SSH_PORT => format!("{user}@{address}"),
        port => format!("ssh://{user}@{address}:{port}"),
    }
}

fn list(features: &[Feature]) -> String {
    if features.is_empty() {
        return "-".to_owned();
    }
    features.iter().map(Feature::as_str).collect::<Vec<_>>().join(",")
}

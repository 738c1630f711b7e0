//! Writes the machines file (`parseMachines` in Nix's `machines.cc`; `parse_machines` in Hydra's C++ queue runner).

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::{Destination, Feature, Machine, MachinesFile, MachinesFileEntry};
use reconciler::world::{MachinesFileSink, PublishError, Published};

use crate::atomic_file;
use crate::command::Invocation;
use crate::config::MachinesFileSettings;

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
    let Machine { ssh_user, ssh_port, .. } = &entry.machine;
    Destination::new(ssh_user, entry.address.clone(), *ssh_port).to_string()
}

fn list(features: &[Feature]) -> String {
    if features.is_empty() {
        return "-".to_owned();
    }
    features.iter().map(Feature::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use planner::{MachineName, MachineType, SpeedFactor, System};

    use super::*;

    fn entry(address: &str, port: u16) -> MachinesFileEntry {
        let machine = Machine::requested(MachineName::new("m"), MachineType::new("t"));
        MachinesFileEntry {
            machine: Machine { ssh_port: port, ..machine },
            address: planner::Host::new(address),
            systems: vec![System::new("x86_64-linux"), System::new("i686-linux")],
            ssh_key: None,
            max_jobs: 4,
            speed_factor: SpeedFactor { thousandths: 1500 },
            supported_features: Vec::new(),
            mandatory_features: Vec::new(),
        }
    }

    #[test]
    fn first_columns_for_all_addresses() {
        for (address, port, uri) in [
            ("10.0.0.7", 22, "root@10.0.0.7"),
            ("m.example.org", 2222, "ssh://root@m.example.org:2222"),
            // As Nix 2.8 and ssh take it; newer Nix does too.
            ("2001:db8::7", 22, "root@2001:db8::7"),
            ("2001:db8::7", 2222, "ssh://root@[2001:db8::7]:2222"),
        ] {
            assert_eq!(store_uri(&entry(address, port)), uri);
        }
    }

    #[test]
    fn all_columns() {
        let mut entry = entry("10.0.0.7", 22);
        entry.ssh_key = Some("/keys/id".to_owned());
        entry.supported_features = ["benchmark", "kvm"].map(Feature::new).into();
        entry.mandatory_features = vec![Feature::new("kvm")];
        entry.machine.host_key = Some("ssh-ed25519 AAAA comment\n".to_owned());
        let file = MachinesFile { entries: vec![entry], left_out: Vec::new() };
        assert_eq!(
            render(&file),
            "root@10.0.0.7 x86_64-linux,i686-linux /keys/id 4 1.5 benchmark,kvm kvm \
             c3NoLWVkMjU1MTkgQUFBQSBjb21tZW50\n"
        );
    }
}

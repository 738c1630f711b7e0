//! The content of the machines file: which machines may get builds.

use serde::{Deserialize, Serialize};

use crate::demand::builds_i686;
use crate::endpoint::{Endpoint, Host};
use crate::names::{Feature, System};
use crate::policy::{Policy, PoolPolicy, SpeedFactor};
use crate::snapshot::Machine;
use crate::store_uri::first_column;

/// The machines that may get builds, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinesFile {
    /// One line each.
    pub entries: Vec<MachinesFileEntry>,
    /// Machines left out because one of their fields would break the file, with the reason.
    pub left_out: Vec<String>,
}

/// One line. The adapter defines how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinesFileEntry {
    /// The machine, with its address, user, port and host key. Other fields do not affect the file.
    pub machine: Machine,
    /// Host name or address.
    pub address: Host,
    /// Column 1, which parses to this machine's address and port.
    pub store_uri: String,
    /// The systems that it builds for.
    pub systems: Vec<System>,
    /// Path of the private key on the queue runner's host.
    pub ssh_key: Option<String>,
    /// Concurrent steps.
    pub max_jobs: u32,
    /// Relative speed.
    pub speed_factor: SpeedFactor,
    /// All its features, including the mandatory ones, sorted.
    pub supported_features: Vec<Feature>,
    /// Features that a step must require, sorted.
    pub mandatory_features: Vec<Feature>,
}

impl MachinesFileEntry {
    /// The endpoint that identifies it in the queue runner.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.address.clone(), port: Some(self.machine.ssh_port) }
    }
}

fn as_published(machine: &Machine) -> Machine {
    Machine {
        address: machine.address.clone(),
        host_name: machine.host_name.clone(),
        ssh_user: machine.ssh_user.clone(),
        ssh_port: machine.ssh_port,
        host_key: machine.host_key.clone(),
        ..Machine::requested(machine.name.clone(), machine.machine_type.clone())
    }
}

impl MachinesFile {
    /// Whether it is the file for `machines` under the policy that made it. False when in doubt.
    pub fn is_of<'a>(&self, machines: impl IntoIterator<Item = &'a Machine>) -> bool {
        let mut entries = self.entries.iter();
        let all_named = machines.into_iter().all(|machine| {
            entries.next().is_some_and(|entry| {
                let (published, now) = (&entry.machine, machine);
                published.name == now.name
                    && published.machine_type == now.machine_type
                    && published.address == now.address
                    && published.host_name == now.host_name
                    && published.ssh_user == now.ssh_user
                    && published.ssh_port == now.ssh_port
                    && published.host_key == now.host_key
            })
        });
        all_named && entries.next().is_none() && self.left_out.is_empty()
    }
}

/// The machines file for `machines`, each of which may get builds.
pub fn machines_file<'a>(
    policy: &Policy,
    machines: impl IntoIterator<Item = &'a Machine>,
) -> MachinesFile {
    let mut file = MachinesFile::default();
    for machine in machines {
        match entry(policy, machine) {
            Ok(entry) => file.entries.push(entry),
            Err(reason) => file.left_out.push(format!("{}: {reason}", machine.name)),
        }
    }
    file.entries.sort_by(|a, b| a.machine.name.cmp(&b.machine.name));
    file.left_out.sort();
    file
}

fn entry(policy: &Policy, machine: &Machine) -> Result<MachinesFileEntry, String> {
    let pool = policy
        .pools
        .get(&machine.machine_type)
        .ok_or_else(|| format!("its type {} is not configured", machine.machine_type))?;
    let address = machine.address.clone().ok_or("its provider reports no address for it")?;
    let store_uri = first_column(pool.store_uri.as_ref(), machine, &address)?;
    Ok(MachinesFileEntry {
        machine: as_published(machine),
        address,
        store_uri,
        systems: systems_built_by(pool),
        ssh_key: pool.ssh_key.clone(),
        max_jobs: pool.max_jobs,
        speed_factor: pool.speed_factor,
        supported_features: pool
            .mandatory_features
            .union(&pool.supported_features)
            .cloned()
            .collect(),
        mandatory_features: pool.mandatory_features.iter().cloned().collect(),
    })
}

/// The systems for which a machine of `pool` builds steps, including `i686-linux` on `x86_64`.
pub fn systems_built_by(pool: &PoolPolicy) -> Vec<System> {
    let i686 = System::new("i686-linux");
    let mut systems = pool.systems.clone();
    if builds_i686(&systems) && !systems.contains(&i686) {
        systems.push(i686);
    }
    systems
}

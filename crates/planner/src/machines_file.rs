//! What the queue runner is to read: which machines may get builds.

use serde::{Deserialize, Serialize};

use crate::demand::builds_i686;
use crate::endpoint::Host;
use crate::escape::escape;
use crate::names::{Feature, System};
use crate::policy::{Policy, PoolPolicy, SpeedFactor};
use crate::snapshot::Machine;

/// The machines that may get builds, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinesFile {
    /// One line each.
    pub entries: Vec<MachinesFileEntry>,
    /// Machines left out since a field of theirs would break the file, with the reason.
    pub left_out: Vec<String>,
}

/// One line; how it is written is the adapter's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinesFileEntry {
    /// The machine, with its address, user, port and host key.
    pub machine: Machine,
    /// Host name or address.
    pub address: Host,
    /// What it builds for.
    pub systems: Vec<System>,
    /// Path of the private key on the queue runner's host.
    pub ssh_key: Option<String>,
    /// Steps at once.
    pub max_jobs: u32,
    /// Relative speed.
    pub speed_factor: SpeedFactor,
    /// All features it offers, the mandatory ones included, sorted.
    pub supported_features: Vec<Feature>,
    /// Features that a step must require, sorted.
    pub mandatory_features: Vec<Feature>,
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
    let address = machine.address.clone().ok_or("its provider tells no address for it")?;
    if !address.is_readable() {
        return Err(format!("its address \"{}\" is no host", escape(&address.to_string())));
    }
    let user = &machine.ssh_user;
    if !is_one_field(user) {
        return Err(format!("its ssh user {user:?} cannot stand in a machines file"));
    }
    Ok(MachinesFileEntry {
        machine: machine.clone(),
        address,
        systems: systems(pool),
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

/// Fields are separated by blanks, and `#` starts a comment (Nix, `parseMachines`).
fn is_one_field(value: &str) -> bool {
    !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

fn systems(pool: &PoolPolicy) -> Vec<System> {
    let i686 = System::new("i686-linux");
    let mut systems = pool.systems.clone();
    if builds_i686(&systems) && !systems.contains(&i686) {
        systems.push(i686);
    }
    systems
}

//! The content of the machines file: which machines may get builds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::demand::builds_i686;
use crate::endpoint::{Endpoint, Host};
use crate::left_out::is_default;
use crate::names::{Feature, MachineName, System};
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
    /// Relative speed, lower than the real one if it is filled last.
    pub speed_factor: SpeedFactor,
    /// Whether the queue runner is to fill it after others (`pack`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub fill_order: FillOrder,
    /// All its features, including the mandatory ones, sorted.
    pub supported_features: Vec<Feature>,
    /// Features that a step must require, sorted.
    pub mandatory_features: Vec<Feature>,
}

/// When a machine gets builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FillOrder {
    /// By its load.
    #[default]
    ByLoad,
    /// After the others. One without a build still comes first.
    Last,
}

impl FillOrder {
    fn of(name: &MachineName, fill_last: &BTreeSet<MachineName>) -> Self {
        if fill_last.contains(name) { Self::Last } else { Self::ByLoad }
    }
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
    /// Whether it is the file for `machines` and `fill_last` under the policy that made it. False when in doubt.
    pub fn is_of<'a>(
        &self,
        machines: impl IntoIterator<Item = &'a Machine>,
        fill_last: &BTreeSet<MachineName>,
    ) -> bool {
        let mut entries = self.entries.iter();
        let all_named = machines.into_iter().all(|machine| {
            entries.next().is_some_and(|entry| {
                let (published, now) = (&entry.machine, machine);
                published.name == now.name
                    && entry.fill_order == FillOrder::of(&now.name, fill_last)
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

/// The machines file for `machines`, each of which may get builds, those in `fill_last` after the others.
pub fn machines_file<'a>(
    policy: &Policy,
    machines: impl IntoIterator<Item = &'a Machine>,
    fill_last: &BTreeSet<MachineName>,
) -> MachinesFile {
    let mut file = MachinesFile::default();
    for machine in machines {
        match entry(policy, machine, FillOrder::of(&machine.name, fill_last)) {
            Ok(entry) => file.entries.push(entry),
            Err(reason) => file.left_out.push(format!("{}: {reason}", machine.name)),
        }
    }
    file.entries.sort_by(|a, b| a.machine.name.cmp(&b.machine.name));
    file.left_out.sort();
    file
}

fn entry(
    policy: &Policy,
    machine: &Machine,
    fill_order: FillOrder,
) -> Result<MachinesFileEntry, String> {
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
        speed_factor: match fill_order {
            FillOrder::ByLoad => pool.speed_factor,
            FillOrder::Last => pool.speed_factor.of_last_filled(),
        },
        fill_order,
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

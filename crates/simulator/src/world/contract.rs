//! What the provisioner can see of the virtual world: the queue status, listings and the machines file.

use std::collections::BTreeMap;

use planner::{
    Machine, MachineName, MachineState, MachineType, MachinesFile, MachinesFileEntry, QueueStatus,
    Resource, Tag,
};
use reconciler::{Listing, ProviderId, Published};

use super::SimWorld;
use super::checker::{LogEntry, Rule};
use super::provisioner::provider_of;
use crate::queue_runner::{Host, Offer};

/// Machines of others, with the tag that the provider reports.
const FOREIGN: [(&str, Option<&str>); 3] =
    [("db-server-prod", None), ("sim-007", None), ("sim-999", Some("other"))];

/// Whether it is one of [`FOREIGN`].
pub(super) fn is_foreign(name: &MachineName) -> bool {
    FOREIGN.iter().any(|(foreign, _)| *foreign == name.as_str())
}

impl SimWorld {
    /// The current queue status.
    pub fn queue_status(&mut self) -> QueueStatus {
        let now = self.engine.now();
        let lost = self.by_chance(self.farm.faults.no_queue_status);
        if self.queue_runner_is_up && !lost {
            self.answer_of_queue_runner()
        } else {
            self.checker.log(now, LogEntry::NoQueueStatus);
            QueueStatus::Unavailable("the queue runner does not answer".to_owned())
        }
    }

    /// The current listing of a provider.
    pub(super) fn list(&mut self, provider: &ProviderId) -> Result<Listing, String> {
        let now = self.engine.now();
        if self.by_chance(self.farm.faults.list_fails) {
            self.checker.log(now, LogEntry::NotListed(provider.to_string()));
            return Err("the provider does not answer".to_owned());
        }
        if self.by_chance(self.farm.faults.list_is_empty) {
            self.checker.log(now, LogEntry::ListedEmpty(provider.to_string()));
            return Ok(Listing::default());
        }
        let visible = self.cloud.existing().filter(|(_, machine)| {
            machine.visible_from <= now && provider_of(&machine.kind) == *provider
        });
        let mut machines: Vec<_> =
            visible.map(|(id, _)| self.cloud.describe(id, now, self.epoch())).collect();
        let addresses = machines.iter().filter_map(|machine| machine.address.as_ref());
        self.provisioner.hosts.extend(addresses.filter_map(Host::at));
        self.make_listing_wrong(provider, &mut machines);
        let resources = self.room_of(&MachineType::new(&provider.0)).into_iter().collect();
        Ok(Listing { machines, resources, ..Listing::default() })
    }

    /// The room for machines of a type on their host, if it is limited.
    fn room_of(&self, kind: &MachineType) -> Option<Resource> {
        let room = self.farm.machines.get(kind)?.room?;
        Some(Resource {
            name: format!("machines on the host's {room}"),
            free: u64::from(room).saturating_sub(self.running_of(kind)),
            needs: [(kind.clone(), 1)].into(),
        })
    }

    /// Wrong host names, machines of others, and a machine that is listed twice.
    fn make_listing_wrong(&mut self, provider: &ProviderId, machines: &mut Vec<Machine>) {
        if self.by_chance(self.farm.faults.wrong_host_names) {
            let wrong =
                self.by_chance(500_000).then(|| planner::Host::new("localhost.localdomain"));
            for machine in machines.iter_mut() {
                machine.host_name.clone_from(&wrong);
            }
        }
        let elsewhere = Some(planner::Host::new("10.99.0.1"));
        if self.by_chance(self.farm.faults.duplicate_machines) {
            let twice = machines.first().cloned();
            machines.extend(twice.map(|machine| Machine { address: elsewhere.clone(), ..machine }));
        }
        if self.by_chance(self.farm.faults.foreign_machines) {
            for (name, tag) in FOREIGN {
                let kind = MachineType::new(&provider.0);
                let machine = Machine::requested(MachineName::new(name), kind);
                let (address, tag) = (elsewhere.clone(), tag.map(Tag::new));
                machines.push(Machine { state: MachineState::Up, address, tag, ..machine });
            }
        }
    }

    /// Replaces the machines file.
    pub(super) fn publish(&mut self, file: &MachinesFile) -> Result<Published, String> {
        let now = self.engine.now();
        if self.by_chance(self.farm.faults.publish_fails) {
            self.checker.log(now, LogEntry::NotPublished);
            return Err("no space left on device".to_owned());
        }
        if self.farm.is_rest() {
            return Ok(Published::NotWanted);
        }
        self.check_entries(&file.entries);
        let lines: BTreeMap<_, _> = file.entries.iter().filter_map(line).collect();
        self.checker.log(now, LogEntry::Published(file.entries.len()));
        if self.file == lines {
            return Ok(Published::Unchanged);
        }
        let gone: Vec<_> =
            self.file.keys().filter(|host| !lines.contains_key(host)).copied().collect();
        self.note_unpublished(gone);
        self.file = lines;
        self.expect_reading();
        Ok(Published::Changed)
    }

    /// A machine that disappeared since may be in the machines file; one that never existed, or is not ready, may not.
    fn check_entries(&mut self, entries: &[MachinesFileEntry]) {
        let now = self.engine.now();
        for entry in entries {
            let host = Host::at(&entry.address);
            let known = host.is_some_and(|host| {
                self.provisioner.hosts.contains(&host) || self.cloud.at(host).is_some()
            });
            self.checker.expect(now, known, Rule::PublishOnlyKnown, || {
                format!("{} at {} is listed", entry.machine.name, entry.address)
            });
            let id = self.cloud.find(&entry.machine.name);
            // What happened to it after the transactions that were lost shows only in a listing.
            let is_forgotten = !self.provisioner.can_know(&entry.machine.name);
            let ready = is_forgotten || id.is_none_or(|id| self.cloud.get(id).deployed);
            self.checker.expect(now, ready, Rule::PublishOnlyReady, || {
                format!(
                    "{} at {} is listed and was never deployed",
                    entry.machine.name, entry.address
                )
            });
        }
    }
}

fn line(entry: &MachinesFileEntry) -> Option<(Host, Offer)> {
    let offer = Offer {
        systems: entry.systems.clone(),
        supported_features: entry.supported_features.clone(),
        mandatory_features: entry.mandatory_features.clone(),
        max_jobs: entry.max_jobs.max(1),
        speed_thousandths: entry.speed_factor.thousandths.max(1),
    };
    Host::at(&entry.address).map(|host| (host, offer))
}

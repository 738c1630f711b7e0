//! The virtual world as the reconciler sees it.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    Machine, MachineName, MachineType, MachinesFile, MachinesFileEntry, QueueStatus, Timestamp,
};
use reconciler::world::{
    Clock, Intent, IntentLog, Inventory, LogError, MachineProvider, MachinesFileSink, Outcome,
    PublishError, Published, QueueSource, Task,
};

use super::checker::{Note, Rule};
use super::{Farm, SimWorld};
use crate::queue_runner::{Host, Offer};

impl Clock for SimWorld {
    fn now(&mut self) -> Timestamp {
        Farm::EPOCH.at(self.engine.now())
    }
}

impl QueueSource for SimWorld {
    fn queue_status(&mut self) -> QueueStatus {
        let now = self.engine.now();
        let lost = self.by_chance(self.farm.faults.no_queue_status);
        self.cycle.queue_seen = self.queue_runner_is_up && !lost && !self.cycle.killed;
        if self.cycle.queue_seen {
            QueueStatus::Up(self.queue_runner.status(now, Farm::EPOCH))
        } else {
            self.checker.note(now, Note::NoQueueStatus);
            QueueStatus::Unavailable("the queue runner does not answer".to_owned())
        }
    }
}

impl MachineProvider for SimWorld {
    fn list(&mut self) -> Inventory {
        let now = self.engine.now();
        let mut seen: BTreeMap<MachineType, Vec<Machine>> = BTreeMap::new();
        let visible = self.cloud.existing().filter(|(_, machine)| machine.visible_from <= now);
        for (id, machine) in visible {
            let described = self.cloud.describe(id, now, Farm::EPOCH);
            seen.entry(machine.kind.clone()).or_default().push(described);
        }
        let mut inventory = Inventory::default();
        let types: BTreeSet<_> = self
            .policy
            .pools
            .keys()
            .chain(seen.keys())
            .chain(self.last_listed.keys())
            .cloned()
            .collect();
        for kind in types {
            if self.by_chance(self.farm.faults.list_fails) {
                self.checker.note(now, Note::NotListed(kind.clone()));
                inventory
                    .machines
                    .extend(self.last_listed.get(&kind).into_iter().flatten().cloned());
                inventory.unlisted.insert(kind, "the provider does not answer".to_owned());
                continue;
            }
            let machines = seen.remove(&kind).unwrap_or_default();
            inventory.machines.extend(machines.iter().cloned());
            self.last_listed.insert(kind, machines);
        }
        let addresses = inventory.machines.iter().filter_map(|machine| machine.address.as_ref());
        self.cycle.hosts = addresses.filter_map(Host::at).collect();
        inventory
    }

    fn perform(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        self.carry_out(tasks)
    }
}

impl MachinesFileSink for SimWorld {
    fn publish(&mut self, file: &MachinesFile) -> Result<Published, PublishError> {
        let now = self.engine.now();
        if !self.may_act() || self.by_chance(self.farm.faults.publish_fails) {
            self.checker.note(now, Note::NotPublished);
            return Err(PublishError("no space left on device".to_owned()));
        }
        self.cycle.published = true;
        if self.farm.is_rest() {
            return Ok(Published::NotWanted);
        }
        self.check_entries(&file.entries);
        let lines = file.entries.iter().filter_map(line).collect();
        self.checker.note(now, Note::Published(file.entries.len()));
        if self.file == lines {
            return Ok(Published::Unchanged);
        }
        self.file = lines;
        self.expect_reading();
        Ok(Published::Changed)
    }
}

impl IntentLog for SimWorld {
    fn intents(&mut self) -> Result<Vec<Intent>, LogError> {
        self.log_works()?;
        Ok(self.intents.clone())
    }

    fn record(&mut self, intents: &[Intent]) -> Result<(), LogError> {
        self.log_works()?;
        let now = self.engine.now();
        self.checker.note(now, Note::Intents(intents.len()));
        self.intents.extend_from_slice(intents);
        Ok(())
    }

    fn forget(&mut self, names: &[MachineName]) -> Result<(), LogError> {
        self.log_works()?;
        self.intents.retain(|intent| !names.contains(&intent.name));
        Ok(())
    }
}

impl SimWorld {
    /// Whether the provisioner lives to have one effect more.
    pub(super) fn may_act(&mut self) -> bool {
        if let Some(left) = &mut self.cycle.effects_left {
            *left = left.saturating_sub(1);
            self.cycle.killed |= *left == 0;
        }
        !self.cycle.killed
    }

    fn by_chance(&mut self, chance: u32) -> bool {
        self.in_trouble() && self.cycle.dice.chance(chance)
    }

    fn log_works(&mut self) -> Result<(), LogError> {
        if self.may_act() && !self.by_chance(self.farm.faults.log_fails) {
            Ok(())
        } else {
            Err(LogError("no space left on device".to_owned()))
        }
    }

    /// A machine that went away after the cycle's look may be listed; one that never was may not.
    fn check_entries(&mut self, entries: &[MachinesFileEntry]) {
        let now = self.engine.now();
        for entry in entries {
            let host = Host::at(&entry.address);
            let known = host.is_some_and(|host| {
                self.cycle.hosts.contains(&host) || self.cloud.at(host).is_some()
            });
            self.checker.expect(now, known, Rule::PublishOnlyKnown, || {
                format!("{} at {} is listed", entry.machine.name, entry.address)
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

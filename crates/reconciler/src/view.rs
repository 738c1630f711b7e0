//! The snapshot that the planner gets.

use std::collections::{BTreeMap, BTreeSet};

use planner::{MachineType, Money, Operation, QueueStatus, Resource, Snapshot};

use crate::ids::ProviderId;
use crate::provider::Provider;
use crate::reconciler::Reconciler;
use crate::record::Record;

impl Reconciler {
    /// Everything known now.
    pub fn snapshot(&self) -> Snapshot {
        let duplicates = self.providers.values().flat_map(|provider| provider.duplicates.values());
        let machines = self.records.values().map(|record| &record.machine).chain(duplicates);
        let not_ours = self.providers.values().flat_map(|provider| &provider.not_ours);
        Snapshot {
            taken_at: self.now,
            machines: machines.cloned().collect(),
            unlistable: self.unlistable(),
            resources: self.resources(),
            prices: self.prices(),
            back_off: self.back_off.clone(),
            experience: self.experience.clone(),
            not_ours: not_ours.cloned().collect(),
            orders: self.orders.clone(),
            storage_error: self.storage.error().map(str::to_owned),
            queue: self.questions.status.clone(),
            queue_asked: self.questions.moment,
            queue_asked_at: self.questions.moment_at,
            queue_latency: self.questions.latency,
        }
    }

    /// The snapshot with the waits of the steps, also where no decision depends on them: for people and metrics.
    pub fn shown(&self) -> Snapshot {
        let mut snapshot = self.snapshot();
        if let QueueStatus::Up(queue) = &mut snapshot.queue {
            self.questions.waits.restore(queue);
        }
        snapshot
    }

    /// The types with machines that are not known for certain, with the reason.
    fn unlistable(&self) -> BTreeMap<MachineType, String> {
        let mut unlistable = BTreeMap::new();
        for (id, provider) in &self.providers {
            let Some(reason) = provider.problem() else { continue };
            for machine_type in self.types_of(id) {
                unlistable.insert(machine_type.clone(), reason.to_owned());
            }
        }
        unlistable
    }

    /// The types that use a provider, and the types of its remembered machines.
    fn types_of(&self, id: &ProviderId) -> BTreeSet<&MachineType> {
        let configured = self.configuration.providers.iter().filter(|(_, other)| *other == id);
        let records = self.records.values().filter(|record| record.provider == *id);
        configured
            .map(|(machine_type, _)| machine_type)
            .chain(
                records.filter(|record| record.exists).map(|record| &record.machine.machine_type),
            )
            .collect()
    }

    /// The prices of new machines, where their providers report them.
    fn prices(&self) -> BTreeMap<MachineType, Money> {
        let of_type = |(machine_type, id): (&MachineType, _)| {
            let price = self.providers.get(id)?.prices.get(machine_type)?;
            Some((machine_type.clone(), *price))
        };
        self.configuration.providers.iter().filter_map(of_type).collect()
    }

    /// Shared resources, minus the needs of machines begun since the provider's last listing.
    fn resources(&self) -> Vec<Resource> {
        let mut resources = Vec::new();
        for (id, provider) in &self.providers {
            let begun: Vec<_> = self
                .records
                .values()
                .filter(|record| record.provider == *id && record.takes_room_since(provider))
                .map(|record| &record.machine.machine_type)
                .collect();
            resources.extend(provider.resources.iter().map(|resource| {
                let needs =
                    begun.iter().filter_map(|machine_type| resource.needs.get(*machine_type));
                // Subtracted one by one: the reported needs may add up to more than a `u64` holds.
                let free = needs.fold(resource.free, |free, need| free.saturating_sub(*need));
                Resource { free, ..resource.clone() }
            }));
        }
        resources
    }
}

impl Record {
    /// Whether it uses resources that its provider's last listing does not count.
    fn takes_room_since(&self, provider: &Provider) -> bool {
        let begins = self.machine.memory.under_way.is_some_and(|under_way| {
            matches!(under_way.operation, Operation::Create | Operation::Start)
        });
        begins || self.begin_ended > provider.listed
    }
}

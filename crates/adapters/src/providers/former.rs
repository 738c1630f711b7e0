//! Machines of former tags: each former tag has its own copy of the provider.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::{Machine, MachineName, MachineType, Money, Resource, Tag, is_ours};

use super::{Provider, ProviderError, Tried};

/// A provider's machines of all tags.
pub(super) struct AllTags {
    pub(super) present: Box<dyn Provider>,
    /// The same provider with each former tag.
    pub(super) former: Vec<(Tag, Box<dyn Provider>)>,
}

impl AllTags {
    fn of(&self, machine: &Machine) -> &dyn Provider {
        let reported = machine.tag.as_ref();
        let former = self.former.iter().find(|(tag, _)| is_ours(tag, &machine.name, reported));
        former.map_or(self.present.as_ref(), |(_, provider)| provider.as_ref())
    }
}

impl Provider for AllTags {
    fn list(&self, limit: Duration) -> Result<Vec<Machine>, ProviderError> {
        let began = Instant::now();
        let mut machines = self.present.list(limit)?;
        for (_, provider) in &self.former {
            // A provider that ignores tags lists the same machines again.
            let known: BTreeSet<_> = machines.iter().map(|machine| machine.name.clone()).collect();
            let left = limit.saturating_sub(began.elapsed());
            let listed = provider.list(left)?.into_iter();
            machines.extend(listed.filter(|machine| !known.contains(&machine.name)));
        }
        Ok(machines)
    }

    fn announces_interruptions(&self) -> bool {
        self.present.announces_interruptions()
    }

    /// Those of former tags appear in the listing.
    fn wait_for_interruptions(&self) -> Result<Vec<MachineName>, ProviderError> {
        self.present.wait_for_interruptions()
    }

    fn resources(&self) -> Vec<Resource> {
        self.present.resources()
    }

    fn prices(&self) -> BTreeMap<MachineType, Money> {
        self.present.prices()
    }

    fn try_calls(&self, limit: Duration) -> Vec<Tried> {
        self.present.try_calls(limit)
    }

    fn boots_with_keep_alive(&self) -> bool {
        self.present.boots_with_keep_alive()
    }

    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError> {
        // An interrupted creation with a former tag is requested again with that tag.
        let former = self.former.iter().find(|(tag, _)| is_ours(tag, name, None));
        let provider = former.map_or(&self.present, |(_, provider)| provider);
        provider.create(name, machine_type, token, limit)
    }

    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.of(machine).start(machine, limit)
    }

    fn deploy(&self, machine: &Machine, limit: Duration) -> Result<Machine, ProviderError> {
        self.of(machine).deploy(machine, limit)
    }

    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.of(machine).stop(machine, limit)
    }

    fn destroy(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.of(machine).destroy(machine, limit)
    }
}

//! What a machine costs per hour. A configured price takes precedence over one that a provider reports.

use crate::money::Money;
use crate::names::MachineType;
use crate::policy::Policy;
use crate::snapshot::{Machine, Snapshot};

impl Snapshot {
    /// The price of a new machine of a type: `dollarsPerHour`, or the most that its provider may charge. `None`: not
    /// known.
    pub fn price_of_type(&self, policy: &Policy, machine_type: &MachineType) -> Option<Money> {
        let configured = policy.pools.get(machine_type).and_then(|pool| pool.dollars_per_hour);
        configured.or_else(|| self.prices.get(machine_type).copied())
    }

    /// The price of a machine, the first that is known: configured when it was requested or started; configured for its type now;
    /// reported for it; the most that a new one of its type costs. `None`: not known.
    pub fn price_of(&self, policy: &Policy, machine: &Machine) -> Option<Money> {
        policy.price_of(machine).or_else(|| self.prices.get(&machine.machine_type).copied())
    }
}

impl Policy {
    /// The same without a snapshot: the first three of these.
    pub fn price_of(&self, machine: &Machine) -> Option<Money> {
        let begun = machine.memory.paid.and_then(|paid| paid.dollars_per_hour);
        let configured = || self.pools.get(&machine.machine_type)?.dollars_per_hour;
        begun.or_else(configured).or(machine.dollars_per_hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::names::{MachineName, System, Tag};
    use crate::policy::PoolPolicy;
    use crate::snapshot::QueueStatus;
    use crate::spending::Paid;
    use crate::time::Timestamp;

    #[test]
    fn the_configured_price_takes_precedence_over_the_reported_one() {
        let machine_type = MachineType::new("x");
        let policy_with = |dollars_per_hour| {
            let pool = PoolPolicy { dollars_per_hour, ..PoolPolicy::new(vec![System::new("x")]) };
            Policy::new(Tag::new("farm"), [(machine_type.clone(), pool)].into())
        };
        let mut snapshot =
            Snapshot::new(Timestamp(9), QueueStatus::Unavailable("not asked".to_owned()));
        let mut machine = Machine::requested(MachineName::new("farm-0"), machine_type.clone());
        let price = |snapshot: &Snapshot, machine: &Machine, configured: Option<u64>| {
            snapshot.price_of(&policy_with(configured.map(Money)), machine).map(|price| price.0)
        };
        assert_eq!(price(&snapshot, &machine, None), None);
        snapshot.prices.insert(machine_type.clone(), Money(4));
        assert_eq!(price(&snapshot, &machine, None), Some(4));
        machine.dollars_per_hour = Some(Money(3));
        assert_eq!(price(&snapshot, &machine, None), Some(3));
        assert_eq!(price(&snapshot, &machine, Some(2)), Some(2));
        let paid = Paid { since: Timestamp(1), dollars_per_hour: Some(Money(1)) };
        machine.memory = Memory { paid: Some(paid), ..Memory::default() };
        assert_eq!(price(&snapshot, &machine, Some(2)), Some(1));
        assert_eq!(snapshot.price_of_type(&policy_with(None), &machine_type), Some(Money(4)));
        assert_eq!(
            snapshot.price_of_type(&policy_with(Some(Money(2))), &machine_type),
            Some(Money(2))
        );
    }
}

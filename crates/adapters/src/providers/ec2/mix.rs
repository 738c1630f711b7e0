//! A mix of on-demand and spot instances: which purchase options the next instance of a type is requested with.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use planner::{MachineName, MachineType};
use reconciler::OperationErrorKind;

use super::settings::{Mix, Purchase};
use crate::providers::ProviderError;

/// The instances of a type, including those being created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    on_demand: u32,
    spot: u32,
}

/// The purchase options for one more instance beside `held`, in order. `failures`: creations in a row without spot
/// capacity.
fn order(mix: &Mix, held: Held, failures: u32) -> Vec<Purchase> {
    let above_base = u64::from(held.on_demand.saturating_sub(mix.base)) + u64::from(held.spot);
    let spot_is_due = u64::from(held.spot) * 100 < u64::from(mix.spot_share) * (above_base + 1);
    if held.on_demand < mix.base || !spot_is_due {
        vec![Purchase::OnDemand]
    } else if failures >= mix.fallback_after {
        vec![Purchase::Spot, Purchase::OnDemand]
    } else {
        vec![Purchase::Spot]
    }
}

/// How each machine was bought.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<MachineName, Entry>,
    failures: BTreeMap<MachineType, u32>,
}

#[derive(Debug)]
struct Entry {
    machine_type: MachineType,
    purchase: Purchase,
    is_requested: bool,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The options for the machine `name`. It counts from now on, so that machines created at the same time
    /// are not all bought with the same one.
    pub(super) fn decide(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        mix: &Mix,
    ) -> Vec<Purchase> {
        let mut state = self.lock();
        state.machines.remove(name);
        let mut held = Held::default();
        for entry in state.machines.values().filter(|entry| entry.machine_type == *machine_type) {
            *match entry.purchase {
                Purchase::OnDemand => &mut held.on_demand,
                Purchase::Spot => &mut held.spot,
            } += 1;
        }
        let failures = state.failures.get(machine_type).copied().unwrap_or(0);
        let options = order(mix, held, failures);
        if let Some(purchase) = options.first().copied() {
            let machine_type = machine_type.clone();
            let entry = Entry { machine_type, purchase, is_requested: true };
            state.machines.insert(name.clone(), entry);
        }
        options
    }

    /// The machine was bought.
    pub(super) fn bought(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        purchase: Purchase,
    ) {
        let mut state = self.lock();
        if purchase == Purchase::Spot {
            state.failures.remove(machine_type);
        }
        let machine_type = machine_type.clone();
        let entry = Entry { machine_type, purchase, is_requested: false };
        state.machines.insert(name.clone(), entry);
    }

    /// The machine could not be bought. Whether it exists is not known after a time-out: then it still counts until
    /// the next listing.
    pub(super) fn failed(&self, name: &MachineName, error: &ProviderError) {
        let mut state = self.lock();
        let Some(entry) = state.machines.get_mut(name) else { return };
        entry.is_requested = false;
        if error.kind == OperationErrorKind::Capacity {
            let is_spot = entry.purchase == Purchase::Spot;
            let machine_type = entry.machine_type.clone();
            state.machines.remove(name);
            if is_spot {
                let failures = state.failures.entry(machine_type).or_default();
                *failures = failures.saturating_add(1);
            }
        }
    }

    /// All machines that exist, with the purchase where the listing shows it; otherwise the known one stays. Those being
    /// requested stay, too.
    pub(super) fn listed(
        &self,
        machines: impl Iterator<Item = (MachineName, MachineType, Option<Purchase>)>,
    ) {
        let mut state = self.lock();
        let known = mem::take(&mut state.machines);
        for (name, machine_type, shown) in machines {
            let purchase = shown.or_else(|| Some(known.get(&name)?.purchase));
            let entry =
                purchase.map(|purchase| Entry { machine_type, purchase, is_requested: false });
            state.machines.extend(entry.map(|entry| (name, entry)));
        }
        state.machines.extend(known.into_iter().filter(|(_, entry)| entry.is_requested));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIX: Mix = Mix { base: 2, spot_share: 75, fallback_after: 3 };

    fn no_capacity() -> ProviderError {
        ProviderError { kind: OperationErrorKind::Capacity, message: String::new() }
    }

    fn x() -> MachineType {
        MachineType::new("x")
    }

    fn name(number: u32) -> MachineName {
        MachineName::new(format!("farm-{number}"))
    }

    /// The first options of the next machines, one after the other.
    fn next(mix: &Mix, count: u32) -> String {
        let mut held = Held::default();
        (0..count)
            .map(|_| match order(mix, held, 0)[0] {
                Purchase::OnDemand => {
                    held.on_demand += 1;
                    'd'
                }
                Purchase::Spot => {
                    held.spot += 1;
                    's'
                }
            })
            .collect()
    }

    #[test]
    fn the_base_is_on_demand_and_the_rest_has_its_share() {
        assert_eq!(next(&MIX, 10), "ddsssdsssd");
        assert_eq!(next(&Mix { base: 0, spot_share: 100, ..MIX }, 4), "ssss");
        assert_eq!(next(&Mix { base: 1, spot_share: 0, ..MIX }, 4), "dddd");
        assert_eq!(next(&Mix { base: 0, spot_share: 50, ..MIX }, 5), "sdsds");
    }

    /// More on-demand machines than wanted, by fallbacks: the next ones are spot.
    #[test]
    fn a_lost_base_is_restored_first() {
        let spot_only = Held { on_demand: 1, spot: 8 };
        assert_eq!(order(&MIX, spot_only, 9), [Purchase::OnDemand]);
        let fallbacks = Held { on_demand: 9, spot: 0 };
        assert_eq!(order(&MIX, fallbacks, 0), [Purchase::Spot]);
    }

    #[test]
    fn on_demand_is_used_after_some_failures_until_spot_is_there_again() {
        let ledger = Ledger::default();
        let mix = Mix { base: 0, spot_share: 100, fallback_after: 2 };
        for _ in 0..2 {
            assert_eq!(ledger.decide(&name(0), &x(), &mix), [Purchase::Spot]);
            ledger.failed(&name(0), &no_capacity());
        }
        let both = [Purchase::Spot, Purchase::OnDemand];
        assert_eq!(ledger.decide(&name(0), &x(), &mix), both);
        ledger.bought(&name(0), &x(), Purchase::OnDemand);
        assert_eq!(ledger.decide(&name(1), &x(), &mix), both);
        ledger.bought(&name(1), &x(), Purchase::Spot);
        assert_eq!(ledger.decide(&name(2), &x(), &mix), [Purchase::Spot]);
        let at_once = Mix { fallback_after: 0, ..mix };
        assert_eq!(ledger.decide(&name(2), &x(), &at_once), both);
    }

    #[test]
    fn machines_being_created_count_and_a_listing_keeps_them() {
        let ledger = Ledger::default();
        let mix = Mix { base: 1, spot_share: 100, fallback_after: 9 };
        assert_eq!(ledger.decide(&name(0), &x(), &mix), [Purchase::OnDemand]);
        assert_eq!(ledger.decide(&name(1), &x(), &mix), [Purchase::Spot]);
        ledger.listed([(name(1), x(), Some(Purchase::Spot))].into_iter());
        assert_eq!(ledger.decide(&name(2), &x(), &mix), [Purchase::Spot], "farm-0 still counts");
        // Another error than capacity says nothing about spot, and the machine may exist.
        ledger.failed(&name(0), &ProviderError::failed("no answer"));
        assert_eq!(ledger.decide(&name(3), &x(), &mix), [Purchase::Spot]);
        ledger.listed(std::iter::empty());
        assert_eq!(ledger.decide(&name(4), &x(), &mix), [Purchase::OnDemand]);
        // Asked again, a machine does not count itself.
        assert_eq!(ledger.decide(&name(4), &x(), &mix), [Purchase::OnDemand]);
    }

    #[test]
    fn a_machine_that_the_cloud_does_not_list_yet_keeps_its_purchase() {
        let ledger = Ledger::default();
        let mix = Mix { base: 1, spot_share: 100, fallback_after: 9 };
        ledger.bought(&name(0), &x(), Purchase::OnDemand);
        ledger.listed([(name(0), x(), None), (name(1), x(), None)].into_iter());
        assert_eq!(ledger.decide(&name(2), &x(), &mix), [Purchase::Spot]);
        ledger.listed([(name(0), x(), Some(Purchase::Spot))].into_iter());
        assert_eq!(ledger.decide(&name(3), &x(), &mix), [Purchase::OnDemand]);
    }
}

//! The assumed prices of machines, in words.

use std::collections::BTreeMap;

use simulator::cloud::{BillingModel, MachineModel, Tariff};
use simulator::simulation::Setup;

/// One line per tariff: its types, then the tariff.
pub(super) fn of(setup: &Setup) -> Vec<String> {
    let mut types: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in setup.policy.pools.keys() {
        let given = setup.farm.machines.get(name).map(|model| &model.tariff);
        let usual = MachineModel::default().tariff;
        let assumed = if given.is_none_or(|given| *given == usual) { " (assumed)" } else { "" };
        let text = words(given.unwrap_or(&usual)) + assumed;
        types.entry(text).or_default().push(name.as_str());
    }
    types.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", "))).collect()
}

fn words(tariff: &Tariff) -> String {
    let (first, others) = tariff.price.first_and_others();
    let price = match others {
        0 => format!("{} an hour", dollars(first)),
        others => format!("{} an hour at first, {others} changes", dollars(first)),
    };
    let by = match tariff.billing {
        BillingModel::PerSecond { minimum_seconds } => {
            format!("by the second, {minimum_seconds} s at least")
        }
        BillingModel::PerStartedHour => "by the hour begun".to_owned(),
    };
    let stopped = dollars(tariff.stopped_micro_dollars_per_hour);
    format!("{price}, {by}; stopped: {stopped} an hour")
}

fn dollars(micro_dollars: u64) -> String {
    planner::Money(micro_dollars).to_string()
}

//! The assumed prices of machines, in words.

use std::collections::BTreeMap;

use simulator::cloud::{BillingModel, MachineModel, Tariff};
use simulator::simulation::Setup;

/// One line per tariff: its types, then the tariff.
pub(super) fn of(setup: &Setup) -> Vec<String> {
    let mut types: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, pool) in &setup.policy.pools {
        let usual = MachineModel::default().tariff;
        let tariff = setup.farm.machines.get(name).map_or(&usual, |model| &model.tariff);
        let is_given = setup.farm.given.prices.contains(name) || pool.dollars_per_hour.is_some();
        let text = words(tariff, if is_given { "" } else { " (assumed)" });
        types.entry(text).or_default().push(name.as_str());
    }
    types.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", "))).collect()
}

/// `assumed`: what is said about the price.
fn words(tariff: &Tariff, assumed: &str) -> String {
    let (first, others) = tariff.price.first_and_others();
    let price = match others {
        0 => format!("{} an hour{assumed}", dollars(first)),
        others => format!("{} an hour{assumed} at first, {others} changes", dollars(first)),
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

//! The maximum cost of a configuration.

use std::cmp::Reverse;

use planner::{MachineType, Money, PoolPolicy};

use super::schedule;
use super::settings::Config;

/// The maximum cost of a configuration per hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourlyCost {
    /// With the maximum number of machines, within all limits, of the types with a known price.
    pub most: Money,
    /// Types without `dollarsPerHour` that may have machines; their cost is not included.
    pub unpriced: Vec<MachineType>,
}

impl Config {
    /// The maximum cost of this configuration per hour; `None` if no type has a price.
    pub fn hourly_cost(&self) -> Option<HourlyCost> {
        let mut priced = Vec::new();
        let mut unpriced = Vec::new();
        for (machine_type, pool) in &self.policy.pools {
            let maximum = |setting: fn(&PoolPolicy) -> u32| {
                schedule::maximum(&self.schedules, machine_type, pool, setting)
            };
            let machines = maximum(|pool| pool.max_machines);
            let always = maximum(|pool| pool.min_machines);
            match pool.dollars_per_hour {
                Some(price) => priced.push((price, machines, always, pool)),
                None if machines > 0 => unpriced.push(machine_type.clone()),
                None => {}
            }
        }
        if priced.is_empty() {
            return None;
        }
        // The most expensive machines first, as long as the farm's limit allows more.
        priced.sort_by_key(|(price, ..)| Reverse(*price));
        let mut room = self.policy.max_machines.unwrap_or(u32::MAX);
        let (mut most, mut least) = (Money(0), Money(0));
        for (price, machines, always, pool) in priced {
            let machines = machines.min(room);
            room -= machines;
            let wanted_anyway = price.times(always.into());
            let cost = price.times(machines.into());
            most = most.plus(within(cost, pool.cost_limits.hourly, wanted_anyway));
            least = least.plus(wanted_anyway);
        }
        Some(HourlyCost { most: within(most, self.policy.cost_limits.hourly, least), unpriced })
    }
}

/// The part of `cost` within `limit`, which does not restrict `minMachines`.
fn within(cost: Money, limit: Option<Money>, wanted_anyway: Money) -> Money {
    limit.map_or(cost, |limit| cost.min(limit.max(wanted_anyway)))
}

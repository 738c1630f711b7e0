//! Policies that are drawn from a seed: how many machines, how long they stay, when they are replaced, what they may cost,
//! and when other settings apply.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use planner::{
    CostLimits, Filling, IdleAction, IdleTimeout, MachineType, Money, Policy, PoolPolicy,
    RotationPolicy, Seconds,
};

use crate::cloud::{BillingModel, PriceSeries};
use crate::engine::{Millis, Random};
use crate::world::Farm;

/// Prices of machines per hour.
const PRICES: [Money; 4] = [Money(48_000), Money(100_000), Money(170_000), Money(260_000)];

/// Settings that another configuration may change.
pub(super) fn draw_numbers(rng: &mut Random, pool: &mut PoolPolicy) {
    let mut small = |most: u64| u32::try_from(rng.below(most + 1)).unwrap_or(0);
    pool.max_machines = 1 + small(7);
    pool.min_machines = small(2).min(pool.max_machines);
    pool.runnables_per_machine = NonZeroU32::MIN.saturating_add(small(12));
    pool.max_creating = 1 + small(4);
    pool.idle_timeout = IdleTimeout::After(Seconds(u64::from(small(3)) * 600));
    pool.max_jobs = 1 + small(3);
    pool.speed_factor.thousandths = 500 * (1 + small(3));
    pool.idle_action = if small(1) == 0 { IdleAction::Stop } else { IdleAction::Destroy };
}

/// Settings that the original did not have.
pub(super) fn draw_policies(rng: &mut Random, policy: &mut Policy) {
    let types: Vec<_> = policy.pools.keys().cloned().collect();
    for pool in policy.pools.values_mut() {
        let minutes = |rng: &mut Random, most: u64| Seconds(60 * rng.below(most + 1));
        pool.target_wait = rng.chance(500_000).then(|| Seconds(rng.between(1, 1800)));
        if rng.chance(333_333) {
            pool.idle_timeout = IdleTimeout::Auto;
        }
        pool.keep_last = if rng.chance(333_333) { minutes(rng, 60) } else { Seconds(0) };
        if rng.chance(333_333) {
            pool.use_while_paid = minutes(rng, 60);
            pool.keep_while_paid = minutes(rng, 60);
        }
        pool.creates_per_5_minutes =
            rng.chance(250_000).then(|| u32::try_from(rng.between(1, 5)).unwrap_or(1));
        pool.fallback = rng.chance(333_333).then(|| {
            let mut order: Vec<_> = types.iter().filter(|_| rng.chance(700_000)).cloned().collect();
            if rng.chance(500_000) {
                order.reverse();
            }
            order
        });
        pool.rotation = draw_rotation(rng);
        pool.filling = if rng.chance(250_000) { Filling::Pack } else { Filling::Spread };
    }
}

fn draw_rotation(rng: &mut Random) -> RotationPolicy {
    let small = |rng: &mut Random, most: u64| rng.between(1, most);
    RotationPolicy {
        max_age: rng.chance(200_000).then(|| Seconds(3600 * small(rng, 12))),
        max_builds: rng.chance(200_000).then(|| small(rng, 50)),
        settings: rng.chance(333_333).then(|| small(rng, 3).to_string()),
        max_unavailable: rng.chance(333_333).then(|| u32::try_from(small(rng, 3)).unwrap_or(1)),
    }
}

/// What machines cost.
pub(super) fn draw_prices(rng: &mut Random, policy: &mut Policy, farm: &mut Farm) {
    for (kind, pool) in &mut policy.pools {
        let price = rng.pick(&PRICES).copied().unwrap_or_default();
        farm.machines.entry(kind.clone()).or_default().tariff.price =
            PriceSeries::constant(price.0);
        pool.dollars_per_hour = Some(price);
    }
}

/// Limits of the farm and of types, each in some cases, and larger than `minMachines` plus one machine; otherwise the farm
/// may never come to rest.
pub(super) fn draw_limits(rng: &mut Random, policy: &mut Policy, farm: &Farm) {
    let prices = prices(policy, farm);
    let least = min_machines(policy);
    let most: u32 = policy.pools.values().map(|pool| pool.max_machines).sum();
    let dearest = prices.values().max().copied().unwrap_or_default();
    policy.max_machines =
        rng.chance(300_000).then(|| least + 1 + u32::try_from(rng.below(most.into())).unwrap_or(0));
    policy.cost_limits = draw_cost_limits(rng, dearest, (least, most));
    for (kind, pool) in &mut policy.pools {
        pool.cost_limits = if rng.chance(333_333) {
            draw_cost_limits(rng, prices[kind], (pool.min_machines, pool.max_machines))
        } else {
            CostLimits::default()
        };
    }
}

/// In a fifth of the cases, hours are paid in advance and a day pays for few of them: what is paid but not used yet counts.
pub(super) fn draw_small_budget(rng: &mut Random, policy: &mut Policy, farm: &mut Farm) {
    if !rng.chance(200_000) {
        return;
    }
    for model in farm.machines.values_mut() {
        model.tariff.billing = BillingModel::PerStartedHour;
    }
    let dearest = prices(policy, farm).into_values().max().unwrap_or_default();
    let machines = u64::from(min_machines(policy)) + 1;
    policy.cost_limits.daily = Some(dearest.times(machines * rng.between(2, 4)));
}

/// Of the types' machines, per hour.
fn prices(policy: &Policy, farm: &Farm) -> BTreeMap<MachineType, Money> {
    let price = |kind: &MachineType| {
        farm.machines.get(kind).map_or(0, |model| model.tariff.price.first_and_others().0)
    };
    policy.pools.keys().map(|kind| (kind.clone(), Money(price(kind)))).collect()
}

/// Of all types together.
fn min_machines(policy: &Policy) -> u32 {
    policy.pools.values().map(|pool| pool.min_machines).sum()
}

/// Limits that bind for some time: a day or a month pays for a few hours only.
fn draw_cost_limits(rng: &mut Random, price: Money, (least, most): (u32, u32)) -> CostLimits {
    let mut some = |most_hours: u64| {
        let machines = u64::from(least) + 1 + rng.below(most.into());
        let hours = rng.between(2.min(most_hours), most_hours);
        rng.chance(300_000).then(|| price.times(machines * hours))
    };
    CostLimits { hourly: some(1), daily: some(12), monthly: some(24) }
}

/// In a third of the cases without other changes, other numbers apply at the same hours of each day.
pub(super) fn draw_schedule(
    rng: &mut Random,
    until: Millis,
    policy: &Policy,
) -> Vec<(Millis, Policy)> {
    let mut other = policy.clone();
    for pool in other.pools.values_mut() {
        let mut numbers = pool.clone();
        draw_numbers(rng, &mut numbers);
        pool.max_machines = numbers.max_machines;
        pool.min_machines = numbers.min_machines;
        pool.idle_timeout = numbers.idle_timeout;
        pool.target_wait = pool.target_wait.map(|_| Seconds(rng.between(1, 1800)));
    }
    let day = Millis::from_hours(24);
    let begin = Millis(rng.below(day.0));
    let length = Millis(rng.below(day.0 / 2));
    let mut changes = Vec::new();
    for days in 0..=until.0 / day.0 {
        let begin = begin + Millis(days * day.0);
        changes.push((begin, other.clone()));
        changes.push((begin + length, policy.clone()));
    }
    if rng.chance(333_333) { changes } else { Vec::new() }
}

/// Days and months are longer than a trial: some hours after the last fault, these limits end, as when the operator raises
/// them.
pub(super) fn lift_limits(
    rng: &mut Random,
    until: Millis,
    policy: &Policy,
    changes: &mut Vec<(Millis, Policy)>,
) {
    let mut last = changes.last().map_or(policy, |(_, last)| last).clone();
    let before = last.clone();
    let lift =
        |limits: &mut CostLimits| *limits = CostLimits { daily: None, monthly: None, ..*limits };
    lift(&mut last.cost_limits);
    last.pools.values_mut().for_each(|pool| lift(&mut pool.cost_limits));
    if last != before {
        let latest = changes.last().map_or(until, |(at, _)| (*at).max(until));
        changes.push((latest + Millis(rng.below(Millis::from_hours(12).0)), last));
    }
}

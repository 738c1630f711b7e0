//! The limits in dollars and in machines, calculated from what the providers charge for, by their clocks, and not from
//! what the provisioner remembers. Days and months are counted here once more, too.

use std::collections::BTreeSet;

use planner::{
    CostLimits, Machine, MachineName, MachineState, MachineType, Money, Operation, Seconds,
    Verdict, is_billed_by_hour,
};
use reconciler::Reconciler;

use super::SimWorld;
use super::checker::Rule;
use crate::cloud::{BillingModel, Lifecycle};
use crate::engine::Millis;

const SECONDS_PER_DAY: u64 = 86_400;
/// Machines are counted this far ahead.
const AHEAD: Seconds = Seconds(3600);
/// The provisioner counts whole seconds; a decision and its effect may be this far apart.
const ROUNDING: Seconds = Seconds(60);
/// How long a type may lack a machine of `minMachines` when faults are over: the longest back-off, a few creations with
/// slow boots, and the time until a lost machine is noticed.
const MOST_TIME_TO_REPLACE: Millis = Millis::from_hours(4);

/// A day or a month.
#[derive(Clone, Copy, Debug)]
struct Period {
    begin: Millis,
    end: Millis,
}

impl SimWorld {
    /// A machine may be requested or started only within the limits, or for `minMachines`.
    pub(super) fn check_limits(&mut self, machine: &Machine) {
        let kind = &machine.machine_type;
        let running = self.running_or_asked_for(machine);
        if let Some(most) = self.policy.max_machines {
            let number = running.len() + 1;
            self.expect_limit(number <= most as usize, || {
                format!("{} is number {number} of the farm, {most} are allowed", machine.name)
            });
        }
        // `minMachines` machines may be created at any cost, in addition to those that are not used any more.
        let least = self.policy.pools.get(kind).map_or(0, |pool| pool.min_machines as usize);
        if self.in_use_besides(machine) < least {
            return;
        }
        let of_type =
            self.policy.pools.get(kind).map_or_else(CostLimits::default, |it| it.cost_limits);
        self.check_cost(machine, of_type, &running, &BTreeSet::from([kind.clone()]));
        let all = self.policy.pools.keys().chain(self.farm.machines.keys()).cloned().collect();
        self.check_cost(machine, self.policy.cost_limits, &running, &all);
    }

    /// The limits of the machines of `kinds` together: the formula of docs/configuration.md.
    fn check_cost(
        &mut self,
        machine: &Machine,
        limits: CostLimits,
        running: &[MachineType],
        kinds: &BTreeSet<MachineType>,
    ) {
        if limits == CostLimits::default() {
            return;
        }
        let counted = running.iter().chain([&machine.machine_type]);
        let counted = counted.filter(|kind| kinds.contains(kind));
        let hourly = counted.map(|kind| self.price(kind)).fold(Money(0), Money::plus);
        let name = &machine.name;
        let of = if kinds.len() == 1 { "of its type" } else { "of the farm" };
        if let Some(most) = limits.hourly {
            self.expect_limit(hourly <= most, || {
                format!("with {name} machines {of} cost {hourly} an hour, {most} are allowed")
            });
        }
        // By a clock that was set the day begins at another time, and records that were lost are not counted.
        if self.clocks.was_set
            || self.provisioner.has_forgotten
            || self.has_hours_that_nothing_showed()
        {
            return;
        }
        let now = self.now();
        let periods =
            [(limits.daily, self.today(), "day"), (limits.monthly, self.this_month(), "month")];
        for (most, period, what) in periods {
            let Some(most) = most else { continue };
            let paid = |kind| self.cloud.paid_between(kind, (period.begin, period.end), now);
            let cost = |kind| self.price(kind).for_time(Seconds(paid(kind).0 / 1000));
            let spent = kinds.iter().map(cost).fold(Money(0), Money::plus);
            let rest = Seconds(period.end.since(now).0 / 1000);
            let counted = spent.plus(hourly.for_time(AHEAD.min(rest)));
            let most_counted = most.plus(hourly.for_time(ROUNDING));
            self.expect_limit(counted <= most_counted, || {
                format!(
                    "{name} is asked for: machines {of} have cost {spent} this {what} and cost {hourly} an hour, \
                     {most} a {what} are allowed"
                )
            });
        }
    }

    /// Whether a machine may be billed by the hour although no answer of its provider has said so of any machine of its type:
    /// the answer to its request was lost, or is not there yet.
    fn has_hours_that_nothing_showed(&self) -> bool {
        let seen = self.reconciler().and_then(Reconciler::seen);
        let is_known =
            |kind| seen.is_some_and(|snapshot| is_billed_by_hour(&snapshot.experience, kind));
        let machines = self.provisioner.records().iter().map(|record| &record.machine);
        let mut paid = machines.filter(|machine| machine.memory.paid.is_some());
        paid.any(|machine| {
            let billing = &self.cloud.model(&machine.machine_type).tariff.billing;
            let is_by_hour = *billing == BillingModel::PerStartedHour;
            is_by_hour && machine.next_charge_at.is_none() && !is_known(&machine.machine_type)
        })
    }

    /// What a machine of a type costs per hour, as far as the provisioner can know it.
    fn price(&self, kind: &MachineType) -> Money {
        let configured = self.policy.pools.get(kind).and_then(|pool| pool.dollars_per_hour);
        configured
            .unwrap_or_else(|| Money(self.cloud.model(kind).tariff.price.first_and_others().0))
    }

    fn today(&self) -> Period {
        let today = self.days();
        self.period((today, today + 1))
    }

    fn this_month(&self) -> Period {
        self.period(month_around(self.days()))
    }

    /// Days since 1970-01-01, by the providers' clocks.
    fn days(&self) -> u64 {
        self.epoch().at(self.now()).0 / SECONDS_PER_DAY
    }

    /// From one day until another one begins, in virtual time. Nothing is before zero.
    fn period(&self, (first, next): (u64, u64)) -> Period {
        let epoch = self.epoch().0.0;
        let at = |day: u64| Millis::from_seconds((day * SECONDS_PER_DAY).saturating_sub(epoch));
        Period { begin: at(first), end: at(next) }
    }

    /// Every type gets its `minMachines`, once faults are over.
    pub(super) fn check_min_machines(&mut self) {
        let now = self.now();
        // A full farm or host gets room only when another machine goes.
        let is_full =
            self.policy.max_machines.is_some_and(|most| self.counted().count() >= most as usize);
        let mut late = Vec::new();
        for (kind, pool) in &self.policy.pools {
            let live = self.machines().filter(|machine| {
                let lifecycle = machine.lifecycle();
                machine.kind == *kind && matches!(lifecycle, Lifecycle::Starting | Lifecycle::Up)
            });
            let live = live.count();
            let has_room =
                !is_full && self.farm.machines.get(kind).is_none_or(|it| it.room.is_none());
            if self.in_trouble() || !has_room || live >= pool.min_machines as usize {
                self.too_few_since.remove(kind);
            } else if now.since(*self.too_few_since.entry(kind.clone()).or_insert(now))
                > MOST_TIME_TO_REPLACE
            {
                late.push(format!("{live} machines of {kind}, at least {} for", pool.min_machines));
            }
        }
        for what in late {
            let plan = self.reconciler().map(|reconciler| reconciler.plan().to_string());
            let plan = plan.unwrap_or_default();
            self.checker.violated(now, Rule::MinMachines, format!("{what} hours\n{plan}"));
        }
    }

    /// How many machines of a type, besides `machine`, the provisioner uses, without outdated ones that it replaces first.
    fn in_use_besides(&self, machine: &Machine) -> usize {
        let Some(plan) = self.reconciler().map(Reconciler::plan) else { return 0 };
        let kind = &machine.machine_type;
        let replacing = plan.sizing.get(kind).map(|sizing| &sizing.replacing);
        let is_replaced =
            |name: &MachineName| replacing.is_some_and(|replacing| replacing.contains_key(name));
        let of_type = self.provisioner.records().iter().map(|record| &record.machine);
        let others =
            of_type.filter(|other| other.machine_type == *kind && other.name != machine.name);
        // A recorded intent that is not requested takes no place.
        let others = others
            .filter(|other| other.state != MachineState::Requested || other.memory.paid.is_some());
        let used = others.filter(|other| plan.verdicts.get(&other.name) == Some(&Verdict::InUse));
        used.filter(|other| !is_replaced(&other.name)).count()
    }

    fn expect_limit(&mut self, holds: bool, what: impl FnOnce() -> String) {
        let now = self.now();
        self.checker.expect(now, holds, Rule::Limits, what);
    }

    /// The types of all other machines that run or are being requested.
    fn running_or_asked_for(&self, machine: &Machine) -> Vec<MachineType> {
        let mut all: std::collections::BTreeMap<_, _> =
            self.counted().map(|other| (other.name.clone(), other.kind.clone())).collect();
        let asked = self.tasks.values().filter(|run| run.operation == Operation::Create);
        all.extend(asked.map(|run| (run.machine.name.clone(), run.machine.machine_type.clone())));
        all.remove(&machine.name);
        all.into_values().collect()
    }
}

/// The first day of the month that contains `day`, and that of the next month, in days since 1970-01-01.
fn month_around(day: u64) -> (u64, u64) {
    let mut first = 0;
    for month in 0_u64.. {
        let (year, month) = (1970 + month / 12, month % 12);
        let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            1 => 28 + u64::from(is_leap_year),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if day < first + length {
            return (first, first + length);
        }
        first += length;
    }
    (first, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_day() {
        // 1970-01-31, 2024-02-29, 2024-03-01, 2025-02-28, from a calendar.
        for (day, month) in [
            (30, (0, 31)),
            (19_782, (19_754, 19_783)),
            (19_783, (19_783, 19_814)),
            (20_147, (20_120, 20_148)),
        ] {
            assert_eq!(month_around(day), month, "{day}");
        }
    }
}

//! The limits of the farm, calculated from the world's own bill.

use std::collections::BTreeSet;

use planner::{Machine, MachineType, Money, Operation};
use reconciler::Record;

use super::SimWorld;
use super::checker::Rule;
use crate::cloud::{Lifecycle, SimMachine, Usage};
use crate::engine::Millis;

const DAY: Millis = Millis::from_hours(24);

/// The bill at the start of a day.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DayBegin {
    day: u64,
    micro_dollars: u128,
}

impl SimWorld {
    /// Remembers the bill at the start of a day.
    pub(super) fn note_day(&mut self) {
        let day = self.now().0 / DAY.0;
        if day != self.day_begin.day && self.policy.cost_limits.daily.is_some() {
            self.day_begin = DayBegin { day, micro_dollars: self.bill() };
        }
    }

    /// Micro-dollars so far, without the disks of stopped machines: no option contains their price.
    fn bill(&self) -> u128 {
        let cost = |usage: &Usage| usage.cost.micro_dollars();
        let of_disks = |usage: &Usage| usage.stopped_cost.micro_dollars();
        self.usage().values().map(|usage| cost(usage).saturating_sub(of_disks(usage))).sum()
    }

    /// A machine may be requested only within the limits, or for `minMachines`.
    pub(super) fn check_farm_limits(&mut self, machine: &Machine) {
        self.note_day();
        let kind = &machine.machine_type;
        let running = self.running_or_asked_for(machine);
        if let Some(most) = self.policy.max_machines {
            let number = running.len() + 1;
            self.expect_limit(number <= most as usize, || {
                format!("{} is number {number} of the farm, {most} are allowed", machine.name)
            });
        }
        // `minMachines` machines may be created at any cost, in addition to those that may not work.
        let least = self.policy.pools.get(kind).map_or(0, |pool| pool.min_machines as usize);
        if self.certainly_working(kind) < least {
            return;
        }
        let price = |kind: &MachineType| {
            let pool = self.policy.pools.get(kind);
            pool.and_then(|pool| pool.dollars_per_hour).unwrap_or_default()
        };
        let hourly = running.iter().chain([kind]).map(price).fold(Money(0), Money::plus);
        let limits = self.policy.cost_limits;
        let spent = self.bill().saturating_sub(self.day_begin.micro_dollars);
        if let Some(most) = limits.hourly {
            self.expect_limit(hourly <= most, || {
                format!("with {} machines cost {hourly} an hour, {most} are allowed", machine.name)
            });
        }
        // By a clock that was set the day begins at another time, and records that were lost are not counted.
        let knows_the_day = !self.clocks.was_set && !self.provisioner.has_forgotten;
        if let Some(most) = limits.daily.filter(|_| knows_the_day) {
            self.expect_limit(spent < u128::from(most.0), || {
                format!("{} is asked for, {most} a day are spent", machine.name)
            });
        }
    }

    /// The number of machines of a type that work, and that the provisioner knows to work.
    fn certainly_working(&self, kind: &MachineType) -> usize {
        let works = |machine: &SimMachine| {
            let gets_builds = machine.deployed && !machine.drained && !machine.interrupted;
            machine.kind == *kind
                && machine.lifecycle() == Lifecycle::Up
                && gets_builds
                && self.queue_runner.lists(machine.host)
        };
        let is_known_to_work = |record: &Record| {
            let memory = &record.machine.memory;
            memory.ready_since.is_some()
                && memory.missing.is_none()
                && memory.failing.is_none()
                && memory.unhealthy_since.is_none()
                && memory.unreachable_since.is_none()
                && memory.interrupted_at.is_none()
        };
        let working = self.machines().filter(|machine| works(machine));
        let known = self.provisioner.records().iter().filter(|record| is_known_to_work(record));
        let known: BTreeSet<_> = known.map(|record| &record.machine.name).collect();
        working.filter(|machine| known.contains(&machine.name)).count()
    }

    fn expect_limit(&mut self, holds: bool, what: impl FnOnce() -> String) {
        let now = self.now();
        self.checker.expect(now, holds, Rule::FarmLimits, what);
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

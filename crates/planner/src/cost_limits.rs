//! Limits of the farm and of its types, in dollars and in machines.
//!
//! A machine may be created or started only if no limit can be exceeded within the next hour. All machines that run or are
//! being created count, including those being released:
//!
//! ```text
//! maxHourlyCost  >= prices of them all
//! maxDailyCost   >= spent today      + prices of them all * min(1 h, rest of the day)
//! maxMonthlyCost >= spent this month + prices of them all * min(1 h, rest of the month)
//! ```
//!
//! Where machines are billed by the hour, the first hour of a new one counts as spent at once.
//!
//! Machines in use are counted one after the other, in the order of their selection. A machine stays in use if all
//! limits hold with it and those counted before it. Otherwise it gets no new builds, has that hour to finish its
//! builds, and is released when it is idle. `minMachines`
//! machines of each type are counted, but not limited, and `maxMachines` of the farm keeps places for them. Prices are
//! the machines' prices per hour when they were requested or started.

use std::collections::BTreeMap;

use crate::experience::is_billed_by_hour;
use crate::money::Money;
use crate::names::MachineType;
use crate::observed::Observed;
use crate::policy::{CostLimits, Policy};
use crate::retention::DESTRUCTION_TIMEOUT;
use crate::sizing::{LimitName, LimitReached};
use crate::snapshot::{CHARGE_PERIOD, MachineState, Snapshot};
use crate::spending::Spent;
use crate::time::{Seconds, Timestamp, earliest};

/// How far ahead a machine is counted: its builds have this long to finish before a limit is exceeded.
const LOOKAHEAD: Seconds = Seconds::from_minutes(60);

/// `maxMachines` of the farm.
const TOO_MANY_MACHINES: LimitReached =
    LimitReached { limit: LimitName::MaxMachines, by_type: false, until: None };

/// The remaining room of all limits while machines are chosen.
pub(crate) struct Limits<'a> {
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    now: Timestamp,
    farm: Account,
    types: BTreeMap<&'a MachineType, Account>,
    /// Machines that run or are being created.
    machines: u32,
    /// By type, how many of `minMachines` neither run nor are being created: places of the farm that no other type gets.
    reserved: BTreeMap<&'a MachineType, u32>,
}

/// The values that are compared with the limits.
#[derive(Clone, Copy, Default)]
struct Account {
    limits: CostLimits,
    spent: Spent,
    /// Dollars per hour of all machines that run or are being created.
    running: Money,
    /// Dollars per hour of those that are in use.
    used: Money,
}

impl<'a> Limits<'a> {
    pub(crate) fn new(
        policy: &'a Policy,
        snapshot: &'a Snapshot,
        machines: &'a [Observed<'a>],
    ) -> Self {
        let now = snapshot.taken_at;
        let spent = Spent::default().at(now);
        let account = |limits| Account { limits, spent, ..Account::default() };
        let mut limits = Self {
            policy,
            snapshot,
            now,
            farm: account(policy.cost_limits),
            types: policy
                .pools
                .iter()
                .map(|(name, pool)| (name, account(pool.cost_limits)))
                .collect(),
            machines: 0,
            reserved: policy.pools.iter().map(|(name, pool)| (name, pool.min_machines)).collect(),
        };
        for (machine_type, known) in &snapshot.experience {
            limits.each_account(machine_type, |account| {
                account.spent = account.spent.plus(known.spent.at(now));
            });
        }
        for observed in machines {
            let machine = observed.machine;
            // Without a listing, nothing says that a destroyed machine is still there.
            let is_out_of_sight = machine.memory.destroyed_at.is_some()
                && snapshot.unlistable.contains_key(&machine.machine_type);
            let is_running = may_cost(observed) && !is_out_of_sight;
            if is_running {
                limits.machines = limits.machines.saturating_add(1);
                limits.takes_a_place(&machine.machine_type);
            } else if !has_cost(observed) {
                continue;
            }
            let price = limits.price(observed);
            let memory = &machine.memory;
            // What it cost before it was destroyed is counted already.
            let since = memory.destroyed_at.or(memory.paid.map(|paid| paid.since));
            let since = since.or(machine.started_at).or(memory.known_since).unwrap_or(now);
            let by_hour = is_billed_by_hour(&snapshot.experience, &machine.machine_type);
            let until = machine.paid_until(now, by_hour);
            limits.each_account(&machine.machine_type, |account| {
                account.spent = account.spent.with((since, until), price, now);
                account.running = account.running.plus(if is_running { price } else { Money(0) });
            });
        }
        limits
    }

    /// One of the type's `minMachines` places is taken, if one is free.
    fn takes_a_place(&mut self, machine_type: &MachineType) {
        if let Some(places) = self.reserved.get_mut(machine_type) {
            *places = places.saturating_sub(1);
        }
    }

    /// Whether the farm has as many machines as it may have, for one more of a type.
    fn is_full(&self, machine_type: &MachineType, is_within_min: bool) -> bool {
        let of_others = self.reserved.iter().filter(|(other, _)| **other != machine_type);
        let of_others = of_others.map(|(_, places)| *places).fold(0, u32::saturating_add);
        let reserved = if is_within_min { 0 } else { of_others };
        let taken = self.machines.saturating_add(reserved);
        self.policy.max_machines.is_some_and(|most| taken >= most)
    }

    /// Whether one more machine of a type could begin, beyond `minMachines`.
    pub(crate) fn have_room(&self, machine_type: &MachineType) -> bool {
        !self.is_full(machine_type, false)
            && self.check(machine_type, self.with_new_machine(machine_type)).is_ok()
    }

    /// One more machine that runs. An hour that is billed in advance is spent at once.
    fn with_new_machine(&self, machine_type: &MachineType) -> impl Fn(Account) -> Account + use<> {
        let now = self.now;
        let price = self.price_of_type(machine_type);
        let by_hour = is_billed_by_hour(&self.snapshot.experience, machine_type);
        let paid = if by_hour { CHARGE_PERIOD } else { Seconds(0) };
        move |account| Account {
            spent: account.spent.with((now, now.after(paid)), price, now),
            running: account.running.plus(price),
            ..account
        }
    }

    fn each_account(&mut self, machine_type: &MachineType, change: impl Fn(&mut Account)) {
        change(&mut self.farm);
        self.types.get_mut(machine_type).into_iter().for_each(change);
    }

    /// The price of a machine per hour.
    fn price(&self, observed: &Observed<'_>) -> Money {
        self.snapshot.price_of(self.policy, observed.machine).unwrap_or_default()
    }

    fn price_of_type(&self, machine_type: &MachineType) -> Money {
        self.snapshot.price_of_type(self.policy, machine_type).unwrap_or_default()
    }

    /// Counts one more machine that is to be created or started: the type's `number`th, from 0.
    ///
    /// # Errors
    /// With the limit that it could exceed.
    pub(crate) fn begin(
        &mut self,
        machine_type: &MachineType,
        number: u32,
    ) -> Result<(), LimitReached> {
        let is_within_min = self.is_within_min_machines(machine_type, number);
        if self.is_full(machine_type, is_within_min) {
            return Err(TOO_MANY_MACHINES);
        }
        let with_it = self.with_new_machine(machine_type);
        if !is_within_min {
            self.check(machine_type, &with_it)?;
        }
        self.machines = self.machines.saturating_add(1);
        self.takes_a_place(machine_type);
        let price = self.price_of_type(machine_type);
        self.each_account(machine_type, |account| {
            *account = with_it(*account);
            account.used = account.used.plus(price);
        });
        Ok(())
    }

    /// Counts a requested machine that may already exist, the type's `number`th from 0, as requested again. It is
    /// already counted among the running machines.
    ///
    /// # Errors
    /// With the limit that the running machines exceed.
    pub(crate) fn begin_again(
        &mut self,
        observed: &Observed<'_>,
        number: u32,
    ) -> Result<(), LimitReached> {
        let machine_type = &observed.machine.machine_type;
        if self.policy.max_machines.is_some_and(|most| self.machines > most) {
            return Err(TOO_MANY_MACHINES);
        }
        if !self.is_within_min_machines(machine_type, number) {
            self.check(machine_type, |account| account)?;
        }
        let price = self.price(observed);
        self.each_account(machine_type, |account| account.used = account.used.plus(price));
        Ok(())
    }

    /// Counts a running machine as in use: the type's `number`th, from 0.
    ///
    /// # Errors
    /// With the limit that it would exceed if it stayed in use.
    pub(crate) fn continue_use(
        &mut self,
        observed: &Observed<'_>,
        number: u32,
    ) -> Result<(), LimitReached> {
        let price = self.price(observed);
        let machine_type = &observed.machine.machine_type;
        if !self.is_within_min_machines(machine_type, number) {
            self.check(machine_type, |account| Account {
                running: account.used.plus(price),
                ..account
            })?;
        }
        self.each_account(machine_type, |account| account.used = account.used.plus(price));
        Ok(())
    }

    fn is_within_min_machines(&self, machine_type: &MachineType, number: u32) -> bool {
        let pool = self.policy.pools.get(machine_type);
        pool.is_some_and(|pool| number < pool.min_machines)
    }

    fn check(
        &self,
        machine_type: &MachineType,
        change: impl Fn(Account) -> Account,
    ) -> Result<(), LimitReached> {
        let of_type = self.types.get(machine_type).map(|account| (account, true));
        for (account, by_type) in of_type.into_iter().chain([(&self.farm, false)]) {
            if let Some((limit, until)) = change(*account).exceeded(self.now) {
                return Err(LimitReached { limit, by_type, until });
            }
        }
        Ok(())
    }

    /// Whether the running machines of a type would exceed a limit if they continued.
    pub(crate) fn are_exceeded(&self, machine_type: &MachineType) -> bool {
        self.check(machine_type, |account| account).is_err()
    }

    /// When the room of the limits changes without an event.
    pub(crate) fn change_at(&self) -> Option<Timestamp> {
        let accounts = self.types.values().chain([&self.farm]);
        accounts.filter_map(|account| account.changes_at(self.now)).min()
    }
}

/// Whether a machine may cost money now: it runs, or its request or start got no answer, so that it may run. One that is still
/// listed some time after it was destroyed runs, too.
pub(crate) fn may_cost(observed: &Observed<'_>) -> bool {
    let memory = &observed.machine.memory;
    let may_be_there =
        matches!(observed.machine.state, MachineState::Requested | MachineState::Stopped)
            && memory.paid.is_some();
    let is_gone =
        memory.destroyed_at.is_some_and(|at| observed.now < at.after(DESTRUCTION_TIMEOUT));
    !is_gone && (observed.is_running() || may_be_there)
}

/// It no longer costs anything more, and what it has cost is not booked yet: it failed and was not destroyed.
fn has_cost(observed: &Observed<'_>) -> bool {
    let memory = &observed.machine.memory;
    memory.destroyed_at.is_none() && memory.paid.is_some()
}

impl Account {
    /// The limit that the running machines exceed together, and when it ends.
    fn exceeded(&self, now: Timestamp) -> Option<(LimitName, Option<Timestamp>)> {
        let CostLimits { hourly, daily, monthly } = self.limits;
        let by = |end: Timestamp| self.running.for_time(LOOKAHEAD.min(end.since(now)));
        let (tomorrow, next_month) = (now.start_of_next_day(), now.start_of_next_month());
        let today = self.spent.today.plus(by(tomorrow));
        let this_month = self.spent.this_month.plus(by(next_month));
        if let Some(limit) = hourly.filter(|limit| self.running > *limit) {
            Some((LimitName::MaxHourlyCost { limit }, None))
        } else if let Some(limit) = daily.filter(|limit| today > *limit) {
            let spent = self.spent.today;
            Some((LimitName::MaxDailyCost { limit, spent }, Some(tomorrow)))
        } else if let Some(limit) = monthly.filter(|limit| this_month > *limit) {
            let spent = self.spent.this_month;
            Some((LimitName::MaxMonthlyCost { limit, spent }, Some(next_month)))
        } else {
            None
        }
    }

    /// Tomorrow, or when the running or used machines are within an hour of a limit.
    fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let CostLimits { hourly: _, daily, monthly } = self.limits;
        let mut change_at = daily.or(monthly).map(|_| now.start_of_next_day());
        for (limit, spent) in [(daily, self.spent.today), (monthly, self.spent.this_month)] {
            for running in [self.running, self.used] {
                let counted = spent.plus(running.for_time(LOOKAHEAD));
                let left = limit.and_then(|limit| limit.0.checked_sub(counted.0)).map(Money);
                let lasts = left.and_then(|left| left.lasts_for(running));
                change_at = earliest(change_at, lasts.map(|l| now.after(l).after(Seconds(1))));
            }
        }
        change_at
    }
}

//! One machine's lifecycle and what it adds to the bill.

use planner::{MachineName, MachineType};

use super::{Cost, MachineModel, Sharing};
use crate::engine::{Millis, Random};
use crate::queue_runner::{Host, Start};

/// The real state of a machine, independent of what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Requested.
    Creating,
    /// Booting; it costs money from here on.
    Starting,
    /// Running.
    Up,
    /// Running, but not answering.
    Unreachable,
    /// Shutting down.
    Stopping,
    /// Off; its disk costs money.
    Stopped,
    /// Broken permanently; it costs nothing.
    Failed,
    /// Being destroyed.
    Terminating,
    /// Destroyed.
    Gone,
}

impl Lifecycle {
    fn is_paid(self) -> bool {
        matches!(self, Self::Starting | Self::Up | Self::Unreachable)
    }
}

/// Usage of a type; times in milliseconds, summed over its machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Machines created.
    pub created: u64,
    /// Machines that disappeared or broke by themselves.
    pub lost: u64,
    /// Stopped machines started again.
    pub started: u64,
    /// Machines stopped.
    pub stopped: u64,
    /// Machines destroyed.
    pub destroyed: u64,
    /// Time paid for while running.
    pub paid: Millis,
    /// Of that: before the machine could build.
    pub booting: Millis,
    /// Of that: with at least one step.
    pub busy: Millis,
    /// Summed over the steps: time on a machine, including failed tries.
    pub building: Millis,
    /// Time that steps could have used: ready time multiplied by `maxJobs`.
    pub offered: Millis,
    /// Cost, including disks.
    pub cost: Cost,
    /// Of that: the disks of stopped machines.
    pub stopped_cost: Cost,
}

impl Usage {
    /// Time paid for in which the machine was ready but idle.
    pub fn idle(&self) -> Millis {
        self.paid.since(self.booting + self.busy)
    }

    /// Adds another type's usage.
    pub fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.lost += other.lost;
        self.started += other.started;
        self.stopped += other.stopped;
        self.destroyed += other.destroyed;
        self.paid += other.paid;
        self.booting += other.booting;
        self.busy += other.busy;
        self.building += other.building;
        self.offered += other.offered;
        self.cost += other.cost;
        self.stopped_cost += other.stopped_cost;
    }
}

/// Whether a machine runs, can build, and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// It runs or begins to.
    pub runs: bool,
    /// It can get steps.
    pub ready: bool,
    /// It builds at least one.
    pub busy: bool,
}

/// A machine.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one machine")]
pub struct SimMachine {
    /// Its name; a later machine may have the same.
    pub name: MachineName,
    /// Its type.
    pub kind: MachineType,
    /// Its address.
    pub host: Host,
    /// Its behavior.
    pub model: MachineModel,
    /// Its own random numbers.
    pub random: Random,
    /// When the provider begins to list it.
    pub visible_from: Millis,
    /// Whether its provider was asked to stop or destroy it and it was not started since.
    pub released: bool,
    /// It was deployed since its last boot.
    pub deployed: bool,
    /// REST: a drain stopped the builder.
    pub drained: bool,
    /// Number of concurrent steps; 0 until it was published or deployed.
    pub max_jobs: u32,
    /// Its provider has announced an interruption.
    pub interrupted: bool,
    /// Counts changes of the lifecycle, so that events scheduled for an earlier state are recognized as stale.
    pub generation: u32,
    /// Its running steps.
    pub(super) sharing: Sharing,
    lifecycle: Lifecycle,
    /// How often its host name changed.
    renamed: u32,
    host_name: planner::Host,
    /// It was deployed at least once, before or after a stop.
    has_system: bool,
    /// It was off: the next start is not its first.
    restarted: bool,
    paid_since: Option<Millis>,
    stopped_since: Option<Millis>,
    ready_since: Option<Millis>,
    busy_since: Option<Millis>,
    jobs: u32,
}

impl SimMachine {
    pub(super) fn new(
        name: MachineName,
        kind: MachineType,
        host: Host,
        model: MachineModel,
        random: Random,
        now: Millis,
    ) -> Self {
        Self {
            name,
            kind,
            host,
            model,
            random,
            visible_from: now,
            released: false,
            deployed: false,
            drained: false,
            max_jobs: 0,
            interrupted: false,
            renamed: 0,
            host_name: planner::Host::new(host.name()),
            generation: 0,
            sharing: Sharing::default(),
            lifecycle: Lifecycle::Creating,
            has_system: false,
            restarted: false,
            paid_since: None,
            stopped_since: None,
            ready_since: None,
            busy_since: None,
            jobs: 0,
        }
    }

    /// Its state.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    /// Its own host name.
    pub fn host_name(&self) -> &planner::Host {
        &self.host_name
    }

    /// Its host name changes.
    pub fn rename(&mut self) {
        self.renamed += 1;
        self.host_name = planner::Host::new(format!("{}-{}", self.host.name(), self.renamed));
    }

    /// Since when it costs money.
    pub fn paid_since(&self) -> Option<Millis> {
        self.paid_since
    }

    /// Whether it exists and is not being stopped or destroyed.
    pub fn is_kept(&self) -> bool {
        !matches!(self.lifecycle, Lifecycle::Failed | Lifecycle::Terminating | Lifecycle::Gone)
    }

    /// Draws the time until it is up, from its creation request or its start request.
    pub fn draw_boot(&mut self) -> Millis {
        let restart = self.model.restart.as_ref().filter(|_| self.restarted);
        let boot = restart.unwrap_or(&self.model.boot).clone();
        self.random.sample(&boot)
    }

    /// Draws the duration of its next deployment: a machine that was off keeps its system.
    pub fn draw_deploy(&mut self) -> Millis {
        let model = &self.model;
        let deploy = match (self.deployed, self.has_system) {
            (true, _) => &model.redeploy,
            (false, true) => model.restart_deploy.as_ref().unwrap_or(&model.redeploy),
            (false, false) => &model.first_deploy,
        };
        let deploy = deploy.clone();
        self.random.sample(&deploy)
    }

    /// Whether the step ends on it now.
    pub fn is_due(&self, start: Start, now: Millis) -> bool {
        self.sharing.is_due(start, now)
    }

    /// What it counts as now.
    pub fn capacity(&self) -> Capacity {
        let runs = match self.lifecycle {
            Lifecycle::Creating | Lifecycle::Starting | Lifecycle::Up | Lifecycle::Unreachable => {
                true
            }
            Lifecycle::Stopping
            | Lifecycle::Stopped
            | Lifecycle::Failed
            | Lifecycle::Terminating
            | Lifecycle::Gone => false,
        };
        Capacity { runs, ready: self.ready_since.is_some(), busy: self.jobs > 0 }
    }

    /// From now on it can build.
    pub fn make_ready(&mut self, now: Millis, max_jobs: u32) {
        self.deployed = true;
        self.has_system = true;
        self.max_jobs = max_jobs;
        if self.ready_since.is_none() {
            self.ready_since = Some(now);
        }
    }

    /// Adds a running step.
    pub fn begin_job(&mut self, now: Millis) {
        self.jobs += 1;
        // A step may start before the deployment ends, because of an older machines file.
        self.ready_since.get_or_insert(now);
        self.busy_since.get_or_insert(now);
    }

    /// Removes a step that had run on it for `length`.
    pub fn end_job(&mut self, now: Millis, length: Millis, usage: &mut Usage) {
        usage.building += length;
        self.jobs = self.jobs.saturating_sub(1);
        if self.jobs == 0
            && let Some(since) = self.busy_since.take()
        {
            usage.busy += now.since(since);
        }
    }

    pub(super) fn enter(&mut self, lifecycle: Lifecycle, now: Millis, usage: &mut Usage) {
        if self.lifecycle.is_paid() && !lifecycle.is_paid() {
            self.settle_running(now, usage);
        }
        if self.lifecycle == Lifecycle::Stopped && lifecycle != Lifecycle::Stopped {
            self.settle_stopped(now, usage);
        }
        if lifecycle.is_paid() && self.paid_since.is_none() {
            self.paid_since = Some(now);
        }
        if lifecycle == Lifecycle::Stopped {
            self.stopped_since = Some(now);
            self.restarted = true;
        }
        self.lifecycle = lifecycle;
        self.generation += 1;
    }

    /// Adds its usage until `now`, as if it ended then.
    pub(super) fn settle(mut self, now: Millis, usage: &mut Usage) {
        self.settle_running(now, usage);
        self.settle_stopped(now, usage);
    }

    fn settle_running(&mut self, now: Millis, usage: &mut Usage) {
        if let Some(since) = self.busy_since.take() {
            usage.busy += now.since(since);
        }
        self.jobs = 0;
        self.sharing.clear();
        let ready = self.ready_since.take();
        self.deployed = false;
        let Some(since) = self.paid_since.take() else { return };
        usage.paid += now.since(since);
        usage.booting += ready.unwrap_or(now).since(since);
        let offered = ready.map_or(Millis::ZERO, |ready| now.since(ready));
        usage.offered += Millis(offered.0 * u64::from(self.max_jobs.max(1)));
        usage.cost += self.model.tariff.running(since, now);
    }

    fn settle_stopped(&mut self, now: Millis, usage: &mut Usage) {
        if let Some(since) = self.stopped_since.take() {
            let cost = self.model.tariff.stopped(since, now);
            usage.cost += cost;
            usage.stopped_cost += cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{BillingModel, Cloud, PriceSeries, Tariff};
    use crate::engine::{Distribution, Seed};
    use std::collections::BTreeMap;

    /// Booted at 10 s, ready at 100 s, two overlapping steps from 110 s to 150 s, stopped at 200 s for an hour, started
    /// again, destroyed 30 s later; calculated by hand.
    #[test]
    fn a_life_adds_up() {
        let kind = MachineType::new("s");
        let tariff = Tariff {
            billing: BillingModel::PerSecond { minimum_seconds: 60 },
            price: PriceSeries::constant(360_000),
            stopped_micro_dollars_per_hour: 3_600,
        };
        let model = MachineModel { tariff, ..MachineModel::default() };
        let mut cloud = Cloud::new(Seed(1), BTreeMap::from([(kind.clone(), model)]));
        let at = Millis::from_seconds;
        let id = cloud.make(&MachineName::new("m"), &kind, at(0));
        for (lifecycle, second) in [(Lifecycle::Starting, 10), (Lifecycle::Up, 60)] {
            cloud.set_lifecycle(id, lifecycle, at(second));
        }
        cloud.get_mut(id).make_ready(at(100), 2);
        let mut usage = Usage::default();
        for (second, begins) in [(110, true), (120, true), (140, false), (150, false)] {
            let machine = cloud.get_mut(id);
            if begins {
                machine.begin_job(at(second));
            } else {
                machine.end_job(at(second), at(30), &mut usage);
            }
        }
        *cloud.usage_mut(&kind) = Usage { created: 1, ..usage };
        for (lifecycle, second) in [
            (Lifecycle::Stopping, 200),
            (Lifecycle::Stopped, 210),
            (Lifecycle::Starting, 3810),
            (Lifecycle::Terminating, 3840),
            (Lifecycle::Gone, 3850),
        ] {
            cloud.set_lifecycle(id, lifecycle, at(second));
        }
        let usage = &cloud.usage(at(9999))[&kind];
        assert_eq!(usage.paid, at(190 + 30));
        assert_eq!(usage.booting, at(90 + 30));
        assert_eq!(usage.busy, at(40));
        assert_eq!(usage.idle(), at(60));
        assert_eq!(usage.building, at(60));
        assert_eq!(usage.offered, at(200));
        // 190 s and 60 s (the minimum) at 100 millionths, plus one hour of disk.
        assert_eq!(usage.cost.to_string(), "0.028600");
        assert_eq!(cloud.find(&MachineName::new("m")), None);
    }

    #[test]
    fn names_come_again_and_addresses_only_later() {
        let kind = MachineType::new("s");
        let mut cloud = Cloud::new(Seed(1), BTreeMap::new());
        let name = MachineName::new("m");
        let first = cloud.make(&name, &kind, Millis(0));
        cloud.set_lifecycle(first, Lifecycle::Gone, Millis(0));
        let second = cloud.make(&name, &kind, Millis(1));
        assert_ne!(cloud.get(second).host, cloud.get(first).host);
        cloud.set_lifecycle(second, Lifecycle::Gone, Millis(2));
        let third = cloud.make(&name, &kind, Millis::from_minutes(10));
        assert_eq!(cloud.get(third).host, cloud.get(first).host);
        assert_eq!(cloud.find(&name), Some(third));
    }

    /// A machine that was off keeps its system and its disk: its start costs less than that of a new one.
    #[test]
    fn a_machine_that_was_off_is_ready_sooner() {
        let kind = MachineType::new("s");
        let seconds = Distribution::fixed_seconds;
        let model = MachineModel {
            boot: seconds(50),
            restart: Some(seconds(20)),
            first_deploy: seconds(60),
            restart_deploy: Some(seconds(8)),
            redeploy: seconds(2),
            ..MachineModel::default()
        };
        let mut reported = Cloud::new(Seed(1), BTreeMap::from([(kind.clone(), model.clone())]));
        let untold = MachineModel { restart: None, restart_deploy: None, ..model };
        let mut untold = Cloud::new(Seed(1), BTreeMap::from([(kind.clone(), untold)]));
        for (cloud, restarted) in [(&mut reported, [20, 8, 2]), (&mut untold, [50, 2, 2])] {
            let at = Millis::from_seconds;
            let id = cloud.make(&MachineName::new("m"), &kind, at(0));
            let drawn = |cloud: &mut Cloud, now| {
                let boot = cloud.get_mut(id).draw_boot();
                cloud.set_lifecycle(id, Lifecycle::Up, at(now));
                let machine = cloud.get_mut(id);
                let first = machine.draw_deploy();
                machine.make_ready(at(now), 1);
                [boot, first, machine.draw_deploy()].map(Millis::whole_seconds)
            };
            assert_eq!(drawn(cloud, 0), [50, 60, 2]);
            cloud.set_lifecycle(id, Lifecycle::Stopped, at(100));
            cloud.get_mut(id).deployed = false;
            assert_eq!(drawn(cloud, 200), restarted);
        }
    }
}

//! What the queue runner's decisions lead to.

use super::SimWorld;
use super::checker::Note;
use super::event::Event;
use super::probe::offer;
use crate::cloud::{Life, MachineId, SimMachine};
use crate::engine::{Millis, Purpose};
use crate::queue_runner::{Host, Protocol, Start};

/// How often the classic queue runner looks whether the machines file has changed (`monitorMachinesFile`
/// in `hydra-queue-runner.cc`).
const MACHINES_FILE_INTERVAL: Millis = Millis::from_seconds(30);
/// How long ssh takes to tell that a host is not there; that of a live network.
const CONNECT_TIMEOUT: Millis = Millis::from_seconds(10);

impl SimWorld {
    /// All steps that are due enter the queue.
    pub(super) fn submit(&mut self) {
        let now = self.now();
        let workload = std::sync::Arc::clone(&self.workload);
        for index in workload.indices_from(self.submitted) {
            let step = &workload.steps()[index.position()];
            if step.submit > now {
                self.engine.schedule(step.submit, Event::Submit);
                return;
            }
            self.submitted += 1;
            self.queue_runner.submit(index, now);
        }
    }

    /// Steps are given to machines.
    pub(super) fn dispatch(&mut self) {
        if !self.queue_runner_is_up {
            return;
        }
        let now = self.now();
        let mut starts = std::mem::take(&mut self.starts);
        self.queue_runner.dispatch(now, &mut starts);
        for start in starts.drain(..) {
            self.begin_build(start);
        }
        self.starts = starts;
    }

    fn begin_build(&mut self, start: Start) {
        let now = self.now();
        let step = &self.workload.steps()[start.step.position()];
        self.checker.note(now, Note::Build(step.id, start.host));
        let id = self.cloud.at(start.host).filter(|&id| self.cloud.get(id).life() == Life::Up);
        let Some(id) = id else {
            self.engine.schedule_in(CONNECT_TIMEOUT, Event::ConnectFails(start));
            return;
        };
        let speed = self.speed_thousandths(self.cloud.get(id));
        let length = Millis((step.duration.0.saturating_mul(1000) / speed).max(1));
        let pool = self.probe.place_of(&self.cloud.get(id).kind);
        self.built_on[start.step.position()] = pool.unwrap_or(super::NOWHERE);
        self.change(id, |cloud| cloud.get_mut(id).begin_job(now));
        if self.build_fails(start) {
            // Somewhere on its way; half of it is as good as any.
            self.engine.schedule_in(Millis(length.0 / 2), Event::ConnectFails(start));
        } else {
            self.engine.schedule_in(length, Event::Finish(start));
        }
    }

    /// By the step's own dice, so that the order of events shifts nothing.
    fn build_fails(&mut self, start: Start) -> bool {
        let chance = self.farm.faults.build_fails;
        if chance == 0 || !self.in_trouble() {
            return false;
        }
        let index = (start.step.position() as u64) << 16 | u64::from(start.run & 0xffff);
        self.seed.stream(Purpose::Step, index).chance(chance)
    }

    fn speed_thousandths(&self, machine: &SimMachine) -> u64 {
        let pool = self.policy.pools.get(&machine.kind);
        pool.map_or(1000, |pool| u64::from(pool.speed_factor.thousandths.max(1)))
    }

    pub(super) fn finish(&mut self, start: Start) {
        if self.queue_runner.is_current(start) {
            self.leave_machine(start);
            let now = self.now();
            self.queue_runner.succeeded(start, now);
        }
    }

    /// The classic queue runner holds it against the machine.
    pub(super) fn connect_fails(&mut self, start: Start) {
        if !self.queue_runner.is_current(start) {
            return;
        }
        self.abort_build(start);
        self.disable(start.host);
    }

    fn disable(&mut self, host: Host) {
        if self.farm.queue_runner.protocol == Protocol::Classic {
            let now = self.now();
            let dice = &mut self.queue_runner_dice;
            if let Some(until) = self.queue_runner.connection_failed(host, now, dice) {
                self.engine.schedule(until, Event::Dispatch);
            }
        }
    }

    fn abort_build(&mut self, start: Start) {
        self.leave_machine(start);
        let now = self.now();
        let dice = &mut self.queue_runner_dice;
        if let Some(at) = self.queue_runner.aborted(start, now, dice) {
            self.engine.schedule(at, Event::Retry(start.step));
        }
    }

    fn leave_machine(&mut self, start: Start) {
        let now = self.now();
        let began = self.queue_runner.records()[start.step.position()].started_at;
        if let Some(id) = self.cloud.at(start.host) {
            self.change(id, |cloud| cloud.end_job(id, now, now.since(began)));
        }
    }

    /// The builds on a machine that stopped answering are lost.
    pub(super) fn lose_builds(&mut self, id: MachineId) {
        let host = self.cloud.get(id).host;
        if self.farm.is_rest() {
            for start in self.queue_runner.disconnect(host) {
                self.abort_build(start);
            }
            return;
        }
        let starts = self.queue_runner.jobs_on(host);
        for start in &starts {
            self.abort_build(*start);
        }
        if !starts.is_empty() {
            self.disable(host);
        }
    }

    /// The machines file has changed: it is seen at the next look.
    pub(super) fn expect_reading(&mut self) {
        if !self.reading && !self.farm.is_rest() {
            self.reading = true;
            let looks = self.now().0 / MACHINES_FILE_INTERVAL.0 + 1;
            self.engine.schedule(Millis(looks * MACHINES_FILE_INTERVAL.0), Event::ReadFile);
        }
    }

    pub(super) fn read_file(&mut self) {
        self.reading = false;
        if self.queue_runner_is_up {
            let now = self.now();
            self.checker.note(now, Note::FileRead(self.file.len()));
            self.queue_runner.read_machines_file(&self.file);
        }
    }

    pub(super) fn dispatch_timer(&mut self) {
        self.dispatch();
        self.engine.schedule_in(self.farm.queue_runner.dispatch_timer, Event::DispatchTimer);
    }

    /// A REST builder connects, if its machine runs and nobody stopped it.
    pub(super) fn join(&mut self, host: Host) {
        let Some(id) = self.cloud.at(host) else { return };
        let machine = self.cloud.get(id);
        let joins = machine.life() == Life::Up && machine.deployed && !machine.drained;
        let pool = self.policy.pools.get(&machine.kind);
        if let (true, true, Some(pool)) = (joins, self.queue_runner_is_up, pool) {
            let now = self.now();
            self.queue_runner.connect(host, &offer(pool), now);
        }
    }

    /// Running builds end with the queue runner; it queues them again when it is back.
    pub(super) fn queue_runner_down(&mut self, length: Millis) {
        if !self.queue_runner_is_up {
            return;
        }
        let now = self.now();
        self.checker.note(now, Note::QueueRunner("goes down"));
        self.queue_runner_is_up = false;
        let hosts: Vec<_> = self.machines().map(|machine| machine.host).collect();
        for host in hosts {
            for start in self.queue_runner.jobs_on(host) {
                self.leave_machine(start);
            }
        }
        self.queue_runner.restart(now);
        self.engine.schedule_in(length, Event::QueueRunnerUp);
    }

    pub(super) fn queue_runner_up(&mut self) {
        let now = self.now();
        self.checker.note(now, Note::QueueRunner("is up again"));
        self.queue_runner_is_up = true;
        self.queue_runner.restart(now);
        if self.farm.is_rest() {
            let hosts: Vec<_> = self.machines().map(|machine| machine.host).collect();
            for host in hosts {
                self.join(host);
            }
        } else {
            self.read_file();
        }
        self.expect_queue_runner_trouble();
    }

    /// An hour's chance, every hour.
    pub(super) fn expect_queue_runner_trouble(&mut self) {
        let faults = &self.farm.faults;
        let (chance, hour) = (faults.queue_runner_stops, Millis::from_hours(1));
        if chance == 0 || !self.in_trouble() {
            return;
        }
        let dice = &mut self.queue_runner_dice;
        let mut hours = 0;
        while !dice.chance(chance) && hours < 10_000 {
            hours += 1;
        }
        let at = self.engine.now() + Millis::from_hours(hours) + Millis(dice.below(hour.0));
        let length = dice.sample(&faults.queue_runner_down_for);
        if at < faults.until {
            self.engine.schedule(at, Event::QueueRunnerDown(length));
        }
    }
}

//! What follows from the queue runner's decisions.

use super::SimWorld;
use super::checker::LogEntry;
use super::event::Event;
use crate::cloud::{Cloud, Job, Lifecycle, MachineId, SimMachine};
use crate::engine::{Millis, Purpose};
use crate::queue_runner::{Host, Offer, Protocol, Start};

/// Time until ssh reports that a host does not exist, as on a real network.
const CONNECT_TIMEOUT: Millis = Millis::from_seconds(10);

/// No outputs are copied for longer, however long the step is: Hydra refuses outputs of more than 2 GiB
/// (`max_output_size`), which take 10 minutes at 29 Mbit/s. The planner waits 15 minutes for them (`copying.rs`).
const LONGEST_COPY: Millis = Millis::from_minutes(10);

impl SimWorld {
    /// Adds all due steps to the queue.
    pub(super) fn submit(&mut self) {
        let now = self.now();
        let workload = std::sync::Arc::clone(&self.workload);
        for index in workload.indices_from(self.submitted) {
            let step = &workload.steps()[index.position()];
            if step.submit() > now {
                self.engine.schedule(step.submit(), Event::Submit);
                return;
            }
            self.submitted += 1;
            self.queue_runner.submit(index, now);
        }
    }

    /// Removes canceled builds from the queue.
    pub(super) fn cancel(&mut self) {
        let now = self.now();
        let workload = std::sync::Arc::clone(&self.workload);
        while let Some((at, step)) = workload.cancellations().get(self.canceled).copied() {
            if at > now {
                self.engine.schedule(at, Event::Cancel);
                return;
            }
            self.canceled += 1;
            if let Some(start) = self.queue_runner.cancel(step, now) {
                self.leave_machine(start);
            }
        }
    }

    /// Dispatches steps, now or when the dispatcher wakes up, if something happened that triggers it.
    pub(super) fn dispatch_when_due(&mut self) {
        let now = self.now();
        if !self.queue_runner_is_up {
            return;
        }
        match self.queue_runner.take_wake(now) {
            Some(at) if at > now => self.engine.schedule(at, Event::Dispatch),
            Some(_) => self.dispatch(),
            None => {}
        }
    }

    /// Assigns steps to machines.
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
        self.checker.log(now, LogEntry::Build(step.id(), start.host));
        let id =
            self.cloud.at(start.host).filter(|&id| self.cloud.get(id).lifecycle() == Lifecycle::Up);
        let Some(id) = id else {
            self.engine.schedule_in(CONNECT_TIMEOUT, Event::ConnectFails(start));
            return;
        };
        let job = Job {
            start,
            length: step.duration().since(self.copying_of(start)),
            cores: self.workload.cores_of_class(self.workload.class_of(step)),
            speed_thousandths: self.speed_thousandths(self.cloud.get(id)),
        };
        let pool = self.probe.place_of(&self.cloud.get(id).kind);
        self.built_on[start.step.position()] = pool.unwrap_or(super::NOWHERE);
        self.queue_runner.connected(start.host);
        self.change_jobs(id, |cloud, due| cloud.begin_job(id, job, now, due));
        if self.build_fails(start) {
            // A random point of the step; half of it is a good approximation.
            let length = job.length.0.saturating_mul(1000) / job.speed_thousandths.max(1);
            self.engine.schedule_in(Millis(length / 2), Event::ConnectFails(start));
        }
    }

    /// Changes what runs on a machine; reschedules the ends of its steps.
    fn change_jobs(
        &mut self,
        id: MachineId,
        change: impl FnOnce(&mut Cloud, &mut Vec<(Start, Millis)>),
    ) {
        let mut due = std::mem::take(&mut self.due);
        self.change(id, |cloud| change(cloud, &mut due));
        for (start, at) in due.drain(..) {
            self.engine.schedule(at, Event::Finish(start));
        }
        self.due = due;
    }

    /// With the step's own random numbers, so that the order of events does not change results.
    fn build_fails(&mut self, start: Start) -> bool {
        let chance = self.farm.faults.build_fails;
        if chance == 0 || !self.in_trouble() {
            return false;
        }
        let index = (start.step.position() as u64) << 16 | u64::from(start.run);
        self.seed.stream(Purpose::Step, index).chance(chance)
    }

    fn speed_thousandths(&self, machine: &SimMachine) -> u64 {
        let pool = self.policy.pools.get(&machine.kind);
        pool.map_or(1000, |pool| u64::from(pool.speed_factor.thousandths.max(1)))
    }

    pub(super) fn finish(&mut self, start: Start) {
        let now = self.now();
        let machine = self.cloud.at(start.host).map(|id| self.cloud.get(id));
        let is_due = machine.is_some_and(|machine| machine.is_due(start, now));
        if !self.queue_runner.is_current(start) || !is_due {
            return;
        }
        self.leave_machine(start);
        if self.queue_runner.copying(start, now) {
            self.engine.schedule_in(self.copying_of(start), Event::Copied(start));
        } else {
            self.queue_runner.succeeded(start, now);
        }
    }

    /// Copies the outputs of a step that gave its slot back before.
    pub(super) fn copied(&mut self, start: Start) {
        let now = self.now();
        self.queue_runner.succeeded(start, now);
    }

    /// How long a step's outputs are copied without a slot: half of its copying time, at most [`LONGEST_COPY`].
    fn copying_of(&self, start: Start) -> Millis {
        if !self.farm.queue_runner.frees_slot_early() {
            return Millis::ZERO;
        }
        let machine = self.cloud.at(start.host).map(|id| self.cloud.get(id));
        let percent = machine.map_or(0, |machine| u64::from(machine.model.copy_percent.min(100)));
        let length = self.workload.steps()[start.step.position()].duration().0;
        Millis(length.saturating_mul(percent) / 200).min(LONGEST_COPY)
    }

    /// The classic queue runner counts it as the machine's failure.
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
            let rng = &mut self.queue_runner_rng;
            if let Some(until) = self.queue_runner.connection_failed(host, now, rng) {
                self.engine.schedule(until, Event::Dispatch);
            }
        }
    }

    fn abort_build(&mut self, start: Start) {
        self.leave_machine(start);
        let now = self.now();
        let rng = &mut self.queue_runner_rng;
        if let Some(at) = self.queue_runner.aborted(start, now, rng) {
            self.engine.schedule(at, Event::Retry(start.step));
        }
    }

    fn leave_machine(&mut self, start: Start) {
        let now = self.now();
        let began = self.queue_runner.records()[start.step.position()].started_at();
        if let Some(id) = self.cloud.at(start.host) {
            let length = now.since(began);
            self.change_jobs(id, |cloud, due| cloud.end_job(id, start.step, now, length, due));
        }
    }

    /// The builds on a machine that died or stopped answering silently are lost; the classic queue runner notices it
    /// later.
    pub(super) fn lose_builds_silently(&mut self, id: MachineId) {
        let delay = self.farm.queue_runner.loss_noticed_after;
        if self.farm.is_rest() || delay == Millis::ZERO {
            return self.lose_builds(id);
        }
        let now = self.now();
        let starts = self.queue_runner.jobs_on(self.cloud.get(id).host);
        let records = self.queue_runner.records();
        let began = |start: &Start| records[start.step.position()].started_at();
        let lengths: Vec<_> = starts.iter().map(|start| now.since(began(start))).collect();
        self.change(id, |cloud| cloud.lose_jobs(id, now, lengths.into_iter()));
        for start in starts {
            self.engine.schedule_in(delay, Event::ConnectFails(start));
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

    /// The machines file has changed: the queue runner notices it at its next check.
    pub(super) fn expect_reading(&mut self) {
        if !self.reading && !self.farm.is_rest() {
            self.reading = true;
            let at = self.farm.queue_runner.next_look(self.now());
            self.engine.schedule(at, Event::ReadFile);
        }
    }

    pub(super) fn read_file(&mut self) {
        self.reading = false;
        if self.queue_runner_is_up {
            let now = self.now();
            self.checker.log(now, LogEntry::FileRead(self.file.len()));
            self.queue_runner.read_machines_file(&self.file);
        }
    }

    pub(super) fn dispatch_timer(&mut self) {
        self.queue_runner.wake();
        self.engine.schedule_in(self.farm.queue_runner.dispatch_timer, Event::DispatchTimer);
    }

    /// A REST builder connects if its machine runs and it was not stopped.
    pub(super) fn join(&mut self, host: Host) {
        if !self.farm.is_rest() {
            return;
        }
        let Some(id) = self.cloud.at(host) else { return };
        let machine = self.cloud.get(id);
        let joins = machine.lifecycle() == Lifecycle::Up && machine.deployed && !machine.drained;
        let pool = self.policy.pools.get(&machine.kind);
        if let (true, true, Some(pool)) = (joins, self.queue_runner_is_up, pool) {
            let now = self.now();
            if !self.queue_runner.lists(host) {
                self.queue_runner.name_host(host, &machine.host_name().to_string());
            }
            self.queue_runner.connect(host, &Offer::from(pool), now);
        }
    }

    /// Running builds end with the queue runner; it queues them again when it is back.
    pub(super) fn queue_runner_down(&mut self, length: Millis) {
        if !self.queue_runner_is_up {
            return;
        }
        let now = self.now();
        self.checker.log(now, LogEntry::QueueRunner("goes down"));
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
        self.checker.log(now, LogEntry::QueueRunner("is up again"));
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

    /// Draws once per hour from a chance per hour.
    pub(super) fn expect_queue_runner_trouble(&mut self) {
        let faults = &self.farm.faults;
        let (chance, hour) = (faults.queue_runner_stops, Millis::from_hours(1));
        if chance == 0 || !self.in_trouble() {
            return;
        }
        let rng = &mut self.queue_runner_rng;
        let mut hours = 0;
        while !rng.chance(chance) && hours < 10_000 {
            hours += 1;
        }
        let at = self.engine.now() + Millis::from_hours(hours) + Millis(rng.below(hour.0));
        let length = rng.sample(&faults.queue_runner_down_for);
        if at < faults.until {
            self.engine.schedule(at, Event::QueueRunnerDown(length));
        }
    }
}

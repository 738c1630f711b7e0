//! A model of Hydra's queue runner, classic and current.
//!
//! The classic one is `src/hydra-queue-runner` of Hydra up to 2025 (`dispatcher.cc`, `builder.cc`, `build-remote.cc`,
//! `hydra-queue-runner.cc`), the REST one `subprojects/hydra-queue-runner/src/state` at 14332fbf of August 2026. The
//! model only decides, with time as a parameter; the effects (how long a step takes, which machine is broken) are in
//! the world.

mod builders;
mod dispatch;
mod ready;
mod settings;
mod shares;
mod status;
mod status_json;
mod steps;
mod systems;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Millis, Random};
use crate::workload::{StepIndex, Workload};
use builders::{Builder, Listed, is_local};
pub use builders::{Host, Offer};
use ready::{Rank, Ready};
pub use settings::{Protocol, Reservation, Settings, StepOrder};
use shares::Shares;
pub use status::Epoch;
use steps::Steps;
pub use steps::{Phase, StepRecord};
use systems::Systems;

/// `retryInterval` in `state.hh`, `default_retry_interval` in `config.rs`.
const RETRY_INTERVAL: Millis = Millis::from_seconds(60);
/// `retryBackoff` in `state.hh`, `default_retry_backoff` in `config.rs`.
const RETRY_BACK_OFF: u64 = 3;
/// `maxTries` in `state.hh`, `default_max_tries` in `config.rs`.
const MAX_TRIES: u8 = 5;

/// A step that was assigned to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The step.
    pub step: StepIndex,
    /// The number of its try, which identifies stale events.
    pub run: u16,
    /// The host.
    pub host: Host,
}

/// The queue runner.
#[derive(Clone, Debug)]
pub struct QueueRunner {
    settings: Settings,
    steps: Steps,
    ready: Ready,
    shares: Shares,
    builders: BTreeMap<Host, Builder>,
    /// REST: the connected builders, in the order in which they are tried.
    joined: Vec<Host>,
    /// Host names of machines, as text and as the planner reads them.
    names: BTreeMap<Host, (String, planner::Host)>,
    tallies: Vec<Tally>,
    /// REST: the queues by system, in the order of their last sort.
    systems: Systems,
    /// Classic: since when steps in a retry have been runnable.
    runnable_again: BTreeMap<StepIndex, Millis>,
    started_at: Millis,
    /// Something triggered a dispatch.
    wake: bool,
    /// REST: no dispatch before then, because of the last one.
    rests_until: Millis,
    /// When the next dispatch was announced.
    planned: Option<Millis>,
}

/// The counts of one kind of step.
#[derive(Clone, Debug, Default)]
struct Tally {
    runnable: u64,
    /// Classic: `runnable` at the last run of the dispatcher, which the status shows.
    runnable_told: u64,
    /// Steps that hold a slot.
    running: u64,
    /// Built steps that are copied without a slot.
    copying: u64,
    /// When such a step last ended.
    last_active: Option<Millis>,
    /// When a dispatch last saw a machine for it.
    supported_at: Option<Millis>,
    /// Before then, no step of it can have been without support for too long.
    unsupported_from: Millis,
    /// Sum over the runnable steps of the times at which they became runnable, for the waiting time.
    runnable_since_sum: u128,
}

/// `60 s * 3 ^ (tries - 1)`, the back-off of both queue runners.
fn back_off(tries: u32) -> Millis {
    let factor = RETRY_BACK_OFF.saturating_pow(tries.saturating_sub(1));
    Millis(RETRY_INTERVAL.0.saturating_mul(factor))
}

impl QueueRunner {
    /// A queue runner that has just started and has no builds yet.
    pub fn new(settings: Settings, workload: Arc<Workload>) -> Self {
        Self {
            settings,
            ready: Ready::new(workload.kinds.len()),
            shares: Shares::new(&workload.jobsets),
            builders: BTreeMap::new(),
            joined: Vec::new(),
            names: BTreeMap::new(),
            tallies: vec![Tally::default(); workload.kinds.len()],
            systems: Systems::new(&workload.kinds),
            runnable_again: BTreeMap::new(),
            started_at: Millis::ZERO,
            wake: false,
            rests_until: Millis::ZERO,
            planned: None,
            steps: Steps::new(workload),
        }
    }

    /// A step's build enters the queue.
    pub fn submit(&mut self, step: StepIndex, now: Millis) {
        let record = self.steps.get_mut(step);
        if record.phase != Phase::Future {
            return;
        }
        let open = record.open_dependencies();
        record.phase = Phase::Waiting;
        if open == 0 {
            self.make_runnable(step, now);
        }
    }

    /// Cancels a step's build, and with it all dependents. Returns the tries that must be stopped on machines. The
    /// classic dispatcher does not wake up: until it runs, the status still reports a runnable step.
    pub fn cancel(&mut self, step: StepIndex, now: Millis) -> Option<Start> {
        let record = self.steps.get(step);
        let (phase, run, host) = (record.phase, record.run, record.host());
        match phase {
            Phase::Future | Phase::Waiting => {}
            Phase::Runnable => {
                let kind = self.kind_of(step);
                self.ready.take(kind, |waiting, _| waiting == step);
                self.uncount_runnable(step);
            }
            Phase::Delayed => self.uncount_runnable(step),
            Phase::Running => self.leave_machine(step, now),
            phase if phase.is_final() => return None,
            _ => {}
        }
        self.steps.fail(step, Phase::Canceled, now);
        (phase == Phase::Running).then_some(Start { step, run, host })
    }

    /// A step was built and its outputs are being copied: with [`Reservation::UntilBuilt`] it releases its slot.
    /// Returns whether it does.
    pub fn copying(&mut self, start: Start, now: Millis) -> bool {
        let early = self.settings.frees_slot_early();
        let Some(builder) = self.builders.get_mut(&start.host) else { return false };
        if !early || !builder.jobs.remove(&start.step) {
            return false;
        }
        builder.copying.insert(start.step);
        if builder.jobs.is_empty() {
            builder.idle_since = Some(now);
        }
        let tally = self.tally_of(start.step);
        tally.running -= 1;
        tally.copying += 1;
        tally.last_active = Some(now);
        self.wake = true;
        true
    }

    /// A machine was reached: earlier failures no longer count (the handshake in `State::buildRemote`).
    pub fn connected(&mut self, host: Host) {
        if let Some(builder) = self.builders.get_mut(&host) {
            builder.consecutive_failures = 0;
        }
    }

    /// A step was built. Stale events are ignored.
    pub fn succeeded(&mut self, start: Start, now: Millis) {
        if !self.is_current(start) {
            return;
        }
        self.leave_machine(start.step, now);
        let took = now.since(self.steps.get(start.step).started_at());
        if let Some(builder) = self.builders.get_mut(&start.host) {
            builder.steps_done += 1;
            builder.total_step_time += took;
        }
        for runnable in self.steps.succeed(start.step, now) {
            self.make_runnable(runnable, now);
        }
    }

    /// A step's machine was lost or could not be reached: the step is tried again (`State::builder` and `fail_step`) at
    /// the returned time, unless it has used all tries. Stale events are ignored.
    pub fn aborted(&mut self, start: Start, now: Millis, random: &mut Random) -> Option<Millis> {
        if !self.is_current(start) {
            return None;
        }
        self.leave_machine(start.step, now);
        let record = self.steps.get_mut(start.step);
        record.tries += 1;
        if record.tries >= MAX_TRIES {
            self.steps.fail(start.step, Phase::Aborted, now);
            return None;
        }
        record.phase = Phase::Delayed;
        let delay = back_off(u32::from(record.tries));
        if self.settings.protocol == Protocol::Classic {
            // Calls `makeRunnable` again immediately; the dispatcher skips the step until its retry time.
            self.runnable_again.insert(start.step, now);
        }
        self.count_runnable(start.step);
        // Only the C++ one adds `rand() % 10`.
        let rng = match self.settings.protocol {
            Protocol::Classic => Millis::from_seconds(random.below(10)),
            Protocol::Rest => Millis::ZERO,
        };
        Some(now + delay + rng)
    }

    /// The retry delay of a step is over. The classic dispatcher wakes up for it, the REST one does not.
    pub fn retry(&mut self, step: StepIndex, now: Millis) {
        if self.steps.get(step).phase == Phase::Delayed {
            self.steps.get_mut(step).phase = Phase::Runnable;
            self.queue(step, now);
            self.wake |= self.settings.protocol == Protocol::Classic;
        }
    }

    /// A classic machine could not be reached. Returns when it may be tried again, if that has changed.
    pub fn connection_failed(
        &mut self,
        host: Host,
        now: Millis,
        random: &mut Random,
    ) -> Option<Millis> {
        self.builders.get_mut(&host)?.failed(now, random)
    }

    /// When it was last started.
    pub fn started_at(&self) -> Millis {
        self.started_at
    }

    /// The queue runner restarts: running steps are queued again, tries and machines are forgotten (`clearBusy` in
    /// `hydra-queue-runner.cc`; both keep the jobsets' shares in the database).
    pub fn restart(&mut self, now: Millis) {
        self.started_at = now;
        self.builders.clear();
        self.joined.clear();
        self.ready = Ready::new(self.tallies.len());
        self.tallies = vec![Tally::default(); self.tallies.len()];
        self.systems = Systems::new(&self.steps.workload.kinds);
        self.runnable_again.clear();
        (self.rests_until, self.planned) = (Millis::ZERO, None);
        for step in self.steps.workload.indices() {
            let record = self.steps.get_mut(step);
            if matches!(record.phase, Phase::Runnable | Phase::Delayed | Phase::Running) {
                record.phase = Phase::Runnable;
                record.tries = 0;
                record.run = record.run.wrapping_add(1);
                self.count_runnable(step);
                self.queue(step, now);
                self.insert(step);
            }
        }
        self.wake = true;
    }

    /// Reads a new machines file (`State::parseMachines`): machines keep their state; those that are no longer in it
    /// stay known, as disabled.
    pub fn read_machines_file(&mut self, lines: &BTreeMap<Host, Offer>) {
        for (host, offer) in lines {
            let kinds = &self.steps.workload.kinds;
            self.builders
                .entry(*host)
                .and_modify(|builder| builder.update(offer, kinds))
                .or_insert_with(|| Builder::new(offer.clone(), kinds, None));
        }
        for (host, builder) in &mut self.builders {
            if !lines.contains_key(host) {
                builder.listed = Listed::No;
            }
        }
        self.wake = true;
    }

    /// A REST builder registers. It gets its first step at the next dispatch: it counts as full until it has sent its
    /// load.
    pub fn connect(&mut self, host: Host, offer: &Offer, now: Millis) {
        let kinds = &self.steps.workload.kinds;
        self.builders
            .entry(host)
            .and_modify(|builder| builder.update(offer, kinds))
            .or_insert_with(|| Builder::new(offer.clone(), kinds, Some(now)));
        if !self.joined.contains(&host) {
            self.joined.push(host);
            self.sort_builders();
        }
    }

    /// A REST builder disconnects. Returns its running steps, all of which must be [`Self::aborted`].
    pub fn disconnect(&mut self, host: Host) -> Vec<Start> {
        let starts = self.jobs_on(host);
        self.joined.retain(|joined| *joined != host);
        if let Some(builder) = self.builders.get_mut(&host) {
            builder.listed = Listed::No;
        }
        if starts.is_empty() {
            self.builders.remove(&host);
        }
        starts
    }

    /// The steps running on `host`.
    pub fn jobs_on(&self, host: Host) -> Vec<Start> {
        let builder = self.builders.get(&host).into_iter();
        let jobs = builder.flat_map(|builder| builder.jobs.iter().chain(&builder.copying));
        jobs.map(|&step| Start { step, run: self.steps.get(step).run, host }).collect()
    }

    /// Changes the host name that the status shows for `host`.
    pub fn name_host(&mut self, host: Host, name: &str) {
        self.names.insert(host, (name.to_owned(), planner::Host::new(name)));
    }

    /// Whether the queue runner would assign steps to `host`.
    pub fn lists(&self, host: Host) -> bool {
        self.builders.get(&host).is_some_and(|builder| builder.listed == Listed::Yes)
    }

    /// Number of steps of a kind that wait for a machine or for their next try.
    pub fn runnable(&self, kind: usize) -> u64 {
        self.tallies[kind].runnable
    }

    /// Numbers of steps that wait for a machine or their next try, and of steps that are being built.
    pub fn waiting_and_running(&self) -> (u64, u64) {
        let add = |sum: (u64, u64), one: &Tally| (sum.0 + one.runnable, sum.1 + one.running);
        self.tallies.iter().fold((0, 0), add)
    }

    /// Whether a waiting step could be assigned to a machine now or later.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Number of steps that have not ended.
    pub fn unfinished(&self) -> usize {
        self.steps.unfinished
    }

    /// Results of the steps, in the order of the workload.
    pub fn records(&self) -> &[StepRecord] {
        &self.steps.records
    }

    /// Its settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Whether the try that `start` began is still running.
    pub fn is_current(&self, start: Start) -> bool {
        let record = self.steps.get(start.step);
        record.phase == Phase::Running && record.run == start.run
    }

    fn make_runnable(&mut self, step: StepIndex, now: Millis) {
        self.steps.get_mut(step).make_runnable(now);
        self.count_runnable(step);
        self.queue(step, now);
        self.insert(step);
        self.wake = true;
    }

    /// REST: a new step causes a new sort of its system's queue.
    fn insert(&mut self, step: StepIndex) {
        let kind = self.kind_of(step);
        self.systems.insert(kind);
    }

    /// Since when the status counts it as runnable.
    fn runnable_since(&self, step: StepIndex) -> Millis {
        let again = self.runnable_again.get(&step).copied();
        again.unwrap_or(self.steps.get(step).runnable_at())
    }

    fn count_runnable(&mut self, step: StepIndex) {
        let since = self.runnable_since(step);
        let tally = self.tally_of(step);
        tally.runnable += 1;
        tally.runnable_since_sum += u128::from(since.0);
    }

    fn uncount_runnable(&mut self, step: StepIndex) {
        let since = self.runnable_since(step);
        let tally = self.tally_of(step);
        tally.runnable -= 1;
        tally.runnable_since_sum -= u128::from(since.0);
    }

    fn kind_of(&self, step: StepIndex) -> u16 {
        let workload = &self.steps.workload;
        workload.class_of(&workload.steps[step.at()]).kind
    }

    fn tally_of(&mut self, step: StepIndex) -> &mut Tally {
        let kind = self.kind_of(step);
        &mut self.tallies[usize::from(kind)]
    }

    /// When the wait for a supporting machine starts: classic, when its build was loaded; REST, when it became
    /// runnable.
    fn support_counts_from(&self, step: StepIndex) -> Millis {
        match self.settings.protocol {
            Protocol::Classic => self.steps.workload.steps[step.at()].submit().max(self.started_at),
            Protocol::Rest => self.steps.get(step).runnable_at().max(self.started_at),
        }
    }

    fn queue(&mut self, step: StepIndex, now: Millis) {
        let rank = self.rank(step);
        let workload = &self.steps.workload;
        let class = workload.class_of(&workload.steps[step.at()]);
        self.ready.push(class.kind, class.jobset, rank, now);
        if let Some(limit) = self.settings.max_unsupported {
            let from = self.support_counts_from(step) + limit;
            let tally = self.tally_of(step);
            tally.unsupported_from = tally.unsupported_from.min(from);
        }
    }

    /// After global priority and shares, classic: local priority, features required, dependents, build (`doDispatch`);
    /// REST: dependents, local priority, build (`compare_with_rdeps`).
    fn rank(&self, step: StepIndex) -> Rank {
        let workload = &self.steps.workload;
        let spec = &workload.steps[step.at()];
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let dependents = count(workload.dependents_at(step.at()).len());
        let required = workload.kind_of(spec).features.iter();
        let features = count(required.filter(|feature| !is_local(feature)).count());
        let class = workload.class_of(spec);
        let local = i64::from(class.local_priority);
        let build = i64::try_from(spec.build()).unwrap_or(i64::MAX);
        let rest = match (self.settings.step_order, self.settings.protocol) {
            (StepOrder::Legacy, _) => [-local, build, 0, 0],
            (StepOrder::Current, Protocol::Classic) => [-local, -features, -dependents, build],
            (StepOrder::Current, Protocol::Rest) => [-dependents, -local, build, 0],
        };
        Rank { global_priority: Reverse(class.global_priority), rest, step }
    }

    fn leave_machine(&mut self, step: StepIndex, now: Millis) {
        let record = self.steps.get(step);
        let (started, host) = (record.started_at(), record.host());
        let workload = &self.steps.workload;
        let jobset = workload.class_of(&workload.steps[step.at()]).jobset;
        self.shares.add(jobset, started, now.since(started));
        let builder = self.builders.get_mut(&host);
        let copied = builder.is_some_and(|builder| builder.copying.remove(&step));
        let tally = self.tally_of(step);
        if copied {
            tally.copying -= 1;
            return;
        }
        tally.running -= 1;
        tally.last_active = Some(now);
        if let Some(builder) = self.builders.get_mut(&host) {
            builder.jobs.remove(&step);
            if builder.jobs.is_empty() {
                builder.idle_since = Some(now);
                if builder.listed == Listed::No && self.settings.protocol == Protocol::Rest {
                    self.builders.remove(&host);
                }
            }
        }
        self.wake = true;
    }
}

//! The queue runner's status, as the adapters give it to the planner.

use planner::{AcceptsJobs, Demand, MachineKeys, Queue, QueueMachine, Seconds, Timestamp};

use super::builders::{Builder, Listed};
use super::{Host, Protocol, QueueRunner, Tally};
use crate::engine::Millis;

/// Virtual time zero as the planner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub Timestamp);

impl Epoch {
    /// `time` in seconds since 1970.
    pub fn at(self, time: Millis) -> Timestamp {
        self.0.after(Seconds(time.whole_seconds()))
    }
}

impl QueueRunner {
    /// Its state at `now`.
    pub fn status(&self, now: Millis, epoch: Epoch) -> Queue {
        Queue {
            uptime: Seconds(now.since(self.started_at).whole_seconds()),
            time: Some(epoch.at(now)),
            demand: self.demand(now, epoch),
            runnable_total: Some(self.all_runnable()),
            copying_steps: self.tallies.iter().map(|tally| tally.copying).sum(),
            machines: self.machines(epoch),
            keys: match self.settings.protocol {
                Protocol::Classic => MachineKeys::Address,
                Protocol::Rest => MachineKeys::HostName,
            },
            ..Queue::default()
        }
    }

    fn demand(&self, now: Millis, epoch: Epoch) -> Vec<Demand> {
        let kinds = self.steps.workload.kinds.iter().zip(&self.tallies);
        let mut demand: Vec<_> = kinds
            .filter(|(_, tally)| self.is_told(tally))
            .map(|(kind, tally)| Demand {
                runnable: self.runnable_told(tally),
                running: tally.running,
                last_active: tally
                    .last_active
                    .filter(|_| self.tells_last_active(tally))
                    .map(|at| epoch.at(at)),
                // Classic queue runners since February 2023 do not report it.
                wait_seconds: (self.settings.protocol == Protocol::Rest)
                    .then(|| waited(tally, now) / 1000),
                ..Demand::none_of(kind.clone())
            })
            .collect();
        demand.sort_by(|a, b| a.kind.cmp(&b.kind));
        demand
    }

    /// The classic status shows what its dispatcher saw last, the REST status the current state.
    pub(super) fn runnable_told(&self, tally: &Tally) -> u64 {
        match self.settings.protocol {
            Protocol::Classic => tally.runnable_told,
            Protocol::Rest => tally.runnable,
        }
    }

    /// `nrRunnableSteps`: counted at the request.
    pub(super) fn all_runnable(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.runnable).sum()
    }

    /// The classic one still shows types that have had work, the REST one lists only steps.
    pub(super) fn is_told(&self, tally: &Tally) -> bool {
        let work = self.runnable_told(tally) > 0 || tally.running > 0;
        match self.settings.protocol {
            Protocol::Classic => work || tally.last_active.is_some(),
            Protocol::Rest => work,
        }
    }

    pub(super) fn tells_last_active(&self, tally: &Tally) -> bool {
        self.settings.protocol == Protocol::Classic && tally.running == 0
    }

    fn machines(&self, epoch: Epoch) -> Vec<QueueMachine> {
        let mut machines: Vec<_> = self
            .builders
            .iter()
            .map(|(host, builder)| QueueMachine {
                accepts_jobs: self.accepts_jobs(builder),
                current_jobs: builder.current_jobs(),
                idle_since: builder.idle_since.map(|at| epoch.at(at)),
                steps_done: Some(builder.steps_done),
                total_step_time: Some(Seconds(builder.total_step_time.whole_seconds())),
                ..QueueMachine::new(self.host(*host))
            })
            .collect();
        machines.sort_by(|a, b| a.host.cmp(&b.host));
        machines
    }

    fn host(&self, host: Host) -> planner::Host {
        match (self.names.get(&host), self.settings.protocol) {
            (Some((_, name)), _) => name.clone(),
            (None, Protocol::Classic) => host.ip().into(),
            (None, Protocol::Rest) => planner::Host::new(host.name()),
        }
    }

    pub(super) fn key(&self, host: Host) -> String {
        match (self.names.get(&host), self.settings.protocol) {
            (Some((name, _)), _) => name.clone(),
            (None, Protocol::Classic) => host.address(),
            (None, Protocol::Rest) => host.name(),
        }
    }

    /// A REST builder answers as long as it is connected.
    fn accepts_jobs(&self, builder: &Builder) -> AcceptsJobs {
        match (self.settings.protocol, builder.listed) {
            (Protocol::Rest, _) | (Protocol::Classic, Listed::Yes) => AcceptsJobs::Yes,
            (Protocol::Classic, Listed::No) => AcceptsJobs::No,
        }
    }
}

/// Milliseconds, summed over the runnable steps.
pub(super) fn waited(tally: &Tally, now: Millis) -> u64 {
    let until = u128::from(tally.runnable) * u128::from(now.0);
    u64::try_from(until - tally.runnable_since_sum).unwrap_or(u64::MAX)
}

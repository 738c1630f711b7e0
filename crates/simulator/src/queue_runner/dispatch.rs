//! Assigns steps to machines.

use std::cmp::Reverse;

use super::builders::Builder;
use super::{Host, Phase, Protocol, QueueRunner, Ready, Start, Systems};
use crate::engine::Millis;
use crate::workload::StepIndex;

/// How long the REST dispatcher sleeps after each dispatch ("coalesce trigger bursts").
const REST_BETWEEN_DISPATCHES: Millis = Millis(500);

impl QueueRunner {
    /// Triggers a dispatch: an event, or the REST timer.
    pub fn wake(&mut self) {
        self.wake = true;
    }

    /// When the next dispatch happens, if something triggered it and it was not announced before. The REST dispatcher
    /// sleeps after each dispatch, and handles later events in the next one (`start_dispatch_loop`).
    pub fn take_wake(&mut self, now: Millis) -> Option<Millis> {
        if !std::mem::take(&mut self.wake) || self.planned.is_some_and(|at| at > now) {
            return None;
        }
        let at = self.rests_until.max(now);
        self.planned = Some(at);
        Some(at)
    }

    /// Assigns waiting steps to machines until steps or slots run out, then aborts steps that no machine has supported
    /// for too long. Started steps are added to `starts`.
    pub fn dispatch(&mut self, now: Millis, starts: &mut Vec<Start>) {
        self.planned = None;
        if self.settings.protocol == Protocol::Rest {
            self.rests_until = now + REST_BETWEEN_DISPATCHES;
        }
        if !self.ready.is_empty() {
            self.shares.prune(now);
            match self.settings.protocol {
                Protocol::Classic => self.dispatch_by_machine(now, starts),
                Protocol::Rest => self.dispatch_by_step(now, starts),
            }
            self.abort_unsupported(now);
        }
        for tally in &mut self.tallies {
            tally.runnable_told = tally.runnable;
        }
    }

    /// `doDispatch`: the best machine takes the first step that it supports; then the loop starts again, because the
    /// order of the machines has changed.
    fn dispatch_by_machine(&mut self, now: Millis, starts: &mut Vec<Start>) {
        loop {
            let usable = self.builders.iter().filter(|(_, builder)| {
                builder.can_start(now) && builder.kinds.iter().any(|&kind| self.ready.has(kind))
            });
            let Some((&host, builder)) = usable.min_by_key(|(host, b)| (machine_order(b), **host))
            else {
                return;
            };
            let shares = &self.shares;
            let step = self.ready.pop_first(&builder.kinds, |jobset| shares.used(jobset));
            let Some(step) = step else { return };
            starts.push(self.start(step, host, now));
        }
    }

    /// `Queues::process`: system by system, the steps in order, each to the first builder with a free slot
    /// (`get_machine_for_system`).
    fn dispatch_by_step(&mut self, now: Millis, starts: &mut Vec<Start>) {
        let mut systems = std::mem::replace(&mut self.systems, Systems::new(&[]));
        systems.sort(&self.shares);
        for queue in systems.queues() {
            loop {
                let served: Vec<u16> = queue
                    .kinds
                    .iter()
                    .copied()
                    .filter(|&kind| {
                        self.ready.has(kind) && self.first_with_room(kind, now).is_some()
                    })
                    .collect();
                let step = self.ready.pop_first(&served, |jobset| queue.used(jobset));
                let Some(step) = step else { break };
                let Some(host) = self.first_with_room(self.kind_of(step), now) else { break };
                starts.push(self.start(step, host, now));
            }
        }
        self.systems = systems;
    }

    /// First fit: load only decides the order of builders at the time when one registered.
    fn first_with_room(&self, kind: u16, now: Millis) -> Option<Host> {
        let can_take = |builder: &Builder| builder.can_start(now) && builder.kinds.contains(&kind);
        self.joined.iter().copied().find(|host| self.builders.get(host).is_some_and(can_take))
    }

    /// `MachinesInner::sort`, whenever a builder registers: fast ones first (`score`, with equal processors), then
    /// those with few jobs at that time; otherwise the order stays.
    pub(super) fn sort_builders(&mut self) {
        let builders = &self.builders;
        self.joined.sort_by_key(|host| {
            let builder = builders.get(host);
            builder.map(|b| (Reverse(b.offer.speed_thousandths), b.current_jobs()))
        });
    }

    fn start(&mut self, step: StepIndex, host: Host, now: Millis) -> Start {
        self.uncount_runnable(step);
        self.runnable_again.remove(&step);
        self.tally_of(step).running += 1;
        let record = self.steps.get_mut(step);
        let run = record.start(host, now);
        if let Some(builder) = self.builders.get_mut(&host) {
            builder.jobs.insert(step);
            builder.idle_since = None;
        }
        Start { step, run, host }
    }

    /// `abortUnsupported` of both: disabled machines and machines that left the machines file count as support;
    /// disconnected builders do not. The time counts from when the step was last seen to be supported while it waited,
    /// otherwise from [`Self::support_counts_from`].
    fn abort_unsupported(&mut self, now: Millis) {
        let Some(limit) = self.settings.max_unsupported else { return };
        for kind in (0_u16..).take(self.tallies.len()) {
            if !self.ready.has(kind) {
                continue;
            }
            let is_supported = self.builders.values().any(|builder| builder.kinds.contains(&kind));
            let tally = &mut self.tallies[usize::from(kind)];
            if is_supported {
                tally.supported_at = Some(now);
                tally.unsupported_from = now + limit;
            }
            if now < tally.unsupported_from {
                continue;
            }
            for step in self.take_unsupported(kind, now, limit) {
                self.uncount_runnable(step);
                self.steps.fail(step, Phase::Unsupported, now);
            }
        }
    }

    /// Takes the steps that have waited too long, and returns when the next one will have.
    fn take_unsupported(&mut self, kind: u16, now: Millis, limit: Millis) -> Vec<StepIndex> {
        let supported_at = self.tallies[usize::from(kind)].supported_at;
        let mut next = Millis::NEVER;
        let mut ready = std::mem::replace(&mut self.ready, Ready::new(0));
        let taken = ready.take(kind, |step, since| {
            let seen = supported_at.filter(|at| *at >= since);
            let until = seen.unwrap_or_else(|| self.support_counts_from(step)) + limit;
            if until > now {
                next = next.min(until);
            }
            until <= now
        });
        self.ready = ready;
        self.tallies[usize::from(kind)].unsupported_from = next;
        taken
    }
}

/// Load divided by speed, rounded; then speed; then load: full machines first.
fn machine_order(builder: &Builder) -> (u64, Reverse<u32>, Reverse<u64>) {
    let jobs = builder.current_jobs();
    let speed = u64::from(builder.offer.speed_thousandths.max(1));
    let rounded = (jobs * 2000 + speed) / (2 * speed);
    (rounded, Reverse(builder.offer.speed_thousandths), Reverse(jobs))
}

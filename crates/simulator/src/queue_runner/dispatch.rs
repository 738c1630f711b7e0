//! Who builds what.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use planner::System;

use super::builders::Builder;
use super::{Host, Phase, Protocol, QueueRunner, Start};
use crate::engine::Millis;
use crate::workload::StepIndex;

impl QueueRunner {
    /// Whether something happened that makes it dispatch; asking clears it.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Gives waiting steps to machines until steps or places run out, then aborts what no machine has
    /// supported for too long. The steps that were started are added to `starts`.
    pub fn dispatch(&mut self, now: Millis, starts: &mut Vec<Start>) {
        if self.ready.is_empty() {
            return;
        }
        self.shares.prune(now);
        match self.settings.protocol {
            Protocol::Classic => self.dispatch_by_machine(now, starts),
            Protocol::Rest => self.dispatch_by_step(now, starts),
        }
        self.abort_unsupported(now);
    }

    /// `doDispatch`: the best machine takes the first step that it supports; then all again, since the
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
            let Some(step) = self.ready.pop_first(&builder.kinds, &self.shares) else { return };
            starts.push(self.start(step, host, now));
        }
    }

    /// `Queues::process`: system by system, the steps in order, each to the first builder with room for it
    /// (`get_machine_for_system`).
    fn dispatch_by_step(&mut self, now: Millis, starts: &mut Vec<Start>) {
        let mut by_system: BTreeMap<&System, Vec<u16>> = BTreeMap::new();
        let workload = Arc::clone(&self.steps.workload);
        for (at, kind) in (0_u16..).zip(&workload.kinds) {
            by_system.entry(&kind.system).or_default().push(at);
        }
        for kinds in by_system.values() {
            loop {
                let served: Vec<u16> = kinds
                    .iter()
                    .copied()
                    .filter(|&kind| {
                        self.ready.has(kind) && self.first_with_room(kind, now).is_some()
                    })
                    .collect();
                let Some(step) = self.ready.pop_first(&served, &self.shares) else { break };
                let Some(host) =
                    self.first_with_room(workload.class_of(&workload.steps[step.at()]).kind, now)
                else {
                    break;
                };
                starts.push(self.start(step, host, now));
            }
        }
    }

    /// First fit: load decides only in which order builders were put when one joined.
    fn first_with_room(&self, kind: u16, now: Millis) -> Option<Host> {
        let can_take = |builder: &Builder| builder.can_start(now) && builder.kinds.contains(&kind);
        self.joined.iter().copied().find(|host| self.builders.get(host).is_some_and(can_take))
    }

    /// `MachinesInner::sort`, whenever a builder joins: fast ones first (`score`, with equal processors),
    /// then those with few jobs at this moment; otherwise the order stays.
    pub(super) fn sort_builders(&mut self) {
        let builders = &self.builders;
        self.joined.sort_by_key(|host| {
            let builder = builders.get(host);
            builder.map(|b| (Reverse(b.offer.speed_thousandths), b.current_jobs()))
        });
    }

    fn start(&mut self, step: StepIndex, host: Host, now: Millis) -> Start {
        self.uncount_runnable(step);
        self.tally_of(step).running += 1;
        let record = self.steps.get_mut(step);
        record.phase = Phase::Running;
        record.started_at = now;
        record.run += 1;
        record.host = host.0;
        let run = record.run;
        if let Some(builder) = self.builders.get_mut(&host) {
            builder.jobs.insert(step);
            builder.idle_since = None;
        }
        Start { step, run, host }
    }

    /// `abortUnsupported` of both: machines that are disabled or gone from the machines file count as
    /// support; builders that are gone do not.
    fn abort_unsupported(&mut self, now: Millis) {
        let Some(limit) = self.settings.max_unsupported else { return };
        for kind in (0_u16..).take(self.tallies.len()) {
            if !self.ready.has(kind) {
                continue;
            }
            let tally = &mut self.tallies[usize::from(kind)];
            if self.builders.values().any(|builder| builder.kinds.contains(&kind)) {
                tally.supported_at = Some(now);
            }
            let supported = tally.supported_at.is_some_and(|at| at + limit > now);
            if supported || now < limit {
                continue;
            }
            for step in self.ready.take_older(kind, now.since(limit)) {
                self.uncount_runnable(step);
                self.steps.fail(step, Phase::Unsupported, now);
            }
        }
    }
}

/// Load divided by speed, rounded; then speed; then load: full machines first.
fn machine_order(builder: &Builder) -> (u64, Reverse<u32>, Reverse<u64>) {
    let jobs = builder.current_jobs();
    let speed = u64::from(builder.offer.speed_thousandths.max(1));
    let rounded = (jobs * 2000 + speed) / (2 * speed);
    (rounded, Reverse(builder.offer.speed_thousandths), Reverse(jobs))
}

//! State changes of machines that the provisioner does not cause.

use planner::MachineName;
use reconciler::Event as LoopEvent;

use super::checker::LogEntry;
use super::event::{Event, Transition};
use super::incident::IncidentKind;
use super::provisioner::provider_of;
use super::{Notices, SimWorld};
use crate::cloud::{Lifecycle, MachineId};
use crate::engine::{Millis, Purpose};

impl SimWorld {
    /// Changes the state of a machine.
    pub(super) fn enter(&mut self, id: MachineId, lifecycle: Lifecycle) {
        let now = self.now();
        self.checker.log(now, LogEntry::Lifecycle(self.cloud.get(id).name.clone(), lifecycle));
        self.change(id, |cloud| cloud.set_lifecycle(id, lifecycle, now));
    }

    /// Schedules the next transition of a machine, unless another one comes before.
    pub(super) fn expect(&mut self, id: MachineId, delay: Millis, transition: Transition) {
        let generation = self.cloud.get(id).generation;
        self.engine.schedule_in(delay, Event::Machine { id, generation, transition });
    }

    pub(super) fn transition(&mut self, id: MachineId, generation: u32, transition: Transition) {
        if self.cloud.get(id).generation != generation {
            return;
        }
        match transition {
            Transition::Boots => self.boot(id),
            Transition::Up | Transition::Heals => self.come_up(id),
            Transition::BootFails => {
                self.enter(id, Lifecycle::Failed);
                self.count_lost(id);
            }
            Transition::Off => self.enter(id, Lifecycle::Stopped),
            Transition::Gone => self.enter(id, Lifecycle::Gone),
            Transition::Breaks(length) => {
                self.lose_builds_silently(id);
                self.enter(id, Lifecycle::Unreachable);
                self.expect(id, length, Transition::Heals);
            }
            Transition::Notice(left) => {
                let (now, name) = (self.now(), self.cloud.get(id).name.clone());
                self.checker.log(now, LogEntry::SpotNotice(name.clone(), left));
                self.announce(id, name);
            }
            Transition::Renamed => self.cloud.get_mut(id).rename(),
            Transition::Lost => self.lose(id, Lifecycle::Gone),
        }
    }

    /// It boots, after its creation or a start.
    pub(super) fn boot(&mut self, id: MachineId) {
        self.enter(id, Lifecycle::Starting);
        let slow = self.slow_boot(id);
        let faults = self.in_trouble().then(|| self.farm.faults.clone());
        let machine = self.cloud.get_mut(id);
        let boot = machine.draw_boot();
        let delay = Millis(boot.0.saturating_mul(slow));
        let fails = faults.as_ref().is_some_and(|faults| machine.random.chance(faults.boot_fails));
        let hangs = faults.is_some_and(|faults| machine.random.chance(faults.boot_hangs));
        match (fails, hangs) {
            (true, _) => self.expect(id, Millis(delay.0 / 2), Transition::BootFails),
            (false, true) => {}
            (false, false) => self.expect(id, delay, Transition::Up),
        }
    }

    fn come_up(&mut self, id: MachineId) {
        self.enter(id, Lifecycle::Up);
        let host = self.cloud.get(id).host;
        self.join(host);
        let faults = self.farm.faults.clone();
        let in_trouble = self.in_trouble();
        let machine = self.cloud.get_mut(id);
        if let Some(spot) = machine.model.spot.clone() {
            let life = machine.random.sample(&spot.life);
            let notice = spot.notice.min(life);
            self.expect(id, life.since(notice), Transition::Notice(notice));
            self.expect(id, life, Transition::Lost);
        }
        if in_trouble {
            let random = &mut self.cloud.get_mut(id).random;
            let delay = Millis(random.below(Millis::from_hours(1).0));
            let breaks = random.chance(faults.breaks);
            let is_lost = random.chance(faults.is_lost);
            let length = random.sample(&faults.broken_for);
            match (breaks, is_lost) {
                (true, true) => self.expect(id, delay, Transition::Lost),
                (true, false) => self.expect(id, delay, Transition::Breaks(length)),
                (false, _) => {}
            }
            let random = &mut self.cloud.get_mut(id).random;
            let delay = Millis(random.below(Millis::from_hours(1).0));
            if random.chance(faults.renamed) {
                self.expect(id, delay, Transition::Renamed);
            }
        }
    }

    /// Sends the provider's interruption notice; its listings show it from now on.
    fn announce(&mut self, id: MachineId, machine: MachineName) {
        if self.farm.notices == Notices::Ignored {
            return;
        }
        let machine_of_cloud = self.cloud.get_mut(id);
        machine_of_cloud.interrupted = true;
        let provider = provider_of(&machine_of_cloud.kind);
        self.tell(LoopEvent::Interrupted { provider, machine });
    }

    /// A machine is lost without an action of the provisioner.
    fn lose(&mut self, id: MachineId, lifecycle: Lifecycle) {
        self.lose_builds_silently(id);
        self.enter(id, lifecycle);
        self.count_lost(id);
    }

    fn count_lost(&mut self, id: MachineId) {
        let kind = self.cloud.get(id).kind.clone();
        self.cloud.usage_mut(&kind).lost += 1;
    }

    pub(super) fn begin_incident(&mut self, at: u32) {
        self.incidents_now.insert(at);
        let Some(incident) = self.farm.incidents.get(at as usize).cloned() else { return };
        match incident.kind {
            IncidentKind::QueueRunnerRestart => self.queue_runner_down(incident.length),
            IncidentKind::SpotStorm { percent, notice } => {
                let running: Vec<_> = self
                    .cloud
                    .existing()
                    .filter(|(_, machine)| incident.concerns(&machine.kind))
                    .filter(|(_, machine)| {
                        matches!(machine.lifecycle(), Lifecycle::Starting | Lifecycle::Up)
                    })
                    .map(|(id, _)| id)
                    .collect();
                self.take_away(running, percent, notice, at);
            }
            // Machines created later check for the incident themselves.
            IncidentKind::CapacityDrought | IncidentKind::SlowBoot { .. } => {}
        }
    }

    fn take_away(
        &mut self,
        mut running: Vec<MachineId>,
        percent: u8,
        notice: Millis,
        incident: u32,
    ) {
        // Random streams of machines and of incidents never collide: there are fewer than 2^32 machines.
        let mut rng = self.seed.stream(Purpose::Machine, 1 << 40 | u64::from(incident));
        let taken = (running.len() * usize::from(percent.min(100))).div_ceil(100);
        for _ in 0..taken {
            let at = usize::try_from(rng.below(running.len() as u64)).unwrap_or(0);
            let id = running.swap_remove(at);
            let is_up = self.cloud.get(id).lifecycle() == Lifecycle::Up;
            if is_up && notice > Millis::ZERO {
                self.expect(id, Millis::ZERO, Transition::Notice(notice));
                self.expect(id, notice, Transition::Lost);
            } else {
                self.lose(id, Lifecycle::Gone);
            }
        }
    }

    /// Whether an incident leaves the provider without capacity for that type now.
    pub(super) fn has_drought(&self, id_kind: &planner::MachineType) -> bool {
        self.incidents().any(|incident| {
            incident.kind == IncidentKind::CapacityDrought && incident.concerns(id_kind)
        })
    }

    fn slow_boot(&self, id: MachineId) -> u64 {
        let kind = &self.cloud.get(id).kind;
        let factors = self.incidents().filter_map(|incident| match incident.kind {
            IncidentKind::SlowBoot { factor } if incident.concerns(kind) => Some(factor),
            _ => None,
        });
        u64::from(factors.max().unwrap_or(1).max(1))
    }

    fn incidents(&self) -> impl Iterator<Item = &super::Incident> {
        self.incidents_now.iter().filter_map(|&at| self.farm.incidents.get(at as usize))
    }
}

//! What must be true before the provisioner does something, seen from the world itself: the queue runner's model and
//! the cloud know what really builds where; the planner is never asked.

use planner::{IdleTimeout, Machine, MachineType, Operation};
use reconciler::{OperationErrorKind, OperationId};

use super::SimWorld;
use super::checker::Rule;
use super::contract::is_foreign;
use crate::cloud::{Lifecycle, SimMachine};
use crate::engine::Millis;

/// Maximum age of the answer on which a builder is stopped, in addition to the usual latency: slightly more than the planner
/// allows, which counts whole seconds.
const FRESH: Millis = Millis::from_seconds(5);

/// A longer usual latency does not count.
const MAX_LATENCY: Millis = Millis::from_seconds(60);

/// Minimum back-off after a failed creation: the first of each kind, minus a tenth for jitter, minus a second because
/// the provisioner counts whole ones.
const LEAST_WAIT: Millis = Millis::from_seconds(8);
const LEAST_WAIT_FOR_CAPACITY: Millis = Millis::from_seconds(53);

/// How many polls the release of an idle machine may take.
const IDLE_POLLS: u64 = 20;
/// The longest idle timeout `auto`: at least any start that it is derived from, and that without capacity.
const LONGEST_START: Millis = Millis::from_hours(1);
/// How long after its start a queue runner may still be reading its queue.
const WARM_UP: Millis = Millis::from_minutes(30);
const PAID_HOUR: Millis = Millis::from_hours(1);

impl SimWorld {
    /// What must be true before a machine is requested, drained, stopped or destroyed.
    pub(super) fn check_operation(&mut self, task: OperationId) {
        let Some(run) = self.tasks.get(&task) else { return };
        let (operation, machine) = (run.operation, run.machine.clone());
        match operation {
            Operation::Create => {
                self.check_create(&machine);
                self.check_limits(&machine);
            }
            Operation::Start => self.check_limits(&machine),
            Operation::Drain if self.farm.is_rest() => self.check_drain(&machine),
            Operation::Stop | Operation::Destroy => self.check_release(&machine, operation),
            Operation::Drain | Operation::Deploy | Operation::KeepAlive => {}
        }
        self.check_one_at_a_time(task, &machine);
        let now = self.now();
        self.checker.expect(now, !is_foreign(&machine.name), Rule::OnlyOurs, || {
            format!("{operation} {}, which belongs to others", machine.name)
        });
    }

    /// What must be true of the machines that exist, whatever the provisioner does. Only for our own planner: comparators
    /// keep idle machines on purpose.
    pub(crate) fn check_machines(&mut self) {
        self.check_idle_machines();
        self.check_min_machines();
    }

    /// Idle machines that nothing keeps are released within the longest idle timeout, the queue runner's warm-up, a paid
    /// hour, the time limits of a release, and some polls. Faults must be over.
    fn check_idle_machines(&mut self) {
        let now = self.now();
        if self.in_trouble() || !self.queue_runner_is_up {
            return;
        }
        let timeouts = self.policy.pools.values().map(|pool| {
            let timeout = match pool.idle_timeout {
                IdleTimeout::After(length) => Millis::from_seconds(length.0),
                IdleTimeout::Auto => LONGEST_START,
            };
            timeout.max(Millis::from_seconds(pool.keep_last.0))
        });
        let releases = Millis(2 * self.limits.release_timeout.0);
        let polls = Millis(IDLE_POLLS * self.farm.cycle.interval.0);
        let longest = timeouts.max().unwrap_or_default() + WARM_UP + PAID_HOUR + releases + polls;
        let since = self.farm.faults.until.max(self.queue_runner.started_at());
        let mut idle = self.probe.idle_since().map(|(kind, at)| (kind, now.since(at.max(since))));
        let Some((kind, idle_for)) = idle.find(|(_, idle_for)| *idle_for > longest) else { return };
        let plan = self.reconciler().map(|reconciler| reconciler.plan().to_string());
        let plan = plan.unwrap_or_default();
        let what = format!("machines of {kind} have been idle for {idle_for}\n{plan}");
        self.checker.violated(now, Rule::ReleaseIdle, what);
    }

    /// Machines that have not ended on their host: they use its room.
    pub(super) fn running_of(&self, kind: &MachineType) -> u64 {
        let of_kind = self.machines().filter(|machine| machine.kind == *kind);
        let running = of_kind.filter(|machine| match machine.lifecycle() {
            Lifecycle::Creating
            | Lifecycle::Starting
            | Lifecycle::Up
            | Lifecycle::Unreachable
            | Lifecycle::Stopping
            | Lifecycle::Terminating => true,
            Lifecycle::Stopped | Lifecycle::Failed | Lifecycle::Gone => false,
        });
        running.count() as u64
    }

    /// Whether the host has room for one more machine. The provisioner knows it from listings: once they have been right
    /// for some time, it must not ask for more.
    pub(super) fn has_room(&mut self, kind: &MachineType) -> bool {
        let Some(room) = self.farm.machines.get(kind).and_then(|model| model.room) else {
            return true;
        };
        let running = self.running_of(kind);
        let has_room = running < u64::from(room);
        let now = self.now();
        let listings = Millis(3 * self.farm.cycle.list_interval.0);
        let since = self.farm.faults.until + listings + self.limits.create_timeout;
        if now > since {
            self.checker.expect(now, has_room, Rule::HostRoom, || {
                format!("another machine of {kind}, of which {running} run and {room} have room")
            });
        }
        has_room
    }

    fn check_one_at_a_time(&mut self, task: OperationId, machine: &Machine) {
        let now = self.now();
        let others =
            self.tasks.iter().filter(|(id, run)| **id != task && run.machine.name == machine.name);
        let others = others.count();
        self.checker.expect(now, others == 0, Rule::OneOperationAtATime, || {
            format!("{} is being operated already", machine.name)
        });
    }

    fn check_back_off(&mut self, machine: &Machine) {
        let now = self.now();
        let (name, kind) = (&machine.name, &machine.machine_type);
        let Some((at, why)) = self.provisioner.refused.get(kind).copied() else { return };
        let least = match why {
            OperationErrorKind::Capacity => LEAST_WAIT_FOR_CAPACITY,
            _ => LEAST_WAIT,
        };
        let waited = now.since(at);
        self.checker.expect(now, waited >= least, Rule::BackOff, || {
            format!("{name} is asked for {waited} after a creation of {kind} failed")
        });
    }

    fn check_create(&mut self, machine: &Machine) {
        self.check_back_off(machine);
        let now = self.now();
        let (name, kind) = (&machine.name, &machine.machine_type);
        let recorded = self.provisioner.records().iter().any(|record| record.machine.name == *name);
        self.checker.expect(now, recorded, Rule::IntentBeforeCreate, || {
            format!("{name} is asked for and was not recorded")
        });
        let most = self.policy.pools.get(kind).map_or(0, |pool| pool.max_creating) as usize;
        let creating = self
            .tasks
            .values()
            .filter(|run| run.operation == Operation::Create && run.machine.machine_type == *kind);
        let creating = creating.count();
        self.checker.expect(now, creating <= most, Rule::MaxCreating, || {
            format!(
                "{name} is number {creating} of {kind} that is being created, {most} are allowed"
            )
        });
    }

    /// The machines that count against limits: they run or are being created, and the provisioner can know it.
    pub(super) fn counted(&self) -> impl Iterator<Item = &SimMachine> {
        self.machines().filter(|machine| {
            let runs = matches!(
                machine.lifecycle(),
                Lifecycle::Creating | Lifecycle::Starting | Lifecycle::Up | Lifecycle::Unreachable
            );
            runs && self.provisioner.can_know(&machine.name)
        })
    }

    pub(super) fn check_number_of(&mut self, kind: &MachineType) {
        let now = self.now();
        let most = self.policy.pools.get(kind).map_or(0, |pool| pool.max_machines) as usize;
        let running = self.counted().filter(|machine| machine.kind == *kind).count();
        self.checker.expect(now, running <= most, Rule::MaxMachines, || {
            format!("{running} machines of {kind} run, {most} are allowed")
        });
    }

    /// No answer shows builds that start while it is in transit: such a build may be aborted, if the answer was recent.
    fn check_drain(&mut self, machine: &Machine) {
        let now = self.now();
        let name = &machine.name;
        let Some(id) = self.find(machine) else { return };
        let asked_at = self.provisioner.status_asked.map(|asked| asked.at);
        let longest = FRESH + self.provisioner.latency.min(MAX_LATENCY);
        let fresh = asked_at.filter(|at| now.since(*at) <= longest);
        let records = self.queue_runner.records();
        let could_be_known = |step: usize| fresh.is_none_or(|at| records[step].started_at() <= at);
        let jobs = self.queue_runner.jobs_on(self.cloud.get(id).host).into_iter();
        let jobs = jobs.filter(|start| could_be_known(start.step.position())).count();
        self.checker.expect(now, jobs == 0, Rule::NeverReleaseBusy, || {
            format!("{name} is drained and builds {jobs} steps")
        });
    }

    fn check_idle(&mut self, machine: &Machine, what: &str) {
        let now = self.now();
        let name = &machine.name;
        let Some(id) = self.find(machine) else { return };
        let jobs = self.queue_runner.jobs_on(self.cloud.get(id).host).len();
        self.checker.expect(now, jobs == 0, Rule::NeverReleaseBusy, || {
            format!("{name} is {what} and builds {jobs} steps")
        });
    }

    fn check_release(&mut self, machine: &Machine, operation: Operation) {
        let now = self.now();
        let name = &machine.name;
        let seen = self.provisioner.status_asked.is_some();
        self.checker.expect(now, seen, Rule::NeverReleaseBlindly, || {
            format!("{operation} {name}, while the queue runner does not answer")
        });
        let Some(id) = self.find(machine) else { return };
        let host = self.cloud.get(id).host;
        let newer = self.provisioner.has_asked_since_unpublished(host);
        self.checker.expect(now, newer, Rule::PublishBeforeRelease, || {
            format!(
                "{operation} {name} on a status that was asked for before it left the machines file"
            )
        });
        // Its state after the transactions that were lost shows only in a listing.
        if !self.provisioner.can_know(name) {
            return self.check_idle(machine, "released");
        }
        let listed = self.file.contains_key(&host);
        self.checker.expect(now, !listed, Rule::DrainBeforeRelease, || {
            format!("{operation} {name}, which the machines file lists")
        });
        let may_get_builds = self.queue_runner.lists(host);
        self.checker.expect(now, !may_get_builds, Rule::DrainBeforeRelease, || {
            format!("{operation} {name}, which the queue runner may still give builds")
        });
        self.check_idle(machine, "released");
    }
}

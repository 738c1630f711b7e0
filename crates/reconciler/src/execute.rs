//! The second half of a cycle: carries a plan out, phase by phase, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    AcceptsJobs, Attempt, Machine, MachineName, Plan, Policy, PostponeReason, QueueStatus, Release,
    SecondLook, Snapshot, Verdict, confirm_drained, confirm_idle, jobs_of, machines_file,
};

use crate::report::{Failure, Postponed, Publication, Report};
use crate::world::{Done, Intent, Step, Task, World};

/// Carries out `plan`, which was made from `snapshot`.
pub(crate) fn execute(
    policy: &Policy,
    snapshot: Snapshot,
    plan: Plan,
    world: &mut impl World,
) -> Report {
    let mut execution = Execution {
        policy,
        machines: snapshot
            .machines
            .iter()
            .map(|m| (m.name.clone(), as_seen(m, &snapshot)))
            .collect(),
        report: Report::new(snapshot, plan),
        world,
    };
    execution.record_intents();
    let ready = execution.bring_up();
    execution.publish(&ready);
    if execution.report.publication.succeeded() {
        execution.release();
    }
    execution.report
}

struct Execution<'a, W> {
    policy: &'a Policy,
    machines: BTreeMap<MachineName, Machine>,
    report: Report,
    world: &'a mut W,
}

impl<W: World> Execution<'_, W> {
    /// Intents are durable before any provider is asked: a crash in between leaves a name to resolve, not
    /// a machine that nobody knows. What cannot be recorded is not created.
    fn record_intents(&mut self) {
        let intents: Vec<_> = self
            .report
            .plan
            .provision
            .iter()
            .filter(|provision| provision.attempt == Attempt::First)
            .map(|provision| Intent {
                name: provision.name.clone(),
                machine_type: provision.machine_type.clone(),
                requested_at: self.report.snapshot.taken_at,
            })
            .collect();
        if intents.is_empty() {
            return;
        }
        match self.world.record(&intents) {
            Ok(()) => self.machines.extend(intents.into_iter().map(|intent| {
                let machine = Machine::requested(intent.name.clone(), intent.machine_type);
                (intent.name, machine)
            })),
            Err(error) => self.report.intent_log_error = Some(error.to_string()),
        }
    }

    /// Creates, starts and deploys, each machine at its own pace. Returns the machines that are ready.
    fn bring_up(&mut self) -> Vec<Machine> {
        let plan = &self.report.plan;
        let create: BTreeSet<_> = plan.provision.iter().map(|provision| &provision.name).collect();
        let start: BTreeSet<_> = plan.start.iter().collect();
        let tasks: Vec<_> = plan
            .deploy
            .iter()
            // A machine whose intent could not be recorded is not in the map, and so is not created.
            .filter_map(|name| self.machines.get(name))
            .map(|machine| {
                let mut steps = Vec::new();
                if create.contains(&machine.name) {
                    steps.push(Step::Create);
                }
                if start.contains(&machine.name) {
                    steps.push(Step::Start);
                }
                steps.push(Step::Deploy);
                Task { machine: machine.clone(), steps }
            })
            .collect();
        let ready = self.perform(&tasks);
        self.report.brought_up = ready.iter().map(|machine| machine.name.clone()).collect();
        ready
    }

    /// Lists every machine that is ready and may get builds, and no other.
    fn publish(&mut self, ready: &[Machine]) {
        let plan = &self.report.plan;
        let listed = ready
            .iter()
            .chain(&plan.publish_as_seen)
            .filter(|machine| may_get_builds(plan, &machine.name));
        let file = machines_file(self.policy, listed);
        self.report.left_out.clone_from(&file.left_out);
        self.report.publication = match self.world.publish(&file) {
            Ok(published) => Publication::Done { published, machines: file.entries.len() },
            Err(error) => Publication::Failed { message: error.to_string() },
        };
    }

    /// Drains what is still idle, then releases what has drained. Bringing machines up may have taken
    /// minutes, so the queue is looked at again before each of the two.
    fn release(&mut self) {
        let mut releases = self.report.plan.release.clone();
        self.retain_confirmed(&mut releases, confirm_idle);
        // Whether it worked is the queue runner's to say: a machine that cannot be reached cannot be
        // drained, and must not run for ever when the queue runner does not know it either.
        self.perform_for(&releases, |machine, _| machine.state.is_live().then_some(Step::Drain));
        self.retain_confirmed(&mut releases, confirm_drained);
        let done = self.perform_for(&releases, |_, release| Some(release.how.into()));
        releases.retain(|release| done.contains(&release.name));

        let gone: Vec<_> = releases.iter().map(|release| release.name.clone()).collect();
        self.report.released = releases;
        if !gone.is_empty()
            && let Err(error) = self.world.forget(&gone)
        {
            self.report.intent_log_error = Some(error.to_string());
        }
    }

    /// Looks at the queue afresh and postpones every release that `confirm` does not agree to.
    fn retain_confirmed(
        &mut self,
        releases: &mut Vec<Release>,
        confirm: impl Fn(&SecondLook<'_>, &Machine) -> Result<(), PostponeReason>,
    ) {
        if releases.is_empty() {
            return;
        }
        let status = self.world.queue_status();
        let look = SecondLook::new(self.policy, &status, self.machines.values());
        releases.retain(|release| {
            let Some(machine) = self.machines.get(&release.name) else { return false };
            match confirm(&look, machine) {
                Ok(()) => true,
                Err(reason) => {
                    self.report.postponed.push(Postponed { name: release.name.clone(), reason });
                    false
                }
            }
        });
    }

    /// Performs the step that `step_for` names for each release, all at once; returns those that went well.
    fn perform_for(
        &mut self,
        releases: &[Release],
        step_for: impl Fn(&Machine, &Release) -> Option<Step>,
    ) -> BTreeSet<MachineName> {
        let tasks: Vec<_> = releases
            .iter()
            .filter_map(|release| {
                let machine = self.machines.get(&release.name)?;
                let step = step_for(machine, release)?;
                Some(Task { machine: machine.clone(), steps: vec![step] })
            })
            .collect();
        self.perform(&tasks).into_iter().map(|machine| machine.name).collect()
    }

    /// Performs tasks, files failures and warnings in the report, returns the machines that went well.
    fn perform(&mut self, tasks: &[Task]) -> Vec<Machine> {
        if tasks.is_empty() {
            return Vec::new();
        }
        let outcomes = self.world.perform(tasks);
        let mut machines = Vec::new();
        for (task, outcome) in tasks.iter().zip(outcomes) {
            let name = task.machine.name.clone();
            match outcome {
                Ok(Done { machine, warnings }) => {
                    let warnings = warnings.into_iter().map(|text| (name.clone(), text));
                    self.report.warnings.extend(warnings);
                    machines.push(machine);
                }
                Err(error) => self.report.failures.push(Failure { name, error }),
            }
        }
        machines
    }
}

/// `machine`, with whether the queue runner listed it.
fn as_seen(machine: &Machine, snapshot: &Snapshot) -> Machine {
    let is_listed = match &snapshot.queue {
        QueueStatus::Up(queue) => jobs_of(queue, machine).is_some(),
        QueueStatus::Unavailable(_) => false,
    };
    Machine { known_to_queue: machine.known_to_queue || is_listed, ..machine.clone() }
}

fn may_get_builds(plan: &Plan, name: &MachineName) -> bool {
    match plan.verdicts.get(name) {
        // A machine that was created just now has no verdict: it was not in the snapshot.
        None | Some(Verdict::InUse) => true,
        Some(Verdict::Keep { accepts_jobs, .. }) => *accepts_jobs == AcceptsJobs::Yes,
        Some(Verdict::Release { .. }) => false,
    }
}

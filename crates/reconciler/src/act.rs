//! Carries a plan out. Nothing is decided here.

use planner::{
    AcceptsJobs, Attempt, InMachinesFile, Leaving, MachineName, Operation, Plan, QueueStatus,
    ReleaseHow, ReleaseStep, Seconds, StepsBuilt, Verdict,
};

use crate::history::Happening;
use crate::reconciler::Reconciler;
use crate::record::Record;

impl Reconciler {
    /// Records which machines are being released, unhealthy, or kept without new builds.
    pub(crate) fn remember_verdicts(&mut self, plan: &Plan) {
        let seen = self.seen.as_ref();
        let queue_is_up = seen.is_some_and(|seen| matches!(seen.queue, QueueStatus::Up(_)));
        for (name, verdict) in &plan.verdicts {
            self.learn_of_steps(name, plan.built.get(name).copied());
            let Some(record) = self.records.get_mut(name) else { continue };
            let memory = &mut record.machine.memory;
            if plan.recognized.contains(name) {
                memory.was_in_queue_status = true;
                memory.disabled_though_published = false;
                self.storage.touch(name);
            }
            if plan.disabled_though_published.contains(name) && !memory.disabled_though_published {
                memory.disabled_though_published = true;
                self.storage.touch(name);
            }
            let is_unhealthy = plan.unhealthy.contains_key(name);
            // A missed status is no sign of health.
            if is_unhealthy != memory.unhealthy_since.is_some() && (is_unhealthy || queue_is_up) {
                memory.unhealthy_since = is_unhealthy.then_some(self.now);
                self.storage.touch(name);
            }
            // Written with the next change of the record: steps end too often for writing each time.
            memory.progress = plan.progress.get(name).copied();
            let without_builds =
                matches!(verdict, Verdict::Keep { accepts_jobs: AcceptsJobs::No, .. });
            if without_builds != memory.without_builds {
                memory.without_builds = without_builds;
                self.storage.touch(name);
            }
            match verdict {
                Verdict::InUse | Verdict::Keep { accepts_jobs: AcceptsJobs::Yes, .. }
                    if memory.leaving.take().is_some() =>
                {
                    self.storage.touch(name);
                    self.note_of(name, Happening::TakenBack);
                    self.changed = true;
                }
                Verdict::Release { how, reason } if memory.leaving.is_none() => {
                    memory.leaving = Some(Leaving { decided: self.moment, drained: None });
                    self.storage.touch(name);
                    // A machine in the machines file is unpublished first; the question follows when that is
                    // done.
                    if memory.in_machines_file != InMachinesFile::Now
                        || self.publication.is_not_wanted()
                    {
                        self.questions.ask_soon();
                    }
                    self.note_of(name, Happening::Leaving { how: *how, reason: reason.clone() });
                    self.changed = true;
                }
                _ => {}
            }
        }
    }

    /// Learns how long steps take from the queue runner's counts for a machine. Counts that decrease come
    /// from another queue runner, or from another machine at the same address.
    fn learn_of_steps(&mut self, name: &MachineName, counted: Option<StepsBuilt>) {
        let Some((record, counted)) = self.records.get_mut(name).zip(counted) else { return };
        let Some(before) = record.built.replace(counted) else { return };
        let steps = counted.steps.checked_sub(before.steps).filter(|steps| *steps > 0);
        let time = counted.time.0.checked_sub(before.time.0);
        if let Some(steps) = steps {
            let memory = &mut record.machine.memory;
            memory.steps_built = memory.steps_built.saturating_add(steps);
            self.storage.touch(name);
        }
        if let Some((steps, time)) = steps.zip(time) {
            let machine_type = record.machine.machine_type.clone();
            self.learn(&machine_type, |known| known.has_built(steps, Seconds(time)));
        }
    }

    /// Records intents, and begins the creations with recorded intents (`Recorded` makes a new plan, which names the machine
    /// again). After a crash in between, only a name is left to resolve, not an unknown machine.
    pub(crate) fn create(&mut self, plan: &Plan) {
        for provision in &plan.provision {
            let name = &provision.name;
            if provision.attempt == Attempt::First && !self.records.contains_key(name) {
                let machine_type = provision.machine_type.clone();
                let Some(provider) = self.configuration.providers.get(&machine_type) else {
                    continue;
                };
                let pool = self.configuration.policy.pools.get(&machine_type);
                let made_from = pool.and_then(|pool| pool.rotation.settings.clone());
                let mut record =
                    Record::intent(name.clone(), machine_type, provider.clone(), self.now);
                record.machine.memory.made_from = made_from;
                self.records.insert(name.clone(), record);
                self.storage.touch(name);
                self.note_of(name, Happening::Requested);
            } else if self.move_to_configured_provider(name) && self.storage.has(name) {
                self.begin(name, Operation::Create);
            }
        }
    }

    /// Moves a machine that exists only as a recorded intent to the configured provider of its type. Returns whether its
    /// creation may begin now: not if it was just moved, because that must be recorded first.
    fn move_to_configured_provider(&mut self, name: &MachineName) -> bool {
        let Some(record) = self.records.get_mut(name) else { return false };
        let Some(configured) = self.configuration.providers.get(&record.machine.machine_type)
        else {
            return true;
        };
        let is_busy = record.exists || record.machine.memory.under_way.is_some();
        if is_busy || *configured == record.provider {
            return true;
        }
        record.provider.clone_from(configured);
        self.storage.touch(name);
        self.changed = true;
        false
    }

    pub(crate) fn start_and_deploy(&mut self, plan: &Plan) {
        for name in &plan.start {
            self.begin(name, Operation::Start);
        }
        for name in &plan.deploy {
            self.begin(name, Operation::Deploy);
        }
    }

    /// Takes the release steps that the plan allows. The publication takes machines out of the machines file.
    pub(crate) fn release(&mut self, plan: &Plan) {
        for release in &plan.release {
            match (&release.step, release.how) {
                (ReleaseStep::Unpublish | ReleaseStep::Await(_), _) => {}
                (ReleaseStep::EndDeployment, _) => self.end_deployment(&release.name),
                (ReleaseStep::Drain, _) => {
                    self.begin(&release.name, Operation::Drain);
                }
                (ReleaseStep::Release, ReleaseHow::Stop) => {
                    self.begin(&release.name, Operation::Stop);
                }
                (ReleaseStep::Release, ReleaseHow::Destroy) => {
                    self.begin(&release.name, Operation::Destroy);
                }
            }
        }
    }
}

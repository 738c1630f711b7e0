//! The machines file: its desired and its current content, and which machines it names.

use std::collections::BTreeSet;

use planner::{
    Endpoint, InMachinesFile, MachineName, MachinesFile, Plan, Seconds, Timestamp, machines_file,
};

use super::Reconciler;
use crate::boundary::{Effect, Published};
use crate::history::Happening;
use crate::ids::PublicationId;
use crate::record::Record;

/// How long to wait after a failed publication before the next attempt.
const RETRY_AFTER: Seconds = Seconds(10);

/// The state of the machines file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    last: PublicationId,
    /// What is being published.
    under_way: Option<(PublicationId, MachinesFile)>,
    /// What this run published last.
    current: Option<MachinesFile>,
    /// Whether the current policy made it.
    by_policy: bool,
    /// The result of that publication.
    outcome: Option<Published>,
    /// When it ended.
    ended_at: Option<Timestamp>,
    /// Why publishing failed, and when to retry.
    failed: Option<(String, Timestamp)>,
}

impl Publication {
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        self.failed.as_ref().filter(|_| self.under_way.is_none()).map(|(_, at)| *at)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.under_way.is_none() && (self.current.is_some() || self.failed.is_some())
    }

    /// Whether no machines file is configured: builders register themselves.
    pub(crate) fn is_not_wanted(&self) -> bool {
        self.outcome == Some(Published::NotWanted)
    }

    /// The policy has changed.
    pub(crate) fn policy_changed(&mut self) {
        self.by_policy = false;
    }

    pub(crate) fn shift(&mut self, seconds: i64) {
        if let Some((_, at)) = &mut self.failed {
            *at = at.shifted(seconds);
        }
        if let Some(at) = &mut self.ended_at {
            *at = at.shifted(seconds);
        }
    }
}

impl Reconciler {
    /// The machines file that this run published last, and the result.
    pub fn published_file(&self) -> Option<(&MachinesFile, Published)> {
        self.publication.current.as_ref().zip(self.publication.outcome)
    }

    /// Why the machines file could not be published, if so.
    pub fn publication_error(&self) -> Option<&str> {
        self.publication.failed.as_ref().map(|(error, _)| error.as_str())
    }

    /// Publishes the machines that may get builds, if the file changes.
    pub(crate) fn publish(&mut self, plan: &Plan) {
        let is_early = self.publication.failed.as_ref().is_some_and(|(_, at)| self.now < *at);
        if self.publication.under_way.is_some() || is_early || !self.may_publish() {
            return;
        }
        let machines = plan.publish.iter().filter_map(|name| self.records.get(name));
        let machines = machines.map(|record| &record.machine);
        let interval = self.configuration.timing.verify_interval;
        let publication = &mut self.publication;
        let is_verified = publication
            .ended_at
            .zip(interval)
            .is_none_or(|(at, interval)| self.now < at.after(interval));
        let current = publication.current.as_ref().filter(|_| publication.by_policy && is_verified);
        if current.is_some_and(|current| current.is_of(machines.clone())) {
            return;
        }
        publication.by_policy = true;
        let file = machines_file(&self.configuration.policy, machines);
        // After a failure it is not known which file is there, nor which machines may still get builds by it.
        let is_current = publication.current.as_ref() == Some(&file);
        if publication.failed.is_none() && is_current && is_verified {
            return;
        }
        for entry in &file.entries {
            let port = Some(entry.machine.ssh_port);
            self.mark_published(
                &entry.machine.name,
                Endpoint { host: entry.address.clone(), port },
            );
        }
        let publication = self.publication.last.advance();
        self.publication.under_way = Some((publication, file.clone()));
        self.effects.push_back(Effect::Publish { publication, file: Box::new(file) });
    }

    /// Without recorded machines, the first file could lack machines if it is written before the first answer of every
    /// provider. A provider that is new after a reload delays nothing.
    fn may_publish(&self) -> bool {
        self.remembers
            || self.publication.current.is_some()
            || self.providers.values().all(|provider| provider.answer.is_some())
    }

    /// A machine may get builds from the moment when the publication of a file that names it begins.
    fn mark_published(&mut self, name: &MachineName, endpoint: Endpoint) {
        let Some(record) = self.records.get_mut(name) else { return };
        let memory = &mut record.machine.memory;
        let is_new = memory.published.insert(endpoint);
        if memory.in_machines_file != InMachinesFile::Now
            || is_new
            || memory.published_since.is_none()
        {
            memory.in_machines_file = InMachinesFile::Now;
            memory.published_since.get_or_insert(self.now);
            self.storage.touch(name);
        }
    }

    pub(crate) fn published(&mut self, id: PublicationId, result: Result<Published, String>) {
        let Some((_, file)) = self.publication.under_way.take_if(|(under_way, _)| *under_way == id)
        else {
            return;
        };
        self.changed = true;
        self.publication.ended_at = Some(self.now);
        match result {
            Ok(published) => {
                self.publication.failed = None;
                self.update_published(&file, published);
                self.publication.current = Some(file);
                self.publication.outcome = Some(published);
            }
            Err(error) => {
                // The current file may be that of an earlier policy.
                self.publication.by_policy = false;
                let is_new = self.publication.failed.is_none();
                self.publication.failed = Some((error.clone(), self.now.after(RETRY_AFTER)));
                if is_new {
                    self.note(None, None, Happening::NotPublished { error });
                }
            }
        }
    }

    /// Machines that the file does not name get no builds once the queue runner has read it.
    fn update_published(&mut self, file: &MachinesFile, published: Published) {
        let moment = self.next_moment();
        let is_wanted = published != Published::NotWanted;
        let named: BTreeSet<_> = file.entries.iter().map(|entry| &entry.machine.name).collect();
        if is_wanted {
            self.note_publication_changes(&named);
        }
        let not_named = self.names_of(|record| {
            record.machine.memory.in_machines_file == InMachinesFile::Now
                && !named.contains(&record.machine.name)
        });
        for name in not_named {
            if let Some(record) = self.records.get_mut(&name) {
                record.machine.memory.in_machines_file = InMachinesFile::NoMore(moment);
                record.machine.memory.published_since = None;
            }
            self.storage.touch(&name);
            if is_wanted {
                self.questions.ask_soon();
            }
        }
    }

    /// Adds to the history which machines the file newly names or no longer names. An earlier run may have
    /// been killed before it could.
    fn note_publication_changes(&mut self, named: &BTreeSet<&MachineName>) {
        let is_named = |record: &Record| named.contains(&record.machine.name);
        let changed = self.names_of(|record| record.is_published_in_history != is_named(record));
        for name in changed {
            let Some(record) = self.records.get_mut(&name) else { continue };
            record.is_published_in_history = !record.is_published_in_history;
            let what = if record.is_published_in_history {
                Happening::Published
            } else {
                Happening::Unpublished
            };
            self.storage.touch(&name);
            self.note_of(&name, what);
        }
    }
}

//! What the provisioner remembers between cycles: which machines it asked for and last saw, and how they
//! are reached.
//!
//! A record without a sighting is an intent to create. The whole file may be deleted: machines are found
//! again by their tag.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, io};

use planner::{Host, Machine, MachineName, MachineType, Tag, Timestamp};
use reconciler::world::{Intent, LogError};
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::lock::Access;
use crate::providers::ProviderSettings;

/// The records of one state directory, on disk as `machines.json`.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    on_disk: Contents,
    current: Contents,
    access: Access,
}

/// How a deployment went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    Succeeded,
    /// The first after the machine was created or started.
    FailedFirst,
    /// A later one.
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Contents {
    version: u32,
    /// What the machines are found by: with another tag none of them would be listed, and all forgotten.
    #[serde(default)]
    tag: Option<Tag>,
    machines: BTreeMap<MachineName, Record>,
}

/// What is remembered of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    #[serde(rename = "type")]
    pub(crate) machine_type: MachineType,
    /// How it is reached, even when its type has left the configuration.
    pub(crate) provider: ProviderSettings,
    /// When the intent to create it was recorded; `None` for a machine that was found by its tag.
    pub(crate) requested_at: Option<Timestamp>,
    /// The machine when it was last listed; `None` until then.
    pub(crate) last_seen: Option<Machine>,
    /// Whether its provider has answered for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) created: bool,
    /// What the machine calls itself, asked over ssh where its provider does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_name: Option<Host>,
    /// Since when every deployment has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failing_since: Option<Timestamp>,
}

impl Record {
    /// Whether there is, or was, such a machine: not only the intent to create one.
    pub(crate) fn is_of_a_machine(&self) -> bool {
        self.created || self.last_seen.is_some()
    }
}

const VERSION: u32 = 1;

impl Records {
    /// What `path` remembers of the machines of `tag`.
    pub(crate) fn load(path: PathBuf, tag: &Tag, access: Access) -> Result<Self, LogError> {
        let mut contents = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(|reason| {
                LogError(format!(
                    "cannot read {}: {reason}; it can be deleted: machines are found again by their tag",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Contents { version: VERSION, ..Contents::default() }
            }
            Err(error) => {
                return Err(LogError(format!("cannot read {}: {error}", path.display())));
            }
        };
        let on_disk = contents.clone();
        if let Some(old) = contents.tag.replace(tag.clone()).filter(|old| old != tag)
            && !contents.machines.is_empty()
        {
            let names: Vec<_> = contents.machines.keys().map(MachineName::as_str).collect();
            return Err(LogError(format!(
                "tag is {tag}, but the machines in {} were made with tag {old}, and would be forgotten: {}; set \
                 tag back until they are gone (maxMachines = 0), or delete the file",
                path.display(),
                names.join(", ")
            )));
        }
        Ok(Self { path, on_disk, current: contents, access })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&MachineName, &Record)> {
        self.current.machines.iter()
    }

    pub(crate) fn get(&self, name: &MachineName) -> Option<&Record> {
        self.current.machines.get(name)
    }

    /// The machines that were asked for and never seen.
    pub(crate) fn intents(&self) -> Vec<Intent> {
        self.iter()
            .filter(|(_, record)| record.last_seen.is_none())
            .map(|(name, record)| Intent {
                name: name.clone(),
                machine_type: record.machine_type.clone(),
                requested_at: record.requested_at.unwrap_or_default(),
            })
            .collect()
    }

    /// Notes how a deployment at `now` went. The first one after a start begins anew.
    pub(crate) fn note_deployment(
        &mut self,
        name: &MachineName,
        deployment: Deployment,
        now: Timestamp,
    ) {
        if let Some(record) = self.current.machines.get_mut(name) {
            record.failing_since = match deployment {
                Deployment::Succeeded => None,
                Deployment::FailedFirst => Some(now),
                Deployment::Failed => record.failing_since.or(Some(now)),
            };
        }
    }

    /// Notes that a provider has answered for a machine that it was asked to create.
    pub(crate) fn note_creation(&mut self, name: &MachineName) {
        if let Some(record) = self.current.machines.get_mut(name) {
            record.created = true;
        }
    }

    /// Notes what a machine calls itself, since its provider does not tell.
    pub(crate) fn note_host_name(&mut self, name: &MachineName, host_name: Host) {
        if let Some(record) = self.current.machines.get_mut(name) {
            record.host_name = Some(host_name);
        }
    }

    pub(crate) fn insert(&mut self, name: MachineName, record: Record) {
        self.current.machines.insert(name, record);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&MachineName, &Record) -> bool) {
        self.current.machines.retain(|name, record| keep(name, record));
    }

    /// Writes what has changed since the last time.
    pub(crate) fn save(&mut self) -> Result<(), LogError> {
        if self.current == self.on_disk || self.access == Access::ReadOnly {
            return Ok(());
        }
        let written = serde_json::to_vec_pretty(&self.current)
            .map_err(io::Error::from)
            .and_then(|bytes| atomic_file::write(&self.path, &bytes, 0o600));
        match written {
            Ok(()) => {
                self.on_disk = self.current.clone();
                Ok(())
            }
            Err(error) => Err(LogError(format!("cannot write {}: {error}", self.path.display()))),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Contents, String> {
    let contents: Contents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if contents.version == VERSION {
        Ok(contents)
    } else {
        Err(format!("it has version {}, this program knows {VERSION}", contents.version))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::providers::ProviderSettings;

    fn load(path: &Path, tag: &str) -> Result<Records, LogError> {
        Records::load(path.to_owned(), &Tag::new(tag), Access::ReadWrite)
    }

    fn record() -> Record {
        let settings =
            serde_json::from_value(serde_json::json!({ "program": ["p"], "options": {} }));
        Record {
            machine_type: MachineType::new("t"),
            provider: ProviderSettings::Command(settings.unwrap()),
            requested_at: None,
            last_seen: None,
            created: false,
            host_name: None,
            failing_since: None,
        }
    }

    #[test]
    fn machines_of_another_tag_are_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machines.json");
        let mut records = load(&path, "old").unwrap();
        records.insert(MachineName::new("old-0"), record());
        records.save().unwrap();
        assert!(load(&path, "old").is_ok());
        let error = load(&path, "new").unwrap_err().to_string();
        assert!(
            error.contains("were made with tag old, and would be forgotten: old-0;"),
            "{error}"
        );

        records.retain(|_, _| false);
        records.save().unwrap();
        assert!(load(&path, "new").is_ok(), "nothing is lost any more");
    }

    /// Deployments in turn, at seconds 1, 2, 3..., and since when they have failed then.
    #[test]
    fn failures_are_counted_from_the_first() {
        use Deployment::{Failed, FailedFirst, Succeeded};
        let folder = tempfile::tempdir().unwrap();
        for (deployments, since) in [
            (vec![Succeeded], None),
            (vec![FailedFirst, Failed, Failed], Some(1)),
            (vec![Failed, Failed, Succeeded], None),
            (vec![Failed, Succeeded, Failed, Failed], Some(3)),
            // It was stopped and started again: a new chance.
            (vec![Failed, Failed, FailedFirst, Failed], Some(3)),
        ] {
            let mut records = load(&folder.path().join("none.json"), "farm").unwrap();
            let name = MachineName::new("m");
            records.insert(name.clone(), record());
            for (second, deployment) in (1..).zip(&deployments) {
                records.note_deployment(&name, *deployment, Timestamp(second));
            }
            let seen = records.get(&name).unwrap().failing_since;
            assert_eq!(seen, since.map(Timestamp), "{deployments:?}");
        }
    }
}

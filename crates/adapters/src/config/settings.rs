//! All that `conf.nix` says, checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use planner::{MachineType, Policy, Timestamp};
use reconciler::limits;

use super::notify::NotifySettings;
use super::schedule::ScheduleEntry;
use crate::providers::ProviderSettings;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the planner needs.
    pub policy: Policy,
    /// What counts for a type at certain hours, first match first; types without a schedule are left out.
    pub schedules: BTreeMap<MachineType, Vec<ScheduleEntry>>,
    /// How the machines of each type are made; the same keys as `policy.pools`.
    pub providers: BTreeMap<MachineType, ProviderSettings>,
    /// Where the queue runner is asked.
    pub queue: QueueSettings,
    /// Where the machines file goes.
    pub machines_file: MachinesFileSettings,
    /// `stateDir`: lock, intents, what was last seen. May be deleted without losing a machine.
    pub state_dir: PathBuf,
    /// What is done on the machines over ssh.
    pub ssh: SshSettings,
    /// How much is done at once and how long it may take.
    pub limits: Limits,
    /// How often the world is looked at.
    pub timing: Timing,
    /// Which programs are told of what.
    pub notify: Vec<NotifySettings>,
    /// What the operator should know but need not mend (an option under its old name).
    pub warnings: Vec<String>,
}

/// The policy at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledPolicy {
    /// With the settings that the schedules have for that time.
    pub policy: Policy,
    /// When the next one takes its place; `None` without schedules.
    pub until: Option<Timestamp>,
}

impl Config {
    /// The policy at `now`: of each type's schedule the first entry that counts then is put over its settings.
    pub fn policy_at(&self, now: Timestamp) -> ScheduledPolicy {
        let mut policy = self.policy.clone();
        for (machine_type, schedule) in &self.schedules {
            let active = schedule.iter().find(|entry| entry.is_active(now));
            if let (Some(entry), Some(pool)) = (active, policy.pools.get_mut(machine_type)) {
                entry.apply(pool);
            }
        }
        let entries = self.schedules.values().flatten();
        ScheduledPolicy { policy, until: entries.filter_map(|entry| entry.next_change(now)).min() }
    }
}

/// Where the queue runner is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueSettings {
    /// `statusCommand`: a program that prints classic Hydra's status; never run through a shell.
    Classic {
        /// Program and arguments; not empty.
        command: Vec<String>,
    },
    /// `queue.url`: the current Hydra's REST server.
    Rest {
        /// `http://host:port`, without a path's trailing slash.
        url: String,
        /// `queue.nixCommand`, the `nix` that reads derivations (default `["nix"]`).
        nix_command: Vec<String>,
    },
}

/// The machines file: where it goes and what is in it beside our machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachinesFileSettings {
    /// Where it goes.
    pub target: MachinesFileTarget,
    /// `machinesFileMode`: which files may be replaced.
    pub mode: MachinesFileMode,
    /// `staticMachines`: lines that are put first.
    pub static_machines: Vec<String>,
}

impl MachinesFileSettings {
    /// Nothing beside our machines, and nobody else's file.
    pub fn to(target: MachinesFileTarget) -> Self {
        Self { target, mode: MachinesFileMode::Own, static_machines: Vec::new() }
    }
}

/// Where the machines file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachinesFileTarget {
    /// `machinesFile`: written whole or not at all.
    File(PathBuf),
    /// `updateCommand`: gets it on standard input; never run through a shell.
    Command(Vec<String>),
    /// With a REST queue and no `machinesFile`: builders register themselves.
    NotWanted,
}

/// Which files may be replaced by a machines file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachinesFileMode {
    /// Those that this program wrote, and empty ones.
    Own,
    /// Any.
    Takeover,
}

/// What is done on the machines over ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSettings {
    /// `touchKeepAlive` (default true): touch `/run/keep-alive` after each deployment.
    pub touch_keep_alive: bool,
    /// `drainCommand`: run on a REST builder before it is released. `None` with a classic queue.
    pub drain_command: Option<Vec<String>>,
    /// `resumeCommand`: run on a REST builder when it is deployed, since it may have been drained.
    pub resume_command: Option<Vec<String>>,
    /// `sshOptions`: further arguments for every `ssh`.
    pub options: Vec<String>,
}

/// How much is done at once and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `parallelism` (default 32): machines worked on at the same time; at least 1.
    pub parallelism: usize,
    /// `createTimeout` (default 900 s): one machine's creation or start.
    pub create_timeout: Duration,
    /// `deployTimeout` (default 1800 s): one machine's deployment, its waiting to be up included.
    pub deploy_timeout: Duration,
    /// `releaseTimeout` (default 600 s): one machine's drain, stop or destruction.
    pub release_timeout: Duration,
    /// `statusTimeout` (default 60 s): one look at the queue, one listing of machines, one `updateCommand`.
    pub status_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallelism: limits::PARALLELISM,
            create_timeout: limits::CREATE_TIMEOUT,
            deploy_timeout: limits::DEPLOY_TIMEOUT,
            release_timeout: limits::RELEASE_TIMEOUT,
            status_timeout: limits::STATUS_TIMEOUT,
        }
    }
}

/// How often the world is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `pollInterval` (default 10 s): from one look at the queue to the next.
    pub poll_interval: Duration,
    /// `listInterval` (default 60 s): from one listing of a provider's machines to the next.
    pub list_interval: Duration,
    /// `keepAliveInterval` (default 300 s): from one touch of a machine's `/run/keep-alive` to the next.
    pub keep_alive_interval: Duration,
    /// `maxStatusAge` (default 120 s): an older status of the queue is as good as none.
    pub max_status_age: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(10),
            list_interval: Duration::from_secs(60),
            keep_alive_interval: Duration::from_secs(300),
            max_status_age: Duration::from_secs(120),
        }
    }
}

//! The checked settings of `conf.nix`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use planner::{MachineType, Policy, Timestamp};
use reconciler::limits;
use serde_json::Value;

use super::lease::LeaseSettings;
use super::notify::NotifySettings;
use super::schedule::ScheduleEntry;
use crate::providers::ProviderSettings;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The policy for the planner.
    pub policy: Policy,
    /// Settings of a type at certain hours; the first match applies. Types without a schedule are absent.
    pub schedules: BTreeMap<MachineType, Vec<ScheduleEntry>>,
    /// How the machines of each type are created; the same keys as `policy.pools`.
    pub providers: BTreeMap<MachineType, ProviderSettings>,
    /// How to ask the queue runner.
    pub queue: QueueSettings,
    /// The target of the machines file.
    pub machines_file: MachinesFileSettings,
    /// `stateDir`: lock and recorded state. May be deleted without losing a machine.
    pub state_dir: PathBuf,
    /// What is done on the machines over ssh.
    pub ssh: SshSettings,
    /// Concurrency and time limits.
    pub limits: Limits,
    /// Intervals of questions and listings.
    pub timing: Timing,
    /// How it is decided which of several hosts is active. `None`: there is only one.
    pub lease: Option<LeaseSettings>,
    /// Who is notified about which events.
    pub notify: Vec<NotifySettings>,
    /// The value that it was read from; may contain secrets. `Null` if it was not loaded from a file.
    pub source: Value,
    /// The absolute path of its file, if it is from one.
    pub path: Option<PathBuf>,
    /// What the operator should know but does not need to fix (an option under its old name).
    pub warnings: Vec<String>,
}

/// The policy at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledPolicy {
    /// With the settings of the schedules at that time.
    pub policy: Policy,
    /// When the next policy replaces it; `None` without schedules.
    pub until: Option<Timestamp>,
}

impl Config {
    /// The policy at `now`: for each type, the first schedule entry that applies replaces its settings.
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

/// How to ask the queue runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueSettings {
    /// `statusCommand`: a program that prints classic Hydra's status; never run through a shell.
    Classic {
        /// Program and arguments; not empty.
        command: Vec<String>,
    },
    /// `queue.url`: the REST server of the queue runner.
    Rest {
        /// `http://host:port`, without a trailing slash.
        url: String,
        /// `queue.nixCommand`: the `nix` that reads derivations (default `["nix"]`).
        nix_command: Vec<String>,
    },
}

/// The machines file: its target and its content besides our machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachinesFileSettings {
    /// The target.
    pub target: MachinesFileTarget,
    /// `machinesFileMode`: which files may be replaced.
    pub mode: MachinesFileMode,
    /// `staticMachines`: lines at the beginning.
    pub static_machines: Vec<String>,
}

impl MachinesFileSettings {
    /// Only our machines, and only our own file is replaced.
    pub fn to(target: MachinesFileTarget) -> Self {
        Self { target, mode: MachinesFileMode::Own, static_machines: Vec::new() }
    }
}

/// The target of the machines file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachinesFileTarget {
    /// `machinesFile`: replaced as a whole or not at all.
    File(PathBuf),
    /// `updateCommand`: gets the content on standard input; never run through a shell.
    Command(Vec<String>),
    /// With a REST queue and no `machinesFile`: builders register themselves.
    NotWanted,
}

/// Which files a machines file may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachinesFileMode {
    /// Files that this program wrote, and empty ones.
    Own,
    /// Any.
    Takeover,
}

/// What is done on the machines over ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSettings {
    /// `touchKeepAlive` (default true): touch `/run/keep-alive` after each deployment.
    pub touch_keep_alive: bool,
    /// `checkSsh` (default true): a machine must answer over ssh, also without that touch.
    pub check_ssh: bool,
    /// `drainCommand`: run on a REST builder before it is released. `None` with a classic queue.
    pub drain_command: Option<Vec<String>>,
    /// `resumeCommand`: run on a REST builder when it is deployed, because it may have been drained.
    pub resume_command: Option<Vec<String>>,
    /// `sshOptions`: further arguments for every `ssh`.
    pub options: Vec<String>,
}

/// Concurrency and time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `parallelism` (default 32): concurrent operations per provider; at least 1.
    pub parallelism: usize,
    /// `createTimeout` (default 900 s): creation or start of one machine.
    pub create_timeout: Duration,
    /// `deployTimeout` (default 1800 s): deployment of one machine, including the wait until it is up.
    pub deploy_timeout: Duration,
    /// `releaseTimeout` (default 600 s): drain, stop or destruction of one machine.
    pub release_timeout: Duration,
    /// `statusTimeout` (default 60 s): one question to the queue runner, one listing of machines, one
    /// `updateCommand`.
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

/// Intervals of questions and listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `pollInterval` (default 10 s): between two questions to the queue runner.
    pub poll_interval: Duration,
    /// `listInterval` (default 60 s): between two listings of a provider's machines.
    pub list_interval: Duration,
    /// `keepAliveInterval` (default 300 s): between two touches of a machine's `/run/keep-alive`.
    pub keep_alive_interval: Duration,
    /// `maxStatusAge` (default 120 s): an older queue status counts as unavailable.
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

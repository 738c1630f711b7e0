//! All that `conf.nix` says, checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use planner::{MachineType, Policy};
use reconciler::limits;

use crate::providers::ProviderSettings;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the planner needs.
    pub policy: Policy,
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
    /// What the operator should know but need not mend (an option under its old name).
    pub warnings: Vec<String>,
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

/// Where the machines file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachinesFileSettings {
    /// `machinesFile`: written whole or not at all.
    File(PathBuf),
    /// `updateCommand`: gets it on standard input; never run through a shell.
    Command(Vec<String>),
    /// With a REST queue and no `machinesFile`: builders register themselves.
    NotWanted,
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

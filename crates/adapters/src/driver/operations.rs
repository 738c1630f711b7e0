//! Carries out operations on one machine: through its provider, and over ssh.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use planner::{Machine, MachineType, Operation};
use reconciler::{Done, OperationError, OperationErrorKind, Task};

use crate::command::CancelToken;
use crate::config::{Config, SshSettings};
use crate::host_name::{ASK_HOST_NAME, OwnName, own_name};
use crate::providers::{Provider, ProviderError};
use crate::ssh::{NotConnected, Ssh, SshError};

/// How long the first deployment of a machine tries to connect: most sshds answer within a minute after their provider reports
/// the machine as up. After that the reconciler orders single attempts, until `deployTimeout`.
const SSH_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval between attempts.
const SSH_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Runs on a machine to prevent it from powering itself off. If ssh keys may run only certain commands, allow
/// this one (nixos-modules/build-machine.nix) and [`ASK_HOST_NAME`].
pub const TOUCH_KEEP_ALIVE: [&str; 2] = ["touch", "/run/keep-alive"];

/// Carries out operations, several at the same time.
#[derive(Clone, Debug)]
pub(super) struct Operations {
    ssh: Ssh,
    settings: SshSettings,
    keys: BTreeMap<MachineType, String>,
    /// The time limit of one command on a machine.
    command_limit: Duration,
}

impl Operations {
    pub(super) fn new(config: &Config) -> Self {
        let keys = config.policy.pools.iter();
        Self {
            ssh: Ssh::new(config.ssh.options.clone(), &config.state_dir),
            settings: config.ssh.clone(),
            keys: keys.filter_map(|(t, pool)| Some((t.clone(), pool.ssh_key.clone()?))).collect(),
            command_limit: config.limits.status_timeout,
        }
    }

    /// Carries out `task` with `provider`.
    pub(super) fn run(&self, task: &Task, provider: &dyn Provider) -> Result<Done, OperationError> {
        let limit = Duration::from_secs(task.limit.0);
        let machine = &task.machine;
        match task.operation {
            Operation::Create => {
                self.ssh.forget(&machine.name);
                let kind = &machine.machine_type;
                provider.create(&machine.name, kind, &task.token, limit).map(done)
            }
            Operation::Start => provider.start(machine, limit).map(|()| done(machine.clone())),
            Operation::Deploy => return self.deploy(machine, provider, limit),
            Operation::KeepAlive => {
                let now = Instant::now();
                let result = if self.settings.touch_keep_alive {
                    self.touch(machine, now)
                } else {
                    self.check(machine, now)
                };
                return result.map(|()| done(machine.clone())).map_err(OperationError::from);
            }
            Operation::Drain => return self.drain(machine, limit),
            Operation::Stop => provider.stop(machine, limit).map(|()| done(machine.clone())),
            Operation::Destroy => provider.destroy(machine, limit).map(|()| {
                self.ssh.forget(&machine.name);
                done(machine.clone())
            }),
        }
        .map_err(OperationError::from)
    }

    /// A machine that does not answer over ssh is not ready, however long it has been up.
    fn deploy(
        &self,
        machine: &Machine,
        provider: &dyn Provider,
        limit: Duration,
    ) -> Result<Done, OperationError> {
        let deadline = Instant::now() + limit;
        let memory = &machine.memory;
        let one_try = memory.ready_since.is_some() || memory.awaits_ssh.is_some();
        let deployed = provider.deploy(machine, limit).map_err(OperationError::from)?;
        let mut done = done(Machine { memory: memory.clone(), ..deployed });
        let patience = if one_try { Duration::ZERO } else { SSH_TIMEOUT };
        let deadline = deadline.min(Instant::now() + patience);
        self.make_usable(&mut done, provider, deadline)?;
        Ok(done)
    }

    /// The part of a deployment that is done over ssh.
    fn make_usable(
        &self,
        done: &mut Done,
        provider: &dyn Provider,
        deadline: Instant,
    ) -> Result<(), OperationError> {
        if let Some(resume) = &self.settings.resume_command {
            self.ssh_until(&done.machine, resume, deadline, is_not_connected).map_err(|error| {
                let OperationError { kind, message } = of_deployment(error);
                let message = format!("its builder cannot be started: {message}");
                OperationError { kind, message }
            })?;
            self.learn_host_name(done, deadline)?;
        }
        // Its provider has waited for its sshd.
        if provider.boots_with_keep_alive() {
            return Ok(());
        }
        if !self.settings.touch_keep_alive {
            return self.check(&done.machine, deadline).map_err(|error| {
                let OperationError { kind, message } = of_deployment(error);
                OperationError { kind, message: format!("{message} (see checkSsh)") }
            });
        }
        match self.touch(&done.machine, deadline) {
            Err(error @ SshError::NotConnected { .. }) => return Err(of_deployment(error)),
            Err(error) => done.warnings.push(format!(
                "cannot touch /run/keep-alive, so the machine may shut itself down: {error} (see touchKeepAlive)"
            )),
            Ok(()) => {}
        }
        Ok(())
    }

    /// The REST queue runner identifies builders by the result of `gethostname`, which providers may not
    /// know. It is read at every deployment: a machine may get its name only during boot, or get another one
    /// later. A name that only its provider reports can be that of another builder.
    fn learn_host_name(&self, done: &mut Done, deadline: Instant) -> Result<(), OperationError> {
        let machine = &mut done.machine;
        let ask = ASK_HOST_NAME.map(str::to_owned);
        let asked = self.ssh_until(machine, &ask, deadline, is_not_connected);
        if let Err(error @ SshError::NotConnected { .. }) = asked {
            return Err(of_deployment(error));
        }
        let printed = asked.map_err(|error| error.to_string());
        match printed.and_then(|printed| own_name(&printed, machine.host_name.as_ref())) {
            Ok(OwnName { host_name, contradiction }) => {
                machine.host_name = Some(host_name);
                done.warnings.extend(contradiction);
            }
            Err(reason) => {
                done.name_is_unconfirmed = true;
                if machine.host_name.is_some() {
                    tracing::debug!(machine = %machine.name, "cannot confirm its host name: {reason}");
                } else {
                    done.warnings.push(format!(
                        "its host name is not known, so it stays while an unknown builder is busy: {reason}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn drain(&self, machine: &Machine, limit: Duration) -> Result<Done, OperationError> {
        if let Some(drain) = &self.settings.drain_command {
            self.ssh.run(machine, self.key(machine), drain, limit)?;
        }
        Ok(done(machine.clone()))
    }

    fn touch(&self, machine: &Machine, deadline: Instant) -> Result<(), SshError> {
        let touch = TOUCH_KEEP_ALIVE.map(str::to_owned);
        self.ssh_until(machine, &touch, deadline, is_not_connected).map(|_| ())
    }

    /// Whether it answers over ssh with its host key. That is enough: the key for its login may be only on the queue runner's
    /// host, and a restricted key may not permit the command.
    fn check(&self, machine: &Machine, deadline: Instant) -> Result<(), SshError> {
        if !self.settings.check_ssh {
            return Ok(());
        }
        let answers = |error: &SshError| match error {
            SshError::NotConnected { what, .. } => *what == NotConnected::LoginRefused,
            SshError::CommandFailed(_) => true,
            SshError::Failed(_) => false,
        };
        let command = ASK_HOST_NAME.map(str::to_owned);
        let is_retried = |error: &SshError| is_not_connected(error) && !answers(error);
        match self.ssh_until(machine, &command, deadline, is_retried) {
            Err(error) if !answers(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn key(&self, machine: &Machine) -> Option<&str> {
        self.keys.get(&machine.machine_type).map(String::as_str)
    }

    /// Tries at least once, and until `deadline` again after errors that `is_retried`: the machine may still be booting.
    fn ssh_until(
        &self,
        machine: &Machine,
        remote: &[String],
        deadline: Instant,
        is_retried: impl Fn(&SshError) -> bool,
    ) -> Result<Vec<u8>, SshError> {
        loop {
            match self.ssh.run(machine, self.key(machine), remote, self.command_limit) {
                Err(error)
                    if is_retried(&error)
                        && Instant::now() + SSH_RETRY_INTERVAL < deadline
                        && !is_canceled() =>
                {
                    thread::sleep(SSH_RETRY_INTERVAL);
                }
                result => return result,
            }
        }
    }
}

fn is_canceled() -> bool {
    CancelToken::current().is_some_and(|token| token.is_canceled())
}

fn is_not_connected(error: &SshError) -> bool {
    matches!(error, SshError::NotConnected { .. })
}

/// The failure of a deployment. A machine that refuses us will do so later, too: it is not waited for.
fn of_deployment(error: SshError) -> OperationError {
    let is_refused = matches!(
        error,
        SshError::NotConnected {
            what: NotConnected::WrongHostKey | NotConnected::LoginRefused,
            ..
        }
    );
    let OperationError { kind, message } = error.into();
    OperationError { kind: if is_refused { OperationErrorKind::Failed } else { kind }, message }
}

fn done(machine: Machine) -> Done {
    Done { machine: Box::new(machine), warnings: Vec::new(), name_is_unconfirmed: false }
}

impl From<ProviderError> for OperationError {
    fn from(error: ProviderError) -> Self {
        Self { kind: error.kind, message: error.message }
    }
}

impl From<SshError> for OperationError {
    fn from(error: SshError) -> Self {
        let kind = match error {
            SshError::NotConnected { .. } => OperationErrorKind::Unreachable,
            SshError::CommandFailed(_) | SshError::Failed(_) => OperationErrorKind::Failed,
        };
        Self { kind, message: error.to_string() }
    }
}

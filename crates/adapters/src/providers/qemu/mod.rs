//! The `qemu` provider: virtual machines on this host, using only QEMU (`docs/qemu.md`).
//!
//! The folders of the machines are the only state: between two calls nothing is remembered except running
//! processes and files on disk.

mod accelerator;
mod folder;
mod identity;
mod launch;
mod monitor;
mod process;
mod reach;
mod settings;
mod share;
mod warm;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use planner::{Host, Machine, MachineName, MachineState, MachineType, Resource};
use qapi::qmp::RunState;
use reconciler::OperationErrorKind;

pub use self::settings::{Accelerator, Settings};

use self::folder::{Folder, LOCK_TIMEOUT, Spec, lock_directory, unwritable};
use self::launch::Start;
use self::monitor::Monitor;
use self::process::Process;
use self::reach::Answer;
use self::share::Share;
use super::{Provider, ProviderContext, ProviderError};

/// The interval between two checks of a booting machine.
const BOOT_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The interval between two progress messages while a machine boots.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// How long a guest may take to power off after the request.
const POWER_DOWN_TIMEOUT: Duration = Duration::from_secs(90);
/// How long QEMU may take to end after `quit`; then it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs machines on this host.
pub struct QemuProvider {
    state_dir: PathBuf,
    types: BTreeMap<MachineType, Settings>,
    context: ProviderContext,
}

impl QemuProvider {
    /// For `types`, which have the same state directory; `None` if there are none.
    pub fn new(context: &ProviderContext, types: BTreeMap<MachineType, Settings>) -> Option<Self> {
        let configured = types.values().next()?.state_dir.clone();
        Some(Self {
            context: context.clone(),
            state_dir: configured.unwrap_or_else(|| context.state_dir.join("qemu")),
            types,
        })
    }

    fn machines_dir(&self) -> PathBuf {
        self.state_dir.join("machines")
    }

    fn folder(&self, name: &MachineName) -> Result<Folder, ProviderError> {
        Folder::new(&self.machines_dir(), name)
    }

    /// While this lock is held, no other process (including other provisioners) chooses addresses or admits
    /// machines.
    fn lock(&self) -> Result<fs::File, ProviderError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state_dir)
            .map_err(|error| unwritable(&self.state_dir, &error))?;
        lock_directory(&self.state_dir, LOCK_TIMEOUT)
    }

    /// Admits a new machine, chooses its address, and records both in its folder, which is held.
    fn found(
        &self,
        folder: &Folder,
        name: &MachineName,
        machine_type: &MachineType,
    ) -> Result<(Spec, fs::File), ProviderError> {
        let settings = self.types.get(machine_type).ok_or_else(|| {
            ProviderError::failed(format!("the type {machine_type} is not configured"))
        })?;
        // Before anything is created: a wrong path is the most likely mistake.
        settings.boot_source()?;
        let _alone = self.lock()?;
        let known = Folder::all(&self.machines_dir())?;
        share::admit(settings, Share::of(settings), &in_use(&known))?;
        let taken: BTreeSet<_> = known.into_iter().map(|(_, spec)| spec.address).collect();
        let address = reach::free_address(&taken, settings.ssh_port, &self.state_dir)?;
        let spec = Spec::new(
            self.context.tag.clone(),
            name.clone(),
            machine_type.clone(),
            address,
            identity::new_machine_id()?,
            settings.clone(),
        );
        match folder.create(&spec).and_then(|()| folder.hold()) {
            Ok(held) => Ok((spec, held)),
            Err(error) => {
                discard(folder)?;
                Err(error)
            }
        }
    }

    /// Admits an existing machine that is off, within the limits that are configured now, and holds its folder.
    fn readmit(&self, folder: &Folder, spec: &Spec) -> Result<fs::File, ProviderError> {
        let _alone = self.lock()?;
        let known = Folder::all(&self.machines_dir())?;
        let limits = self.types.get(&spec.machine_type).unwrap_or(&spec.settings);
        share::admit(limits, Share::of(&spec.settings), &in_use(&known))?;
        folder.hold()
    }

    /// The keys that may log in now, not those of the machine's creation: the queue runner may have another key since.
    fn authorized_keys(&self, spec: &Spec) -> Result<Vec<String>, ProviderError> {
        self.types.get(&spec.machine_type).unwrap_or(&spec.settings).all_authorized_keys()
    }

    /// The machine, with a problem if it runs without a key that is configured now.
    fn listed(&self, folder: &Folder, spec: &Spec) -> Machine {
        let mut machine = machine(folder, spec, state(folder, spec));
        let keys = self.authorized_keys(spec).unwrap_or_default();
        if machine.state.is_live() && identity::lacks_key(folder, &keys) {
            machine.problems.push(
                "it was started before the present ssh keys were configured (sshKey, provider.qemu.authorizedKeys), and does not accept all of them until its next start"
                    .to_owned(),
            );
        }
        machine
    }

    /// Boots the machine. Creates missing files first.
    fn boot(&self, folder: &Folder, spec: &Spec, limit: Duration) -> Result<(), ProviderError> {
        let source = spec.settings.boot_source()?;
        let accelerator = accelerator::choose(&spec.settings, &source, &self.state_dir)?;
        let mut from = Start::Cold;
        if !folder.disk().exists() {
            if spec.settings.warm_start {
                warm::copy_disk(folder, spec, &source, accelerator, &self.state_dir, limit)?;
                from = Start::Warm;
            } else {
                launch::make_overlay(folder, &source.disk, &source.format)?;
            }
        } else if !folder.has_same_base(&source.disk) {
            return Err(ProviderError::failed(format!(
                "{} has changed since its disk was created on it; destroy the machine, or restore the old image",
                source.disk.display()
            )));
        }
        identity::prepare(folder, spec, &self.authorized_keys(spec)?)?;
        if from == Start::Cold {
            return launch::start(folder, spec, &source, accelerator, from, limit);
        }
        let resumed = launch::start(folder, spec, &source, accelerator, from, limit)
            .and_then(|()| take_identity(folder));
        if resumed.is_err() {
            warm::invalidate(spec, &self.state_dir);
        }
        resumed
    }
}

/// Gives a resumed guest this machine's identity.
fn take_identity(folder: &Folder) -> Result<(), ProviderError> {
    warm::send_identity(folder)?;
    // Its sshd was restarted with its own key before it answered.
    Process::of(folder).map_or(Ok(()), |process| folder.mark_ready(process.pid()))
}

/// Repeats steps that a killed provisioner may have left undone, or that the host prevented. The wait for ssh
/// shows whether that helped.
fn recover(folder: &Folder, spec: &Spec) {
    if spec.settings.warm_start
        && !folder.was_ever_ready()
        && folder.identity_socket().exists()
        && let Err(error) = take_identity(folder)
    {
        tracing::warn!(machine = %spec.name, "{error}");
    }
    if is_paused(folder) {
        tracing::warn!(machine = %spec.name, "it was paused because its disk could not be written; it is resumed");
        // If there is still no space, it is paused again.
        let _ = Monitor::connect(&folder.monitor_socket()).and_then(|mut m| m.resume());
    }
}

/// Whether QEMU has paused the guest because the host could not write its disk.
fn is_paused(folder: &Folder) -> bool {
    let run_state = Monitor::connect(&folder.monitor_socket()).and_then(|mut m| m.run_state());
    matches!(run_state, Ok(RunState::io_error))
}

/// Waits until the machine's own sshd answers.
fn wait_for_ssh(folder: &Folder, spec: &Spec, limit: Duration) -> Result<Process, ProviderError> {
    let began = Instant::now();
    let deadline = began + limit;
    let mut next_word = began + PROGRESS_INTERVAL;
    let host_key = identity::public_host_key(folder)
        .ok_or_else(|| ProviderError::failed("its host key is lost; it must be replaced"))?;
    loop {
        let Some(process) = Process::of(folder) else {
            return Err(ended_early(folder, spec));
        };
        // Its key was checked in this boot; ssh checks it again at each login.
        if folder.is_ready(process.pid())
            && reach::answers_ssh(&spec.address, spec.settings.ssh_port)
        {
            return Ok(process);
        }
        match reach::look(&spec.address, spec.settings.ssh_port, &host_key) {
            Ok(Answer::ItsSshd) => return Ok(process),
            Ok(Answer::AnotherKey(key)) => {
                return Err(ProviderError::failed(format!(
                    "the sshd at {} has the host key {key}, not the expected one; does the image contain a host key?",
                    spec.address
                )));
            }
            Ok(Answer::Nothing) => {}
            Err(error) if error.kind == OperationErrorKind::TimedOut => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= next_word {
            next_word += PROGRESS_INTERVAL;
            tracing::info!(
                machine = %spec.name,
                seconds = began.elapsed().as_secs(),
                console = folder.console_line(),
                "waiting for ssh"
            );
            if is_paused(folder) {
                return Err(ProviderError::failed(format!(
                    "QEMU has paused it, its disk {} cannot be written: is the host's disk full?",
                    folder.disk().display()
                )));
            }
        }
        if Instant::now() + BOOT_POLL_INTERVAL >= deadline {
            return Err(ProviderError {
                kind: OperationErrorKind::TimedOut,
                message: format!(
                    "ssh did not answer at {} within {} s (deployTimeout); {}",
                    spec.address,
                    limit.as_secs(),
                    folder.console_tail()
                ),
            });
        }
        process.ends_within(BOOT_POLL_INTERVAL);
    }
}

fn ended_early(folder: &Folder, spec: &Spec) -> ProviderError {
    let advice = if folder.console_line().is_empty() {
        let memory = spec.settings.memory;
        format!(": {memory} MiB may be too little memory, or the image is not bootable")
    } else {
        String::new()
    };
    let (address, said) = (&spec.address, folder.console_tail());
    ProviderError::failed(format!(
        "its QEMU ended before ssh answered at {address}; {said}{advice}"
    ))
}

/// The share of all running or starting machines, of any tag.
fn in_use(known: &[(Folder, Spec)]) -> BTreeMap<MachineName, Share> {
    let used = known.iter().filter(|(folder, _)| folder.is_held() || Process::of(folder).is_some());
    used.map(|(_, spec)| (spec.name.clone(), Share::of(&spec.settings))).collect()
}

fn state(folder: &Folder, spec: &Spec) -> MachineState {
    if Process::of(folder).is_none() {
        return state_when_off(folder, spec);
    }
    let run_state =
        Monitor::connect(&folder.monitor_socket()).and_then(|mut monitor| monitor.run_state());
    match run_state {
        // A deployment checks whether it answers.
        Ok(RunState::running) => MachineState::Up,
        Ok(RunState::shutdown) => MachineState::Stopping,
        // Paused after an error of the host's disk, or its QEMU hangs.
        Ok(_) | Err(_) => MachineState::Unreachable,
    }
}

fn state_when_off(folder: &Folder, spec: &Spec) -> MachineState {
    if folder.is_held() {
        return MachineState::Creating;
    }
    // If the base image was replaced, the disk can never boot again.
    let base = spec.settings.boot_source().map(|source| source.disk);
    match base {
        Ok(base) if folder.has_lost_base(&base) => MachineState::Failed,
        _ => MachineState::Stopped,
    }
}

fn machine(folder: &Folder, spec: &Spec, state: MachineState) -> Machine {
    let wanted = Machine::requested(spec.name.clone(), spec.machine_type.clone());
    Machine {
        state,
        tag: Some(spec.tag.clone()),
        address: Some(Host::new(&spec.address)),
        host_name: Some(Host::new(spec.name.as_str())),
        ssh_port: spec.settings.ssh_port,
        host_key: identity::public_host_key(folder),
        started_at: folder.started_at().filter(|_| state.is_live()),
        ..wanted
    }
}

/// Ends the machine's QEMU: a power-down request for at most `grace`, then `quit`, then SIGKILL.
fn end(folder: &Folder, process: &Process, grace: Duration) -> Result<(), ProviderError> {
    if !grace.is_zero() {
        let asked = Monitor::connect(&folder.monitor_socket()).and_then(|mut m| m.power_down());
        if asked.is_ok() && process.ends_within(grace) {
            return Ok(());
        }
    }
    // An error does not matter: it ends, or it is killed.
    let _ = Monitor::connect(&folder.monitor_socket()).and_then(|mut m| m.quit());
    if process.ends_within(QUIT_TIMEOUT) {
        return Ok(());
    }
    process.kill();
    if process.ends_within(QUIT_TIMEOUT) {
        return Ok(());
    }
    Err(ProviderError::failed(format!(
        "its QEMU, process {}, does not end even after SIGKILL",
        process.pid()
    )))
}

/// Ends all processes of the machine and removes all its files.
fn discard(folder: &Folder) -> Result<(), ProviderError> {
    // While it becomes a daemon there are two processes.
    while let Some(process) = Process::search(folder) {
        end(folder, &process, Duration::ZERO)?;
    }
    folder.remove()
}

impl Provider for QemuProvider {
    fn list(&self, _limit: Duration) -> Result<Vec<Machine>, ProviderError> {
        let ours = Folder::all(&self.machines_dir())?;
        let ours: Vec<_> =
            ours.into_iter().filter(|(_, spec)| spec.tag == self.context.tag).collect();
        // A QEMU that hangs answers only after a time limit.
        thread::scope(|scope| {
            let begin = |spec, look| match thread::Builder::new().spawn_scoped(scope, look) {
                Ok(look) => (spec, Ok(look)),
                Err(error) => (spec, Err(format!("cannot start a thread: {error}"))),
            };
            let looks: Vec<(&Spec, _)> = ours
                .iter()
                .map(|(folder, spec)| begin(spec, || self.listed(folder, spec)))
                .collect();
            // A machine that is left out would count as gone.
            let looks = looks.into_iter().map(|(spec, look)| {
                let look = look.and_then(|look| look.join().map_err(|_| "a panic".to_owned()));
                look.map_err(|error| {
                    let name = &spec.name;
                    ProviderError::failed(format!("the state of {name} is not known: {error}"))
                })
            });
            looks.collect()
        })
    }

    /// `scripts/image/identity` touches it.
    fn boots_with_keep_alive(&self) -> bool {
        true
    }

    fn resources(&self) -> Vec<Resource> {
        let known = Folder::all(&self.machines_dir()).unwrap_or_default();
        share::resources(&self.context.configured(&self.types).collect(), &in_use(&known))
    }

    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        _token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError> {
        let folder = self.folder(name)?;
        let (spec, _held) = match folder.spec()? {
            Some(spec) if spec.tag != self.context.tag => {
                return Err(ProviderError::failed(format!(
                    "{} belongs to the tag {}; give each provisioner its own provider.qemu.stateDir or tag",
                    folder.path().display(),
                    spec.tag
                )));
            }
            Some(spec) if Process::of(&folder).is_some() => {
                return Ok(machine(&folder, &spec, state(&folder, &spec)));
            }
            Some(spec) => {
                let held = self.readmit(&folder, &spec)?;
                (spec, held)
            }
            None => self.found(&folder, name, machine_type)?,
        };
        if let Err(error) = self.boot(&folder, &spec, limit) {
            // Nobody has used it yet, so nothing is lost; the next attempt creates it again.
            if !folder.was_ever_ready() {
                discard(&folder)?;
            }
            return Err(error);
        }
        Ok(machine(&folder, &spec, MachineState::Up))
    }

    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let folder = self.folder(&machine.name)?;
        let spec = folder.spec()?.ok_or_else(|| ProviderError::failed("it is gone"))?;
        if Process::of(&folder).is_some() {
            return Ok(());
        }
        let _held = self.readmit(&folder, &spec)?;
        // Another process may have started it meanwhile.
        if Process::of(&folder).is_some() {
            return Ok(());
        }
        self.boot(&folder, &spec, limit)
    }

    fn deploy(&self, wanted: &Machine, limit: Duration) -> Result<Machine, ProviderError> {
        let folder = self.folder(&wanted.name)?;
        let spec = folder.spec()?.ok_or_else(|| ProviderError::failed("it is gone"))?;
        let began = Instant::now();
        recover(&folder, &spec);
        let process = wait_for_ssh(&folder, &spec, limit.saturating_sub(began.elapsed()))?;
        folder.mark_ready(process.pid())?;
        Ok(machine(&folder, &spec, MachineState::Up))
    }

    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let folder = self.folder(&machine.name)?;
        match Process::of(&folder) {
            Some(process) => end(&folder, &process, POWER_DOWN_TIMEOUT.min(limit / 2)),
            None => Ok(()),
        }
    }

    fn destroy(&self, machine: &Machine, _limit: Duration) -> Result<(), ProviderError> {
        discard(&self.folder(&machine.name)?)?;
        // The machine is gone, even if the templates cannot be removed.
        if let Err(error) = warm::sweep(&self.state_dir, &self.context.tag, &self.types) {
            tracing::warn!("unused snapshots cannot be removed: {}", error.message);
        }
        Ok(())
    }
}

//! Carries out the reconciler's effects in the real environment. Threads do the work and report through one channel, so that
//! no operation waits for another.

mod handle;
mod operations;
mod providers;
#[cfg(test)]
mod tests;
mod threads;

use std::collections::BTreeMap;
use std::mem;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use planner::{QueueStatus, Seconds};
use reconciler::{
    Configuration, Effect, Event, OperationError, OperationErrorKind, OperationId, Published,
    Reconciler, Task, Timing,
};

use crate::clock::Clock;
use crate::command::CancelToken;
use crate::config::{Config, MachinesFileTarget, ScheduledPolicy};
pub use crate::host_name::ASK_HOST_NAME;
use crate::lock::{self, Access};
use crate::machines_file::Sink;
use crate::queue::{self, QueueSource};
use crate::state::{Recorder, StateError, Store};
use handle::Message;
pub use handle::{Ended, Handle, Mode, Permission, Step};
use operations::Operations;
pub use operations::TOUCH_KEEP_ALIVE;
use providers::Providers;

/// Maximum time between two checks of the system clock and the schedule.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long the shutdown waits for pending state writes.
const RECORDING_TIMEOUT: Duration = Duration::from_millis(500);

const NOT_ALLOWED: &str = "this host is not the active one any more";

/// The reconciler in the real environment.
pub struct Driver {
    config: Config,
    mode: Mode,
    clock: Clock,
    reconciler: Reconciler,
    /// `None` in [`Mode::Look`], which writes nothing.
    recorder: Option<Recorder>,
    providers: Providers,
    operations: Arc<Operations>,
    queue: Arc<Mutex<Box<dyn QueueSource + Send>>>,
    sink: Sink,
    cancels: BTreeMap<OperationId, CancelToken>,
    /// Why a changed configuration was refused; the earlier one is active.
    refused: Option<String>,
    longest_wait: Duration,
    permission: Permission,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    /// The policy now in force according to the schedule.
    scheduled: ScheduledPolicy,
}

impl Driver {
    /// Creates the driver for `config`, with the state of its state directory. Asks and changes nothing yet.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub fn open(config: Config, mode: Mode) -> Result<Self, StateError> {
        let access = access(mode);
        let clock = Clock::start();
        let (mut store, state, remembered) =
            Store::open(&config.state_dir, &config.policy, access)?;
        if access == Access::ReadWrite {
            store.take_configuration(&config, &state.records)?;
        }
        let providers = Providers::new(&config, remembered, &state.records);
        let remembered = store.remember_providers(providers.settings());
        if let Err(error) = remembered.and_then(|()| store.note_configuration(&config.source)) {
            tracing::warn!("{error}");
        }
        let scheduled = config.policy_at(clock.now());
        let configuration = configuration(&config, mode, scheduled.policy.clone(), &providers);
        let (sender, messages) = mpsc::channel();
        let limit = config.limits.status_timeout;
        let (now, seed) = (clock.now(), seed(&config));
        let reconciler = match mode {
            Mode::Act => Reconciler::new(configuration, state, seed, now),
            Mode::Look => {
                let is_at_work = lock::holder(&config.state_dir).is_some();
                let state = if is_at_work { state } else { state.after_its_run_ended(now) };
                // Shows the actual state, not the state after a plan that is not carried out.
                Reconciler::beside_another_run(configuration, state, seed, now)
                    .with_planner(|_, _| planner::Plan::default())
            }
        };
        let recorder = match mode {
            Mode::Act => Some(record_with(store, sender.clone())?),
            Mode::Look => None,
        };
        let driver = Self {
            reconciler,
            recorder,
            operations: Arc::new(Operations::new(&config)),
            queue: Arc::new(Mutex::new(queue::source(
                &config.queue,
                limit,
                &config.state_dir,
                access,
            ))),
            sink: Sink::new(config.machines_file.clone(), limit),
            cancels: BTreeMap::new(),
            refused: None,
            longest_wait: MAX_WAIT,
            permission: Arc::new(|| true),
            config,
            mode,
            clock,
            providers,
            sender,
            messages,
            scheduled,
        };
        driver.listen();
        Ok(driver)
    }

    /// Waits for interruption notices, on one thread per provider, which ends with the provider.
    fn listen(&self) {
        if self.mode == Mode::Look {
            return;
        }
        for (id, provider) in self.providers.announcing() {
            let (id, sender) = (id.clone(), self.sender.clone());
            let name = id.clone();
            let listen = move || {
                providers::listen(&id, &provider, |event| {
                    match sender.send(Message::Event(event)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_gone) => ControlFlow::Break(()),
                    }
                });
            };
            if let Err(error) = thread::Builder::new().name("notices".to_owned()).spawn(listen) {
                tracing::error!(
                    "{name}: interruption notices are not received until the next reload: cannot start a thread: {error}"
                );
            }
        }
    }

    /// A handle to this driver for other threads.
    pub fn handle(&self) -> Handle {
        Handle(self.sender.clone())
    }

    /// The state of the loop.
    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes a step at least this often, even without events.
    pub fn step_at_least_every(&mut self, interval: Duration) {
        self.longest_wait = self.longest_wait.min(interval);
    }

    /// From now on acts only while `permission` allows it, and stops when it no longer does.
    pub fn act_only_with(&mut self, permission: Permission) {
        self.permission = permission;
    }

    /// Runs until it is stopped, `deadline` has come, or `on_step` breaks. That is called after every step.
    pub fn run(
        &mut self,
        deadline: Option<Instant>,
        on_step: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Ended {
        let ended = self.step_until(deadline, on_step);
        if let Some(recorder) = &self.recorder {
            // The next run finds out what is not recorded by then.
            recorder.ticket().wait_at_most(RECORDING_TIMEOUT);
        }
        ended
    }

    fn step_until(
        &mut self,
        deadline: Option<Instant>,
        on_step: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Ended {
        loop {
            if !(self.permission)() {
                return Ended::Broke;
            }
            self.check_clock();
            // [`Mode::Look`] acts only to ask: once the first answers have arrived, the caller makes its own plan.
            if self.mode == Mode::Act || !self.reconciler.has_looked() {
                self.reconciler.act(self.clock.now());
            }
            while let Some(effect) = self.reconciler.poll_effect() {
                self.carry_out(effect);
            }
            let happened = self.reconciler.take_history();
            let step = Step {
                reconciler: &self.reconciler,
                happened: &happened,
                refused: self.refused.as_deref(),
            };
            if on_step(&step).is_break() {
                return Ended::Broke;
            }
            match self.wait(deadline) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(ended) => return ended,
            }
        }
    }

    /// Waits for a message and handles all pending ones.
    fn wait(&mut self, deadline: Option<Instant>) -> ControlFlow<Ended> {
        let mut wait = self.longest_wait;
        if let Some(at) = self.reconciler.poll_timeout() {
            wait = wait.min(self.clock.until(at));
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return ControlFlow::Break(Ended::Deadline);
            }
            wait = wait.min(left);
        }
        match self.messages.recv_timeout(wait) {
            Ok(message) => self.take(message)?,
            // Cannot be disconnected: we hold a sender.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message)?;
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, message: Message) -> ControlFlow<Ended> {
        match message {
            Message::Event(event) => {
                if let Event::Ended { operation, .. } = &event {
                    self.cancels.remove(operation);
                }
                self.tell(event);
            }
            Message::Reload(config, answer) => {
                let result = self.reload(*config);
                if let Err(reason) = &result {
                    self.refuse(Some(reason.clone()));
                }
                let _gone = answer.send(result);
            }
            Message::Refuse(reason) => self.refuse(Some(reason)),
            Message::Stop => return ControlFlow::Break(Ended::Stopped),
        }
        ControlFlow::Continue(())
    }

    fn tell(&mut self, event: Event) {
        self.reconciler.handle(self.clock.now(), event);
    }

    /// A jump of the system clock is an event, and so is a schedule that changes the policy.
    fn check_clock(&mut self) {
        let step = self.clock.step();
        if let Some(seconds) = step {
            self.tell(Event::ClockStepped { seconds });
        }
        let now = self.clock.now();
        // A clock that was set back may show a time before the hours with these settings.
        if step.is_some() || self.scheduled.until.is_some_and(|until| until <= now) {
            let before = mem::replace(&mut self.scheduled, self.config.policy_at(now));
            if before.policy != self.scheduled.policy {
                self.configure();
            }
        }
    }

    fn refuse(&mut self, reason: Option<String>) {
        if self.refused != reason {
            self.refused.clone_from(&reason);
            if let Some(recorder) = &mut self.recorder {
                recorder.note_refusal(reason);
            }
        }
    }

    fn reload(&mut self, config: Config) -> Result<(), String> {
        let identity = |config: &Config| {
            (config.state_dir.clone(), config.policy.tag.clone(), config.lease.clone())
        };
        if identity(&config) != identity(&self.config) {
            return Err(
                "stateDir, tag and lease cannot change while the provisioner runs: restart it"
                    .to_owned(),
            );
        }
        self.refuse(None);
        let access = access(self.mode);
        let limit = config.limits.status_timeout;
        let remembered = self.providers.settings().clone();
        self.providers = Providers::new(&config, remembered, self.reconciler.records());
        if let Some(recorder) = &mut self.recorder {
            recorder.remember_providers(self.providers.settings().clone());
            recorder.note_configuration(config.source.clone());
        }
        self.listen();
        self.operations = Arc::new(Operations::new(&config));
        self.queue =
            Arc::new(Mutex::new(queue::source(&config.queue, limit, &config.state_dir, access)));
        self.sink = Sink::new(config.machines_file.clone(), limit);
        self.config = config;
        self.scheduled = self.config.policy_at(self.clock.now());
        self.configure();
        Ok(())
    }

    fn configure(&mut self) {
        let policy = self.scheduled.policy.clone();
        let new = configuration(&self.config, self.mode, policy, &self.providers);
        self.tell(Event::Configured(Box::new(new)));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::AskQueue(question) => {
                let queue = Arc::clone(&self.queue);
                let answer = move |status| Event::Queue { question, status };
                let failed =
                    move |error: OperationError| answer(QueueStatus::Unavailable(error.message));
                self.spawn("queue", failed, move || {
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    answer(queue.queue_status())
                });
            }
            Effect::List { listing, provider } => {
                let asked = self.providers.get(&provider);
                let is_old = self.providers.is_old(&provider);
                let limit = self.config.limits.status_timeout;
                let id = provider.clone();
                let answer = move |result| Event::Listed { listing, provider: id.clone(), result };
                let failed = {
                    let answer = answer.clone();
                    move |error: OperationError| answer(Err(error.message))
                };
                self.spawn("list", failed, move || {
                    answer(providers::list(asked.as_deref(), &provider, is_old, limit))
                });
            }
            Effect::Begin { operation, task } => self.begin(operation, *task),
            Effect::Abandon(operation) => {
                if let Some(cancel) = self.cancels.get(&operation) {
                    cancel.cancel();
                }
            }
            Effect::Publish { publication, file } => {
                let Some(recorder) = &self.recorder else { return };
                let (sink, earlier) = (self.sink.clone(), recorder.ticket());
                let may_act = Arc::clone(&self.permission);
                let answer = move |result| Event::Published { publication, result };
                let failed = move |error: OperationError| answer(Err(error.message));
                self.spawn("publish", failed, move || {
                    earlier.wait();
                    let result: Result<Published, String> =
                        if may_act() { sink.publish(&file) } else { Err(NOT_ALLOWED.to_owned()) };
                    answer(result)
                });
            }
            Effect::Record { batch, changes } => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.write(batch, changes);
                }
            }
        }
    }

    fn begin(&mut self, operation: OperationId, task: Task) {
        let Some(recorder) = &self.recorder else { return };
        let earlier = recorder.ticket();
        let provider = self.providers.get(&task.provider);
        let operations = Arc::clone(&self.operations);
        let may_act = Arc::clone(&self.permission);
        let cancel = CancelToken::new();
        self.cancels.insert(operation, cancel.clone());
        let answer = move |result| Event::Ended { operation, result };
        self.spawn(
            "operation",
            move |error| answer(Err(error)),
            move || {
                earlier.wait();
                let result = match provider {
                    _ if !may_act() => Err(not_allowed()),
                    Some(provider) => cancel.scope(|| operations.run(&task, provider.as_ref())),
                    None => Err(no_provider(&task)),
                };
                // An operation that was ended may have had an effect.
                let result = result.map_err(|error| OperationError {
                    kind: if cancel.is_canceled() {
                        OperationErrorKind::TimedOut
                    } else {
                        error.kind
                    },
                    ..error
                });
                answer(result)
            },
        );
    }

    /// Does `work` on a new thread and reports its result, or that it `failed` without one.
    fn spawn(
        &self,
        name: &str,
        failed: impl Fn(OperationError) -> Event + Clone + Send + 'static,
        work: impl FnOnce() -> Event + Send + 'static,
    ) {
        let thread = thread::Builder::new().name(name.to_owned());
        threads::report(thread, &self.sender, failed, work);
    }
}

/// Each recorded batch, and each change of the operator's orders, becomes an event of the loop.
fn record_with(store: Store, sender: Sender<Message>) -> Result<Recorder, StateError> {
    Recorder::start(store, move |event| {
        let _gone = sender.send(Message::Event(event));
    })
}

fn not_allowed() -> OperationError {
    OperationError { kind: OperationErrorKind::Failed, message: NOT_ALLOWED.to_owned() }
}

fn no_provider(task: &Task) -> OperationError {
    let message =
        format!("no provider is known for its type {}; see systemTypes", task.machine.machine_type);
    OperationError { kind: OperationErrorKind::Failed, message }
}

fn access(mode: Mode) -> Access {
    match mode {
        Mode::Act => Access::ReadWrite,
        Mode::Look => Access::ReadOnly,
    }
}

/// Jitter differs between provisioners, not between runs.
fn seed(config: &Config) -> u64 {
    let bytes = config.policy.tag.as_str().bytes();
    bytes.fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

fn configuration(
    config: &Config,
    mode: Mode,
    policy: planner::Policy,
    providers: &Providers,
) -> Configuration {
    let seconds = |duration: Duration| Seconds(duration.as_secs().max(1));
    let (limits, timing) = (&config.limits, &config.timing);
    Configuration {
        policy,
        providers: providers.configured().clone(),
        deployment_digests: providers::settings_digests(config),
        timing: Timing {
            poll_interval: seconds(timing.poll_interval),
            list_interval: seconds(timing.list_interval),
            keep_alive_interval: (mode == Mode::Act
                && (config.ssh.touch_keep_alive || config.ssh.check_ssh))
                .then(|| seconds(timing.keep_alive_interval)),
            max_status_age: seconds(timing.max_status_age),
            verify_interval: matches!(config.machines_file.target, MachinesFileTarget::File(_))
                .then(|| seconds(timing.list_interval)),
            create_timeout: seconds(limits.create_timeout),
            deploy_timeout: seconds(limits.deploy_timeout),
            release_timeout: seconds(limits.release_timeout),
            parallelism: limits.parallelism,
        },
    }
}

//! Carries out what the reconciler asks for, in the real world: threads do the work and report through one channel,
//! so that nothing waits for anything else.

mod operations;
mod providers;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use planner::Seconds;
use reconciler::{
    Change, Configuration, Effect, Event, HistoryEntry, OperationError, OperationErrorKind,
    OperationId, Published, Reconciler, Task, Timing,
};

use crate::clock::Clock;
use crate::command::CancelToken;
use crate::config::{Config, ScheduledPolicy};
pub use crate::host_name::ASK_HOST_NAME;
use crate::lock::Access;
use crate::machines_file::Sink;
use crate::queue::{self, QueueSource};
use crate::state::{StateError, Store};
use operations::Operations;
pub use operations::TOUCH_KEEP_ALIVE;
use providers::Providers;

/// How often the clock is compared with the system's, and the schedule looked at.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a driver may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    Act,
    /// Look: nothing is written down, published, begun or changed.
    Look,
}

/// Why [`Driver::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`Handle::stop`] was called.
    Stopped,
    /// The deadline has come.
    Deadline,
    /// The caller's function said so.
    Broke,
}

enum Message {
    Event(Event),
    Reload(Box<Config>),
    Stop,
}

/// Reaches a running driver from other threads.
#[derive(Clone, Debug)]
pub struct Handle(Sender<Message>);

impl Handle {
    /// Makes [`Driver::run`] return soon. What is under way goes on until the process ends its children.
    pub fn stop(&self) {
        // A driver that has gone needs no telling.
        let _gone = self.0.send(Message::Stop);
    }

    /// Gives the driver another configuration.
    pub fn reload(&self, config: Config) {
        let _gone = self.0.send(Message::Reload(Box::new(config)));
    }
}

/// The reconciler in the real world.
pub struct Driver {
    config: Config,
    mode: Mode,
    clock: Clock,
    reconciler: Reconciler,
    store: Store,
    providers: Providers,
    operations: Arc<Operations>,
    queue: Arc<Mutex<Box<dyn QueueSource + Send>>>,
    sink: Sink,
    cancels: BTreeMap<OperationId, CancelToken>,
    history: Vec<HistoryEntry>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    /// The policy that the schedule makes of the configured one, for now.
    scheduled: ScheduledPolicy,
}

impl Driver {
    /// The driver for `config`, with what its state directory remembers. Nothing is asked or changed yet.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub fn open(config: Config, mode: Mode) -> Result<Self, StateError> {
        let access = access(mode);
        let clock = Clock::start();
        let (mut store, state, remembered) =
            Store::open(&config.state_dir, &config.policy.tag, access)?;
        let providers = Providers::new(&config, remembered);
        if let Err(error) = store.remember_providers(providers.settings()) {
            tracing::warn!("{error}");
        }
        let scheduled = config.policy_at(clock.now());
        let configuration = configuration(&config, mode, scheduled.policy.clone(), &providers);
        let (sender, messages) = mpsc::channel();
        let limit = config.limits.status_timeout;
        let mut reconciler = Reconciler::new(configuration, state, seed(&config), clock.now());
        if mode == Mode::Look {
            // What is seen is told as it is, not as a plan that nobody carries out would have made it.
            reconciler = reconciler.with_planner(|_, _| planner::Plan::default());
        }
        Ok(Self {
            reconciler,
            operations: Arc::new(Operations::new(&config)),
            queue: Arc::new(Mutex::new(queue::source(
                &config.queue,
                limit,
                &config.state_dir,
                access,
            ))),
            sink: Sink::new(config.machines_file.clone(), limit),
            cancels: BTreeMap::new(),
            history: Vec::new(),
            config,
            mode,
            clock,
            store,
            providers,
            sender,
            messages,
            scheduled,
        })
    }

    /// Reaches this driver from other threads.
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

    /// Runs until it is stopped, `deadline` has come, or `on_step` breaks. That is called after every step, with
    /// what has happened since the last one.
    pub fn run(
        &mut self,
        deadline: Option<Instant>,
        on_step: &mut dyn FnMut(&Reconciler, &[HistoryEntry]) -> ControlFlow<()>,
    ) -> Ended {
        loop {
            self.look_at_the_clock();
            // Who only looks has seen enough then, and plans by itself.
            if self.mode == Mode::Act || !self.reconciler.has_looked() {
                self.reconciler.act(self.clock.now());
            }
            while let Some(effect) = self.reconciler.poll_effect() {
                self.carry_out(effect);
            }
            let happened = std::mem::take(&mut self.history);
            if on_step(&self.reconciler, &happened).is_break() {
                return Ended::Broke;
            }
            match self.wait(deadline) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(ended) => return ended,
            }
        }
    }

    /// Waits for something to happen, and takes note of all that has.
    fn wait(&mut self, deadline: Option<Instant>) -> ControlFlow<Ended> {
        let mut wait = LONGEST_WAIT;
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
            // We hold a sender ourselves.
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
            Message::Reload(config) => self.reload(*config),
            Message::Stop => return ControlFlow::Break(Ended::Stopped),
        }
        ControlFlow::Continue(())
    }

    fn tell(&mut self, event: Event) {
        self.reconciler.handle(self.clock.now(), event);
    }

    /// A clock that was set is an event, and so is a schedule that changes the policy.
    fn look_at_the_clock(&mut self) {
        if let Some(orders) = self.store.new_orders() {
            self.tell(Event::Ordered(orders));
        }
        if let Some(seconds) = self.clock.step() {
            self.tell(Event::ClockStepped { seconds });
        }
        if self.scheduled.until.is_some_and(|until| until <= self.clock.now()) {
            self.scheduled = self.config.policy_at(self.clock.now());
            self.configure();
        }
    }

    fn reload(&mut self, config: Config) {
        if config.state_dir != self.config.state_dir || config.policy.tag != self.config.policy.tag
        {
            tracing::error!(
                "stateDir and tag cannot change while the provisioner runs: restart it; the old configuration goes on"
            );
            return;
        }
        let access = access(self.mode);
        let limit = config.limits.status_timeout;
        self.providers = Providers::new(&config, self.providers.settings().clone());
        if let Err(error) = self.store.remember_providers(self.providers.settings()) {
            tracing::warn!("{error}");
        }
        self.operations = Arc::new(Operations::new(&config));
        self.queue =
            Arc::new(Mutex::new(queue::source(&config.queue, limit, &config.state_dir, access)));
        self.sink = Sink::new(config.machines_file.clone(), limit);
        self.config = config;
        self.scheduled = self.config.policy_at(self.clock.now());
        self.configure();
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
                self.spawn("queue", move || {
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    Event::Queue { question, status: queue.queue_status() }
                });
            }
            Effect::List { listing, provider } => {
                let asked = self.providers.get(&provider);
                let is_old = self.providers.is_old(&provider);
                let limit = self.config.limits.status_timeout;
                self.spawn("list", move || {
                    let result = providers::list(asked.as_deref(), &provider, is_old, limit);
                    Event::Listed { listing, provider, result }
                });
            }
            Effect::Begin { operation, task } => self.begin(operation, *task),
            Effect::Abandon(operation) => {
                if let Some(cancel) = self.cancels.get(&operation) {
                    cancel.cancel();
                }
            }
            Effect::Publish { publication, file } => {
                if self.mode == Mode::Look {
                    return;
                }
                let sink = self.sink.clone();
                self.spawn("publish", move || {
                    let result: Result<Published, String> = sink.publish(&file);
                    Event::Published { publication, result }
                });
            }
            Effect::Record { batch, changes } => {
                if self.mode == Mode::Look {
                    return;
                }
                let result = self.store.write(&changes);
                self.history.extend(changes.into_iter().filter_map(|change| match change {
                    Change::History(entry) => Some(entry),
                    _ => None,
                }));
                self.tell(Event::Recorded { batch, result });
            }
        }
    }

    fn begin(&mut self, operation: OperationId, task: Task) {
        if self.mode == Mode::Look {
            return;
        }
        let provider = self.providers.get(&task.provider);
        let operations = Arc::clone(&self.operations);
        let cancel = CancelToken::new();
        self.cancels.insert(operation, cancel.clone());
        self.spawn("operation", move || {
            let result = match provider {
                Some(provider) => cancel.scope(|| operations.run(&task, provider.as_ref())),
                None => Err(no_provider(&task)),
            };
            // One that was ended may have had its effect.
            let result = result.map_err(|error| OperationError {
                kind: if cancel.is_cancelled() { OperationErrorKind::TimedOut } else { error.kind },
                ..error
            });
            Event::Ended { operation, result }
        });
    }

    /// Does `work` on a thread of its own and reports what came of it.
    fn spawn(&self, what: &str, work: impl FnOnce() -> Event + Send + 'static) {
        let sender = self.sender.clone();
        let spawned = thread::Builder::new().name(what.to_owned()).spawn(move || {
            let _gone = sender.send(Message::Event(work()));
        });
        if let Err(error) = spawned {
            // The reconciler gives up what hangs; nothing else can be done without threads.
            tracing::error!("no thread for {what}: {error}");
        }
    }
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
        settings: providers::settings_digests(config),
        timing: Timing {
            poll_interval: seconds(timing.poll_interval),
            list_interval: seconds(timing.list_interval),
            keep_alive_interval: (mode == Mode::Act && config.ssh.touch_keep_alive)
                .then(|| seconds(timing.keep_alive_interval)),
            max_status_age: seconds(timing.max_status_age),
            create_timeout: seconds(limits.create_timeout),
            deploy_timeout: seconds(limits.deploy_timeout),
            release_timeout: seconds(limits.release_timeout),
            parallelism: limits.parallelism,
        },
    }
}

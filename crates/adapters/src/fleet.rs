//! All machines of all providers, and what is remembered of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use planner::{Machine, MachineName, MachineState, MachineType};
use reconciler::world::{
    Done, Intent, IntentLog, Inventory, LogError, MachineProvider, Outcome, Step, StepError, Task,
};

use crate::config::{Config, Limits, SshSettings};
use crate::providers::{Provider, ProviderContext, ProviderError, ProviderSettings, build};
use crate::records::{Access, Deployment, Record, Records};
use crate::ssh::{Ssh, SshError};

/// How long a machine that was only just started may take to answer ssh.
const SSH_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is tried.
const SSH_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Lists and changes machines through their providers, several at a time.
pub struct Fleet {
    records: Records,
    providers: BTreeMap<String, Box<dyn Provider>>,
    /// By type: the configured ones, and those that only remembered machines still have.
    settings: BTreeMap<MachineType, ProviderSettings>,
    configured: BTreeSet<MachineType>,
    ssh: Ssh,
    ssh_settings: SshSettings,
    ssh_keys: BTreeMap<MachineType, String>,
    limits: Limits,
}

impl Fleet {
    /// The fleet of `config`, with what its state directory remembers.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn open(config: &Config) -> Result<Self, LogError> {
        let records = Records::load(config.state_dir.join("machines.json"))?;
        let mut settings = config.providers.clone();
        for (_, record) in records.iter() {
            settings.entry(record.machine_type.clone()).or_insert_with(|| record.provider.clone());
        }
        let keys = config.policy.pools.iter();
        Ok(Self {
            providers: providers(config, &settings),
            configured: config.providers.keys().cloned().collect(),
            records,
            settings,
            ssh: Ssh::new(config.ssh.options.clone(), &config.state_dir),
            ssh_settings: config.ssh.clone(),
            ssh_keys: keys
                .filter_map(|(t, pool)| Some((t.clone(), pool.ssh_key.clone()?)))
                .collect(),
            limits: config.limits,
        })
    }

    /// Writes nothing to the state directory from now on: for who only looks and holds no lock.
    pub(crate) fn make_read_only(&mut self) {
        self.records.set_access(Access::ReadOnly);
    }

    fn provider_of(&self, machine: &Machine) -> Result<&dyn Provider, ProviderError> {
        // A machine's own record says how it was made; its type's settings may have changed since.
        let settings = self
            .records
            .get(&machine.name)
            .map(|record| &record.provider)
            .or_else(|| self.settings.get(&machine.machine_type));
        settings
            .and_then(|settings| self.providers.get(&settings.identity()))
            .map(AsRef::as_ref)
            .ok_or_else(|| {
                ProviderError::failed(format!(
                    "no provider is known for its type {}; see systemTypes",
                    machine.machine_type
                ))
            })
    }

    fn run(&self, task: &Task) -> Outcome {
        let mut done = Done { machine: task.machine.clone(), warnings: Vec::new() };
        let mut freshness = Freshness::WasUp;
        for step in &task.steps {
            let began = Instant::now();
            let result = match step {
                Step::Create | Step::Start => {
                    freshness = Freshness::JustStarted;
                    self.begin(*step, &mut done)
                }
                Step::Deploy => self.deploy(&mut done, freshness),
                Step::Drain | Step::Stop | Step::Destroy => self.end(*step, &done.machine),
            };
            let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
            match result {
                Ok(()) => tracing::info!(machine = %task.machine.name, %step, seconds, "done"),
                Err(error) => {
                    let error = StepError { step: *step, kind: error.kind, message: error.message };
                    tracing::error!(machine = %task.machine.name, %step, seconds, "{error}");
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn begin(&self, step: Step, done: &mut Done) -> Result<(), ProviderError> {
        let limit = self.limits.create_timeout;
        let provider = self.provider_of(&done.machine)?;
        if step == Step::Create {
            self.ssh.forget(&done.machine.name);
            done.machine =
                provider.create(&done.machine.name, &done.machine.machine_type, limit)?;
        } else {
            provider.start(&done.machine, limit)?;
            done.machine.state = MachineState::Starting;
        }
        Ok(())
    }

    fn deploy(&self, done: &mut Done, freshness: Freshness) -> Result<(), ProviderError> {
        let began = Instant::now();
        let limit = self.limits.deploy_timeout;
        let provider = self.provider_of(&done.machine)?;
        done.machine = provider.deploy(&done.machine, limit)?;
        let patience = match freshness {
            Freshness::JustStarted => SSH_PATIENCE,
            Freshness::WasUp => Duration::ZERO,
        };
        let deadline = began + limit.min(began.elapsed() + patience);
        if let Some(resume) = &self.ssh_settings.resume_command {
            self.ssh_until(&done.machine, resume, deadline).map_err(|error| {
                ProviderError::failed(format!("its builder cannot be started: {error}"))
            })?;
        }
        let is_fresh =
            matches!(freshness, Freshness::JustStarted) && provider.boots_with_keep_alive();
        if self.ssh_settings.touch_keep_alive && !is_fresh {
            let touch = ["touch", "/run/keep-alive"].map(str::to_owned);
            if let Err(error) = self.ssh_until(&done.machine, &touch, deadline) {
                let warning = format!(
                    "cannot touch /run/keep-alive, it may shut itself down: {error} (see touchKeepAlive)"
                );
                tracing::warn!(machine = %done.machine.name, "{warning}");
                done.warnings.push(warning);
            }
        }
        Ok(())
    }

    /// Tries until `deadline`, and once at least, to reach a machine that may still be booting.
    fn ssh_until(
        &self,
        machine: &Machine,
        remote: &[String],
        deadline: Instant,
    ) -> Result<(), SshError> {
        let key = self.ssh_keys.get(&machine.machine_type).map(String::as_str);
        loop {
            match self.ssh.run(machine, key, remote, self.limits.status_timeout) {
                Err(SshError::NotConnected { .. })
                    if Instant::now() + SSH_RETRY_INTERVAL < deadline =>
                {
                    thread::sleep(SSH_RETRY_INTERVAL);
                }
                result => return result,
            }
        }
    }

    fn end(&self, step: Step, machine: &Machine) -> Result<(), ProviderError> {
        let limit = self.limits.release_timeout;
        match step {
            Step::Drain => {
                let Some(drain) = &self.ssh_settings.drain_command else { return Ok(()) };
                let key = self.ssh_keys.get(&machine.machine_type).map(String::as_str);
                self.ssh
                    .run(machine, key, drain, limit)
                    .map_err(|error| ProviderError::failed(error.to_string()))
            }
            Step::Stop => self.provider_of(machine)?.stop(machine, limit),
            _ => {
                self.provider_of(machine)?.destroy(machine, limit)?;
                self.ssh.forget(&machine.name);
                Ok(())
            }
        }
    }
}

/// Whether a machine may still be booting.
#[derive(Clone, Copy)]
enum Freshness {
    WasUp,
    JustStarted,
}

/// One provider for all types with the same identity.
fn providers(
    config: &Config,
    settings: &BTreeMap<MachineType, ProviderSettings>,
) -> BTreeMap<String, Box<dyn Provider>> {
    let context =
        ProviderContext { tag: config.policy.tag.clone(), state_dir: config.state_dir.clone() };
    let mut groups: BTreeMap<String, BTreeMap<MachineType, ProviderSettings>> = BTreeMap::new();
    for (machine_type, settings) in settings {
        let group = groups.entry(settings.identity()).or_default();
        group.insert(machine_type.clone(), settings.clone());
    }
    groups
        .into_iter()
        .filter_map(|(identity, types)| Some((identity, build(&context, &types)?)))
        .collect()
}

impl MachineProvider for Fleet {
    fn list(&mut self) -> Inventory {
        let limit = self.limits.status_timeout;
        let providers: Vec<_> = self.providers.iter().collect();
        let lists = in_parallel(self.limits.parallelism, &providers, |(_, provider)| {
            provider.list(limit).map(|machines| (machines, provider.resources()))
        });
        let lists: Vec<_> =
            providers.iter().map(|(identity, _)| (*identity).clone()).zip(lists).collect();

        let mut inventory = Inventory::default();
        for (identity, list) in lists {
            match list {
                Ok((mut machines, resources)) => {
                    for machine in &mut machines {
                        let record = self.records.get(&machine.name);
                        machine.failing_since = record.and_then(|record| record.failing_since);
                    }
                    self.remember(&identity, &machines);
                    inventory.machines.extend(machines);
                    inventory.resources.extend(resources);
                }
                Err(error) => {
                    tracing::error!(provider = identity, "cannot list machines: {error}");
                    self.recall(&identity, &error, &mut inventory);
                }
            }
        }
        if let Err(error) = self.records.save() {
            // Only memories of machines that are there: an intent is saved by `record`, which checks.
            tracing::warn!("{error}");
        }
        inventory
    }

    fn perform(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let fleet = &*self;
        let outcomes = in_parallel(self.limits.parallelism, tasks, |task| fleet.run(task));
        self.note_deployments(tasks, &outcomes);
        outcomes
    }
}

impl Fleet {
    /// Remembers since when deployments fail. Forgetting it after a crash only makes us more patient.
    fn note_deployments(&mut self, tasks: &[Task], outcomes: &[Outcome]) {
        let now = crate::world::now();
        for (task, outcome) in tasks.iter().zip(outcomes) {
            let is_first = task.steps.first() != Some(&Step::Deploy);
            let deployment = match outcome {
                Ok(_) if task.steps.contains(&Step::Deploy) => Deployment::Succeeded,
                Err(error) if error.step == Step::Deploy && is_first => Deployment::FailedFirst,
                Err(error) if error.step == Step::Deploy => Deployment::Failed,
                _ => continue,
            };
            self.records.note_deployment(&task.machine.name, deployment, now);
        }
        if let Err(error) = self.records.save() {
            tracing::warn!("{error}");
        }
    }

    /// Records what a provider listed, and forgets what it does not list any more.
    fn remember(&mut self, identity: &str, machines: &[Machine]) {
        let listed: BTreeSet<_> = machines.iter().map(|machine| &machine.name).collect();
        self.records.retain(|name, record| {
            record.provider.identity() != identity
                || record.last_seen.is_none()
                || listed.contains(name)
        });
        for machine in machines {
            let known = self.records.get(&machine.name);
            let requested_at = known.and_then(|record| record.requested_at);
            let provider = known
                .map(|record| &record.provider)
                .filter(|provider| provider.identity() == identity)
                .or_else(|| self.settings.values().find(|s| s.identity() == identity))
                .cloned();
            let Some(provider) = provider else { continue };
            let record = Record {
                machine_type: machine.machine_type.clone(),
                provider,
                requested_at,
                last_seen: Some(machine.clone()),
                failing_since: machine.failing_since,
            };
            self.records.insert(machine.name.clone(), record);
        }
    }

    /// Takes the machines of a provider that cannot list them from memory, and marks their types.
    fn recall(&self, identity: &str, error: &ProviderError, inventory: &mut Inventory) {
        for (machine_type, settings) in &self.settings {
            if settings.identity() == identity && self.configured.contains(machine_type) {
                inventory.unlisted.insert(machine_type.clone(), error.to_string());
            }
        }
        for (_, record) in self.records.iter() {
            if record.provider.identity() == identity {
                inventory.unlisted.insert(record.machine_type.clone(), error.to_string());
                inventory.machines.extend(record.last_seen.clone());
            }
        }
    }
}

impl IntentLog for Fleet {
    fn intents(&mut self) -> Result<Vec<Intent>, LogError> {
        Ok(self.records.intents())
    }

    fn record(&mut self, intents: &[Intent]) -> Result<(), LogError> {
        for intent in intents {
            let Some(provider) = self.settings.get(&intent.machine_type) else { continue };
            let record = Record {
                machine_type: intent.machine_type.clone(),
                provider: provider.clone(),
                requested_at: Some(intent.requested_at),
                last_seen: None,
                failing_since: None,
            };
            self.records.insert(intent.name.clone(), record);
        }
        self.records.save()
    }

    fn forget(&mut self, names: &[MachineName]) -> Result<(), LogError> {
        // A machine that was seen is forgotten when it is listed no more.
        self.records.retain(|name, record| record.last_seen.is_some() || !names.contains(name));
        self.records.save()
    }
}

/// Runs `work` on every item, at most `parallelism` at a time; results come in the items' order.
fn in_parallel<T: Sync, R: Send>(
    parallelism: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..parallelism.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(index, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

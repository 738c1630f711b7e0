//! All machines of all providers, and what is remembered of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use planner::{Endpoint, Host, Machine, MachineName, MachineState, MachineType, Tag, is_ours};
use reconciler::world::{
    Done, Intent, IntentLog, Inventory, LogError, MachineProvider, Outcome, Step, StepError, Task,
};

use crate::config::{Config, Limits, SshSettings};
use crate::host_name::{OwnName, own_name};
use crate::lock::Access;
use crate::providers::{Provider, ProviderContext, ProviderError, ProviderSettings, build};
use crate::records::{Deployment, Record, Records};
use crate::ssh::{Ssh, SshError};

/// How long a machine that was only just started may take to answer ssh.
const SSH_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is tried.
const SSH_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Run on a machine so that it does not power itself off. Machines whose keys may run only certain commands
/// have to allow this one (nixos-modules/build-machine.nix), and the next.
pub const TOUCH_KEEP_ALIVE: [&str; 2] = ["touch", "/run/keep-alive"];
pub use crate::host_name::ASK_HOST_NAME;

/// Lists and changes machines through their providers, several at a time.
pub struct Fleet {
    tag: Tag,
    records: Records,
    providers: BTreeMap<String, Box<dyn Provider>>,
    /// The types of each provider, by its identity: the configured ones, and those that remembered machines
    /// were made with, since the configuration may have changed.
    groups: Groups,
    /// How new machines are made.
    configured: BTreeMap<MachineType, ProviderSettings>,
    ssh: Ssh,
    ssh_settings: SshSettings,
    ssh_keys: BTreeMap<MachineType, String>,
    /// Host names that machines told since the records were last written.
    learnt_names: Mutex<BTreeMap<MachineName, Host>>,
    limits: Limits,
}

type Groups = BTreeMap<String, BTreeMap<MachineType, ProviderSettings>>;

impl Fleet {
    /// The fleet of `config`, with what its state directory remembers.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn open(config: &Config, access: Access) -> Result<Self, LogError> {
        let records =
            Records::load(config.state_dir.join("machines.json"), &config.policy.tag, access)?;
        let groups = groups(config, &records);
        let keys = config.policy.pools.iter();
        Ok(Self {
            tag: config.policy.tag.clone(),
            providers: providers(config, &groups),
            configured: config.providers.clone(),
            records,
            groups,
            ssh: Ssh::new(config.ssh.options.clone(), &config.state_dir),
            ssh_settings: config.ssh.clone(),
            ssh_keys: keys
                .filter_map(|(t, pool)| Some((t.clone(), pool.ssh_key.clone()?)))
                .collect(),
            learnt_names: Mutex::default(),
            limits: config.limits,
        })
    }

    fn provider_of(&self, machine: &Machine) -> Result<&dyn Provider, ProviderError> {
        // A machine's own record says how it was made; its type's settings may have changed since. One that
        // was never seen is asked for as its type is made now.
        let settings = self
            .records
            .get(&machine.name)
            .filter(|record| {
                record.is_of_a_machine() || !self.configured.contains_key(&record.machine_type)
            })
            .map(|record| &record.provider)
            .or_else(|| self.configured.get(&machine.machine_type));
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
            // To the millisecond.
            let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
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
            let requested_at = self
                .records
                .get(&done.machine.name)
                .and_then(|record| record.requested_at)
                .unwrap_or_default();
            let token = format!("{} {}", done.machine.name, requested_at.0);
            done.machine =
                provider.create(&done.machine.name, &done.machine.machine_type, &token, limit)?;
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
            self.learn_host_name(done, deadline);
        }
        let is_fresh =
            matches!(freshness, Freshness::JustStarted) && provider.boots_with_keep_alive();
        if self.ssh_settings.touch_keep_alive && !is_fresh {
            let touch = TOUCH_KEEP_ALIVE.map(str::to_owned);
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

    /// The current queue runner knows builders by what `gethostname` says there; providers need not know. It is
    /// asked for at every deployment: a machine may get its name only while it boots, or another one later.
    fn learn_host_name(&self, done: &mut Done, deadline: Instant) {
        let machine = &mut done.machine;
        let earlier = self.records.get(&machine.name).and_then(|record| record.host_name.clone());
        let told = machine.host_name.clone();
        let asked = self
            .ssh_until(machine, &ASK_HOST_NAME.map(str::to_owned), deadline)
            .map_err(|error| error.to_string());
        match asked.and_then(|printed| own_name(&printed, told.as_ref())) {
            Ok(OwnName { host_name, contradiction }) => {
                let mut learnt = self.learnt_names.lock().unwrap_or_else(PoisonError::into_inner);
                learnt.insert(machine.name.clone(), host_name.clone());
                let known = told.filter(|told| *told != host_name);
                machine.published.extend(known.map(|host| Endpoint { host, port: None }));
                machine.host_name = Some(host_name);
                done.warnings.extend(contradiction);
            }
            Err(reason) if earlier.is_some() || told.is_some() => {
                tracing::debug!(machine = %machine.name, "cannot ask for its host name: {reason}");
                machine.host_name = earlier.or(told);
            }
            Err(reason) => {
                let warning =
                    format!("its host name is not known, so it will not be released: {reason}");
                tracing::warn!(machine = %done.machine.name, "{warning}");
                done.warnings.push(warning);
            }
        }
    }

    /// Tries until `deadline`, and once at least, to reach a machine that may still be booting.
    fn ssh_until(
        &self,
        machine: &Machine,
        remote: &[String],
        deadline: Instant,
    ) -> Result<Vec<u8>, SshError> {
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
                    .map(|_| ())
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

/// Whether `machine` is among `machines`: the provider's program may only have moved.
fn is_listed(machines: &[Machine], machine: &Machine) -> bool {
    machines.iter().any(|other| other.name == machine.name && other.address == machine.address)
}

/// Whether a machine may still be booting.
#[derive(Clone, Copy)]
enum Freshness {
    WasUp,
    JustStarted,
}

/// Adds what is remembered of `machine`: every place that it was ever known by, and its own word for its name.
fn recollect(machine: &mut Machine, record: &Record) {
    machine.failing_since = record.failing_since;
    let told = machine.host_name.clone();
    machine.host_name = record.host_name.clone().or(told.clone());
    let seen = record.last_seen.iter();
    for before in seen {
        let at = |host: &Host, port| Endpoint { host: host.clone(), port };
        let address = before.address.as_ref().map(|host| at(host, Some(before.ssh_port)));
        let names = before.host_name.iter().chain(&told).map(|host| at(host, None));
        machine.published.extend(before.published.iter().cloned().chain(address).chain(names));
    }
}

fn groups(config: &Config, records: &Records) -> Groups {
    let remembered = records.iter().map(|(_, record)| (&record.machine_type, &record.provider));
    let mut groups = Groups::new();
    for (machine_type, settings) in config.providers.iter().chain(remembered) {
        let group = groups.entry(settings.identity()).or_default();
        group.entry(machine_type.clone()).or_insert_with(|| settings.clone());
    }
    groups
}

fn providers(config: &Config, groups: &Groups) -> BTreeMap<String, Box<dyn Provider>> {
    let context =
        ProviderContext { tag: config.policy.tag.clone(), state_dir: config.state_dir.clone() };
    groups
        .iter()
        .filter_map(|(identity, types)| Some((identity.clone(), build(&context, types)?)))
        .collect()
}

impl MachineProvider for Fleet {
    fn list(&mut self) -> Inventory {
        let limit = self.limits.status_timeout;
        let providers: Vec<_> = self.providers.iter().collect();
        let lists = in_parallel(self.limits.parallelism, &providers, |(_, provider)| {
            provider.list(limit).map(|machines| (machines, provider.resources()))
        });
        let mut lists: Vec<_> =
            providers.iter().map(|(identity, _)| (*identity).clone()).zip(lists).collect();
        // Those that are configured now first: what they list is theirs from now on.
        lists.sort_by_key(|(identity, _)| !self.is_configured(identity));

        let mut inventory = Inventory::default();
        for (identity, list) in lists {
            match list {
                Ok((mut machines, resources)) => {
                    if !self.is_configured(&identity) {
                        machines.retain(|machine| !is_listed(&inventory.machines, machine));
                    }
                    machines.retain(|machine| self.is_ours(machine));
                    for machine in &mut machines {
                        if let Some(record) = self.records.get(&machine.name) {
                            recollect(machine, record);
                        }
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
        self.note_outcomes(tasks, &outcomes);
        outcomes
    }
}

impl Fleet {
    /// Remembers what was created, and since when deployments fail. Forgetting it after a crash only makes us
    /// ask again, and more patient.
    fn note_outcomes(&mut self, tasks: &[Task], outcomes: &[Outcome]) {
        let now = crate::world::now();
        for (task, outcome) in tasks.iter().zip(outcomes) {
            let was_created =
                outcome.as_ref().map_or_else(|error| error.step != Step::Create, |_| true);
            if task.steps.contains(&Step::Create) && was_created {
                self.records.note_creation(&task.machine.name);
            }
            let is_first = task.steps.first() != Some(&Step::Deploy);
            let deployment = match outcome {
                Ok(_) if task.steps.contains(&Step::Deploy) => Deployment::Succeeded,
                Err(error) if error.step == Step::Deploy && is_first => Deployment::FailedFirst,
                Err(error) if error.step == Step::Deploy => Deployment::Failed,
                _ => continue,
            };
            self.records.note_deployment(&task.machine.name, deployment, now);
        }
        let learnt = self.learnt_names.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (name, host_name) in std::mem::take(learnt) {
            self.records.note_host_name(&name, host_name);
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
            let host_name = known.and_then(|record| record.host_name.clone());
            let provider = known
                .map(|record| &record.provider)
                .filter(|provider| provider.identity() == identity)
                .or_else(|| self.settings_of(identity, &machine.machine_type))
                .cloned();
            let Some(provider) = provider else { continue };
            let record = Record {
                machine_type: machine.machine_type.clone(),
                provider,
                requested_at,
                last_seen: Some(machine.clone()),
                created: true,
                host_name,
                failing_since: machine.failing_since,
            };
            self.records.insert(machine.name.clone(), record);
        }
    }

    /// Whether a machine that a provider lists is this provisioner's; others are left alone.
    fn is_ours(&self, machine: &Machine) -> bool {
        let is_ours = is_ours(&self.tag, &machine.name, machine.tag.as_ref());
        if !is_ours {
            tracing::warn!(machine = %machine.name, "it is not ours and is left alone");
        }
        is_ours
    }

    fn is_configured(&self, identity: &str) -> bool {
        self.configured.values().any(|settings| settings.identity() == identity)
    }

    /// The provider's settings for a type, or for any other that it serves.
    fn settings_of(&self, identity: &str, machine_type: &MachineType) -> Option<&ProviderSettings> {
        let group = self.groups.get(identity)?;
        group.get(machine_type).or_else(|| group.values().next())
    }

    /// Takes the machines of a provider that cannot list them from memory, and marks their types.
    fn recall(&self, identity: &str, error: &ProviderError, inventory: &mut Inventory) {
        let mut reason = error.to_string();
        for (machine_type, settings) in &self.configured {
            if settings.identity() == identity {
                inventory.unlisted.insert(machine_type.clone(), reason.clone());
            }
        }
        if !self.is_configured(identity) {
            reason.push_str(
                " (the provider that machines were made with before the configuration changed; once they \
                 are gone, delete machines.json in stateDir)",
            );
        }
        for (_, record) in self.records.iter() {
            if record.provider.identity() == identity && record.is_of_a_machine() {
                inventory.unlisted.insert(record.machine_type.clone(), reason.clone());
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
            let Some(provider) = self.configured.get(&intent.machine_type) else { continue };
            let record = Record {
                machine_type: intent.machine_type.clone(),
                provider: provider.clone(),
                requested_at: Some(intent.requested_at),
                last_seen: None,
                created: false,
                host_name: None,
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

//! How machines are created: one module per provider, all behind [`Provider`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use planner::{Machine, MachineName, MachineState, MachineType, Money, Resource, Tag};
use reconciler::OperationErrorKind;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::short_sha256;

mod cloud;
pub mod command;
pub mod ec2;
mod former;
pub mod hcloud;
mod identity;
pub mod nixops;
pub mod qemu;
#[cfg(test)]
mod spellings;
mod ssh_access;
mod wire;

pub(crate) use ssh_access::check_host_key;

pub(crate) use cloud::UserDataRules;

pub use cloud::Login;

/// The interval between two checks of a machine that is not up yet.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// `systemTypes.<T>.provider` in `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ProviderSettings {
    /// The operator's own program.
    Command(command::Settings),
    /// Instances of Amazon EC2.
    Ec2(Box<ec2::Settings>),
    /// Servers of Hetzner Cloud.
    Hcloud(Box<hcloud::Settings>),
    /// NixOps.
    Nixops(nixops::Settings),
    /// Virtual machines on this host.
    Qemu(Box<qemu::Settings>),
}

impl ProviderSettings {
    /// Identifies the API or program behind a provider. Types with the same identity share one provider, which lists
    /// the machines of all of them together.
    pub fn identity(&self) -> String {
        match self {
            Self::Command(settings) => format!("command {:?}", settings.program),
            Self::Ec2(settings) => settings.identity(),
            Self::Hcloud(settings) => {
                format!("hcloud {} {}", settings.endpoint, settings.token_file.display())
            }
            Self::Nixops(settings) => settings.identity(),
            Self::Qemu(settings) => format!("qemu {:?}", settings.state_dir),
        }
    }

    /// What a new machine is requested as, in order, if its API offers a choice.
    pub fn offers(&self) -> Vec<String> {
        match self {
            Self::Ec2(settings) => ec2::described_offers(settings),
            Self::Hcloud(settings) => hcloud::described_offers(settings),
            Self::Command(_) | Self::Nixops(_) | Self::Qemu(_) => Vec::new(),
        }
    }

    /// From now on machines report whether a new one would have another image.
    pub(crate) fn watch_image(&mut self) {
        match self {
            Self::Ec2(settings) => settings.watches_image = true,
            Self::Hcloud(settings) => settings.watches_image = true,
            Self::Command(_) | Self::Nixops(_) | Self::Qemu(_) => {}
        }
    }

    /// A short digest of the settings that a machine is made from: not of those that say how its API is reached, what it
    /// costs, how it is bought, or what all machines share.
    pub(crate) fn digest(&self) -> String {
        match self {
            Self::Ec2(settings) => settings.digest(),
            Self::Hcloud(settings) => settings.digest(),
            Self::Qemu(settings) => digest_of(&Self::Qemu(Box::new(settings.made_from()))),
            Self::Command(_) | Self::Nixops(_) => digest_of(self),
        }
    }
}

/// A short digest of settings.
fn digest_of(made_from: &ProviderSettings) -> String {
    short_sha256(serde_json::to_vec(made_from).unwrap_or_default())
}

/// Creates and operates machines. Calls come from several threads at the same time, each for a different
/// machine.
pub trait Provider: Send + Sync {
    /// All machines with our tag, of any type.
    ///
    /// # Errors
    /// When the list may be incomplete.
    fn list(&self, limit: Duration) -> Result<Vec<Machine>, ProviderError>;

    /// Whether it may announce that it interrupts machines.
    fn announces_interruptions(&self) -> bool {
        false
    }

    /// Waits at most half a minute for interruption notices; returns the names of the machines. A machine may be
    /// returned more than once, and later listings show it too ([`Machine::interrupted`]).
    ///
    /// # Errors
    /// If notices cannot be received now.
    fn wait_for_interruptions(&self) -> Result<Vec<MachineName>, ProviderError> {
        Ok(Vec::new())
    }

    /// Limited resources that its machines share, as of the last [`list`](Self::list).
    fn resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    /// The most that a new machine of each type may cost per hour, where known, as of the last [`list`](Self::list).
    fn prices(&self) -> BTreeMap<MachineType, Money> {
        BTreeMap::new()
    }

    /// Whether a machine creates `/run/keep-alive` itself when it boots.
    fn boots_with_keep_alive(&self) -> bool {
        false
    }

    /// Tries the calls that it needs, without changing anything: for `check --online`.
    fn try_calls(&self, limit: Duration) -> Vec<Tried> {
        vec![Tried::new("list", self.list(limit).map(|_| ()))]
    }

    /// Creates a machine. If a machine of that name exists, it is returned. A repeated request for the same
    /// creation has the same `token`; every other creation has a different one.
    ///
    /// # Errors
    /// With [`OperationErrorKind::Capacity`] if there may be capacity later.
    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError>;

    /// Starts a machine that is off. A running machine is a success.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError>;

    /// Waits until the machine is up, and deploys to it. Returns its new description: up, with an address.
    ///
    /// # Errors
    /// When it is not up in time.
    fn deploy(&self, machine: &Machine, limit: Duration) -> Result<Machine, ProviderError>;

    /// Stops a machine and keeps its disk. A machine that is off is a success.
    ///
    /// # Errors
    /// When it may still be running.
    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError>;

    /// Destroys a machine. A machine that is gone is a success.
    ///
    /// # Errors
    /// When any part of it may be left.
    fn destroy(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError>;
}

/// A call that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The call, and for what.
    pub what: String,
    /// The result.
    pub outcome: Outcome,
}

/// The result of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It would succeed.
    Allowed,
    /// It cannot be tried now; why.
    Skipped(String),
    /// It would fail; why.
    Refused(String),
}

impl Tried {
    pub(crate) fn new(what: impl Into<String>, result: Result<(), ProviderError>) -> Self {
        let outcome = match result {
            Ok(()) => Outcome::Allowed,
            Err(error) => Outcome::Refused(error.to_string()),
        };
        Self { what: what.into(), outcome }
    }

    pub(crate) fn skipped(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: Outcome::Skipped(why.into()) }
    }
}

/// A provider's failure.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", planner::escape(message))]
pub struct ProviderError {
    /// What callers branch on.
    pub kind: OperationErrorKind,
    /// What happened, and how to fix it.
    pub message: String,
}

impl ProviderError {
    /// A failure that callers do not branch on.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: OperationErrorKind::Failed, message: message.into() }
    }
}

/// Checks a machine every [`POLL_INTERVAL`] until it is up with an address.
///
/// # Errors
/// When it fails, disappears, or is not up within `limit`.
fn wait_until_up(
    machine: &Machine,
    limit: Duration,
    look: impl Fn(Duration) -> Result<Machine, ProviderError>,
) -> Result<Machine, ProviderError> {
    let began = Instant::now();
    let mut machine = machine.clone();
    loop {
        match machine.state {
            MachineState::Up if machine.address.is_some() => return Ok(machine),
            MachineState::Up if !machine.problems.is_empty() => {
                return Err(ProviderError::failed(machine.problems.join("; ")));
            }
            MachineState::Failed => {
                return Err(ProviderError::failed("it failed while it was starting"));
            }
            _ => {}
        }
        let left = limit.saturating_sub(began.elapsed());
        if left <= POLL_INTERVAL {
            return Err(ProviderError {
                kind: OperationErrorKind::TimedOut,
                message: not_up(machine.state, limit),
            });
        }
        thread::sleep(POLL_INTERVAL);
        machine = look(left)?;
    }
}

/// Why a machine in `state` cannot be used after `limit`.
fn not_up(state: MachineState, limit: Duration) -> String {
    let seconds = limit.as_secs();
    match state {
        MachineState::Up => {
            format!("it is up but had no address within {seconds} s; see deployTimeout")
        }
        state => {
            format!("it was not up within {seconds} s (its state is {state}); see deployTimeout")
        }
    }
}

/// The input of every provider.
#[derive(Clone, Debug)]
pub struct ProviderContext {
    /// Marks our machines.
    pub tag: Tag,
    /// `stateDir`, absolute.
    pub state_dir: PathBuf,
    /// Types that are configured elsewhere, or not at all, any more. Their settings serve the machines that exist, and limit
    /// no others.
    pub removed: BTreeSet<MachineType>,
}

impl ProviderContext {
    /// For configured types alone.
    pub fn new(tag: Tag, state_dir: PathBuf) -> Self {
        Self { tag, state_dir, removed: BTreeSet::new() }
    }

    /// Those of `types` that are configured.
    fn configured<'a, T>(
        &'a self,
        types: &'a BTreeMap<MachineType, T>,
    ) -> impl Iterator<Item = (&'a MachineType, &'a T)> {
        types.iter().filter(|(machine_type, _)| !self.removed.contains(*machine_type))
    }
}

/// Makes the one provider for `types` (all with one identity), for machines of `former` tags too. `None`
/// for no types.
pub fn build_for_tags(
    context: &ProviderContext,
    former: &[Tag],
    types: &BTreeMap<MachineType, ProviderSettings>,
) -> Option<Box<dyn Provider>> {
    let present = build(context, types)?;
    if former.is_empty() {
        return Some(present);
    }
    let of_tag = |tag: &Tag| {
        let context = ProviderContext { tag: tag.clone(), ..context.clone() };
        Some((tag.clone(), build(&context, types)?))
    };
    Some(Box::new(former::AllTags { present, former: former.iter().filter_map(of_tag).collect() }))
}

/// Tries the calls that each provider of `providers` needs, without changing anything. By provider.
pub fn try_calls(
    context: &ProviderContext,
    providers: &BTreeMap<MachineType, ProviderSettings>,
    limit: Duration,
) -> BTreeMap<String, Vec<Tried>> {
    let mut types = BTreeMap::<String, BTreeMap<_, _>>::new();
    for (machine_type, settings) in providers {
        let of_provider = types.entry(settings.identity()).or_default();
        of_provider.insert(machine_type.clone(), settings.clone());
    }
    let tried = types
        .into_iter()
        .filter_map(|(identity, types)| Some((identity, build(context, &types)?.try_calls(limit))));
    tried.collect()
}

/// Makes the one provider for `types` (all with one identity). `None` for no types.
pub fn build(
    context: &ProviderContext,
    types: &BTreeMap<MachineType, ProviderSettings>,
) -> Option<Box<dyn Provider>> {
    match types.values().next()? {
        ProviderSettings::Command(first) => {
            let options = of_kind(types, |settings| match settings {
                ProviderSettings::Command(settings) => Some(settings.options.clone()),
                _ => None,
            });
            Some(Box::new(command::CommandProvider::new(context, first.program.clone(), options)))
        }
        ProviderSettings::Ec2(_) => {
            let settings = of_kind(types, |settings| match settings {
                ProviderSettings::Ec2(settings) => Some(settings.as_ref().clone()),
                _ => None,
            });
            Some(Box::new(ec2::Ec2Provider::new(context, settings)?))
        }
        ProviderSettings::Hcloud(_) => {
            let settings = of_kind(types, |settings| match settings {
                ProviderSettings::Hcloud(settings) => Some(settings.as_ref().clone()),
                _ => None,
            });
            Some(Box::new(hcloud::HcloudProvider::new(context, settings)?))
        }
        ProviderSettings::Nixops(_) => {
            let settings = of_kind(types, |settings| match settings {
                ProviderSettings::Nixops(settings) => Some(settings.clone()),
                _ => None,
            });
            Some(Box::new(nixops::NixopsProvider::new(context, settings)?))
        }
        ProviderSettings::Qemu(_) => {
            let settings = of_kind(types, |settings| match settings {
                ProviderSettings::Qemu(settings) => Some(settings.as_ref().clone()),
                _ => None,
            });
            Some(Box::new(qemu::QemuProvider::new(context, settings)?))
        }
    }
}

/// The types for which `settings_of_kind` returns settings.
fn of_kind<T>(
    types: &BTreeMap<MachineType, ProviderSettings>,
    settings_of_kind: impl Fn(&ProviderSettings) -> Option<T>,
) -> BTreeMap<MachineType, T> {
    types
        .iter()
        .filter_map(|(machine_type, settings)| {
            Some((machine_type.clone(), settings_of_kind(settings)?))
        })
        .collect()
}

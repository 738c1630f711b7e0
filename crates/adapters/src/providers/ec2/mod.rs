//! The `ec2` provider: instances of Amazon EC2 (`docs/ec2.md`).
//!
//! An instance's tags contain everything about it: its owner, its machine's name and type, its public host
//! key. With a client token a repeated creation creates only one instance.

mod answer;
mod api;
mod attempts;
mod conditions;
mod creation;
mod credentials;
mod lookups;
mod meanings;
mod mix;
mod notices;
mod online;
mod prices;
mod profile;
mod request;
mod settings;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use planner::{Host, Machine, MachineName, MachineState, MachineType, Money, Tag};

pub(crate) use self::lookups::can_nest;
pub(crate) use self::request::USER_DATA;
pub(super) use self::request::described_offers;
pub use self::settings::{
    Address, Image, Mix, Place, Purchase, Requirements, RootVolume, Settings,
};

use self::api::{Call, Client, Refused, Service};
use self::attempts::Attempts;
use self::conditions::Conditions;
use self::creation::Creation;
use self::lookups::Lookups;
use self::meanings::Meaning;
use self::mix::Ledger;
use self::notices::NoticeQueue;
use self::prices::Prices;
use self::request::{HOST_KEY, KEYS, NAME, Offer, SETTINGS, TAG, TYPE};
use self::wire::Instance;
use super::cloud::{
    HostKey, Keys, Known, NewMachine, Presence, RetryBudget, SetAside, keys, nameless,
};
use super::{Provider, ProviderContext, ProviderError, Tried, wait_until_up};

/// The API's maximum.
const PAGE_SIZE: &str = "1000";
/// The pause between two requests for an instance that exists but is not visible yet.
const LAG_PAUSE: Duration = Duration::from_secs(1);
/// How many instances may be gone before they are seen.
const MAX_ATTEMPTS: u32 = 5;
/// The states of an instance that is not gone.
const STATES: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// Creates instances in one region and account.
pub struct Ec2Provider {
    tag: Tag,
    state_dir: PathBuf,
    types: BTreeMap<MachineType, Settings>,
    client: Client,
    notice_queue: Option<NoticeQueue>,
    attempts: Attempts,
    set_aside: SetAside<Offer>,
    known: Known<String>,
    conditions: Conditions,
    lookups: Lookups,
    keys: Keys,
    ledger: Ledger,
    prices: Prices,
}

impl Ec2Provider {
    /// For `types`, which have the same region and credentials; `None` if there are none.
    pub fn new(context: &ProviderContext, types: BTreeMap<MachineType, Settings>) -> Option<Self> {
        let first = types.values().next()?;
        let has_price_list = types.values().find(|one| one.pricing_endpoint.is_some());
        Some(Self {
            tag: context.tag.clone(),
            state_dir: context.state_dir.clone(),
            client: Client::new(first, Service::ec2(first)),
            notice_queue: NoticeQueue::new(context.configured(&types).map(|(_, one)| one)),
            attempts: Attempts::new(&context.state_dir),
            prices: Prices::new(has_price_list.unwrap_or(first)),
            lookups: Lookups::new(first),
            types,
            set_aside: SetAside::default(),
            keys: Keys::default(),
            known: Known::default(),
            conditions: Conditions::default(),
            ledger: Ledger::default(),
        })
    }

    fn describe(&self, call: &Call, retries: &mut RetryBudget) -> Result<Vec<Instance>, Refused> {
        let mut instances = Vec::new();
        self.client.pages(call, retries, |mut page: wire::DescribeInstances| {
            let next_token = mem::take(&mut page.next_token);
            instances.extend(page.into_instances());
            next_token
        })?;
        Ok(instances)
    }

    /// Our instances that are not gone.
    fn ours(&self) -> Call {
        Call::new("DescribeInstances")
            .filter(1, &format!("tag:{TAG}"), &[self.tag.as_str()])
            .filter(2, "instance-state-name", &STATES)
    }

    /// Instances with one name; normally one.
    fn of_name(
        &self,
        name: &MachineName,
        retries: &mut RetryBudget,
    ) -> Result<Vec<(Instance, Machine)>, ProviderError> {
        let call = self.ours().filter(3, &format!("tag:{NAME}"), &[name.as_str()]);
        let found = self.describe(&call, retries)?;
        Ok(found
            .into_iter()
            .filter_map(|instance| {
                let machine = self.machine(&instance)?;
                (machine.name == *name).then_some((instance, machine))
            })
            .collect())
    }

    /// The instance as a machine, if it is ours and is not being terminated.
    fn machine(&self, instance: &Instance) -> Option<Machine> {
        if instance.tag(TAG)? != self.tag.as_str() {
            return None;
        }
        let name = MachineName::new(instance.tag(NAME)?);
        let machine_type = MachineType::new(instance.tag(TYPE)?);
        let settings = self.types.get(&machine_type).or_else(|| self.types.values().next());
        let address = settings.map(|settings| settings.address).unwrap_or_default();
        let has_old_keys = self.keys.differ(&machine_type, instance.tag(KEYS));
        Some(Machine {
            problems: has_old_keys.then(|| keys::problem(USER_DATA.option)).into_iter().collect(),
            state: self.conditions.state(instance)?,
            interrupted: self.conditions.is_interrupted(instance),
            has_old_image: self.has_old_image(&machine_type, instance)
                || (has_old_keys && self.replaces_old(&machine_type)),
            address: instance.address(address).map(Host::new),
            host_name: Some(Host::new(name.as_str())),
            host_key: instance
                .tag(HOST_KEY)
                .and_then(|line| Some(HostKey::from_line(line)?.line().to_owned())),
            started_at: instance.started_at(),
            dollars_per_hour: self.prices.of(instance),
            made_from: instance.tag(SETTINGS).map(str::to_owned),
            tag: Some(self.tag.clone()),
            ..Machine::requested(name, machine_type)
        })
    }

    /// An instance with our tag alone.
    fn nameless(&self, instance: &Instance) -> Option<Machine> {
        let has_our_tag = instance.tag(TAG) == Some(self.tag.as_str());
        let is_complete = instance.tag(NAME).is_some() && instance.tag(TYPE).is_some();
        let is_nameless = has_our_tag && !is_complete && instance.state().is_some();
        is_nameless.then(|| nameless(&instance.instance_id))
    }

    fn has_old_image(&self, machine_type: &MachineType, instance: &Instance) -> bool {
        let settings = self.types.get(machine_type);
        settings.is_some_and(|one| self.lookups.is_old_image(one, &instance.image_id))
    }

    /// Whether machines of this type are replaced when new ones would be made from something else.
    fn replaces_old(&self, machine_type: &MachineType) -> bool {
        self.types.get(machine_type).is_some_and(|settings| settings.watches_image)
    }

    fn look(&self, id: &str, retries: &mut RetryBudget) -> Result<Presence, ProviderError> {
        let call = Call::new("DescribeInstances").with("InstanceId.1", id);
        match self.describe(&call, retries) {
            Ok(found) => Ok(match found.first() {
                Some(instance) => self
                    .machine(instance)
                    .map_or(Presence::Gone, |machine| Presence::There(Box::new(machine))),
                None => Presence::Unknown,
            }),
            Err(Refused { meaning: Meaning::Gone, .. }) => Ok(Presence::Unknown),
            Err(refused) => Err(refused.error),
        }
    }

    /// The prices of our instances and of those that may be created.
    fn refresh_prices(&self, instances: &[Instance], retries: &RetryBudget) {
        let fetching = || self.types.values().filter(|settings| settings.fetches_prices);
        if fetching().next().is_none() {
            return;
        }
        let (mut on_demand, mut spot) = (BTreeSet::new(), BTreeSet::new());
        for settings in fetching() {
            let known = self.lookups.known_types(settings);
            for purchase in &settings.purchase {
                match purchase {
                    Purchase::OnDemand => on_demand.extend(known.iter().cloned()),
                    Purchase::Spot => spot.extend(known.iter().cloned()),
                }
            }
        }
        for instance in instances {
            let types = if instance.is_spot() { &mut spot } else { &mut on_demand };
            types.insert(instance.instance_type.clone());
        }
        self.prices.refresh(&self.client, &on_demand, &spot, retries);
    }

    /// Changes one instance. Waits while it is between two states.
    ///
    /// # Errors
    /// With [`Meaning::Gone`] if there is none of that id.
    fn change(
        &self,
        action: &'static str,
        id: &str,
        retries: &mut RetryBudget,
    ) -> Result<(), Refused> {
        let call = Call::new(action).with("InstanceId.1", id);
        loop {
            match self.client.call::<wire::Done>(&call, retries) {
                Ok(_) => return Ok(()),
                Err(Refused { meaning: Meaning::WrongState, error }) => {
                    // The operator has terminated it: that does not change any more.
                    if matches!(self.look(id, retries)?, Presence::Gone) {
                        return Err(Refused { meaning: Meaning::Gone, error });
                    }
                    retries.pause(LAG_PAUSE, &error.message)?;
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Whether EC2 lets the instance hibernate. It refuses that for instances that were created without it, and
    /// while its agent has not started.
    fn hibernate(&self, name: &MachineName, id: &str, retries: &mut RetryBudget) -> bool {
        let call = Call::new("StopInstances").with("InstanceId.1", id).with("Hibernate", "true");
        match self.client.call::<wire::Done>(&call, retries) {
            Ok(_) => true,
            Err(refused) => {
                let error = refused.error;
                tracing::warn!(machine = %name, "cannot hibernate, is stopped instead: {error}");
                false
            }
        }
    }

    /// One `TerminateInstances` per instance: a single wrong id would make the whole call fail.
    fn terminate(
        &self,
        id: &str,
        may_be_unknown_yet: bool,
        retries: &mut RetryBudget,
    ) -> Result<(), ProviderError> {
        loop {
            match self.change("TerminateInstances", id, retries) {
                Err(Refused { meaning: Meaning::Gone, error }) if may_be_unknown_yet => {
                    retries.pause(LAG_PAUSE, &error.message)?;
                }
                Ok(()) | Err(Refused { meaning: Meaning::Gone, .. }) => break,
                Err(refused) => return Err(refused.error),
            }
        }
        self.known.forget(&id.to_owned());
        Ok(())
    }

    fn existing(
        &self,
        machine: &Machine,
        retries: &mut RetryBudget,
    ) -> Result<(Instance, Machine), ProviderError> {
        let mut found = self.of_name(&machine.name, retries)?;
        found.pop().ok_or_else(|| ProviderError::failed("it is gone"))
    }
}

impl Provider for Ec2Provider {
    fn announces_interruptions(&self) -> bool {
        self.has_spot_types()
    }

    fn wait_for_interruptions(&self) -> Result<Vec<MachineName>, ProviderError> {
        self.wait_for_notices()
    }

    fn list(&self, limit: Duration) -> Result<Vec<Machine>, ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let began = Instant::now();
        self.keys.refresh(self.types.iter().map(|(name, one)| (name, &one.login)));
        let call = self.ours().with("MaxResults", PAGE_SIZE);
        let instances = self.describe(&call, &mut retries)?;
        self.conditions.refresh(&self.client, &instances, &retries);
        self.refresh_prices(&instances, &retries);
        self.lookups.refresh_images(&self.client, self.types.values(), &retries);
        self.note_interruptions(&instances);
        let (mut listed, mut purchases) = (BTreeMap::new(), BTreeMap::new());
        let mut nameless = Vec::new();
        for instance in instances {
            let Some(machine) = self.machine(&instance) else {
                nameless.extend(self.nameless(&instance));
                continue;
            };
            purchases.insert(machine.name.clone(), instance.purchase());
            listed.insert(instance.instance_id, machine);
        }
        let mut machines = self.known.complete(began, listed, |id| self.look(id, &mut retries))?;
        self.ledger.listed(machines.iter().map(|machine| {
            let purchase = purchases.get(&machine.name).copied();
            (machine.name.clone(), machine.machine_type.clone(), purchase)
        }));
        machines.extend(nameless);
        Ok(machines)
    }

    fn prices(&self) -> BTreeMap<MachineType, Money> {
        let types = self.types.iter().filter(|(_, settings)| settings.fetches_prices);
        let price = |(name, settings): (&MachineType, &Settings)| {
            let types = self.lookups.known_types(settings);
            Some((name.clone(), self.prices.most(settings, &types)?))
        };
        types.filter_map(price).collect()
    }

    fn try_calls(&self, limit: Duration) -> Vec<Tried> {
        self.try_each_call(limit)
    }

    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError> {
        let settings = self.types.get(machine_type).ok_or_else(|| {
            ProviderError::failed(format!("the type {machine_type} is not configured"))
        })?;
        let mut retries = RetryBudget::new(limit);
        // Created by an earlier run that did not get the answer.
        if let Some((instance, machine)) = self.of_name(name, &mut retries)?.pop() {
            if machine.machine_type != *machine_type {
                return Err(ProviderError::failed(format!(
                    "{} was created for the type {}",
                    instance.instance_id, machine.machine_type
                )));
            }
            self.known.made(instance.instance_id, machine.clone());
            return Ok(machine);
        }
        let new =
            NewMachine::new(name, name.as_str(), &settings.login, &self.state_dir, &USER_DATA)?;
        let creation = Creation { name, machine_type, settings, new: &new, token };
        let instance = self.obtain(&creation, &mut retries)?;
        // The answer to a creation may lack the requested tags.
        let machine = self.machine(&instance).unwrap_or_else(|| Machine {
            state: MachineState::Starting,
            host_name: Some(Host::new(name.as_str())),
            host_key: Some(new.host_key.line().to_owned()),
            started_at: instance.started_at(),
            dollars_per_hour: self.prices.of(&instance),
            ..Machine::requested(name.clone(), machine_type.clone())
        });
        tracing::info!(
            machine = %name,
            instance = instance.instance_id,
            instance_type = instance.instance_type,
            zone = instance.placement.availability_zone,
            spot = instance.is_spot(),
            "created"
        );
        self.known.made(instance.instance_id, machine.clone());
        Ok(machine)
    }

    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let (instance, _) = self.existing(machine, &mut retries)?;
        self.change("StartInstances", &instance.instance_id, &mut retries)
            .map_err(|refused| refused.error)
    }

    fn deploy(&self, machine: &Machine, limit: Duration) -> Result<Machine, ProviderError> {
        wait_until_up(machine, limit, |limit| {
            let mut retries = RetryBudget::new(limit);
            let found = self.existing(machine, &mut retries)?.1;
            // They do not keep it from coming up.
            Ok(Machine { problems: Vec::new(), ..found })
        })
    }

    /// A spot instance cannot be stopped: it is terminated.
    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let (instance, _) = self.existing(machine, &mut retries)?;
        if instance.is_spot() {
            return self.terminate(&instance.instance_id, false, &mut retries);
        }
        if self.types.get(&machine.machine_type).is_some_and(|settings| settings.hibernate)
            && self.hibernate(&machine.name, &instance.instance_id, &mut retries)
        {
            return Ok(());
        }
        self.change("StopInstances", &instance.instance_id, &mut retries)
            .map_err(|refused| refused.error)
    }

    fn destroy(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let known = self.known.ids_of(&machine.name);
        let listed = self.of_name(&machine.name, &mut retries)?;
        let listed: BTreeSet<_> =
            listed.into_iter().map(|(instance, _)| instance.instance_id).collect();
        for id in &listed {
            self.terminate(id, false, &mut retries)?;
        }
        for (id, is_new) in known.into_iter().filter(|(id, _)| !listed.contains(id)) {
            self.terminate(&id, is_new, &mut retries)?;
        }
        self.attempts.forget(&machine.name);
        Ok(())
    }
}

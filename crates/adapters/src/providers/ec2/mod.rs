//! The `ec2` provider: instances of Amazon EC2 (`docs/ec2.md`).
//!
//! An instance's tags contain everything about it: its owner, its machine's name and type, its public host
//! key. With a client token a repeated creation creates only one instance.

mod api;
mod attempts;
mod conditions;
mod credentials;
mod notices;
mod request;
mod settings;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use planner::{Host, Machine, MachineName, MachineState, MachineType, Tag};

pub use self::settings::{Address, Image, Place, Purchase, RootVolume, Settings};

use self::api::{Call, Client, Meaning, Refused, Service};
use self::attempts::{Attempt, Attempts};
use self::conditions::Conditions;
use self::notices::NoticeQueue;
use self::request::{HOST_KEY, NAME, Offer, TAG, TYPE, VALUE_LIMIT, offers, run_instances, tags};
use self::wire::Instance;
use super::cloud::{Known, NewMachine, Presence, Refusal, RetryBudget, SetAside};
use super::{Provider, ProviderContext, ProviderError, wait_until_up};

/// The API's maximum.
const PAGE_SIZE: &str = "1000";
/// How long a found image is used before the next search.
const IMAGE_VALID_FOR: Duration = Duration::from_secs(10 * 60);
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
    images: Mutex<BTreeMap<Image, (Instant, String)>>,
}

impl Ec2Provider {
    /// For `types`, which have the same region and credentials; `None` if there are none.
    pub fn new(context: &ProviderContext, types: BTreeMap<MachineType, Settings>) -> Option<Self> {
        let first = types.values().next()?;
        Some(Self {
            tag: context.tag.clone(),
            state_dir: context.state_dir.clone(),
            client: Client::new(first, Service::ec2(first)),
            notice_queue: NoticeQueue::new(types.values()),
            attempts: Attempts::new(&context.state_dir),
            types,
            set_aside: SetAside::default(),
            known: Known::default(),
            conditions: Conditions::default(),
            images: Mutex::default(),
        })
    }

    /// The image's id, or a reference that EC2 resolves.
    fn image(&self, image: &Image, retries: &mut RetryBudget) -> Result<String, ProviderError> {
        let (owner, name, architecture) = match image {
            Image::Id(id) => return Ok(id.clone()),
            Image::Parameter(name) => return Ok(format!("resolve:ssm:{name}")),
            Image::Newest { owner, name, architecture } => (owner, name, architecture),
        };
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, id)) = images.get(image)
            && since.elapsed() < IMAGE_VALID_FOR
        {
            return Ok(id.clone());
        }
        let mut call = Call::new("DescribeImages")
            .with("Owner.1", owner)
            .filter(1, "name", &[name])
            .filter(2, "state", &["available"]);
        if let Some(architecture) = architecture {
            call = call.filter(3, "architecture", &[architecture]);
        }
        let answer: wire::DescribeImages = self.client.call(&call, retries)?;
        let newest = answer.images_set.item.into_iter().max_by_key(|one| one.creation_date.clone());
        let id = newest.map(|one| one.image_id).ok_or_else(|| {
            ProviderError::failed(format!(
                "{owner} has no image named {name:?} in this region; see provider.ec2.imageFilter"
            ))
        })?;
        images.insert(image.clone(), (Instant::now(), id.clone()));
        Ok(id)
    }

    fn describe(&self, call: &Call, retries: &mut RetryBudget) -> Result<Vec<Instance>, Refused> {
        let mut instances = Vec::new();
        let mut page = call.clone();
        loop {
            let answer: wire::DescribeInstances = self.client.call(&page, retries)?;
            let next_token = answer.next_token.clone();
            instances.extend(answer.into_instances());
            if next_token.is_empty() {
                return Ok(instances);
            }
            page = call.clone().with("NextToken", next_token);
        }
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
        Some(Machine {
            state: self.conditions.state(instance)?,
            interrupted: self.conditions.is_interrupted(instance),
            address: instance.address(address).map(Host::new),
            host_name: Some(Host::new(name.as_str())),
            host_key: instance.tag(HOST_KEY).map(str::to_owned),
            started_at: instance.started_at(),
            tag: Some(self.tag.clone()),
            ..Machine::requested(name, machine_type)
        })
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

    /// Requests one instance for `attempt`. If the token was used before, its instance is returned.
    fn take(
        &self,
        name: &MachineName,
        call: &Call,
        mut attempt: Attempt,
        retries: &mut RetryBudget,
    ) -> Result<Instance, Refusal> {
        loop {
            self.attempts.record(name, &attempt)?;
            let token = attempt.client_token(&self.tag, name);
            let call = call.clone().with("ClientToken", &token);
            let made = match self.client.call::<wire::Reservation>(&call, retries) {
                Ok(reservation) => reservation.instances_set.item.into_iter().next(),
                Err(Refused { meaning: Meaning::Unavailable | Meaning::Quota, error }) => {
                    return Err(Refusal::Unavailable(error.message));
                }
                Err(Refused { meaning: Meaning::Exists, error }) => {
                    // Created by an earlier run, with another host key.
                    let by_token =
                        Call::new("DescribeInstances").filter(1, "client-token", &[&token]);
                    let found = self.describe(&by_token, retries).map_err(ProviderError::from)?;
                    if found.is_empty() {
                        retries.pause(LAG_PAUSE, &error.message)?;
                        continue;
                    }
                    found.into_iter().next()
                }
                Err(Refused { error, .. }) => return Err(Refusal::Other(error)),
            };
            match made {
                Some(instance) if instance.state().is_some() => return Ok(instance),
                _ if attempt.number < MAX_ATTEMPTS => attempt.number += 1,
                _ => {
                    return Err(Refusal::Unavailable(format!(
                        "{MAX_ATTEMPTS} instances were gone as soon as they were created"
                    )));
                }
            }
        }
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

/// Checks what EC2 would refuse anyway, with a clearer message.
fn check_tags(tags: &[(String, String)]) -> Result<(), ProviderError> {
    match tags.iter().find(|(_, value)| value.chars().count() > VALUE_LIMIT) {
        None => Ok(()),
        Some((key, _)) => Err(ProviderError::failed(format!(
            "the tag {key} would be longer than the {VALUE_LIMIT} characters that EC2 allows"
        ))),
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
        let call = self.ours().with("MaxResults", PAGE_SIZE);
        let instances = self.describe(&call, &mut retries)?;
        self.conditions.refresh(&self.client, &instances, &retries);
        self.note_interruptions(&instances);
        let listed = instances
            .iter()
            .filter_map(|instance| Some((instance.instance_id.clone(), self.machine(instance)?)))
            .collect();
        self.known.complete(began, listed, |id| self.look(id, &mut retries))
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
        let image = self.image(&settings.image, &mut retries)?;
        let option = "provider.ec2.authorizedKeys";
        let new = NewMachine::new(name, name.as_str(), &settings.login, &self.state_dir, option)?;
        let tags = tags(settings, &self.tag, name, machine_type, &new);
        check_tags(&tags)?;

        let last = self.attempts.last(name, token);
        let mut offers = offers(settings);
        if let Some(last) = &last {
            // First, because it may have had an effect.
            offers.sort_by_key(|offer| *offer != last.offer);
        }
        let instance = self.set_aside.first_available(&offers, |offer| {
            let number =
                last.as_ref().filter(|last| last.offer == *offer).map_or(0, |last| last.number);
            let attempt = Attempt { token: token.to_owned(), offer: offer.clone(), number };
            let call = run_instances(settings, offer, &image, &tags, &new);
            self.take(name, &call, attempt, &mut retries)
        })?;
        // The answer to a creation may lack the requested tags.
        let machine = self.machine(&instance).unwrap_or_else(|| Machine {
            state: MachineState::Starting,
            host_name: Some(Host::new(name.as_str())),
            host_key: Some(new.host_key.line().to_owned()),
            started_at: instance.started_at(),
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
            Ok(self.existing(machine, &mut retries)?.1)
        })
    }

    /// A spot instance cannot be stopped: it is terminated.
    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let (instance, _) = self.existing(machine, &mut retries)?;
        if instance.is_spot() {
            return self.terminate(&instance.instance_id, false, &mut retries);
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

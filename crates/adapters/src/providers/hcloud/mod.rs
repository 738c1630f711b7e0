//! The `hcloud` provider: servers of Hetzner Cloud (`docs/hetzner.md`).
//!
//! A server's labels contain everything about it: its owner, its machine's name and type, its public host
//! key. Server names are unique in a project, so a repeated creation cannot create two servers.

mod api;
mod labels;
mod offers;
mod online;
mod prices;
mod settings;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use planner::{Host, Machine, MachineName, MachineState, MachineType, Money, Tag, Timestamp};
use serde_json::{Value, json};
use ureq::http::Method;

pub(super) use self::offers::described_offers;
pub use self::settings::{Address, ENDPOINT, Image, Settings};

use self::api::{Client, Meaning, Refused};
use self::offers::{Offer, offer_of, offers};
use self::prices::Prices;
use self::wire::{Server, Status};
use super::cloud::{
    Images, Keys, Known, NewMachine, Presence, Refusal, RetryBudget, SetAside, UserDataRules, keys,
    nameless,
};
use super::{Provider, ProviderContext, ProviderError, Tried, wait_until_up};

/// The API's maximum.
const PAGE_SIZE: u32 = 50;
/// Billing is per started hour.
const BILLED_SECONDS: u64 = 3600;
/// The interval between two checks of a server that shuts down.
const SHUTDOWN_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A server that is off but locked this soon after its creation is about to boot.
const FIRST_BOOT_SECONDS: u64 = 120;
pub(crate) const USER_DATA: UserDataRules =
    UserDataRules { option: "provider.hcloud", most_bytes: 32 * 1024 };

/// Creates servers in one project.
pub struct HcloudProvider {
    tag: Tag,
    state_dir: PathBuf,
    types: BTreeMap<MachineType, Settings>,
    client: Client,
    set_aside: SetAside<Offer>,
    known: Known<u64>,
    prices: Prices,
    images: Images<String, u64>,
    keys: Keys,
}

impl HcloudProvider {
    /// For `types`, which have the same endpoint and token; `None` if there are none.
    pub fn new(context: &ProviderContext, types: BTreeMap<MachineType, Settings>) -> Option<Self> {
        let first = types.values().next()?;
        Some(Self {
            tag: context.tag.clone(),
            state_dir: context.state_dir.clone(),
            client: Client::new(&first.endpoint, first.token_file.clone()),
            types,
            set_aside: SetAside::default(),
            known: Known::default(),
            prices: Prices::default(),
            images: Images::new(),
            keys: Keys::default(),
        })
    }

    /// The request to create a server, without the offer.
    fn request(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        settings: &Settings,
        retries: &mut RetryBudget,
    ) -> Result<Value, ProviderError> {
        let server_name = labels::server_name(name);
        let new =
            NewMachine::new(name, &server_name, &settings.login, &self.state_dir, &USER_DATA)?;
        let mut all_labels = settings.labels.clone();
        all_labels.extend(labels::labels(&self.tag, name, machine_type, &new, &settings.digest()));
        let firewalls: Vec<_> =
            settings.firewalls.iter().map(|number| json!({ "firewall": number })).collect();
        let mut request = json!({
            "name": server_name,
            "image": self.image(settings, retries)?,
            "user_data": new.user_data,
            "labels": all_labels,
            "ssh_keys": settings.ssh_keys,
            "networks": settings.networks,
            "firewalls": firewalls,
            "public_net": {
                "enable_ipv4": settings.address == Address::Ipv4,
                "enable_ipv6": settings.address != Address::Private,
            },
        });
        if let Some(number) = settings.placement_group {
            request["placement_group"] = json!(number);
        }
        Ok(request)
    }

    /// The image's name or id.
    fn image(
        &self,
        settings: &Settings,
        retries: &mut RetryBudget,
    ) -> Result<Value, ProviderError> {
        match &settings.image {
            Image::Name(name) => Ok(json!(name)),
            Image::Newest(selector) => {
                Ok(json!(self.images.newest(selector, || self.newest(selector, retries))?))
            }
        }
    }

    /// The newest snapshot with these labels.
    fn newest(&self, selector: &str, retries: &mut RetryBudget) -> Result<u64, ProviderError> {
        let path = format!(
            "/images?type=snapshot&status=available&sort=created:desc&per_page=1&label_selector={}",
            encoded(selector)
        );
        let list: wire::ImageList = self
            .client
            .call(&Method::GET, &path, None, retries)
            .map_err(|refused| refused.error)?;
        list.images.first().map(|image| image.id).ok_or_else(|| {
            ProviderError::failed(format!(
                "no snapshot has the labels {selector:?}; see provider.hcloud.imageSelector"
            ))
        })
    }

    /// The images of new servers, where it matters whether servers have them.
    fn refresh_images(&self, retries: &RetryBudget) {
        for settings in self.types.values().filter(|settings| settings.watches_image) {
            let Image::Newest(selector) = &settings.image else { continue };
            self.images.refresh(selector, || self.newest(selector, &mut retries.aside()));
        }
    }

    /// Whether a new server would have another image, as far as that is known.
    fn has_old_image(&self, machine_type: &MachineType, server: &Server) -> bool {
        let settings = self.types.get(machine_type).filter(|settings| settings.watches_image);
        settings.zip(server.image.as_ref()).is_some_and(|(settings, image)| match &settings.image {
            Image::Name(_) => false,
            Image::Newest(selector) => self.images.is_old(selector, &image.id),
        })
    }

    /// Requests `request` as `offer`. If a server of that name exists and is ours, it is returned.
    fn take(
        &self,
        offer: &Offer,
        request: &Value,
        name: &MachineName,
        retries: &mut RetryBudget,
    ) -> Result<Server, Refusal> {
        let mut request = request.clone();
        request["server_type"] = json!(offer.server_type);
        request["location"] = json!(offer.location);
        loop {
            let made = self.client.call(&Method::POST, "/servers", Some(&request), retries);
            let Refused { meaning, error } = match made {
                Ok(wire::OneServer { server }) => return Ok(server),
                Err(refused) => refused,
            };
            match meaning {
                Meaning::Unavailable | Meaning::Quota => {
                    return Err(Refusal::Unavailable(error.message));
                }
                Meaning::Exists => match self.of_name(name, retries)? {
                    Found::Ours(server) => return Ok(*server),
                    Found::Going | Found::Nothing => {
                        retries.pause(Duration::ZERO, &error.message)?;
                    }
                    Found::Foreign(server_name) => {
                        return Err(Refusal::Other(ProviderError::failed(format!(
                            "the project has a server named {server_name} without our labels; rename or delete it, or set another tag"
                        ))));
                    }
                },
                _ => return Err(Refusal::Other(error)),
            }
        }
    }

    /// Finds the server with the name of our machine.
    fn of_name(
        &self,
        name: &MachineName,
        retries: &mut RetryBudget,
    ) -> Result<Found, ProviderError> {
        let server_name = labels::server_name(name);
        let path = format!("/servers?name={}", encoded(&server_name));
        let list: wire::ServerList = self
            .client
            .call(&Method::GET, &path, None, retries)
            .map_err(|refused| refused.error)?;
        let Some(server) = list.servers.into_iter().find(|server| server.name == server_name)
        else {
            return Ok(Found::Nothing);
        };
        let ours = labels::read(&server.labels, &self.tag).is_some_and(|read| read.name == *name);
        Ok(match (ours, server.status) {
            (false, _) => Found::Foreign(server_name),
            (true, Status::Deleting) => Found::Going,
            (true, _) => Found::Ours(Box::new(server)),
        })
    }

    /// The server as a machine, if it is ours and is not being deleted.
    fn machine(&self, server: &Server) -> Option<Machine> {
        if server.status == Status::Deleting {
            return None;
        }
        let read = labels::read(&server.labels, &self.tag)?;
        let settings = self.types.get(&read.machine_type).or_else(|| self.types.values().next());
        let address = settings.map(|settings| settings.address).unwrap_or_default();
        let has_old_keys = self.keys.differ(&read.machine_type, read.keys.as_deref());
        let replaces_old =
            self.types.get(&read.machine_type).is_some_and(|settings| settings.watches_image);
        let created_at = server.created_at();
        let now = crate::clock::now();
        let billed_hours = (now.0.saturating_sub(created_at.0) / BILLED_SECONDS).saturating_add(1);
        Some(Machine {
            state: state(server, now),
            problems: has_old_keys.then(|| keys::problem(USER_DATA.option)).into_iter().collect(),
            has_old_image: self.has_old_image(&read.machine_type, server)
                || (has_old_keys && replaces_old),
            address: server.address(address).map(Host::new),
            host_name: Some(Host::new(&server.name)),
            host_key: read.host_key,
            made_from: read.settings,
            dollars_per_hour: self.price(&offer_of(server), settings),
            started_at: Some(created_at),
            tag: Some(self.tag.clone()),
            next_charge_at: Some(Timestamp(created_at.0 + billed_hours * BILLED_SECONDS)),
            ..Machine::requested(read.name, read.machine_type)
        })
    }

    /// In dollars per hour.
    fn price(&self, offer: &Offer, settings: Option<&Settings>) -> Option<Money> {
        let price = self.prices.hourly(offer)?;
        Some(
            settings
                .and_then(|settings| settings.exchange_rate)
                .map_or(price, |rate| exchanged(price, rate)),
        )
    }

    fn pages(&self, retries: &mut RetryBudget) -> Result<Vec<Server>, ProviderError> {
        let selector = encoded(&labels::selector(&self.tag));
        let mut servers = Vec::new();
        let mut page = 1;
        loop {
            let path = format!(
                "/servers?label_selector={selector}&sort=id:asc&per_page={PAGE_SIZE}&page={page}"
            );
            let list: wire::ServerList = self
                .client
                .call(&Method::GET, &path, None, retries)
                .map_err(|refused| refused.error)?;
            servers.extend(list.servers);
            match list.meta.pagination.next_page {
                Some(next) if next > page => page = next,
                Some(next) => {
                    return Err(ProviderError::failed(format!(
                        "GET /servers: page {next} follows page {page}: the listing may be incomplete"
                    )));
                }
                None => return Ok(servers),
            }
        }
    }

    fn look(&self, id: u64, retries: &mut RetryBudget) -> Result<Presence, ProviderError> {
        let path = format!("/servers/{id}");
        match self.client.call::<wire::OneServer>(&Method::GET, &path, None, retries) {
            Ok(wire::OneServer { server }) => Ok(self
                .machine(&server)
                .map_or(Presence::Gone, |machine| Presence::There(Box::new(machine)))),
            Err(Refused { meaning: Meaning::Gone, .. }) => Ok(Presence::Gone),
            Err(refused) => Err(refused.error),
        }
    }

    /// Our server of that name; an error if there is none.
    fn existing(
        &self,
        machine: &Machine,
        retries: &mut RetryBudget,
    ) -> Result<Server, ProviderError> {
        match self.of_name(&machine.name, retries)? {
            Found::Ours(server) => Ok(*server),
            _ => Err(ProviderError::failed("it is gone")),
        }
    }

    fn act(&self, id: u64, action: &str, retries: &mut RetryBudget) -> Result<(), ProviderError> {
        let path = format!("/servers/{id}/actions/{action}");
        let answer: Result<serde::de::IgnoredAny, _> =
            self.client.call(&Method::POST, &path, None, retries);
        answer.map(|_| ()).map_err(|refused| refused.error)
    }
}

/// The server with the name of one of our machines.
enum Found {
    Ours(Box<Server>),
    /// It is being deleted; the name is not free yet.
    Going,
    Nothing,
    /// A server of this name that is not ours.
    Foreign(String),
}

fn state(server: &Server, now: Timestamp) -> MachineState {
    let is_new = now.0.saturating_sub(server.created_at().0) < FIRST_BOOT_SECONDS;
    match server.status {
        Status::Initializing => MachineState::Creating,
        Status::Starting => MachineState::Starting,
        Status::Off if server.locked && is_new => MachineState::Starting,
        Status::Running => MachineState::Up,
        Status::Stopping | Status::Deleting => MachineState::Stopping,
        Status::Off => MachineState::Stopped,
        Status::Unknown => MachineState::Unreachable,
    }
}

/// An amount in another currency, of which one unit costs `rate`.
fn exchanged(amount: Money, rate: Money) -> Money {
    let micros = u128::from(amount.0) * u128::from(rate.0) / 1_000_000;
    Money(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Provider for HcloudProvider {
    fn list(&self, limit: Duration) -> Result<Vec<Machine>, ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let began = Instant::now();
        self.keys.refresh(self.types.iter().map(|(name, one)| (name, &one.login)));
        let servers = self.pages(&mut retries)?;
        self.prices.refresh(&self.client, &mut retries.aside());
        self.refresh_images(&retries);
        let listed =
            servers.iter().filter_map(|server| Some((server.id, self.machine(server)?))).collect();
        let mut machines = self.known.complete(began, listed, |id| self.look(*id, &mut retries))?;
        let is_nameless = |one: &&Server| {
            one.status != Status::Deleting && labels::is_nameless(&one.labels, &self.tag)
        };
        machines.extend(servers.iter().filter(is_nameless).map(|server| nameless(&server.name)));
        Ok(machines)
    }

    fn prices(&self) -> BTreeMap<MachineType, Money> {
        let most = |(name, settings): (&MachineType, &Settings)| {
            let prices = offers(settings).into_iter();
            let prices = prices.filter_map(|offer| self.price(&offer, Some(settings)));
            Some((name.clone(), prices.max()?))
        };
        self.types.iter().filter_map(most).collect()
    }

    fn try_calls(&self, limit: Duration) -> Vec<Tried> {
        self.try_reads(limit)
    }

    /// The identity service touches it (`nixosModules.build-machine`); other images may not have it.
    fn boots_with_keep_alive(&self) -> bool {
        false
    }

    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        _token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError> {
        let settings = self.types.get(machine_type).ok_or_else(|| {
            ProviderError::failed(format!("the type {machine_type} is not configured"))
        })?;
        let mut retries = RetryBudget::new(limit);
        let request = self.request(name, machine_type, settings, &mut retries)?;
        let server = self.set_aside.first_available(&offers(settings), |offer| {
            self.take(offer, &request, name, &mut retries)
        });
        if let (Err(_), Image::Newest(selector)) = (&server, &settings.image) {
            self.images.forget(selector);
        }
        let server = server?;
        let machine = self
            .machine(&server)
            .ok_or_else(|| ProviderError::failed("the API's answer lacks the requested labels"))?;
        if machine.machine_type != *machine_type {
            return Err(ProviderError::failed(format!(
                "the server {} was created for the type {}",
                server.name, machine.machine_type
            )));
        }
        let offer = offer_of(&server);
        let hourly = machine.dollars_per_hour.map(|price| price.to_string());
        tracing::info!(machine = %name, server = server.id, %offer, hourly, "created");
        self.known.made(server.id, machine.clone());
        Ok(machine)
    }

    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let server = self.existing(machine, &mut retries)?;
        self.act(server.id, "poweron", &mut retries)
    }

    fn deploy(&self, machine: &Machine, limit: Duration) -> Result<Machine, ProviderError> {
        wait_until_up(machine, limit, |limit| {
            let server = self.existing(machine, &mut RetryBudget::new(limit))?;
            let found = self.machine(&server).ok_or_else(|| ProviderError::failed("it is gone"))?;
            // They do not keep it from coming up.
            Ok(Machine { problems: Vec::new(), ..found })
        })
    }

    /// Requests a shutdown. After half of the time limit, powers the server off.
    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let mut asked = None;
        loop {
            let server = self.existing(machine, &mut retries)?;
            let wanted = if retries.is_half_over() { "poweroff" } else { "shutdown" };
            if server.status == Status::Off {
                return Ok(());
            }
            if asked != Some(wanted) {
                self.act(server.id, wanted, &mut retries)?;
                asked = Some(wanted);
                // An emulated or idle server is off at once.
                continue;
            }
            retries.pause(SHUTDOWN_POLL_INTERVAL, "it is still on")?;
        }
    }

    fn destroy(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let mut retries = RetryBudget::new(limit);
        let Found::Ours(server) = self.of_name(&machine.name, &mut retries)? else {
            return Ok(());
        };
        let path = format!("/servers/{}", server.id);
        let answer: Result<serde::de::IgnoredAny, _> =
            self.client.call(&Method::DELETE, &path, None, &mut retries);
        match answer {
            Ok(_) | Err(Refused { meaning: Meaning::Gone, .. }) => {
                self.known.forget(&server.id);
                Ok(())
            }
            Err(refused) => Err(refused.error),
        }
    }
}

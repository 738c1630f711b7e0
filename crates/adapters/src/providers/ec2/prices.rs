//! Prices of instances per hour: on-demand prices from AWS' price list, spot prices from EC2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use planner::Money;
use serde_json::json;

use super::api::{Call, Client, Service};
use super::settings::{Place, Purchase, Settings};
use super::wire::{self, Instance};
use crate::providers::ProviderError;
use crate::providers::cloud::RetryBudget;

/// On-demand prices change a few times a year.
const ON_DEMAND_VALID_FOR: Duration = Duration::from_secs(12 * 3600);
/// Spot prices change gradually.
const SPOT_VALID_FOR: Duration = Duration::from_secs(15 * 60);
/// After a failed request.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);
/// The platform of spot prices.
const PLATFORM: &str = "Linux/UNIX";

/// Known prices. An unknown price prevents nothing.
#[derive(Debug)]
pub(super) struct Prices {
    /// `None`: there is no price list at the operator's own endpoint.
    list: Option<Client>,
    region: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By instance type. `None`: not in the list.
    on_demand: BTreeMap<String, (Instant, Option<Money>)>,
    /// By instance type and zone.
    spot: BTreeMap<(String, String), Money>,
    next_list: Option<Instant>,
    next_spot: Option<Instant>,
    /// Instance types that spot prices were last requested for.
    spot_types: BTreeSet<String>,
}

impl Prices {
    pub(super) fn new(settings: &Settings) -> Self {
        let list = Service::pricing(settings).map(|service| Client::new(settings, service));
        Self { list, region: settings.region.clone(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches what is due for these instance types, bought on demand or as spot.
    pub(super) fn refresh(
        &self,
        ec2: &Client,
        on_demand: &BTreeSet<String>,
        spot: &BTreeSet<String>,
        retries: &RetryBudget,
    ) {
        if let Err(error) = self.refresh_on_demand(on_demand, &mut retries.aside()) {
            self.lock().next_list = Some(Instant::now() + RETRY_AFTER);
            tracing::warn!(
                "on-demand prices are not known, set dollarsPerHour or allow the call: {error}"
            );
        }
        if let Err(error) = self.refresh_spot(ec2, spot, &mut retries.aside()) {
            self.lock().next_spot = Some(Instant::now() + RETRY_AFTER);
            tracing::warn!("spot prices are not known: {error}");
        }
    }

    fn refresh_on_demand(
        &self,
        types: &BTreeSet<String>,
        retries: &mut RetryBudget,
    ) -> Result<(), ProviderError> {
        let Some(list) = &self.list else { return Ok(()) };
        if self.lock().next_list.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        for instance_type in types {
            let known = self.lock().on_demand.get(instance_type).copied();
            if known.is_some_and(|(since, _)| since.elapsed() < ON_DEMAND_VALID_FOR) {
                continue;
            }
            let answer: wire::GetProducts =
                list.call(&products(&self.region, instance_type), retries)?;
            let price = on_demand_price(&answer);
            if price.is_none() {
                tracing::warn!("AWS' price list has no price of {instance_type}");
            }
            self.lock().on_demand.insert(instance_type.clone(), (Instant::now(), price));
        }
        Ok(())
    }

    /// Whether the price list can be read; `None` if there is none.
    pub(super) fn try_list(
        &self,
        instance_type: &str,
        retries: &mut RetryBudget,
    ) -> Option<Result<(), ProviderError>> {
        let call = products(&self.region, instance_type);
        let answer: Result<wire::GetProducts, _> = self.list.as_ref()?.call(&call, retries);
        Some(answer.map_err(ProviderError::from).and_then(|answer| {
            let missing = || format!("AWS' price list has no price of {instance_type}");
            on_demand_price(&answer).map(|_| ()).ok_or_else(|| ProviderError::failed(missing()))
        }))
    }

    fn refresh_spot(
        &self,
        ec2: &Client,
        types: &BTreeSet<String>,
        retries: &mut RetryBudget,
    ) -> Result<(), ProviderError> {
        {
            let mut state = self.lock();
            let is_due = state.next_spot.is_none_or(|next| next <= Instant::now());
            if types.is_empty() || (!is_due && types.is_subset(&state.spot_types)) {
                return Ok(());
            }
            state.spot_types.clone_from(types);
        }
        let names: Vec<_> = types.iter().cloned().collect();
        let now = Timestamp::now().to_string();
        let call = Call::new("DescribeSpotPriceHistory")
            .with("StartTime", now)
            .with("ProductDescription.1", PLATFORM)
            .list("InstanceType", &names);
        let mut prices = Vec::new();
        ec2.pages(&call, retries, |page: wire::DescribeSpotPriceHistory| {
            prices.extend(page.spot_price_history_set.item);
            page.next_token
        })?;
        let mut state = self.lock();
        state.spot.extend(latest(prices));
        state.next_spot = Some(Instant::now() + SPOT_VALID_FOR);
        Ok(())
    }

    /// The price of an instance.
    pub(super) fn of(&self, instance: &Instance) -> Option<Money> {
        let state = self.lock();
        let instance_type = &instance.instance_type;
        if instance.is_spot() {
            let zone = instance.placement.availability_zone.clone();
            return state.spot.get(&(instance_type.clone(), zone)).copied();
        }
        state.on_demand.get(instance_type).and_then(|(_, price)| *price)
    }

    /// The most that a new instance may cost. `None` if no price of `types` is known.
    pub(super) fn most(&self, settings: &Settings, types: &[String]) -> Option<Money> {
        let state = self.lock();
        let on_demand = |name: &String| state.on_demand.get(name).and_then(|(_, price)| *price);
        let spot = |name: &String| {
            let in_place = |zone: &String| match settings.places.first() {
                Some(Place::Zone(_)) => settings.places.contains(&Place::Zone(zone.clone())),
                _ => true,
            };
            let of_type =
                state.spot.iter().filter(|((one, zone), _)| one == name && in_place(zone));
            of_type.map(|(_, price)| *price).max()
        };
        let prices = types.iter().flat_map(|name| {
            settings.purchase.iter().filter_map(move |purchase| match purchase {
                Purchase::OnDemand => on_demand(name),
                Purchase::Spot => spot(name),
            })
        });
        prices.max()
    }
}

/// The latest price of each type in each zone.
fn latest(mut prices: Vec<wire::SpotPrice>) -> BTreeMap<(String, String), Money> {
    prices.sort_by(|a, b| a.timestamp.cmp(&b.timestamp));
    let known = prices.into_iter().filter_map(|one| {
        let price = Money::from_dollars(&one.price).filter(|price| price.0 > 0)?;
        Some(((one.instance_type, one.availability_zone), price))
    });
    known.collect()
}

fn products(region: &str, instance_type: &str) -> Call {
    let fields = [
        ("regionCode", region),
        ("instanceType", instance_type),
        ("operatingSystem", "Linux"),
        ("preInstalledSw", "NA"),
        ("tenancy", "Shared"),
        ("capacitystatus", "Used"),
    ];
    let filters: Vec<_> = fields
        .iter()
        .map(|(field, value)| json!({ "Type": "TERM_MATCH", "Field": field, "Value": value }))
        .collect();
    let request =
        json!({ "ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters });
    Call::json("GetProducts", request)
}

/// The highest hourly price. A price of zero is a missing value.
fn on_demand_price(answer: &wire::GetProducts) -> Option<Money> {
    let products = answer.price_list.iter().filter_map(|text| {
        let product: Result<wire::Product, _> = serde_json::from_str(text);
        product.inspect_err(|error| tracing::debug!("a product cannot be read: {error}")).ok()
    });
    products
        .flat_map(|product| product.terms.on_demand.into_values())
        .flat_map(|term| term.price_dimensions.into_values())
        .filter(|dimension| dimension.unit == "Hrs")
        .filter_map(|dimension| Money::from_dollars(dimension.price_per_unit.get("USD")?))
        .filter(|price| price.0 > 0)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form of the public API description.
    #[test]
    fn an_hourly_price_is_read_and_zero_is_none() {
        let product = |unit: &str, price: &str| {
            json!({
                "product": { "productFamily": "Compute Instance", "sku": "S", "attributes": { "instanceType": "c7i.large" } },
                "serviceCode": "AmazonEC2",
                "terms": {
                    "OnDemand": { "S.T": {
                        "priceDimensions": { "S.T.P": {
                            "unit": unit, "endRange": "Inf", "appliesTo": [], "beginRange": "0",
                            "pricePerUnit": { "USD": price },
                        } },
                        "sku": "S", "effectiveDate": "2026-11-01T00:00:00Z", "termAttributes": {},
                    } },
                    "Reserved": { "S.R": { "priceDimensions": {} } },
                },
                "version": "20261101000000",
            })
            .to_string()
        };
        let price = |list: Vec<String>| on_demand_price(&wire::GetProducts { price_list: list });
        assert_eq!(price(vec![product("Hrs", "0.1017600000")]), Some(Money(101_760)));
        assert_eq!(price(vec![product("Hrs", "0.0000000000")]), None);
        assert_eq!(price(vec![product("Quantity", "5.0")]), None);
        assert_eq!(price(vec!["{}".to_owned(), "no JSON".to_owned()]), None);
        assert_eq!(price(Vec::new()), None);
    }

    #[test]
    fn the_latest_spot_price_counts() {
        let one = |zone: &str, price: &str, timestamp: &str| wire::SpotPrice {
            instance_type: "c7i.large".to_owned(),
            availability_zone: zone.to_owned(),
            price: price.to_owned(),
            timestamp: timestamp.to_owned(),
        };
        let prices = latest(vec![
            one("a", "0.040000", "2026-11-26T04:00:00.000Z"),
            one("a", "0.039000", "2026-11-26T03:00:00.000Z"),
            one("b", "nonsense", "2026-11-26T03:00:00.000Z"),
        ]);
        let key = |zone: &str| ("c7i.large".to_owned(), zone.to_owned());
        assert_eq!(prices.get(&key("a")), Some(&Money(40_000)));
        assert_eq!(prices.get(&key("b")), None);
    }
}

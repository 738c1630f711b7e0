//! Prices of servers per hour, by server type and location.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use planner::Money;
use ureq::http::Method;

use super::Offer;
use super::api::Client;
use super::wire;
use crate::providers::cloud::RetryBudget;

/// Prices change a few times a year.
const VALID_FOR: Duration = Duration::from_secs(12 * 3600);
/// After a failed request.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// The price list, fetched at first use and twice a day. Amounts are in the account's own currency.
#[derive(Debug, Default)]
pub(super) struct Prices(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    prices: BTreeMap<Offer, Money>,
    next: Option<Instant>,
}

impl Prices {
    /// Fetches the list if it is due. Without it prices are unknown, which prevents nothing.
    pub(super) fn refresh(&self, client: &Client, retries: &mut RetryBudget) {
        let now = Instant::now();
        if self.lock().next.is_some_and(|next| now < next) {
            return;
        }
        // Other threads do not wait for it.
        self.lock().next = Some(now + RETRY_AFTER);
        match client.call::<wire::Pricing>(&Method::GET, "/pricing", None, retries) {
            Ok(wire::Pricing { pricing }) => {
                tracing::debug!(currency = pricing.currency, "prices of Hetzner Cloud");
                let mut state = self.lock();
                state.prices = read(pricing);
                state.next = Some(now + VALID_FOR);
            }
            Err(refused) => {
                tracing::warn!("prices of Hetzner Cloud are not known: {}", refused.error);
            }
        }
    }

    /// The price of a server per hour.
    pub(super) fn hourly(&self, offer: &Offer) -> Option<Money> {
        self.lock().prices.get(offer).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(list: wire::PriceList) -> BTreeMap<Offer, Money> {
    let mut prices = BTreeMap::new();
    for server_type in list.server_types {
        for price in server_type.prices {
            let offer = Offer { server_type: server_type.name.clone(), location: price.location };
            if let Some(hourly) = Money::from_dollars(&price.price_hourly.gross) {
                prices.insert(offer, hourly);
            }
        }
    }
    prices
}

//! How one machine becomes one instance: its offers, tried in order.

use planner::{MachineName, MachineType};

use super::Ec2Provider;
use super::api::{Call, Refused};
use super::attempts::Attempt;
use super::meanings::{Meaning, Scope};
use super::request::{Offer, VALUE_LIMIT, offers, run_instances, tags};
use super::settings::{Purchase, Settings};
use super::wire::{self, Instance};
use super::{LAG_PAUSE, MAX_ATTEMPTS};
use crate::providers::ProviderError;
use crate::providers::cloud::{NewMachine, Refusal, RetryBudget};

/// A creation.
pub(super) struct Creation<'a> {
    pub(super) name: &'a MachineName,
    pub(super) machine_type: &'a MachineType,
    pub(super) settings: &'a Settings,
    pub(super) new: &'a NewMachine,
    /// The creation's own token.
    pub(super) token: &'a str,
}

impl Ec2Provider {
    /// Requests an instance with one offer after the other.
    pub(super) fn obtain(
        &self,
        creation: &Creation<'_>,
        retries: &mut RetryBudget,
    ) -> Result<Instance, ProviderError> {
        let Creation { name, machine_type, settings, new, token } = creation;
        let image = self.lookups.image(&self.client, settings, retries)?;
        let types = self.lookups.instance_types(&self.client, settings, retries)?;
        let tags = tags(settings, &self.tag, name, machine_type, new, &settings.digest());
        check_tags(&tags)?;
        let purchase = match &settings.mix {
            Some(mix) => self.ledger.decide(name, machine_type, mix),
            None => settings.purchase.clone(),
        };
        let last = self.attempts.last(name, token);
        let mut offers = offers(settings, &types, &purchase);
        if let Some(last) = &last {
            // First, because it may have had an effect.
            offers.retain(|offer| *offer != last.offer);
            offers.insert(0, last.offer.clone());
        }
        let obtained = self.set_aside.first_available(&offers, |offer| {
            let number =
                last.as_ref().filter(|last| last.offer == *offer).map_or(0, |last| last.number);
            let attempt = Attempt { token: (*token).to_owned(), offer: offer.clone(), number };
            let call = run_instances(settings, offer, &image, &tags, new);
            self.take(name, &call, attempt, &offers, retries)
        });
        if obtained.is_err() {
            self.lookups.forget_image(settings);
        }
        if settings.mix.is_some() {
            match &obtained {
                Ok(instance) => self.ledger.bought(name, machine_type, instance.purchase()),
                Err(error) => self.ledger.failed(name, error),
            }
        }
        obtained
    }

    /// Requests one instance for `attempt`. If the token was used before, its instance is returned.
    fn take(
        &self,
        name: &MachineName,
        call: &Call,
        mut attempt: Attempt,
        offers: &[Offer],
        retries: &mut RetryBudget,
    ) -> Result<Instance, Refusal> {
        loop {
            self.attempts.record(name, &attempt)?;
            let token = attempt.client_token(&self.tag, name);
            let call = call.clone().with("ClientToken", &token);
            // EC2 itself returns the same instance for the same token; other endpoints may ignore tokens.
            let find = |retries: &mut RetryBudget| {
                let found = self.of_name(name, &mut retries.aside()).ok()?.pop()?.0;
                Some(wire::Reservation { instances_set: wire::Items { item: vec![found] } })
            };
            let made = match self.client.call_or_find(&call, retries, find) {
                Ok(reservation) => reservation.instances_set.item.into_iter().next(),
                Err(Refused { meaning: Meaning::Unavailable(scope), error }) => {
                    self.set_aside_alike(scope, &attempt.offer, offers, &error.message);
                    return Err(Refusal::Unavailable(error.message));
                }
                Err(Refused { meaning: Meaning::Quota, error }) => {
                    return Err(Refusal::Unavailable(error.message));
                }
                Err(Refused { meaning: Meaning::Exists, error }) => {
                    // Created by an earlier run, with another host key.
                    let found = self.made_with(&token, retries)?;
                    // It may not be visible yet. Later there must be time for another token.
                    if found.is_none() && !retries.is_half_over() {
                        retries.pause(LAG_PAUSE, &error.message)?;
                        continue;
                    }
                    found
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

    /// The instance that a client token created, if EC2 still knows it.
    fn made_with(
        &self,
        token: &str,
        retries: &mut RetryBudget,
    ) -> Result<Option<Instance>, ProviderError> {
        let by_token = Call::new("DescribeInstances").filter(1, "client-token", &[token]);
        Ok(self.describe(&by_token, retries)?.into_iter().next())
    }

    /// Sets aside the offers that share the reason why `offer` was refused.
    fn set_aside_alike(&self, scope: Scope, offer: &Offer, offers: &[Offer], reason: &str) {
        let is_alike = |other: &&Offer| match scope {
            Scope::Offer => false,
            Scope::Place => other.place == offer.place,
            Scope::Spot => other.purchase == Purchase::Spot,
        };
        for other in offers.iter().filter(is_alike) {
            self.set_aside.add(other.clone(), reason.to_owned());
        }
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

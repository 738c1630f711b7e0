//! `check --online`: each call is tried with `DryRun`, which changes nothing.

use std::time::Duration;

use planner::{MachineName, MachineType};
use serde::de::IgnoredAny;

use super::Ec2Provider;
use super::api::{Call, Refused};
use super::meanings::Meaning;
use super::request::{Offer, USER_DATA, offers, run_instances, tags};
use super::settings::{Image, Purchase, Settings};
use super::wire;
use crate::providers::Tried;
use crate::providers::cloud::{NewMachine, RetryBudget, TRIAL_LIMIT};

/// The calls that change an instance.
const CHANGES: [&str; 3] = ["StartInstances", "StopInstances", "TerminateInstances"];

impl Ec2Provider {
    pub(super) fn try_each_call(&self, limit: Duration) -> Vec<Tried> {
        let limit = limit.min(TRIAL_LIMIT);
        let mut tried = vec![self.try_call(Call::new("DescribeInstances"), "", limit)];
        tried.push(self.try_call(Call::new("DescribeInstanceStatus"), "", limit));
        if self.has_spot_types() {
            tried.push(self.try_call(Call::new("DescribeSpotInstanceRequests"), "", limit));
        }
        if let Some(queue) = &self.notice_queue {
            let received = queue.look(&mut RetryBudget::new(limit));
            tried.push(Tried::new("ReceiveMessage from spotQueue", received));
            tried.push(Tried::skipped(
                "DeleteMessage from spotQueue",
                "would delete a notice; check that sqs:DeleteMessage is allowed",
            ));
        }
        for (name, settings) in &self.types {
            tried.extend(self.try_type(name, settings, limit));
        }
        tried.extend(self.try_changes(limit));
        tried
    }

    fn try_call(&self, call: Call, what: &str, limit: Duration) -> Tried {
        let action = call.action();
        let call = call.with("DryRun", "true");
        let answer: Result<IgnoredAny, Refused> =
            self.client.call(&call, &mut RetryBudget::new(limit));
        let result = match answer {
            Ok(_) | Err(Refused { meaning: Meaning::WouldSucceed, .. }) => Ok(()),
            Err(refused) => Err(refused.error),
        };
        Tried::new(format!("{action}{what}"), result)
    }

    /// What creations of one type need.
    fn try_type(&self, name: &MachineType, settings: &Settings, limit: Duration) -> Vec<Tried> {
        let mut tried = Vec::new();
        let mut retries = RetryBudget::new(limit);
        let image = self.lookups.image(&self.client, settings, &mut retries);
        let image_call = match settings.image {
            Image::Newest { .. } => Some("DescribeImages"),
            Image::Parameter(_) if settings.watches_image => Some("GetParameters"),
            Image::Parameter(_) | Image::Id(_) => None,
        };
        if let Some(call) = image_call {
            tried.push(Tried::new(
                format!("{call} for {name}"),
                image.as_ref().map(|_| ()).map_err(Clone::clone),
            ));
        }
        let types = self.lookups.instance_types(&self.client, settings, &mut retries);
        if settings.requirements.is_some() {
            tried.push(Tried::new(
                format!("DescribeInstanceTypes for {name}"),
                types.as_ref().map(|_| ()).map_err(Clone::clone),
            ));
        }
        let (Ok(image), Ok(types)) = (image, types) else { return tried };
        if settings.fetches_prices {
            tried.extend(self.try_prices(name, settings, &types, limit));
        }
        let offers = offers(settings, &types, &settings.purchase);
        let (type_1, place_1) = (types.first(), settings.places.first());
        // Each type in one place, and one type in each place.
        let tells_more =
            |offer: &&Offer| type_1 == Some(&offer.instance_type) || place_1 == Some(&offer.place);
        for offer in offers.iter().filter(tells_more) {
            tried.push(self.try_run(name, settings, offer, &image, limit));
        }
        tried
    }

    fn try_prices(
        &self,
        name: &MachineType,
        settings: &Settings,
        types: &[String],
        limit: Duration,
    ) -> Vec<Tried> {
        let mut tried = Vec::new();
        if settings.purchase.contains(&Purchase::Spot) {
            let call = Call::new("DescribeSpotPriceHistory").list("InstanceType", types);
            tried.push(self.try_call(call, &format!(" for {name}"), limit));
        }
        let mut retries = RetryBudget::new(limit);
        if let (Some(first), true) =
            (types.first(), settings.purchase.contains(&Purchase::OnDemand))
            && let Some(result) = self.prices.try_list(first, &mut retries)
        {
            tried.push(Tried::new(format!("GetProducts for {name}"), result));
        }
        tried
    }

    fn try_run(
        &self,
        machine_type: &MachineType,
        settings: &Settings,
        offer: &Offer,
        image: &str,
        limit: Duration,
    ) -> Tried {
        let what = format!(" of {offer} for {machine_type}");
        let name = MachineName::new(format!("{}-check", self.tag));
        let new =
            NewMachine::new(&name, name.as_str(), &settings.login, &self.state_dir, &USER_DATA);
        match new {
            Ok(new) => {
                let tags = tags(settings, &self.tag, &name, machine_type, &new, "");
                let call = run_instances(settings, offer, image, &tags, &new);
                self.try_call(call, &what, limit)
            }
            Err(error) => Tried::new(format!("RunInstances{what}"), Err(error)),
        }
    }

    /// They need an instance of ours: the policy allows them only with our tag.
    fn try_changes(&self, limit: Duration) -> Vec<Tried> {
        let Ok(instances) = self.describe(&self.ours(), &mut RetryBudget::new(limit)) else {
            return Vec::new();
        };
        let Some(instance) = instances.first().map(|one: &wire::Instance| &one.instance_id) else {
            let names = CHANGES.join(", ");
            return vec![Tried::skipped(
                names,
                "needs an instance of ours; check again once there is one",
            )];
        };
        let call = |action| Call::new(action).with("InstanceId.1", instance);
        CHANGES.map(|action| self.try_call(call(action), &format!(" of {instance}"), limit)).into()
    }
}

//! `check --online`: harmless reads. Whether the token may also write is not seen before the first creation.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Method;

use super::{HcloudProvider, Image, Settings, encoded};
use crate::providers::cloud::{RetryBudget, TRIAL_LIMIT};
use crate::providers::{ProviderError, Tried};

impl HcloudProvider {
    pub(super) fn try_reads(&self, limit: Duration) -> Vec<Tried> {
        let limit = limit.min(TRIAL_LIMIT);
        let listed = self.pages(&mut RetryBudget::new(limit)).map(|_| ());
        let can_list = listed.is_ok();
        let mut tried = vec![Tried::new("the token reads servers", listed)];
        if can_list {
            for (name, settings) in &self.types {
                tried.extend(self.try_type(&format!(" of {name}"), settings, limit));
            }
        }
        tried
    }

    fn try_type(&self, of: &str, settings: &Settings, limit: Duration) -> Vec<Tried> {
        let mut tried = Vec::new();
        let mut named = |list: &str, names: &[String]| {
            for name in names {
                let found = self.is_in_list(list, name, limit);
                tried.push(Tried::new(format!("{list} {name}{of}"), found));
            }
        };
        named("server_types", &settings.server_types);
        named("locations", &settings.locations);
        named("ssh_keys", &settings.ssh_keys);
        if let Image::Name(name) = &settings.image {
            named("images", std::slice::from_ref(name));
        }
        if let Image::Newest(selector) = &settings.image {
            let found = self.image(settings, &mut RetryBudget::new(limit)).map(|_| ());
            tried.push(Tried::new(format!("images with {selector:?}{of}"), found));
        }
        let numbered = [
            ("networks", &settings.networks[..]),
            ("firewalls", &settings.firewalls),
            ("placement_groups", settings.placement_group.as_slice()),
        ];
        for (list, numbers) in numbered {
            for number in numbers {
                let found = self.read(&format!("/{list}/{number}"), limit).map(|_| ());
                tried.push(Tried::new(format!("{list} {number}{of}"), found));
            }
        }
        tried
    }

    /// By its name, or by its id.
    fn is_in_list(&self, list: &str, name: &str, limit: Duration) -> Result<(), ProviderError> {
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.read(&format!("/{list}/{name}"), limit).map(|_| ());
        }
        let answer = self.read(&format!("/{list}?name={}", encoded(name)), limit)?;
        let items = answer.get(list).and_then(Value::as_array);
        let is_there = items.is_some_and(|items| items.iter().any(|one| one["name"] == name));
        if is_there {
            return Ok(());
        }
        Err(ProviderError::failed(format!("Hetzner Cloud has none of that name among its {list}")))
    }

    fn read(&self, path: &str, limit: Duration) -> Result<Value, ProviderError> {
        let mut retries = RetryBudget::new(limit);
        self.client.call(&Method::GET, path, None, &mut retries).map_err(|refused| refused.error)
    }
}

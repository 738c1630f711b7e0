//! Settings that the clouds share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::reader::Attrs;
use crate::providers::Login;

/// `userData`, `authorizedKeys` and `idleTimeout`. `has_cloud_keys`: the cloud itself installs login keys.
pub(super) fn login(attrs: &Attrs<'_>, ssh_key: Option<&str>, has_cloud_keys: bool) -> Login {
    let given = attrs.text("userData");
    let default = Login::default();
    let login = Login {
        user_data: given.unwrap_or(default.user_data),
        authorized_keys: attrs.texts("authorizedKeys").unwrap_or_default(),
        authorized_key_file: ssh_key.map(|key| PathBuf::from(format!("{key}.pub"))),
        idle_timeout: idle_timeout(attrs).unwrap_or(default.idle_timeout),
    };
    if !Login::WITH_HOST_KEY.iter().any(|placeholder| login.user_data.contains(placeholder)) {
        attrs.problem(
            "userData",
            format!(
                "must have one of {}: otherwise the machine does not have the expected host key",
                Login::WITH_HOST_KEY.join(", ")
            ),
        );
    }
    let lets_nobody_in = login.authorized_keys.is_empty() && login.authorized_key_file.is_none();
    if lets_nobody_in && !has_cloud_keys {
        attrs.problem(
            "authorizedKeys",
            "must be set (public keys that may log in), or sshKey next to provider: its .pub is then used",
        );
    }
    login
}

fn idle_timeout(attrs: &Attrs<'_>) -> Option<u32> {
    let seconds = attrs.seconds("idleTimeout", 1..=u64::from(u32::MAX))?;
    seconds.0.try_into().ok()
}

/// An API address other than the public one.
pub(super) fn endpoint(attrs: &Attrs<'_>, name: &'static str) -> Option<String> {
    let url = attrs.text(name)?;
    if url.starts_with("https://") || url.starts_with("http://") {
        return Some(url.trim_end_matches('/').to_owned());
    }
    attrs.problem(name, format!("must start with https:// or http://, is {url:?}"));
    None
}

/// A list in order of preference, with at least one item.
pub(super) fn choices(attrs: &Attrs<'_>, name: &'static str, what: &str) -> Vec<String> {
    let choices = attrs.texts(name);
    let is_missing = attrs.get(name).is_none() || choices.as_ref().is_some_and(Vec::is_empty);
    if is_missing {
        attrs.problem(name, format!("must be set: {what}, in order of preference"));
    }
    choices.unwrap_or_default()
}

/// The numbers of objects in the cloud.
pub(super) fn numbers(attrs: &Attrs<'_>, name: &'static str) -> Vec<u64> {
    let Some(value) = attrs.get(name) else { return Vec::new() };
    let Some(items) = value.as_array() else {
        return attrs.mismatch(name, "a list of numbers", value).unwrap_or_default();
    };
    let numbers: Option<Vec<_>> = items.iter().map(Value::as_u64).collect();
    numbers.unwrap_or_else(|| {
        attrs.problem(name, "must be a list of numbers (not names)");
        Vec::new()
    })
}

/// The operator's labels or tags. Names that begin with `ours` are reserved.
pub(super) fn tags(attrs: &Attrs<'_>, name: &'static str, ours: &str) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let Some(value) = attrs.get(name) else { return tags };
    let Value::Object(entries) = value else {
        let _: Option<()> = attrs.mismatch(name, "an attribute set of strings", value);
        return tags;
    };
    for (key, value) in entries {
        match value.as_str() {
            Some(_) if key.starts_with(ours) => {
                attrs.problem(
                    name,
                    format!(
                        "{key:?}: names that start with {ours:?} are reserved for the provisioner"
                    ),
                );
            }
            Some(text) => _ = tags.insert(key.clone(), text.to_owned()),
            None => attrs.problem(name, format!("{key:?} must be a string")),
        }
    }
    tags
}

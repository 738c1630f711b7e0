//! Settings that the clouds share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use planner::PoolPolicy;
use ureq::http::Uri;

use super::reader::{Attrs, nearest};
use crate::providers::{Login, UserDataRules};

/// What ssh's public keys begin with; options may come before.
const KEY_TYPES: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

/// The longest name that a cloud allows.
const MOST_NAME_BYTES: usize = 255;

/// `userData`, `authorizedKeys` and `idleTimeout`. `has_cloud_keys`: the cloud itself installs login keys.
pub(super) fn login(
    attrs: &Attrs<'_>,
    ssh_key: Option<&str>,
    has_cloud_keys: bool,
    rules: &UserDataRules,
) -> Login {
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
    check_user_data(attrs, &login, rules);
    check_keys(attrs, &login.authorized_keys);
    let lets_nobody_in = login.authorized_keys.is_empty() && login.authorized_key_file.is_none();
    if lets_nobody_in && !has_cloud_keys {
        attrs.problem(
            "authorizedKeys",
            "must be set (public keys that may log in), or sshKey next to provider: its .pub is then used",
        );
    }
    login
}

fn check_user_data(attrs: &Attrs<'_>, login: &Login, rules: &UserDataRules) {
    let bytes = login.least_user_data_bytes();
    if bytes > rules.most_bytes {
        attrs.problem(
            "userData",
            format!(
                "would have at least {bytes} bytes with all keys, of which the cloud allows {}",
                rules.most_bytes
            ),
        );
    }
    for word in words_between_ats(&login.user_data) {
        if Login::PLACEHOLDERS.contains(&word) {
            continue;
        }
        match nearest(word, Login::PLACEHOLDERS) {
            Some(near) => {
                attrs
                    .problem("userData", format!("{word} is no placeholder; did you mean {near}?"));
            }
            None => attrs.warning(
                "userData",
                &format!(
                    "{word} is no placeholder and stays as it is; known are {}",
                    Login::PLACEHOLDERS.join(", ")
                ),
            ),
        }
    }
}

/// What looks like a placeholder: `@word@`.
fn words_between_ats(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('@') {
        let after = &rest[start + 1..];
        let length = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        if length > 0 && after[length..].starts_with('@') {
            words.push(&rest[start..start + length + 2]);
            rest = &after[length + 1..];
        } else {
            rest = after;
        }
    }
    words
}

/// Each is one line with a public key. A wrong one is not shown: it may be a private key.
fn check_keys(attrs: &Attrs<'_>, keys: &[String]) {
    for (index, key) in keys.iter().enumerate() {
        let is_key = !key.trim().contains(char::is_control)
            && key
                .split_whitespace()
                .any(|word| KEY_TYPES.iter().any(|kind| word.starts_with(kind)));
        if !is_key {
            attrs.problem(
                "authorizedKeys",
                format!(
                    "item {} is not one line with a public key, such as \"ssh-ed25519 AAAA... hydra\"",
                    index + 1
                ),
            );
        }
    }
}

fn idle_timeout(attrs: &Attrs<'_>) -> Option<u32> {
    let seconds = attrs.seconds("idleTimeout", 1..=u64::from(u32::MAX))?;
    seconds.0.try_into().ok()
}

/// An API address other than the public one.
pub(super) fn endpoint(attrs: &Attrs<'_>, name: &'static str) -> Option<String> {
    let url = attrs.text(name)?;
    let parsed = url.parse::<Uri>().ok();
    let Some(authority) = parsed.as_ref().and_then(Uri::authority).filter(|_| is_http(&url)) else {
        attrs.problem(name, "must start with https:// or http:// and a host, without blanks");
        return None;
    };
    if authority.as_str().contains('@') {
        attrs.problem(name, "must not contain a user or a password: it is logged");
        return None;
    }
    Some(url.trim_end_matches('/').to_owned())
}

pub(super) fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// A list in order of preference, with at least one item.
pub(super) fn choices(attrs: &Attrs<'_>, name: &'static str, what: &str) -> Vec<String> {
    let choices = names(attrs, name, what);
    let is_missing = attrs.get(name).is_none() || choices.as_ref().is_some_and(Vec::is_empty);
    if is_missing {
        attrs.problem(name, format!("must be set: {what}, in order of preference"));
    }
    choices.unwrap_or_default()
}

/// The cloud's own names of things, each once.
pub(super) fn names(attrs: &Attrs<'_>, name: &'static str, what: &str) -> Option<Vec<String>> {
    let names = attrs.texts(name)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    for (index, one) in names.iter().enumerate() {
        if one.is_empty() || !one.chars().all(allowed) {
            attrs.problem(name, format!("must have {what}; {one:?} is no such name"));
        } else if names[..index].contains(one) {
            attrs.warning(name, &format!("has {one} twice; the second one has no effect"));
        }
    }
    Some(names)
}

/// Names in the cloud, which the operator chose: each a line of text.
pub(super) fn check_lines<'a>(
    attrs: &Attrs<'_>,
    name: &'static str,
    lines: impl IntoIterator<Item = &'a String>,
) {
    for line in lines {
        let is_line = !line.trim().is_empty() && !line.contains(char::is_control);
        if !is_line || line.len() > MOST_NAME_BYTES {
            let shown: String = line.chars().take(40).collect();
            attrs.problem(
                name,
                format!("must be a line of text of at most {MOST_NAME_BYTES} bytes, is {shown:?}"),
            );
        }
    }
}

/// The processors of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    X86,
    Arm,
}

impl Processor {
    /// Of a system of Nix; `None` if neither.
    fn of_system(system: &str) -> Option<Self> {
        match system.split('-').next()? {
            "x86_64" | "i686" => Some(Self::X86),
            "aarch64" | "armv7l" | "armv6l" => Some(Self::Arm),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Arm => "Arm",
        }
    }
}

/// Warns of machines that cannot build for the type's systems.
pub(super) fn warn_of_processors(
    attrs: &Attrs<'_>,
    name: &'static str,
    types: &[String],
    processor_of: impl Fn(&str) -> Processor,
    pool: &PoolPolicy,
) {
    let wanted: Option<Vec<_>> =
        pool.systems.iter().map(|system| Processor::of_system(system.as_str())).collect();
    let Some(wanted) = wanted else { return };
    for one in types.iter().filter(|one| !wanted.contains(&processor_of(one))) {
        let processor = processor_of(one).name();
        attrs.warning(
            name,
            &format!("{one} has {processor} processors, not those of this system type"),
        );
    }
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

/// The operator's labels or tags. Names that begin with one of `reserved` are not allowed. `problem_of` tells what else the cloud
/// refuses.
pub(super) fn tags(
    attrs: &Attrs<'_>,
    name: &'static str,
    reserved: &[&str],
    problem_of: impl Fn(&str, &str) -> Option<String>,
) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let Some(value) = attrs.get(name) else { return tags };
    let Value::Object(entries) = value else {
        let _: Option<()> = attrs.mismatch(name, "an attribute set of strings", value);
        return tags;
    };
    for (key, value) in entries {
        let Some(text) = value.as_str() else {
            attrs.problem(name, format!("{key:?} must be a string"));
            continue;
        };
        if let Some(prefix) = reserved.iter().find(|prefix| key.starts_with(**prefix)) {
            attrs.problem(name, format!("{key:?}: names that start with {prefix:?} are reserved"));
        } else if let Some(problem) = problem_of(key, text) {
            attrs.problem(name, format!("{key:?} {problem}"));
        }
        tags.insert(key.clone(), text.to_owned());
    }
    tags
}

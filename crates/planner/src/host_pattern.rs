//! Patterns for hosts in the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Host};

/// A host, or a pattern for several: `*` matches any text, `build-*.example.org`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPattern(String);

impl HostPattern {
    /// Takes any text. Without `*`, every spelling of a host is accepted: case, brackets, user, port.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether `host` matches.
    pub fn matches(&self, host: &Host) -> bool {
        let pattern = self.0.to_ascii_lowercase();
        match pattern.trim_end_matches('.').split_once('*') {
            Some((start, rest)) => is_like(&host.to_string().to_ascii_lowercase(), start, rest),
            None => Endpoint::new(&self.0).host == *host,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether `text` matches `START*REST`. Matches each part between stars as early as possible, which leaves the most text
/// for the following parts.
fn is_like(text: &str, start: &str, rest: &str) -> bool {
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_patterns() {
        for (pattern, host, matches) in [
            ("mac-1.example.org", "Mac-1.example.org.", true),
            ("root@mac-1.example.org:2222", "mac-1.example.org", true),
            ("mac-1", "mac-1.example.org", false),
            ("[2001:DB8:0::1]", "2001:db8::1", true),
            ("mac-*", "mac-1", true),
            ("MAC-*.example.org", "mac-12.example.org", true),
            ("mac-*.example.org", "mac-12.example.com", false),
            ("10.0.*", "10.0.7.8", true),
            ("10.0.*", "110.0.7.8", false),
            ("a*bc*c", "abcc", true),
            ("a*bc*c", "abc", false),
            ("*", "anything", true),
            ("", "host", false),
        ] {
            let is_meant = HostPattern::new(pattern).matches(&Host::new(host));
            assert_eq!(is_meant, matches, "{pattern} {host}");
        }
    }
}

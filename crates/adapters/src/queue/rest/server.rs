//! The HTTP side of the REST server. Credentials are never part of a message.

use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;

/// `/status/queues` has about 250 bytes per step: this is enough for half a million.
const BODY_LIMIT_BYTES: u64 = 128 << 20;

/// A server and its credentials.
pub(super) struct Server {
    /// Without user and password.
    url: String,
    /// The whole header.
    authorization: Option<String>,
    agent: ureq::Agent,
}

impl Server {
    /// `url` is `http://HOST:PORT` or `http://USER:PASSWORD@HOST:PORT`, without a trailing slash.
    pub(super) fn new(url: &str) -> Self {
        let (url, login) = split_login(url);
        // No proxy from the environment: the queue runner is on this host or in this network.
        let agent = ureq::Agent::config_builder().proxy(None).build().into();
        Self { url, authorization: login.map(basic), agent }
    }

    /// The body of the response to `GET path`, before `deadline`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn get(&self, path: &str, deadline: Instant) -> Result<Vec<u8>, String> {
        let url = format!("{}{path}", self.url);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("GET {url}: no time was left"));
        }
        self.body(&url, left).map_err(|error| format!("GET {url}: {error}"))
    }

    fn body(&self, url: &str, limit: Duration) -> Result<Vec<u8>, ureq::Error> {
        let mut request = self.agent.get(url).config().timeout_global(Some(limit)).build();
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.call()?;
        response.body_mut().with_config().limit(BODY_LIMIT_BYTES).read_to_vec()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The URL without user and password, and the credentials. A password may contain an `@`, a `/` or a `?` that
/// should have been encoded: the last `@` ends it, so that no part of it is ever shown.
fn split_login(url: &str) -> (String, Option<&str>) {
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + "://".len()),
        None => ("", url),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((login, place)) if !is_authority(authority) => {
            (format!("{scheme}{place}"), Some(login))
        }
        _ => (url.to_owned(), None),
    }
}

/// Whether `authority` is `HOST` or `HOST:PORT`. Then an `@` after it is part of a path.
fn is_authority(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_ipv6 = authority.ends_with(']');
    !authority.contains('@') && (is_ipv6 || port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The header for the login `USER:PASSWORD`, percent-encoded as in a URL.
fn basic(login: &str) -> String {
    let login: Vec<u8> = percent_decode_str(login).collect();
    format!("Basic {}", BASE64_STANDARD.encode(login))
}

/// `url` for a message: without user and password.
pub(crate) fn without_login(url: &str) -> String {
    split_login(url).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_kept_apart() {
        for (url, shown, authorization) in [
            ("http://[::1]:8080", "http://[::1]:8080", None),
            ("https://farm:secret@h:8080/hydra", "https://h:8080/hydra", Some("farm:secret")),
            ("http://farm@h", "http://h", Some("farm")),
            ("http://a%40b:p%3aw%25@h", "http://h", Some("a@b:p:w%")),
            ("http://farm:se/cr?et@h", "http://h", Some("farm:se/cr?et")),
            ("http://farm:se@cret@h", "http://h", Some("farm:se@cret")),
            ("http://h:80/a@b", "http://h:80/a@b", None),
            ("http://[::1]/a@b", "http://[::1]/a@b", None),
            ("farm:secret@h", "h", Some("farm:secret")),
            ("ftp://farm:secret@h", "ftp://h", Some("farm:secret")),
            ("nonsense", "nonsense", None),
        ] {
            let server = Server::new(url);
            assert_eq!(server.url, shown);
            let expected =
                authorization.map(|login| format!("Basic {}", BASE64_STANDARD.encode(login)));
            assert_eq!(server.authorization, expected, "{url}");
            assert!(!format!("{server:?}").contains("Basic"));
        }
    }
}

//! Posts JSON to a webhook. Anyone who knows its URL can post to it, so messages contain only the host.

use std::time::Duration;

/// Posts `json` to `url` and waits at most `limit` for the answer.
///
/// # Errors
/// If it was not accepted.
pub fn post(url: &str, json: String, limit: Duration) -> Result<(), String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(limit));
    // A URL without `https` is a server of our own network.
    let config = if url.starts_with("https:") { config } else { config.proxy(None) };
    let agent: ureq::Agent = config.build().into();
    let sent = agent.post(url).header("Content-Type", "application/json").send(json);
    match sent {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{} answers {}", host(url), answer.status())),
        Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => Err("this is no URL".to_owned()),
        Err(error) => Err(format!("{}: {error}", host(url))),
    }
}

/// The host of `url`, without login and path.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_is_told() {
        for (url, reported) in [
            ("https://hooks.example.org/T0/secret", "hooks.example.org"),
            ("http://user:secret@127.0.0.1:80?key=secret", "127.0.0.1:80"),
            ("https://[::1]:9/secret", "[::1]:9"),
        ] {
            assert_eq!(host(url), reported);
        }
        let error = post("http://127.0.0.1:1/secret", String::new(), Duration::from_secs(5));
        assert!(
            error.is_err_and(|error| error.contains("127.0.0.1:1") && !error.contains("secret"))
        );
        let error = post("http://a b/secret", String::new(), Duration::from_secs(5));
        assert!(error.is_err_and(|error| !error.contains("secret")));
    }
}

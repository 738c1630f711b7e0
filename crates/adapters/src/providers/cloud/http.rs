//! Requests to a cloud: one at a time, with a time limit. Callers interpret the answers.

use std::time::Duration;

use ureq::http;

/// Many times the size of a listing of a thousand instances.
const BODY_LIMIT_BYTES: u64 = 64 << 20;

/// An answer with any status.
#[derive(Debug)]
pub(in crate::providers) struct Answer {
    pub(in crate::providers) status: u16,
    pub(in crate::providers) headers: http::HeaderMap,
    pub(in crate::providers) body: Vec<u8>,
}

impl Answer {
    /// A numeric header.
    pub(in crate::providers) fn number(&self, header: &str) -> Option<u64> {
        self.headers.get(header)?.to_str().ok()?.trim().parse().ok()
    }

    /// How long the server asks us to wait before the next attempt.
    pub(in crate::providers) fn retry_after(&self) -> Duration {
        Duration::from_secs(self.number("retry-after").unwrap_or(0))
    }
}

/// An agent that accepts every status as an answer. It uses the environment's proxy, except for URLs without
/// `https`: those are local servers.
pub(in crate::providers) fn agent(endpoint: &str) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
    if endpoint.starts_with("https:") {
        config.build().into()
    } else {
        config.proxy(None).build().into()
    }
}

/// Sends `request` and reads the whole answer.
///
/// # Errors
/// With the reason, if no complete answer arrived. Whether the request had an effect is then not known.
pub(in crate::providers) fn send(
    agent: &ureq::Agent,
    request: http::Request<Vec<u8>>,
    limit: Duration,
) -> Result<Answer, String> {
    let request = agent.configure_request(request).timeout_global(Some(limit)).build();
    let mut response = agent.run(request).map_err(|error| match error {
        ureq::Error::Timeout(_) => {
            format!("no answer within {} s", limit.as_millis().div_ceil(1000))
        }
        error => error.to_string(),
    })?;
    let read = response.body_mut().with_config().limit(BODY_LIMIT_BYTES).read_to_vec();
    let body = read.map_err(|error| format!("the answer was interrupted: {error}"))?;
    let (parts, _) = response.into_parts();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

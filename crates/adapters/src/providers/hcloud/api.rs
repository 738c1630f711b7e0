//! API calls: sending, retries, and what a refusal means.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reconciler::OperationErrorKind;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request};

use super::wire;
use crate::providers::ProviderError;
use crate::providers::cloud::RetryBudget;
use crate::providers::cloud::http::{Answer, agent, send};

/// The allowance of requests is refilled at this pace (3,600 per hour), up to its maximum.
const REFILL_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum pause while another action locks a resource.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// What a refusal means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Unavailable now; the next offer may be available.
    Unavailable,
    /// Unavailable until a limit of the account is raised.
    Quota,
    /// One of that name exists already.
    Exists,
    /// There is none, or it is gone.
    Gone,
    /// The same request may succeed later.
    Again(Duration),
    /// Retrying does not help.
    Failed,
}

/// The meaning of codes (`error.code` of an answer; from the table of the public API description, and the
/// codes of actions). Any other code with a 5xx status is temporary.
const MEANINGS: [(&str, Meaning); 20] = [
    ("resource_unavailable", Meaning::Unavailable),
    ("placement_error", Meaning::Unavailable),
    ("no_space_left_in_location", Meaning::Unavailable),
    ("resource_limit_exceeded", Meaning::Quota),
    ("uniqueness_error", Meaning::Exists),
    ("not_found", Meaning::Gone),
    ("locked", Meaning::Again(LOCK_PAUSE)),
    ("conflict", Meaning::Again(LOCK_PAUSE)),
    ("rate_limit_exceeded", Meaning::Again(REFILL_INTERVAL)),
    ("server_error", Meaning::Again(Duration::ZERO)),
    ("unavailable", Meaning::Again(Duration::ZERO)),
    ("maintenance", Meaning::Again(LOCK_PAUSE)),
    ("timeout", Meaning::Again(Duration::ZERO)),
    ("unauthorized", Meaning::Failed),
    ("forbidden", Meaning::Failed),
    ("token_readonly", Meaning::Failed),
    ("invalid_input", Meaning::Failed),
    ("json_error", Meaning::Failed),
    ("protected", Meaning::Failed),
    ("unsupported_error", Meaning::Failed),
];

/// A refusal that retries did not overcome.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) meaning: Meaning,
    pub(super) error: ProviderError,
}

impl From<ProviderError> for Refused {
    fn from(error: ProviderError) -> Self {
        Self { meaning: Meaning::Failed, error }
    }
}

/// The API of one project.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: String,
    token_file: PathBuf,
    agent: ureq::Agent,
    pace: Mutex<Pace>,
}

/// Saves the allowance once half of it is used: from then on, requests are sent only as fast as it is
/// refilled.
#[derive(Debug, Default)]
struct Pace {
    is_slow: bool,
    next: Option<Instant>,
}

impl Client {
    pub(super) fn new(endpoint: &str, token_file: PathBuf) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            token_file,
            agent: agent(endpoint),
            pace: Mutex::default(),
        }
    }

    /// Sends a request until the answer is not "try again".
    ///
    /// # Errors
    /// With the meaning of the refusal; [`OperationErrorKind::TimedOut`] when `retries` are used up.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        retries: &mut RetryBudget,
    ) -> Result<T, Refused> {
        loop {
            let answer = self.send(method, path, body, retries)?;
            let wait = answer.as_ref().map_or(Duration::ZERO, Answer::retry_after);
            let (meaning, message) = match answer {
                Ok(answer) if (200..300).contains(&answer.status) => match parse(&answer) {
                    Ok(parsed) => return Ok(parsed),
                    Err(refused) => refused,
                },
                Ok(answer) => refusal(&answer),
                // Whether it had an effect is not known; each call may be repeated.
                Err(message) => (Meaning::Again(Duration::ZERO), message),
            };
            let message = format!("{method} {path}: {message}{}", self.advice(&message));
            match meaning {
                Meaning::Again(at_least) => {
                    tracing::debug!("{message}");
                    retries.pause(at_least.max(wait), &message)?;
                }
                Meaning::Unavailable | Meaning::Quota => {
                    let error = ProviderError { kind: OperationErrorKind::Capacity, message };
                    return Err(Refused { meaning, error });
                }
                Meaning::Exists | Meaning::Gone | Meaning::Failed => {
                    return Err(Refused { meaning, error: ProviderError::failed(message) });
                }
            }
        }
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        retries: &RetryBudget,
    ) -> Result<Result<Answer, String>, ProviderError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("authorization", format!("Bearer {}", self.token()?))
            .header("content-type", "application/json")
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .map_err(|error| ProviderError::failed(format!("{method} {path}: {error}")))?;
        self.wait_for_turn(retries);
        let answer = send(&self.agent, request, retries.request_limit());
        if let Ok(answer) = &answer {
            self.note_allowance(answer);
        }
        Ok(answer)
    }

    /// Read for each call, so that a new token is used without a restart.
    fn token(&self) -> Result<String, ProviderError> {
        let place = self.token_file.display();
        let text = std::fs::read_to_string(&self.token_file).map_err(|error| {
            ProviderError::failed(format!(
                "cannot read the API token in {place}: {error}; see provider.hcloud.tokenFile"
            ))
        })?;
        let token = text.trim();
        // Its content is never shown.
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| token.to_owned()).ok_or_else(|| {
            ProviderError::failed(format!(
                "{place} must contain an API token and nothing else; see provider.hcloud.tokenFile"
            ))
        })
    }

    fn wait_for_turn(&self, retries: &RetryBudget) {
        let wait = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = pace.next.filter(|_| pace.is_slow).map_or(now, |next| next.max(now));
            pace.next = Some(turn + REFILL_INTERVAL);
            turn - now
        };
        std::thread::sleep(wait.min(retries.left()));
    }

    fn note_allowance(&self, answer: &Answer) {
        let (Some(limit), Some(left)) =
            (answer.number("ratelimit-limit"), answer.number("ratelimit-remaining"))
        else {
            return;
        };
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let is_slow = left < limit / 2;
        if is_slow && !pace.is_slow {
            tracing::warn!(
                left,
                limit,
                "half of the hourly requests to Hetzner are used: one per second from now on"
            );
        }
        pace.is_slow = is_slow;
    }

    fn advice(&self, message: &str) -> String {
        if message.starts_with("unauthorized") {
            format!(
                "; check that the token in {} belongs to the project",
                self.token_file.display()
            )
        } else if message.starts_with("token_readonly") || message.starts_with("forbidden") {
            format!("; the token in {} must be \"Read & Write\"", self.token_file.display())
        } else if message.starts_with("resource_limit_exceeded") {
            "; raise the project's limits in the console (Limits, Request change)".to_owned()
        } else {
            String::new()
        }
    }
}

/// Parses a successful answer. What is not even JSON was truncated on its way, or comes from a proxy; an error may have the status
/// of a success.
fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, (Meaning, String)> {
    let body = if answer.body.is_empty() { b"null" } else { &answer.body[..] };
    if serde_json::from_slice::<wire::Problem>(body).is_ok() {
        return Err(refusal(answer));
    }
    serde_json::from_slice(body).map_err(|error| {
        let meaning =
            if error.is_data() { Meaning::Failed } else { Meaning::Again(Duration::ZERO) };
        (meaning, format!("the answer is invalid: {error}"))
    })
}

/// The meaning of an unsuccessful answer, and its text, which starts with the code.
fn refusal(answer: &Answer) -> (Meaning, String) {
    let status = answer.status;
    let Ok(problem) = serde_json::from_slice::<wire::Problem>(&answer.body) else {
        let meaning = if status >= 500 || status == 429 {
            Meaning::Again(Duration::ZERO)
        } else {
            Meaning::Failed
        };
        return (meaning, format!("status {status} without a known error"));
    };
    let wire::ProblemText { code, message } = problem.error;
    let known = MEANINGS.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning);
    let meaning = match known {
        // This server type is not offered in this location.
        Some(Meaning::Failed) if message.contains("unsupported location") => Meaning::Unavailable,
        Some(meaning) => meaning,
        None if status >= 500 => Meaning::Again(Duration::ZERO),
        None => Meaning::Failed,
    };
    (meaning, format!("{code} ({status}): {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, body: &str) -> Meaning {
        let answer =
            Answer { status, headers: ureq::http::HeaderMap::default(), body: body.into() };
        refusal(&answer).0
    }

    #[test]
    fn an_answer_that_is_none_is_not_taken_for_one() {
        let of = |body: &str| {
            let answer = Answer {
                status: 200,
                headers: ureq::http::HeaderMap::default(),
                body: body.into(),
            };
            parse::<wire::ServerList>(&answer).unwrap_err().0
        };
        assert_eq!(of("<html>sign in</html>"), Meaning::Again(Duration::ZERO));
        assert_eq!(of(r#"{"servers":[],"meta":"#), Meaning::Again(Duration::ZERO));
        assert_eq!(of(""), Meaning::Failed);
        assert_eq!(of(r#"{"servers":null}"#), Meaning::Failed);
        let error = r#"{"error":{"code":"locked","message":"text"}}"#;
        assert_eq!(of(error), Meaning::Again(LOCK_PAUSE));
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |status, code: &str| {
            meaning(status, &format!(r#"{{"error":{{"code":"{code}","message":"text"}}}}"#))
        };
        assert_eq!(of(412, "resource_unavailable"), Meaning::Unavailable);
        assert_eq!(of(412, "placement_error"), Meaning::Unavailable);
        assert_eq!(of(403, "resource_limit_exceeded"), Meaning::Quota);
        assert_eq!(of(409, "uniqueness_error"), Meaning::Exists);
        assert_eq!(of(404, "not_found"), Meaning::Gone);
        assert_eq!(of(423, "locked"), Meaning::Again(LOCK_PAUSE));
        assert_eq!(of(429, "rate_limit_exceeded"), Meaning::Again(REFILL_INTERVAL));
        assert_eq!(of(422, "invalid_input"), Meaning::Failed);
        assert_eq!(of(500, "something_new"), Meaning::Again(Duration::ZERO));
        assert_eq!(of(400, "something_new"), Meaning::Failed);
        assert_eq!(meaning(502, "<html>"), Meaning::Again(Duration::ZERO));
        assert_eq!(meaning(404, "<html>"), Meaning::Failed);
        let body = r#"{"error":{"code":"invalid_input","message":"unsupported location for server type"}}"#;
        assert_eq!(meaning(422, body), Meaning::Unavailable);
    }
}

//! Calls of the API: what they send, how often they are repeated, and what a refusal means.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reconciler::OperationErrorKind;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request};

use super::wire;
use crate::providers::ProviderError;
use crate::providers::cloud::Patience;
use crate::providers::cloud::http::{Answer, agent, send};

/// Requests are allowed again at this pace (3,600 an hour), up to the whole allowance.
const REFILL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a resource may stay locked by an action that was begun before, at the least between two looks.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// What a refusal means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Not to be had now; the next offer may be.
    NotNow,
    /// Not to be had until a limit of the account is raised.
    Quota,
    /// There is one of that name already.
    Exists,
    /// There is none, or no more.
    Gone,
    /// The same request may succeed later.
    Again(Duration),
    /// Repeating it does not help.
    Failed,
}

/// What the codes mean (`error.code` of an answer; the public description's table of them, and the ones of actions).
/// Anything that is not here and has a status of 5xx may pass.
const MEANINGS: [(&str, Meaning); 20] = [
    ("resource_unavailable", Meaning::NotNow),
    ("placement_error", Meaning::NotNow),
    ("no_space_left_in_location", Meaning::NotNow),
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

/// A refusal that was not overcome by repeating the call.
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

/// Spares the allowance once half of it is used up: from then on no more is asked for than comes back.
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

    /// Sends a request until there is an answer that is not "try again".
    ///
    /// # Errors
    /// With what the refusal means; [`OperationErrorKind::TimedOut`] when `patience` ends.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        patience: &mut Patience,
    ) -> Result<T, Refused> {
        loop {
            let (meaning, message) = match self.send(method, path, body, patience)? {
                Ok(answer) if (200..300).contains(&answer.status) => match parse(&answer) {
                    Ok(parsed) => return Ok(parsed),
                    Err(message) => (Meaning::Failed, message),
                },
                Ok(answer) => refusal(&answer),
                // Whether it had an effect is not known; each call may be repeated.
                Err(message) => (Meaning::Again(Duration::ZERO), message),
            };
            let message = format!("{method} {path}: {message}{}", self.advice(&message));
            match meaning {
                Meaning::Again(at_least) => {
                    tracing::debug!("{message}");
                    patience.pause(at_least, &message)?;
                }
                Meaning::NotNow | Meaning::Quota => {
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
        patience: &Patience,
    ) -> Result<Result<Answer, String>, ProviderError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("authorization", format!("Bearer {}", self.token()?))
            .header("content-type", "application/json")
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .map_err(|error| ProviderError::failed(format!("{method} {path}: {error}")))?;
        self.wait_for_turn(patience);
        let answer = send(&self.agent, request, patience.request_limit());
        if let Ok(answer) = &answer {
            self.note_allowance(answer);
        }
        Ok(answer)
    }

    /// Read at each call, so that a new token is used without a restart.
    fn token(&self) -> Result<String, ProviderError> {
        let place = self.token_file.display();
        let text = std::fs::read_to_string(&self.token_file).map_err(|error| {
            ProviderError::failed(format!(
                "cannot read the API token in {place}: {error}; see provider.hcloud.tokenFile"
            ))
        })?;
        let token = text.trim();
        // Nothing of it is shown.
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| token.to_owned()).ok_or_else(|| {
            ProviderError::failed(format!(
                "{place} is to have an API token and nothing else; see provider.hcloud.tokenFile"
            ))
        })
    }

    fn wait_for_turn(&self, patience: &Patience) {
        let wait = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = pace.next.filter(|_| pace.is_slow).map_or(now, |next| next.max(now));
            pace.next = Some(turn + REFILL_INTERVAL);
            turn - now
        };
        std::thread::sleep(wait.min(patience.left()));
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
                "half of the hour's requests to Hetzner are used up: one a second from now on"
            );
        }
        pace.is_slow = is_slow;
    }

    fn advice(&self, message: &str) -> String {
        if message.starts_with("unauthorized") {
            format!("; is the token in {} the project's?", self.token_file.display())
        } else if message.starts_with("token_readonly") || message.starts_with("forbidden") {
            format!("; the token in {} needs to be \"Read & Write\"", self.token_file.display())
        } else if message.starts_with("resource_limit_exceeded") {
            "; the project's limits are raised in the console (Limits, Request change)".to_owned()
        } else {
            String::new()
        }
    }
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, String> {
    let body = if answer.body.is_empty() { b"null" } else { &answer.body[..] };
    serde_json::from_slice(body).map_err(|error| format!("the answer makes no sense: {error}"))
}

/// What an answer that is no success means, and its text, which starts with its code.
fn refusal(answer: &Answer) -> (Meaning, String) {
    let status = answer.status;
    let Ok(problem) = serde_json::from_slice::<wire::Problem>(&answer.body) else {
        let meaning = if status >= 500 || status == 429 {
            Meaning::Again(Duration::ZERO)
        } else {
            Meaning::Failed
        };
        return (meaning, format!("status {status} without an error that is known"));
    };
    let wire::ProblemText { code, message } = problem.error;
    let known = MEANINGS.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning);
    let meaning = match known {
        // A pair of server type and location that is not offered.
        Some(Meaning::Failed) if message.contains("unsupported location") => Meaning::NotNow,
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
    fn refusals_are_told_apart() {
        let of = |status, code: &str| {
            meaning(status, &format!(r#"{{"error":{{"code":"{code}","message":"text"}}}}"#))
        };
        assert_eq!(of(412, "resource_unavailable"), Meaning::NotNow);
        assert_eq!(of(412, "placement_error"), Meaning::NotNow);
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
        assert_eq!(meaning(422, body), Meaning::NotNow);
    }
}

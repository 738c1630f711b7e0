//! Calls of EC2: how they are sent, how often they are repeated, and what a refusal means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reconciler::OperationErrorKind;
use serde::de::DeserializeOwned;
use ureq::http::Request;

use super::credentials::Credentials;
use super::settings::Settings;
use super::wire;
use crate::providers::ProviderError;
use crate::providers::cloud::Patience;
use crate::providers::cloud::http::{Answer, agent, send};

const VERSION: &str = "2016-11-15";
/// What stays as it is in a form (RFC 3986).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// EC2 gives back 20 requests a second or more for what only looks, and 2 `RunInstances`: we ask for less by ourselves.
const REQUESTS_PER_SECOND: u32 = 10;
/// After EC2 has said that it is too much.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// What a refusal means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This offer cannot be had now; another may be.
    NotNow,
    /// Not until a quota of the account is raised.
    Quota,
    /// The token was used for a request with other parameters: there is an instance already.
    Exists,
    /// There is none of that id, or not yet.
    Gone,
    /// It is not in a state for that now.
    WrongState,
    /// The same request may succeed later.
    Again(Duration),
    /// New credentials may help, once.
    Credentials,
    /// Repeating it does not help.
    Failed,
}

/// What the codes mean. `InsufficientInstanceCapacity` comes with status 500, which otherwise may pass. Anything that is
/// not here and has a status of 5xx may pass; all else is a failure with EC2's own words.
const MEANINGS: [(&str, Meaning); 31] = [
    ("InsufficientInstanceCapacity", Meaning::NotNow),
    ("InsufficientHostCapacity", Meaning::NotNow),
    ("InsufficientReservedInstanceCapacity", Meaning::NotNow),
    ("InsufficientCapacity", Meaning::NotNow),
    ("InsufficientFreeAddressesInSubnet", Meaning::NotNow),
    ("UnfulfillableCapacity", Meaning::NotNow),
    ("Unsupported", Meaning::NotNow),
    ("SpotMaxPriceTooLow", Meaning::NotNow),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", Meaning::NotNow),
    ("MaxSpotInstanceCountExceeded", Meaning::Quota),
    ("VcpuLimitExceeded", Meaning::Quota),
    ("InstanceLimitExceeded", Meaning::Quota),
    ("VolumeLimitExceeded", Meaning::Quota),
    ("IdempotentParameterMismatch", Meaning::Exists),
    ("InvalidInstanceID.NotFound", Meaning::Gone),
    ("IncorrectInstanceState", Meaning::WrongState),
    ("RequestLimitExceeded", Meaning::Again(THROTTLED_PAUSE)),
    ("Throttling", Meaning::Again(THROTTLED_PAUSE)),
    ("ThrottlingException", Meaning::Again(THROTTLED_PAUSE)),
    ("EC2ThrottledException", Meaning::Again(THROTTLED_PAUSE)),
    ("InternalError", Meaning::Again(Duration::ZERO)),
    ("InternalFailure", Meaning::Again(Duration::ZERO)),
    ("Unavailable", Meaning::Again(Duration::ZERO)),
    ("ServiceUnavailable", Meaning::Again(Duration::ZERO)),
    ("ConcurrentTagAccess", Meaning::Again(Duration::ZERO)),
    ("RequestExpired", Meaning::Credentials),
    ("ExpiredToken", Meaning::Credentials),
    ("AuthFailure", Meaning::Failed),
    ("UnauthorizedOperation", Meaning::Failed),
    ("OptInRequired", Meaning::Failed),
    ("Blocked", Meaning::Failed),
];

/// What helps, where EC2 does not say it.
const ADVICE: [(&str, &str); 8] = [
    (
        "VcpuLimitExceeded",
        "raise the quota \"Running On-Demand ... instances\" (Service Quotas, EC2)",
    ),
    ("InstanceLimitExceeded", "raise the quota of running instances (Service Quotas, EC2)"),
    (
        "MaxSpotInstanceCountExceeded",
        "raise the quota \"All ... Spot Instance Requests\" (Service Quotas, EC2)",
    ),
    ("InsufficientFreeAddressesInSubnet", "the subnet has no free addresses left"),
    (
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        "create the role once: `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`",
    ),
    ("UnauthorizedOperation", "the policy in docs/ec2.md has what is needed"),
    ("RequestExpired", "is this host's clock right?"),
    ("AuthFailure", "are the credentials right, and this host's clock?"),
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

/// Parameters of a call, in their order.
#[derive(Clone, Debug)]
pub(super) struct Call {
    action: &'static str,
    parameters: Vec<(String, String)>,
}

impl Call {
    pub(super) fn new(action: &'static str) -> Self {
        Self { action, parameters: Vec::new() }
    }

    #[must_use]
    pub(super) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// `NAME.1`, `NAME.2`...
    #[must_use]
    pub(super) fn list(mut self, name: &str, values: &[String]) -> Self {
        for (index, value) in values.iter().enumerate() {
            self = self.with(format!("{name}.{}", index + 1), value);
        }
        self
    }

    /// Only what has one of `values` as `name`; filters are numbered from 1.
    #[must_use]
    pub(super) fn filter(self, number: u32, name: &str, values: &[&str]) -> Self {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        self.with(format!("Filter.{number}.Name"), name)
            .list(&format!("Filter.{number}.Value"), &values)
    }

    fn body(&self) -> Vec<u8> {
        let mut body = format!("Action={}&Version={VERSION}", self.action);
        for (name, value) in &self.parameters {
            body.push('&');
            body.extend(utf8_percent_encode(name, FORM));
            body.push('=');
            body.extend(utf8_percent_encode(value, FORM));
        }
        body.into_bytes()
    }
}

/// EC2 in one region.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: String,
    agent: ureq::Agent,
    settings: Settings,
    credentials: Mutex<Arc<Credentials>>,
    next: Mutex<Option<Instant>>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Self {
        let region = &settings.region;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint =
            settings.endpoint.clone().unwrap_or_else(|| format!("https://ec2.{region}.{domain}"));
        Self {
            agent: agent(&endpoint),
            endpoint,
            settings: settings.clone(),
            credentials: Mutex::new(Arc::new(Credentials::new(settings))),
            next: Mutex::default(),
        }
    }

    /// Sends a request until there is an answer that is not "try again".
    ///
    /// # Errors
    /// With what the refusal means; [`OperationErrorKind::TimedOut`] when `patience` ends.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
        patience: &mut Patience,
    ) -> Result<T, Refused> {
        let mut has_new_credentials = false;
        loop {
            let (meaning, message) = match self.send(call, patience)? {
                Ok(answer) if answer.status == 200 => match parse(&answer.body) {
                    Ok(parsed) => return Ok(parsed),
                    // Cut off on its way, as far as can be told.
                    Err(message) => (Meaning::Again(Duration::ZERO), message),
                },
                Ok(answer) => refusal(&answer),
                // Whether it had an effect is not known: the token sees to it that it has only one.
                Err(message) => (Meaning::Again(Duration::ZERO), message),
            };
            let message = format!("{}: {message}", call.action);
            match meaning {
                Meaning::Again(at_least) => {
                    tracing::debug!("{message}");
                    patience.pause(at_least, &message)?;
                }
                Meaning::Credentials if !has_new_credentials => {
                    has_new_credentials = true;
                    *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(Credentials::new(&self.settings));
                }
                Meaning::NotNow | Meaning::Quota => {
                    let error = ProviderError { kind: OperationErrorKind::Capacity, message };
                    return Err(Refused { meaning, error });
                }
                _ => return Err(Refused { meaning, error: ProviderError::failed(message) }),
            }
        }
    }

    fn send(
        &self,
        call: &Call,
        patience: &Patience,
    ) -> Result<Result<Answer, String>, ProviderError> {
        let request = Request::post(format!("{}/", self.endpoint))
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(call.body())
            .map_err(|error| ProviderError::failed(format!("{}: {error}", call.action)))?;
        self.wait_for_turn(patience);
        let credentials =
            Arc::clone(&self.credentials.lock().unwrap_or_else(PoisonError::into_inner));
        let signed = credentials.sign(request)?;
        Ok(send(&self.agent, signed, patience.request_limit()))
    }

    fn wait_for_turn(&self, patience: &Patience) {
        let wait = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + Duration::from_secs(1) / REQUESTS_PER_SECOND);
            turn - now
        };
        std::thread::sleep(wait.min(patience.left()));
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    quick_xml::de::from_str(text).map_err(|error| format!("the answer makes no sense: {error}"))
}

/// What an answer that is no success means, and its text, which starts with its code.
fn refusal(answer: &Answer) -> (Meaning, String) {
    let status = answer.status;
    let Ok(problem) = parse::<wire::Problem>(&answer.body) else {
        // An error of EC2's that was cut off on its way.
        let is_cut_off = answer.body.windows(8).any(|bytes| bytes == b"<Errors>");
        let meaning = if status >= 500 || status == 429 || is_cut_off {
            Meaning::Again(Duration::ZERO)
        } else {
            Meaning::Failed
        };
        return (
            meaning,
            format!("status {status} without an error that is known: {}", start_of(&answer.body)),
        );
    };
    let wire::ProblemText { code, message } = problem.errors.error;
    let known = MEANINGS.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning);
    let meaning = match known {
        Some(meaning) => meaning,
        None if status >= 500 => Meaning::Again(Duration::ZERO),
        None => Meaning::Failed,
    };
    let advice = ADVICE.iter().find(|(known, _)| *known == code);
    let advice = advice.map_or_else(String::new, |(_, advice)| format!(" ({advice})"));
    (meaning, format!("{code}: {}{advice}", message.trim()))
}

/// The first words of what a proxy may have said.
fn start_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(160)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let of = |status, code: &str| {
            let body = format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>text</Message></Error></Errors></Response>"
            );
            let headers = ureq::http::HeaderMap::default();
            refusal(&Answer { status, headers, body: body.into() }).0
        };
        // Although it is a 500.
        assert_eq!(of(500, "InsufficientInstanceCapacity"), Meaning::NotNow);
        assert_eq!(of(400, "VcpuLimitExceeded"), Meaning::Quota);
        assert_eq!(of(503, "RequestLimitExceeded"), Meaning::Again(THROTTLED_PAUSE));
        assert_eq!(of(500, "SomethingNew"), Meaning::Again(Duration::ZERO));
        assert_eq!(of(400, "InvalidAMIID.NotFound"), Meaning::Failed);
        assert_eq!(of(400, "IdempotentParameterMismatch"), Meaning::Exists);
    }

    #[test]
    fn parameters_are_encoded() {
        let call = Call::new("X").filter(1, "tag:a b", &["x&y", "~z"]);
        assert_eq!(
            String::from_utf8(call.body()).unwrap(),
            "Action=X&Version=2016-11-15&Filter.1.Name=tag%3Aa%20b&Filter.1.Value.1=x%26y&Filter.1.Value.2=~z"
        );
    }
}

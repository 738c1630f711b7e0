//! EC2 calls: sending, retries, and what a refusal means.

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
use crate::providers::cloud::RetryBudget;
use crate::providers::cloud::http::{Answer, agent, send};

/// Characters that are not encoded in a form (RFC 3986).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// EC2 allows 20 read requests per second or more, and 2 `RunInstances`. We stay below that.
const REQUESTS_PER_SECOND: u32 = 10;
/// After EC2 has throttled a request.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// What a refusal means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This offer is unavailable now; another may be available.
    Unavailable,
    /// Unavailable until a quota of the account is raised.
    Quota,
    /// The token was used for a request with other parameters: an instance exists already.
    Exists,
    /// There is none of that id, or not yet.
    Gone,
    /// Its state does not allow that now.
    WrongState,
    /// The same request may succeed later.
    Again(Duration),
    /// New credentials may help, once.
    Credentials,
    /// Retrying does not help.
    Failed,
}

/// The meaning of codes. `InsufficientInstanceCapacity` has status 500. Any code that is not listed and has a
/// 5xx status is temporary; any other one is a failure with EC2's own message.
const MEANINGS: [(&str, Meaning); 31] = [
    ("InsufficientInstanceCapacity", Meaning::Unavailable),
    ("InsufficientHostCapacity", Meaning::Unavailable),
    ("InsufficientReservedInstanceCapacity", Meaning::Unavailable),
    ("InsufficientCapacity", Meaning::Unavailable),
    ("InsufficientFreeAddressesInSubnet", Meaning::Unavailable),
    ("UnfulfillableCapacity", Meaning::Unavailable),
    ("Unsupported", Meaning::Unavailable),
    ("SpotMaxPriceTooLow", Meaning::Unavailable),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", Meaning::Unavailable),
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

/// The remedy, where EC2's message does not contain it.
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
    ("UnauthorizedOperation", "see the policy in docs/ec2.md"),
    ("RequestExpired", "check this host's clock"),
    ("AuthFailure", "check the credentials and this host's clock"),
];

/// A refusal that retries did not overcome.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) meaning: Meaning,
    pub(super) error: ProviderError,
}

impl From<Refused> for ProviderError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl From<ProviderError> for Refused {
    fn from(error: ProviderError) -> Self {
        Self { meaning: Meaning::Failed, error }
    }
}

/// The parameters of a call, in order.
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

    /// Restricts the result to items with one of `values` as `name`. Filters are numbered from 1.
    #[must_use]
    pub(super) fn filter(self, number: u32, name: &str, values: &[impl AsRef<str>]) -> Self {
        let values: Vec<_> = values.iter().map(|value| value.as_ref().to_owned()).collect();
        self.with(format!("Filter.{number}.Name"), name)
            .list(&format!("Filter.{number}.Value"), &values)
    }

    fn body(&self, version: &str) -> Vec<u8> {
        let mut body = format!("Action={}&Version={version}", self.action);
        for (name, value) in &self.parameters {
            body.push('&');
            body.extend(utf8_percent_encode(name, FORM));
            body.push('=');
            body.extend(utf8_percent_encode(value, FORM));
        }
        body.into_bytes()
    }
}

/// A service of AWS that takes forms and answers in XML.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// What requests are signed for.
    name: &'static str,
    version: &'static str,
    url: String,
}

impl Service {
    /// EC2 in the region of `settings`.
    pub(super) fn ec2(settings: &Settings) -> Self {
        let region = &settings.region;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint =
            settings.endpoint.clone().unwrap_or_else(|| format!("https://ec2.{region}.{domain}"));
        Self { name: "ec2", version: "2016-11-15", url: format!("{endpoint}/") }
    }

    /// The message queue at `url`.
    pub(super) fn sqs(url: String) -> Self {
        Self { name: "sqs", version: "2012-11-05", url }
    }
}

/// Calls one service, as one account.
#[derive(Debug)]
pub(super) struct Client {
    service: Service,
    agent: ureq::Agent,
    settings: Settings,
    credentials: Mutex<Arc<Credentials>>,
    next: Mutex<Option<Instant>>,
}

impl Client {
    pub(super) fn new(settings: &Settings, service: Service) -> Self {
        Self {
            agent: agent(&service.url),
            settings: settings.clone(),
            credentials: Mutex::new(Arc::new(Credentials::new(settings, service.name))),
            service,
            next: Mutex::default(),
        }
    }

    /// Sends a request until the answer is not "try again".
    ///
    /// # Errors
    /// With the meaning of the refusal; [`OperationErrorKind::TimedOut`] when `retries` are used up.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
        retries: &mut RetryBudget,
    ) -> Result<T, Refused> {
        let mut has_new_credentials = false;
        loop {
            let (meaning, message) = match self.send(call, retries)? {
                Ok(answer) if answer.status == 200 => match parse(&answer.body) {
                    Ok(parsed) => return Ok(parsed),
                    // Probably truncated on its way.
                    Err(message) => (Meaning::Again(Duration::ZERO), message),
                },
                Ok(answer) => refusal(&answer),
                // Whether it had an effect is not known; the token prevents a second effect.
                Err(message) => (Meaning::Again(Duration::ZERO), message),
            };
            let message = format!("{}: {message}", call.action);
            match meaning {
                Meaning::Again(at_least) => {
                    tracing::debug!("{message}");
                    retries.pause(at_least, &message)?;
                }
                Meaning::Credentials if !has_new_credentials => {
                    has_new_credentials = true;
                    *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(Credentials::new(&self.settings, self.service.name));
                }
                Meaning::Unavailable | Meaning::Quota => {
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
        retries: &RetryBudget,
    ) -> Result<Result<Answer, String>, ProviderError> {
        let request = Request::post(&self.service.url)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(call.body(self.service.version))
            .map_err(|error| ProviderError::failed(format!("{}: {error}", call.action)))?;
        self.wait_for_turn(retries);
        let credentials =
            Arc::clone(&self.credentials.lock().unwrap_or_else(PoisonError::into_inner));
        let signed = credentials.sign(request)?;
        Ok(send(&self.agent, signed, retries.request_limit()))
    }

    fn wait_for_turn(&self, retries: &RetryBudget) {
        let wait = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + Duration::from_secs(1) / REQUESTS_PER_SECOND);
            turn - now
        };
        std::thread::sleep(wait.min(retries.left()));
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    quick_xml::de::from_str(text).map_err(|error| format!("the answer is invalid: {error}"))
}

/// The meaning of an unsuccessful answer, and its text, which starts with the code.
fn refusal(answer: &Answer) -> (Meaning, String) {
    let status = answer.status;
    let problem = parse::<wire::Problem>(&answer.body).ok().and_then(wire::Problem::into_text);
    let Some(wire::ProblemText { code, message }) = problem else {
        // An EC2 error that was truncated on its way.
        let is_cut_off = answer.body.windows(8).any(|bytes| bytes == b"<Errors>");
        let meaning = if status >= 500 || status == 429 || is_cut_off {
            Meaning::Again(Duration::ZERO)
        } else {
            Meaning::Failed
        };
        return (
            meaning,
            format!("status {status} without a known error: {}", start_of(&answer.body)),
        );
    };
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

/// The first words of an answer that may come from a proxy.
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
        // Although its status is 500.
        assert_eq!(of(500, "InsufficientInstanceCapacity"), Meaning::Unavailable);
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
            String::from_utf8(call.body("2016-11-15")).unwrap(),
            "Action=X&Version=2016-11-15&Filter.1.Name=tag%3Aa%20b&Filter.1.Value.1=x%26y&Filter.1.Value.2=~z"
        );
    }
}

//! Calls of AWS' services: sending and retries.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reconciler::OperationErrorKind;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Request;

use super::answer::{parse_answer, parse_json};
use super::credentials::Credentials;
use super::meanings::{Meaning, refusal, unreadable};
use super::settings::Settings;
use crate::providers::ProviderError;
use crate::providers::cloud::RetryBudget;
use crate::providers::cloud::http::{Answer, agent, send};

/// Characters that are not encoded in a form (RFC 3986).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// EC2 allows 20 read requests per second or more, and 2 `RunInstances`. We stay below that.
const REQUESTS_PER_SECOND: u32 = 10;
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

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    action: &'static str,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// Parameters, in order; the answer is XML.
    Form(Vec<(String, String)>),
    /// The answer is JSON, too.
    Json(Value),
}

impl Call {
    pub(super) fn new(action: &'static str) -> Self {
        Self { action, content: Content::Form(Vec::new()) }
    }

    pub(super) fn action(&self) -> &'static str {
        self.action
    }

    pub(super) fn json(action: &'static str, value: Value) -> Self {
        Self { action, content: Content::Json(value) }
    }

    #[must_use]
    pub(super) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Content::Form(parameters) = &mut self.content {
            parameters.push((name.into(), value.into()));
        }
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
        let parameters = match &self.content {
            Content::Form(parameters) => parameters,
            Content::Json(value) => return value.to_string().into_bytes(),
        };
        let mut body = format!("Action={}&Version={version}", self.action);
        for (name, value) in parameters {
            body.push('&');
            body.extend(utf8_percent_encode(name, FORM));
            body.push('=');
            body.extend(utf8_percent_encode(value, FORM));
        }
        body.into_bytes()
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, String> {
        match self.content {
            Content::Form(_) => parse_answer(self.action, body),
            Content::Json(_) => parse_json(body),
        }
    }
}

/// A service of AWS.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// What requests are signed for.
    name: &'static str,
    /// Of its API; of services with JSON, what names of actions begin with.
    version: &'static str,
    /// The region that requests are signed for.
    region: String,
    url: String,
}

impl Service {
    /// EC2 in the region of `settings`.
    pub(super) fn ec2(settings: &Settings) -> Self {
        let region = &settings.region;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint =
            settings.endpoint.clone().unwrap_or_else(|| format!("https://ec2.{region}.{domain}"));
        let region = region.clone();
        Self { name: "ec2", version: "2016-11-15", region, url: format!("{endpoint}/") }
    }

    /// The parameters (SSM) of the region, at the operator's own endpoint if there is one.
    pub(super) fn ssm(settings: &Settings) -> Self {
        let Self { region, url, .. } = Self::ec2(settings);
        let url = match settings.endpoint {
            Some(_) => url,
            None => url.replacen("//ec2.", "//ssm.", 1),
        };
        Self { name: "ssm", version: "AmazonSSM", region, url }
    }

    /// The message queue at `url`.
    pub(super) fn sqs(settings: &Settings, url: String) -> Self {
        Self { name: "sqs", version: "2012-11-05", region: settings.region.clone(), url }
    }

    /// The price list, which only some regions have. `None` with an endpoint of the operator's own and no address of
    /// a price list.
    pub(super) fn pricing(settings: &Settings) -> Option<Self> {
        let (region, url) = if settings.region.starts_with("cn-") {
            ("cn-northwest-1", "https://api.pricing.cn-northwest-1.amazonaws.com.cn")
        } else {
            ("us-east-1", "https://api.pricing.us-east-1.amazonaws.com")
        };
        let url = match (&settings.pricing_endpoint, &settings.endpoint) {
            (Some(url), _) => url,
            (None, None) => url,
            (None, Some(_)) => return None,
        };
        let version = "AWSPriceListService";
        Some(Self { name: "pricing", version, region: region.to_owned(), url: format!("{url}/") })
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
            credentials: Mutex::new(Arc::new(Credentials::new(
                settings,
                service.name,
                &service.region,
            ))),
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
        self.call_or_find(call, retries, |_| None)
    }

    /// As [`call`](Self::call), but looks for the effect before a request that may have had it is repeated.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub(super) fn call_or_find<T: DeserializeOwned>(
        &self,
        call: &Call,
        retries: &mut RetryBudget,
        mut find: impl FnMut(&mut RetryBudget) -> Option<T>,
    ) -> Result<T, Refused> {
        let mut has_new_credentials = false;
        loop {
            let service = self.service.name;
            let answer = self.send(call, retries)?;
            let wait = answer.as_ref().map_or(Duration::ZERO, Answer::retry_after);
            let (meaning, message) = match answer {
                Ok(answer) if answer.status == 200 => match call.parse(&answer.body) {
                    Ok(parsed) => return Ok(parsed),
                    Err(why) => unreadable(service, call.action, &answer, why),
                },
                Ok(answer) => refusal(service, call.action, &answer),
                // Whether it had an effect is not known; the token prevents a second effect.
                Err(message) => (Meaning::Again(Duration::ZERO), message),
            };
            let message = format!("{}: {message}", call.action);
            match meaning {
                Meaning::Again(at_least) => {
                    tracing::debug!("{message}");
                    retries.pause(at_least.max(wait), &message)?;
                    // A throttled request had none.
                    if at_least.is_zero()
                        && let Some(found) = find(retries)
                    {
                        return Ok(found);
                    }
                }
                Meaning::Credentials if !has_new_credentials => {
                    has_new_credentials = true;
                    *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(self.new_credentials());
                }
                Meaning::Unavailable(_) | Meaning::Quota => {
                    let error = ProviderError { kind: OperationErrorKind::Capacity, message };
                    return Err(Refused { meaning, error });
                }
                _ => return Err(Refused { meaning, error: ProviderError::failed(message) }),
            }
        }
    }

    /// Calls for one page after the other. `take` returns the next one's token, which is empty after the last one.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub(super) fn pages<T: DeserializeOwned>(
        &self,
        call: &Call,
        retries: &mut RetryBudget,
        mut take: impl FnMut(T) -> String,
    ) -> Result<(), Refused> {
        let mut next_token = take(self.call(call, retries)?);
        let mut seen = BTreeSet::new();
        while !next_token.is_empty() {
            let page = call.clone().with("NextToken", &next_token);
            if !seen.insert(next_token) {
                let message = format!("{}: a page follows itself, without end", call.action);
                return Err(ProviderError::failed(message).into());
            }
            next_token = take(self.call(&page, retries)?);
        }
        Ok(())
    }

    fn new_credentials(&self) -> Credentials {
        Credentials::new(&self.settings, self.service.name, &self.service.region)
    }

    fn send(
        &self,
        call: &Call,
        retries: &RetryBudget,
    ) -> Result<Result<Answer, String>, ProviderError> {
        let request = Request::post(&self.service.url);
        let request = match call.content {
            Content::Form(_) => {
                request.header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            }
            Content::Json(_) => request
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", format!("{}.{}", self.service.version, call.action)),
        };
        let request = request
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded() {
        let call = Call::new("X").filter(1, "tag:a b", &["x&y", "~z"]);
        assert_eq!(
            String::from_utf8(call.body("2016-11-15")).unwrap(),
            "Action=X&Version=2016-11-15&Filter.1.Name=tag%3Aa%20b&Filter.1.Value.1=x%26y&Filter.1.Value.2=~z"
        );
    }
}

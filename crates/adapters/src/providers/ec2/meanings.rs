//! What a refusal means, and what to do about it. `docs/ec2.md` has the same table in words.

use std::time::Duration;

use crate::providers::cloud::http::Answer;

use super::answer::{parse, parse_json, start_of};
use super::wire;

/// After EC2 has throttled a request.
pub(super) const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// What a refusal means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// These offers are unavailable now; others may be available.
    Unavailable(Scope),
    /// This offer is unavailable until a quota of the account is raised.
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
    /// It was only tried, and would have succeeded.
    WouldSucceed,
    /// A permission is missing.
    Forbidden,
    /// Retrying does not help.
    Failed,
}

/// Which offers a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Only the requested one.
    Offer,
    /// Each in the same place.
    Place,
    /// Each spot offer.
    Spot,
}

/// The meaning of codes. `InsufficientInstanceCapacity` has status 500. Any code that is not listed and has a
/// 5xx status is temporary; any other one is a failure with EC2's own message.
const MEANINGS: [(&str, Meaning); 39] = [
    ("InsufficientInstanceCapacity", Meaning::Unavailable(Scope::Offer)),
    ("InsufficientHostCapacity", Meaning::Unavailable(Scope::Offer)),
    ("InsufficientReservedInstanceCapacity", Meaning::Unavailable(Scope::Offer)),
    ("InsufficientCapacity", Meaning::Unavailable(Scope::Offer)),
    ("UnfulfillableCapacity", Meaning::Unavailable(Scope::Offer)),
    ("Unsupported", Meaning::Unavailable(Scope::Offer)),
    ("SpotMaxPriceTooLow", Meaning::Unavailable(Scope::Offer)),
    ("InsufficientFreeAddressesInSubnet", Meaning::Unavailable(Scope::Place)),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", Meaning::Unavailable(Scope::Spot)),
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
    ("ExpiredTokenException", Meaning::Credentials),
    // The operator may have replaced the key.
    ("AuthFailure", Meaning::Credentials),
    ("InvalidClientTokenId", Meaning::Credentials),
    ("UnrecognizedClientException", Meaning::Credentials),
    ("SignatureDoesNotMatch", Meaning::Credentials),
    ("InvalidSignatureException", Meaning::Credentials),
    ("DryRunOperation", Meaning::WouldSucceed),
    ("UnauthorizedOperation", Meaning::Forbidden),
    ("AccessDenied", Meaning::Forbidden),
    ("AccessDeniedException", Meaning::Forbidden),
    ("OptInRequired", Meaning::Failed),
    ("Blocked", Meaning::Failed),
];

const CHECK_CREDENTIALS: &str = "check the credentials and this host's clock";

/// The remedy, where EC2's message does not contain it.
const ADVICE: [(&str, &str); 9] = [
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
    ("RequestExpired", "check this host's clock"),
    ("AuthFailure", CHECK_CREDENTIALS),
    ("InvalidClientTokenId", CHECK_CREDENTIALS),
    ("SignatureDoesNotMatch", CHECK_CREDENTIALS),
];

/// The permissions that a call may need. EC2's own message may name one more exactly.
fn permissions(service: &str, action: &str) -> String {
    match (service, action) {
        ("ec2", "RunInstances") => {
            "ec2:RunInstances and ec2:CreateTags (with instanceProfile also iam:PassRole, with imageParameter also ssm:GetParameters)".to_owned()
        }
        _ => format!("{service}:{action}"),
    }
}

/// The meaning of an answer to `action` with the status of a success that could not be read, for the reason `why`. It may be an
/// error nevertheless, or come from a proxy, or be truncated.
pub(super) fn unreadable(
    service: &str,
    action: &str,
    answer: &Answer,
    why: String,
) -> (Meaning, String) {
    match problem(&answer.body) {
        Some(_) => refusal(service, action, answer),
        None => (Meaning::Again(Duration::ZERO), why),
    }
}

/// The meaning of an unsuccessful answer to `action`, and its text, which starts with the code.
pub(super) fn refusal(service: &str, action: &str, answer: &Answer) -> (Meaning, String) {
    let status = answer.status;
    let Some(wire::ProblemText { code, message }) = problem(&answer.body) else {
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
    let advice = if meaning == Meaning::Forbidden {
        let needed = permissions(service, action);
        format!(" (it needs {needed}; see the policy in docs/ec2.md)")
    } else {
        let advice = ADVICE.iter().find(|(known, _)| *known == code);
        advice.map_or_else(String::new, |(_, advice)| format!(" ({advice})"))
    };
    (meaning, format!("{code}: {}{advice}", message.trim()))
}

fn problem(body: &[u8]) -> Option<wire::ProblemText> {
    if let Ok(problem) = parse::<wire::Problem>(body) {
        return problem.into_text();
    }
    let problem: wire::JsonProblem = parse_json(body).ok()?;
    // Some services prefix the code with a namespace.
    let code = problem.code.rsplit('#').next().unwrap_or_default().to_owned();
    Some(wire::ProblemText { code, message: problem.message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: ureq::http::HeaderMap::default(), body: body.into() }
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |status, code: &str| {
            let body = format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>text</Message></Error></Errors></Response>"
            );
            refusal("ec2", "RunInstances", &answer(status, &body)).0
        };
        // Although its status is 500.
        let capacity = Meaning::Unavailable(Scope::Offer);
        assert_eq!(of(500, "InsufficientInstanceCapacity"), capacity);
        for code in ["UnfulfillableCapacity", "Unsupported", "SpotMaxPriceTooLow"] {
            assert_eq!(of(400, code), capacity, "{code}");
        }
        let subnet = Meaning::Unavailable(Scope::Place);
        assert_eq!(of(400, "InsufficientFreeAddressesInSubnet"), subnet);
        let role = "AuthFailure.ServiceLinkedRoleCreationNotPermitted";
        assert_eq!(of(403, role), Meaning::Unavailable(Scope::Spot));
        for code in ["VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"] {
            assert_eq!(of(400, code), Meaning::Quota, "{code}");
        }
        assert_eq!(of(503, "RequestLimitExceeded"), Meaning::Again(THROTTLED_PAUSE));
        assert_eq!(of(500, "SomethingNew"), Meaning::Again(Duration::ZERO));
        assert_eq!(of(400, "InvalidAMIID.NotFound"), Meaning::Failed);
        assert_eq!(of(400, "IdempotentParameterMismatch"), Meaning::Exists);
        assert_eq!(of(412, "DryRunOperation"), Meaning::WouldSucceed);
        for code in ["AuthFailure", "InvalidClientTokenId", "ExpiredTokenException"] {
            assert_eq!(of(401, code), Meaning::Credentials, "{code}: the key may be a new one");
        }
    }

    #[test]
    fn an_error_may_have_the_status_of_a_success() {
        let of =
            |body: &str| unreadable("ec2", "RunInstances", &answer(200, body), "why".to_owned()).0;
        let error = |code: &str| {
            format!("<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>")
        };
        assert_eq!(of(&error("VcpuLimitExceeded")), Meaning::Quota);
        assert_eq!(of(&error("Unavailable")), Meaning::Again(Duration::ZERO));
        assert_eq!(of("<html>sign in</html>"), Meaning::Again(Duration::ZERO));
        assert_eq!(of(""), Meaning::Again(Duration::ZERO));
    }

    #[test]
    fn a_missing_permission_is_named() {
        let json = r#"{"__type":"com.amazonaws.pricing#AccessDeniedException","Message":"no"}"#;
        let (meaning, text) = refusal("pricing", "GetProducts", &answer(400, json));
        assert_eq!(meaning, Meaning::Forbidden);
        assert_eq!(
            text,
            "AccessDeniedException: no (it needs pricing:GetProducts; see the policy in docs/ec2.md)"
        );
        let unclear = refusal("ec2", "X", &answer(400, "<html> a proxy"));
        assert_eq!(unclear.0, Meaning::Failed);
        assert!(unclear.1.ends_with("<html> a proxy"), "{}", unclear.1);
    }
}

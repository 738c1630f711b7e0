//! Faults at every call, from the proxy.

use std::fs;
use std::time::{Duration, Instant};

use adapters::providers::ProviderError;
use reconciler::OperationErrorKind;
use serde_json::{Value, json};

use crate::account::{Account, LIMIT, SHORT, name, x86};

/// Faults of the first requests of a call.
fn passing_faults() -> Vec<(&'static str, u32, Value)> {
    vec![
        ("500", 2, json!({ "error": { "code": "InternalError", "status": 500 } })),
        ("503", 1, json!({ "error": { "code": "Unavailable", "status": 503 } })),
        ("throttled", 1, json!({ "error": { "code": "RequestLimitExceeded", "status": 503 } })),
        ("expired", 1, json!({ "error": { "code": "RequestExpired", "status": 400 } })),
        ("cut before the effect", 1, json!({ "reset": true })),
        ("cut after the effect", 1, json!({ "response": { "abort_bytes": 20 } })),
        ("truncated after the effect", 1, json!({ "response": { "truncate_frac": 0.5 } })),
    ]
}

fn ok<T>(result: Result<T, ProviderError>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[test]
fn a_temporary_fault_is_overcome_and_nothing_is_created_twice() {
    let Some(account) = Account::new() else { return };
    let calls = [
        "RunInstances",
        "DescribeInstances",
        "StopInstances",
        "StartInstances",
        "TerminateInstances",
    ];
    let cases = calls.iter().flat_map(|call| passing_faults().into_iter().map(move |f| (call, f)));
    for (number, (call, (fault, times, rule))) in (0..).zip(cases) {
        account.fault(call, times, &rule);
        let what = format!("{fault} at {call}");
        let provider = account.provider();
        let made = ok(provider.create(&name(number), &x86(), "t", LIMIT), &what);
        let listed = ok(provider.list(LIMIT), &what);
        assert_eq!(listed.len(), 1, "{what}");
        assert_eq!(listed[0].host_key, made.host_key, "{what}");
        ok(provider.stop(&made, LIMIT), &what);
        ok(provider.start(&made, LIMIT), &what);
        assert_eq!(account.instances().len(), 1, "{what}");
        ok(provider.destroy(&made, LIMIT), &what);
        assert_eq!(account.instances(), [""; 0], "{what}");
    }
}

/// The program is killed after an instance was created and before the answer arrives. The next run repeats the request,
/// with and without support for client tokens.
#[test]
fn a_creation_that_is_repeated_after_a_crash_creates_one_instance() {
    let Some(account) = Account::new() else { return };
    let lost = json!({ "response": { "abort_bytes": 20 } });
    for (number, (tokens, lag_seconds)) in (0..).zip([(true, 0), (false, 0), (true, 4)]) {
        // Each attempt loses its answer until its time is over.
        account.fault("RunInstances", 1, &lost);
        account.emulator_is(&json!({ "tokens": tokens, "lagSeconds": lag_seconds }));
        let first =
            account.provider().create(&name(number), &x86(), "t", Duration::from_millis(200));
        assert_eq!(first.unwrap_err().kind, OperationErrorKind::TimedOut);
        account.emulator_is(&json!({}));
        let made = account.provider().create(&name(number), &x86(), "t", LIMIT).unwrap();
        account.emulator_is(&json!({ "lagSeconds": 0 }));
        assert_eq!(account.instances().len(), 1, "tokens {tokens}, lag {lag_seconds} s");
        account.provider().destroy(&made, LIMIT).unwrap();
    }
}

/// With an endpoint that ignores client tokens a repeated request would create another instance.
#[test]
fn an_instance_is_looked_for_before_its_creation_is_repeated() {
    let Some(account) = Account::new() else { return };
    for lost in [json!({ "abort_bytes": 20 }), json!({ "truncate_frac": 0.5 })] {
        account.fault("RunInstances", 1, &json!({ "response": lost }));
        account.emulator_is(&json!({ "tokens": false }));
        let made = account.provider().create(&name(0), &x86(), "t", LIMIT).unwrap();
        assert_eq!((account.instances().len(), account.calls("RunInstances")), (1, 1));
        account.provider().destroy(&made, LIMIT).unwrap();
    }
}

#[test]
fn a_permanent_error_is_one_clear_line_at_once() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider();
    let cases = [
        ("UnauthorizedOperation", "see the policy in docs/ec2.md"),
        ("OptInRequired", "as the test wants it"),
        ("InvalidAMIID.NotFound", "as the test wants it"),
        ("AuthFailure", "and this host's clock"),
        ("Blocked", "as the test wants it"),
    ];
    for (code, advice) in cases {
        for operation in ["RunInstances", "DescribeInstances"] {
            let what = json!({ "error": { "code": code, "status": 400, "message": "as the test wants it" } });
            // The operator may have replaced the key: it is read again, once.
            account.fault(operation, if code == "AuthFailure" { 2 } else { 1 }, &what);
            let error = match operation {
                "RunInstances" => provider.create(&name(0), &x86(), "t", LIMIT).unwrap_err(),
                _ => provider.list(LIMIT).unwrap_err(),
            };
            assert_eq!(error.kind, OperationErrorKind::Failed);
            assert!(error.message.starts_with(&format!("{operation}: {code}: ")), "{error}");
            assert!(error.message.contains(advice), "{error}");
        }
    }
    // A wrong clock stays wrong: one more attempt, then the error.
    let expired = json!({ "error": { "code": "RequestExpired", "status": 400 } });
    account.fault("DescribeInstances", 9, &expired);
    let error = provider.list(LIMIT).unwrap_err();
    assert!(error.message.contains("check this host's clock"), "{error}");

    account.faults(&json!([]));
    fs::remove_file(account.path("credentials")).unwrap();
    let error =
        account.provider_with("farm", &json!({ "profile": "none" })).list(LIMIT).unwrap_err();
    assert!(error.message.contains("no AWS credentials"), "{error}");
    assert!(!error.message.contains("very-secret"), "{error}");
}

#[test]
fn a_call_ends_within_its_limit() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider();
    for (what, said) in [
        (json!({ "error": { "code": "Unavailable", "status": 503 } }), "Unavailable"),
        (json!({ "timeout_ms": 60000 }), "no answer within"),
    ] {
        account.fault("DescribeInstances", 1000, &what);
        let began = Instant::now();
        let error = provider.list(SHORT).unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::TimedOut);
        assert!(error.message.contains(said), "{error}");
        assert!(began.elapsed() < SHORT * 2, "{:?}", began.elapsed());
    }
}

#[test]
fn all_pages_are_read_with_one_call_each_or_none() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider();
    for number in 0..12 {
        provider.create(&name(number), &x86(), "t", LIMIT).unwrap();
    }
    account.emulator_is(&json!({ "pageSize": 5 }));
    // A provider without memory sees them as well.
    assert_eq!(account.provider().list(LIMIT).unwrap().len(), 12);
    assert_eq!(account.calls("DescribeInstances"), 3);
    // A page in the middle fails permanently: then there is no listing.
    let unavailable =
        json!({ "error": { "code": "Unavailable", "status": 503 }, "body": "NextToken" });
    account.fault("DescribeInstances", 1000, &unavailable);
    assert_eq!(account.provider().list(SHORT).unwrap_err().kind, OperationErrorKind::TimedOut);
}

//! Answers that no cloud gives when all is well: pages of proxies, errors with the status of a success, pages without end. A
//! listing that may be incomplete is an error: otherwise its machines would count as gone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod server;

use std::fs;
use std::path::Path;
use std::time::Duration;

use adapters::config::parse;
use adapters::providers::{Provider, ProviderContext, ProviderError, build};
use planner::Tag;
use reconciler::OperationErrorKind;
use serde_json::{Value, json};

use server::{Server, page};

const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a slow shared machine, and too short for many retries.
const SHORT: Duration = Duration::from_secs(3);

const NO_INSTANCES: &str =
    "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
const NO_SERVERS: &str = r#"{"servers":[],"meta":{"pagination":{"next_page":null}}}"#;
const SIGN_IN: &str = "<!DOCTYPE html><html><body>please sign in</body></html>";

fn credentials(folder: &Path, key: &str) {
    let text =
        format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = very-secret\n");
    fs::write(folder.join("credentials"), text).unwrap();
}

fn provider(folder: &Path, settings: &Value) -> Box<dyn Provider> {
    let config =
        json!({ "systemTypes": { "x86_64-linux": { "provider": settings, "dollarsPerHour": 1 } } });
    let context = ProviderContext::new(Tag::new("farm"), folder.join("state"));
    build(&context, &parse(&config).unwrap().providers).unwrap()
}

fn ec2(folder: &Path, url: &str) -> Box<dyn Provider> {
    credentials(folder, "AKIAOLD");
    let settings = json!({ "ec2": {
        "region": "eu-central-1", "endpoint": url, "credentialsFile": folder.join("credentials"),
        "image": "ami-1", "instanceTypes": ["c7i.large"], "keyName": "k",
    } });
    provider(folder, &settings)
}

fn hcloud(folder: &Path, url: &str) -> Box<dyn Provider> {
    fs::write(folder.join("token"), "test-token").unwrap();
    let settings = json!({ "hcloud": {
        "endpoint": url, "tokenFile": folder.join("token"), "serverTypes": ["cx22"], "locations": ["fsn1"],
        "image": "debian-13", "sshKeys": ["k"],
    } });
    provider(folder, &settings)
}

type Make = fn(&Path, &str) -> Box<dyn Provider>;
const CLOUDS: [(&str, Make, &str); 2] =
    [("ec2", ec2, NO_INSTANCES), ("hcloud", hcloud, NO_SERVERS)];

/// The error of a listing, and how many requests it took.
fn refused(make: Make, limit: Duration, server: &Server) -> (ProviderError, usize) {
    let folder = tempfile::tempdir().unwrap();
    let error = make(folder.path(), &server.url).list(limit).unwrap_err();
    assert!(
        !error.message.contains("very-secret") && !error.message.contains("test-token"),
        "{error}"
    );
    (error, server.count())
}

#[test]
fn a_page_of_a_proxy_is_no_empty_list() {
    for (cloud, make, none) in CLOUDS {
        for body in [SIGN_IN, "", "<DescribeInst", r#"{"servers":[{"id":1"#] {
            // Hetzner's API has answers without content, but no such listing.
            if (cloud, body) == ("hcloud", "") {
                continue;
            }
            let server = Server::start(move |_, _| page(200, body));
            let (error, _) = refused(make, SHORT, &server);
            assert_eq!(error.kind, OperationErrorKind::TimedOut, "{cloud}, {body}: {error}");
            assert!(error.message.contains("the answer is invalid"), "{cloud}, {body}: {error}");

            let server =
                Server::start(move |_, earlier| page(200, if earlier == 0 { body } else { none }));
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(
                make(folder.path(), &server.url).list(LIMIT).unwrap(),
                [],
                "{cloud}, {body}"
            );
        }
    }
}

#[test]
fn an_error_with_the_status_of_a_success_is_one() {
    let xml = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
    let server = Server::start(move |_, _| page(200, xml));
    let (error, requests) = refused(ec2, LIMIT, &server);
    assert!(
        error.message.starts_with("DescribeInstances: UnauthorizedOperation: no (it needs"),
        "{error}"
    );
    assert_eq!(requests, 1);

    let text = r#"{"error":{"code":"forbidden","message":"no"}}"#;
    let server = Server::start(move |_, _| page(200, text));
    let (error, requests) = refused(hcloud, LIMIT, &server);
    assert!(error.message.contains("forbidden (200): no"), "{error}");
    assert_eq!(requests, 1);
}

#[test]
fn pages_without_end_are_no_listing() {
    let again = "<DescribeInstancesResponse><reservationSet/><nextToken>t</nextToken></DescribeInstancesResponse>";
    let server = Server::start(move |_, _| page(200, again));
    let (error, requests) = refused(ec2, LIMIT, &server);
    assert_eq!(error.message, "DescribeInstances: a page follows itself, without end");
    assert_eq!(requests, 2);

    let again = r#"{"servers":[],"meta":{"pagination":{"next_page":1}}}"#;
    let server = Server::start(move |_, _| page(200, again));
    let (error, requests) = refused(hcloud, LIMIT, &server);
    assert!(error.message.contains("page 1 follows page 1"), "{error}");
    assert_eq!(requests, 1);
}

#[test]
fn nothing_is_sent_before_the_time_that_the_cloud_asks_for() {
    let xml =
        "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>";
    let text = r#"{"error":{"code":"rate_limit_exceeded","message":"no"}}"#;
    for (make, body) in [(ec2 as Make, xml), (hcloud, text), (ec2, SIGN_IN), (hcloud, SIGN_IN)] {
        let server = Server::start(move |_, _| (429, "retry-after: 3600\r\n", body.to_owned()));
        let (error, requests) = refused(make, LIMIT, &server);
        assert_eq!((error.kind, requests), (OperationErrorKind::TimedOut, 1), "{error}");
    }
}

/// The operator has replaced the access key: the old one is not valid any more.
#[test]
fn a_new_access_key_is_used_without_a_restart() {
    for code in ["AuthFailure", "InvalidClientTokenId", "ExpiredTokenException"] {
        let folder = tempfile::tempdir().unwrap();
        let refusal =
            format!("<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>");
        let server = Server::start(move |request, earlier| {
            let is_valid = request.contains(if earlier == 0 { "AKIAOLD" } else { "AKIANEW" });
            if is_valid { page(200, NO_INSTANCES) } else { page(401, &refusal) }
        });
        let provider = ec2(folder.path(), &server.url);
        provider.list(LIMIT).unwrap();
        let error = provider.list(LIMIT).unwrap_err();
        assert!(error.message.contains(code), "{error}");
        credentials(folder.path(), "AKIANEW");
        provider.list(LIMIT).unwrap();
    }
}

//! `provider.ec2` on an emulator of EC2's API that we did not write (`moto`), with faults injected by another program (`microburst`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod direct;
mod emulator;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use adapters::config::parse;
use adapters::providers::{Provider, ProviderContext, ProviderError, build};
use planner::{Machine, MachineName, MachineState, MachineType, Tag};
use reconciler::OperationErrorKind;
use reconciler::conformance;
use serde_json::{Value, json};

use direct::Direct;
use emulator::Emulator;

const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a slow shared machine, and too short for many retries.
const SHORT: Duration = Duration::from_secs(3);

/// An emulator, and the state of a provisioner.
struct Account {
    emulator: Emulator,
    folder: tempfile::TempDir,
}

impl Account {
    fn new() -> Option<Self> {
        let account =
            Self { emulator: Emulator::start("ec2")?, folder: tempfile::tempdir().unwrap() };
        let credentials =
            "[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = very-secret\n";
        fs::write(account.path("credentials"), credentials).unwrap();
        fs::create_dir_all(account.path("state")).unwrap();
        Some(account)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, changes: &Value) -> Value {
        let mut settings = json!({
            "region": "eu-central-1",
            "endpoint": self.emulator.url,
            "credentialsFile": self.path("credentials"),
            "image": "ami-12345678",
            "instanceTypes": ["c7i.large", "m7i.large"],
            "zones": ["eu-central-1a", "eu-central-1b"],
            "authorizedKeys": ["ssh-ed25519 AAAA hydra"],
        });
        let changes = changes.as_object().unwrap().clone();
        settings.as_object_mut().unwrap().extend(changes);
        json!({
            "tag": "farm",
            "stateDir": self.path("state"),
            "touchKeepAlive": false,
            "systemTypes": { "x86_64-linux": { "provider": { "ec2": settings } } },
        })
    }

    /// A provider that remembers only the state directory, as after a restart.
    fn provider_with(&self, tag: &str, changes: &Value) -> Box<dyn Provider> {
        let config = parse(&self.config(changes)).unwrap();
        let context = ProviderContext { tag: Tag::new(tag), state_dir: self.path("state") };
        build(&context, &config.providers).unwrap()
    }

    fn provider(&self) -> Box<dyn Provider> {
        self.provider_with("farm", &json!({}))
    }

    /// Faults, as rules of microburst.
    fn faults(&self, rules: &Value) {
        post(&format!("{}/_microburst/rules", self.emulator.url), rules);
        self.emulator_is(&json!({}));
    }

    fn fault(&self, operation: &str, times: u32, what: &Value) {
        let mut rule = json!({ "service": "ec2", "operation": operation, "times": times });
        rule.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        self.faults(&json!([rule]));
    }

    fn emulator_is(&self, settings: &Value) {
        post(&format!("{}/emulator", self.emulator.url), settings);
    }

    /// The number of requests of this action since the faults were set.
    fn calls(&self, action: &str) -> usize {
        let reported = self.emulator.get("/emulator");
        reported["requests"].as_array().unwrap().iter().filter(|call| *call == action).count()
    }

    /// All instances that are not gone, of any owner: id, type, zone and tags in one string each.
    fn instances(&self) -> Vec<String> {
        let authorization = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
        let mut answer = ureq::post(&self.emulator.url)
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .send("Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-state-name&Filter.1.Value.1=pending&Filter.1.Value.2=running&Filter.1.Value.3=stopping&Filter.1.Value.4=stopped")
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        text.split("<reservationId>").skip(1).map(str::to_owned).collect()
    }
}

impl Account {
    /// A call of SQS, on the queue at `url` or for a new one; its answer.
    fn sqs(url: &str, form: &str) -> String {
        let authorization = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-central-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
        let mut answer = ureq::post(url)
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .send(format!("Version=2012-11-05&{form}"))
            .unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// A new queue's address.
    fn queue(&self, name: &str) -> String {
        let form = format!("Action=CreateQueue&QueueName={name}");
        let answer = Self::sqs(&self.emulator.url, &form);
        let path = answer.split("<QueueUrl>").nth(1).unwrap().split("</QueueUrl>").next().unwrap();
        let path = path.split('/').skip(3).collect::<Vec<_>>().join("/");
        format!("{}/{path}", self.emulator.url)
    }

    fn send(queue: &str, body: &Value) {
        let body = percent_encoding::utf8_percent_encode(
            &body.to_string(),
            percent_encoding::NON_ALPHANUMERIC,
        )
        .to_string();
        Self::sqs(queue, &format!("Action=SendMessage&MessageBody={body}"));
    }

    /// The number of messages in it, including those being processed.
    fn messages(queue: &str) -> String {
        let answer = Self::sqs(queue, "Action=GetQueueAttributes&AttributeName.1=All");
        let number = |name: &str| {
            let name = format!("<Name>{name}</Name>");
            let value = answer.split(&name).nth(1).unwrap().split("<Value>").nth(1).unwrap();
            value.split("</Value>").next().unwrap().parse::<u32>().unwrap()
        };
        let all =
            number("ApproximateNumberOfMessages") + number("ApproximateNumberOfMessagesNotVisible");
        all.to_string()
    }
}

fn post(url: &str, body: &Value) {
    ureq::post(url).header("content-type", "application/json").send(body.to_string()).unwrap();
}

fn name(number: u32) -> MachineName {
    MachineName::new(format!("farm-{number}"))
}

fn x86() -> MachineType {
    MachineType::new("x86_64-linux")
}

#[test]
fn it_passes_the_conformance_suite() {
    let Some(account) = Account::new() else { return };
    for tokens in [true, false] {
        account.emulator_is(&json!({ "tokens": tokens }));
        let mut provider = Direct::of(&account.config(&json!({})));
        conformance::check(&mut provider, "farm", &x86()).unwrap();
        assert_eq!(account.instances(), [""; 0]);
    }
}

#[test]
fn an_instance_is_described_by_its_tags() {
    let Some(account) = Account::new() else { return };
    let settings = json!({
        "purchase": ["spot"],
        "rootVolume": { "size": 100 },
        "tags": { "team": "infra" },
        "address": "private",
    });
    let provider = account.provider_with("farm", &settings);
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let up = provider.deploy(&made, LIMIT).unwrap();
    assert_eq!((up.state, &up.host_key), (MachineState::Up, &made.host_key));
    assert!(up.host_key.unwrap().starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"));
    assert!(up.address.unwrap().to_string().starts_with("10."));
    let instances = account.instances();
    assert_eq!(instances.len(), 1);
    for part in [
        "<key>team</key><value>infra</value>",
        "<key>hydra-provisioner:type</key><value>x86_64-linux</value>",
        "<instanceLifecycle>spot</instanceLifecycle>",
        "<httpTokens>required</httpTokens>",
        "<instanceType>c7i.large</instanceType>",
        "<availabilityZone>eu-central-1a</availabilityZone>",
    ] {
        let text: String = instances[0].split('\n').map(str::trim).collect();
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // A spot instance cannot be stopped.
    provider.stop(&made, LIMIT).unwrap();
    assert_eq!(account.instances(), [""; 0]);
}

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

#[test]
fn a_machine_that_is_not_listed_yet_is_neither_forgotten_nor_leaked() {
    let Some(account) = Account::new() else { return };
    account.emulator_is(&json!({ "lagSeconds": 3 }));
    let provider = account.provider();
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let listed = provider.list(LIMIT).unwrap();
    assert_eq!(listed.iter().map(|machine| &machine.name).collect::<Vec<_>>(), [&made.name]);
    // The call waits until EC2 knows the instance.
    provider.destroy(&made, LIMIT).unwrap();
    account.emulator_is(&json!({ "lagSeconds": 0 }));
    assert_eq!(account.instances(), [""; 0]);
    assert_eq!(provider.list(LIMIT).unwrap(), []);
}

#[test]
fn an_offer_without_capacity_is_set_aside_and_the_next_one_used() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider_with("farm", &json!({ "purchase": ["spot", "on-demand"] }));
    // Status 500: other errors with this status are retried.
    let refuse = |code: &str, status: u32| {
        json!({
            "service": "ec2", "operation": "RunInstances", "times": 1,
            "error": { "code": code, "status": status, "message": "as the test wants it" },
        })
    };
    account.faults(&json!([
        refuse("InsufficientInstanceCapacity", 500),
        refuse("InsufficientFreeAddressesInSubnet", 400),
        refuse("MaxSpotInstanceCountExceeded", 400),
        refuse("UnfulfillableCapacity", 400),
    ]));
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(account.calls("RunInstances"), 1, "the faults were not repeated");
    let instance = &account.instances()[0];
    assert!(!instance.contains("<instanceLifecycle>spot"), "{instance}");
    assert!(instance.contains("eu-central-1a") && instance.contains("c7i.large"), "{instance}");

    account.faults(&json!([
        refuse("VcpuLimitExceeded", 400),
        refuse("InsufficientInstanceCapacity", 500),
        refuse("Unsupported", 400),
        refuse("InstanceLimitExceeded", 400),
    ]));
    let error = provider.create(&name(1), &x86(), "t", LIMIT).unwrap_err();
    assert_eq!(error.kind, OperationErrorKind::Capacity);
    for part in [
        "spot c7i.large in eu-central-1a: RunInstances: InsufficientInstanceCapacity: as the test wants it (not tried again for",
        "on-demand c7i.large in eu-central-1a: RunInstances: VcpuLimitExceeded: as the test wants it (raise the quota",
        "on-demand m7i.large in eu-central-1b: RunInstances: InstanceLimitExceeded",
    ] {
        assert!(error.message.contains(part), "{part:?} is not in: {}", error.message);
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
            account.fault(operation, 1, &what);
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
fn instances_of_others_are_never_touched() {
    let Some(account) = Account::new() else { return };
    let other = account.provider_with("other", &json!({}));
    other.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let provider = account.provider();
    assert_eq!(provider.list(LIMIT).unwrap(), []);
    provider.destroy(&Machine::requested(name(0), x86()), LIMIT).unwrap();
    assert_eq!(account.instances().len(), 1);
    assert_eq!(account.calls("TerminateInstances"), 0);
    // The same name for both is no conflict: the tag is part of the token.
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(account.instances().len(), 2);
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
fn a_machine_that_vanishes_is_gone_for_every_call() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider();
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(provider.list(LIMIT).unwrap().len(), 1);
    account.provider().destroy(&made, LIMIT).unwrap();
    let names: BTreeSet<_> = provider.list(LIMIT).unwrap().into_iter().map(|m| m.name).collect();
    assert_eq!(names, BTreeSet::new());
    assert_eq!(provider.start(&made, LIMIT).unwrap_err().message, "it is gone");
    provider.destroy(&made, LIMIT).unwrap();
}

#[test]
fn a_spot_instance_with_a_notice_is_announced_and_its_offer_set_aside() {
    let Some(account) = Account::new() else { return };
    let provider = account.provider_with("farm", &json!({ "purchase": ["spot", "on-demand"] }));
    assert!(provider.announces_interruptions() && !account.provider().announces_interruptions());
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let is_interrupted = || provider.list(LIMIT).unwrap()[0].interrupted;
    assert!(!is_interrupted());
    assert_eq!(provider.wait_for_interruptions().unwrap(), []);
    account.emulator_is(&json!({ "takenBack": true }));
    assert_eq!(provider.wait_for_interruptions().unwrap(), [name(0)]);
    assert_eq!(provider.wait_for_interruptions().unwrap(), [], "once is enough");
    assert!(is_interrupted());
    account.emulator_is(&json!({ "takenBack": false }));
    provider.create(&name(1), &x86(), "t", LIMIT).unwrap();
    let second = account.instances().into_iter().find(|text| text.contains("farm-1")).unwrap();
    assert!(second.contains("eu-central-1b") && second.contains("c7i.large"), "{second}");
}

/// The queue has other messages, too, and one about an instance that is not ours.
#[test]
fn a_notice_in_the_queue_is_heard_at_once_and_taken_out() {
    let Some(account) = Account::new() else { return };
    let queue = account.queue("notices");
    let settings = json!({ "purchase": ["spot", "on-demand"], "spotQueue": queue });
    let provider = account.provider_with("farm", &settings);
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    let id = account.instances()[0].split("<instanceId>").nth(1).unwrap()[..19].to_owned();
    let notice = |id: &str| {
        json!({
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "detail": { "instance-id": id, "instance-action": "terminate" },
        })
    };
    for body in [json!("no notice"), notice("i-11111111111111111"), notice(&id)] {
        Account::send(&queue, &body);
    }
    let mut received = Vec::new();
    while received.is_empty() {
        received = provider.wait_for_interruptions().unwrap();
    }
    assert_eq!(received, [name(0)]);
    assert!(provider.list(LIMIT).unwrap()[0].interrupted);
    assert_eq!(Account::messages(&queue), "0");
    // A failure to receive is reported in one clear line.
    let gone = json!({ "purchase": ["spot"], "spotQueue": format!("{queue}-gone") });
    let error = account.provider_with("farm", &gone).wait_for_interruptions().unwrap_err();
    assert!(error.message.starts_with("ReceiveMessage: "), "{error}");
}

#[test]
fn an_instance_that_ec2_finds_impaired_or_will_retire_is_not_used() {
    let Some(account) = Account::new() else { return };
    let made = account.provider().create(&name(0), &x86(), "t", LIMIT).unwrap();
    let id = account.instances()[0].split("<instanceId>").nth(1).unwrap()[..19].to_owned();
    account.emulator_is(&json!({ "impaired": [id] }));
    let listed = account.provider().list(LIMIT).unwrap();
    assert_eq!((listed[0].state, &listed[0].name), (MachineState::Unreachable, &made.name));
    // A retirement that is still to come ends its use.
    account.emulator_is(&json!({ "impaired": [], "ending": [id] }));
    let listed = account.provider().list(LIMIT).unwrap();
    assert_eq!((listed[0].state, listed[0].interrupted), (MachineState::Up, true));
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

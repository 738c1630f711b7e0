//! An account on the emulator.

use std::fs;
use std::time::Duration;

use adapters::config::parse;
use adapters::providers::{Provider, ProviderContext, build};
use planner::{MachineName, MachineType, Tag};
use serde_json::{Value, json};

use crate::emulator::Emulator;

pub const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a slow shared machine, and too short for many retries.
pub const SHORT: Duration = Duration::from_secs(3);

/// An emulator, and the state of a provisioner.
pub struct Account {
    pub emulator: Emulator,
    pub folder: tempfile::TempDir,
}

impl Account {
    pub fn new() -> Option<Self> {
        let account =
            Self { emulator: Emulator::start("ec2")?, folder: tempfile::tempdir().unwrap() };
        let credentials =
            "[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = very-secret\n";
        fs::write(account.path("credentials"), credentials).unwrap();
        fs::create_dir_all(account.path("state")).unwrap();
        Some(account)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self, changes: &Value) -> Value {
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
            "checkSsh": false,
            "systemTypes": { "x86_64-linux": { "provider": { "ec2": settings } } },
        })
    }

    /// A provider that remembers only the state directory, as after a restart.
    pub fn provider_with(&self, tag: &str, changes: &Value) -> Box<dyn Provider> {
        let mut config = self.config(changes);
        config["tag"] = json!(tag);
        self.provider_of(&config)
    }

    pub fn provider_of(&self, config: &Value) -> Box<dyn Provider> {
        let tag = Tag::new(config["tag"].as_str().unwrap());
        let context = ProviderContext::new(tag, self.path("state"));
        build(&context, &parse(config).unwrap().providers).unwrap()
    }

    pub fn provider(&self) -> Box<dyn Provider> {
        self.provider_with("farm", &json!({}))
    }

    /// Faults, as rules of microburst.
    pub fn faults(&self, rules: &Value) {
        post(&format!("{}/_microburst/rules", self.emulator.url), rules);
        self.emulator_is(&json!({}));
    }

    pub fn fault(&self, operation: &str, times: u32, what: &Value) {
        let mut rule = json!({ "service": "ec2", "operation": operation, "times": times });
        rule.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        self.faults(&json!([rule]));
    }

    pub fn emulator_is(&self, settings: &Value) {
        self.emulator_answers(settings);
    }

    pub fn emulator_answers(&self, settings: &Value) -> Value {
        let mut answer = post(&format!("{}/emulator", self.emulator.url), settings);
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// The number of requests of this action since the faults were set.
    pub fn calls(&self, action: &str) -> usize {
        let reported = self.emulator.get("/emulator");
        reported["requests"].as_array().unwrap().iter().filter(|call| *call == action).count()
    }

    /// A call of EC2; its answer.
    pub fn call(&self, form: &str) -> String {
        signed(&self.emulator.url, "ec2", format!("Version=2016-11-15&{form}"))
    }

    /// A parameter that has an image's id.
    pub fn set_parameter(&self, name: &str, value: &str) {
        let value = json!({ "Name": name, "Value": value, "Type": "String", "Overwrite": true });
        ureq::post(&self.emulator.url)
            .header("authorization", authorization("ssm"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "AmazonSSM.PutParameter")
            .send(value.to_string())
            .unwrap();
    }

    /// All instances that are not gone, of any owner: id, type, zone and tags in one string each.
    pub fn instances(&self) -> Vec<String> {
        let text = self.call("Action=DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=pending&Filter.1.Value.2=running&Filter.1.Value.3=stopping&Filter.1.Value.4=stopped");
        text.split("<reservationId>").skip(1).map(str::to_owned).collect()
    }
}

impl Account {
    /// A call of SQS, on the queue at `url` or for a new one; its answer.
    pub fn sqs(url: &str, form: &str) -> String {
        signed(url, "sqs", format!("Version=2012-11-05&{form}"))
    }

    /// A new queue's address.
    pub fn queue(&self, name: &str) -> String {
        let form = format!("Action=CreateQueue&QueueName={name}");
        let answer = Self::sqs(&self.emulator.url, &form);
        let path = answer.split("<QueueUrl>").nth(1).unwrap().split("</QueueUrl>").next().unwrap();
        let path = path.split('/').skip(3).collect::<Vec<_>>().join("/");
        format!("{}/{path}", self.emulator.url)
    }

    pub fn send(queue: &str, body: &Value) {
        let body = percent_encoding::utf8_percent_encode(
            &body.to_string(),
            percent_encoding::NON_ALPHANUMERIC,
        )
        .to_string();
        Self::sqs(queue, &format!("Action=SendMessage&MessageBody={body}"));
    }

    /// The number of messages in it, including those being processed.
    pub fn messages(queue: &str) -> String {
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

pub fn post(url: &str, body: &Value) -> ureq::http::Response<ureq::Body> {
    ureq::post(url).header("content-type", "application/json").send(body.to_string()).unwrap()
}

pub fn name(number: u32) -> MachineName {
    MachineName::new(format!("farm-{number}"))
}

pub fn x86() -> MachineType {
    MachineType::new("x86_64-linux")
}

fn authorization(service: &str) -> String {
    let scope = format!("20260101/eu-central-1/{service}/aws4_request");
    format!("AWS4-HMAC-SHA256 Credential=k/{scope}, SignedHeaders=host, Signature=0")
}

fn signed(url: &str, service: &str, form: String) -> String {
    let mut answer = ureq::post(url)
        .header("authorization", authorization(service))
        .header("content-type", "application/x-www-form-urlencoded")
        .send(form)
        .unwrap();
    answer.body_mut().read_to_string().unwrap()
}

//! What a listing of EC2 instances costs beside the paged calls alone, both by the same HTTP client in this process. For
//! `scripts/ci/bench-clouds`: `list_instances CONF ENDPOINT BODY TURNS`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::fs;
use std::time::{Duration, Instant};

use adapters::config::{Config, parse};
use adapters::providers::{Provider, ProviderContext, build};
use rustix::time::{ClockId, clock_gettime};

const LIMIT: Duration = Duration::from_secs(120);
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0";

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [conf, endpoint, body, turns] = arguments.try_into().unwrap();
    let turns: u32 = turns.parse().unwrap();
    let source = serde_json::from_slice(&fs::read(conf).unwrap()).unwrap();
    let config = parse(&source).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    // Turn by turn, so that a busy moment of this machine does not hit only one of them.
    let (mut raw, mut ours) = (Cost::default(), Cost::default());
    for _ in 0..turns {
        let paged = raw.measure(|| pages(&agent, &endpoint, &body));
        // A new one: it knows nothing from before.
        let provider = provider(&config);
        let listed = ours.measure(|| provider.list(LIMIT).unwrap().len());
        assert_eq!(paged, listed, "both see the same instances");
    }
    println!("{} {} {} {}", raw.fastest, raw.processor, ours.fastest, ours.processor);
}

fn provider(config: &Config) -> Box<dyn Provider> {
    let tag = config.policy.tag.clone();
    build(&ProviderContext::new(tag, config.state_dir.clone()), &config.providers).unwrap()
}

/// The number of instances.
fn pages(agent: &ureq::Agent, endpoint: &str, body: &str) -> usize {
    let (mut count, mut token) = (0, String::new());
    loop {
        let mut answer = agent
            .post(endpoint)
            .header("authorization", AUTHORIZATION)
            .header("content-type", "application/x-www-form-urlencoded")
            .send(format!("{body}{token}"))
            .unwrap();
        let limit = answer.body_mut().with_config().limit(64 << 20);
        let text = String::from_utf8(limit.read_to_vec().unwrap()).unwrap();
        count += text.matches("<instanceId>").count();
        let Some((_, rest)) = text.split_once("<nextToken>") else { return count };
        token = format!("&NextToken={}", rest.split('<').next().unwrap());
    }
}

/// Seconds.
struct Cost {
    /// The fastest turn.
    fastest: f64,
    /// Of the processor, per turn, on average.
    processor: f64,
    turns: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { fastest: f64::INFINITY, processor: 0.0, turns: 0 }
    }
}

impl Cost {
    fn measure<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let (began, before) = (Instant::now(), processor_seconds());
        let result = action();
        self.fastest = self.fastest.min(began.elapsed().as_secs_f64());
        let used = processor_seconds() - before;
        self.turns += 1;
        self.processor += (used - self.processor) / f64::from(self.turns);
        result
    }
}

/// Of this process until now.
fn processor_seconds() -> f64 {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap().as_secs_f64()
}

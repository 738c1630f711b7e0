//! A cloud that we did not write, on loopback: `scripts/ci/cloud-emulators`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test may, and does not use all of it"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

/// A running emulator. It ends when this is dropped, or when this process ends.
pub struct Emulator {
    child: Child,
    /// The emulator ends when this is closed.
    stdin: Option<ChildStdin>,
    pub url: String,
}

impl Emulator {
    /// Starts `hetzner` or `ec2`; `None` where a package is built from its source alone: there are no emulators.
    pub fn start(cloud: &str) -> Option<Self> {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/ci/cloud-emulators/run");
        if !program.exists() {
            return None;
        }
        let mut child = Command::new(program)
            .arg(cloud)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("the emulator of {cloud} did not start: {line:?}"));
        Some(Self { child, stdin, url: url.trim().to_owned() })
    }

    /// Replaces the faults.
    pub fn faults(&self, rules: &Value) {
        ureq::post(format!("{}/faults", self.url)).send(rules.to_string()).unwrap();
    }

    /// The JSON at `path`.
    pub fn get(&self, path: &str) -> Value {
        let mut answer = ureq::get(format!("{}{path}", self.url))
            .header("authorization", "Bearer test-token")
            .call()
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// The requests since the faults were set that begin with `prefix`.
    pub fn requests(&self, prefix: &str) -> usize {
        let requests = self.get("/requests");
        let all = requests["requests"].as_array().unwrap();
        all.iter().filter(|request| request.as_str().unwrap().starts_with(prefix)).count()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

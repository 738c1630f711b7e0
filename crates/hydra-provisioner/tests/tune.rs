//! `sim tune` and `sim merge`, as a user sees them.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Much too eager: machines stay for an hour.
const CONF: &str = r#"{
  "tag": "sim", "statusCommand": ["false"], "pollInterval": 30,
  "systemTypes": { "x86_64-linux": {
    "provider": { "command": { "program": ["false"] } },
    "maxMachines": 8, "runnablesPerMachine": 1, "maxJobs": 2, "gracePeriod": 3600 } }
}"#;

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a configuration and half a day of small builds.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("conf.json"), CONF).unwrap();
        let layer = json!({ "steps": 4, "duration": { "logNormal": { "median": 90_000, "sigma": 1.0 } },
            "kinds": [{ "system": "x86_64-linux" }] });
        let trace = json!({ "description": "d", "seed": 3, "work": [{ "jobset": "p:j",
            "arrivals": { "poisson": { "to": 43_200_000, "meanGap": 1_800_000 } },
            "shape": { "layers": [layer] } }] });
        fs::write(folder.path("work.json"), trace.to_string()).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sim(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.arg("sim").args(arguments).current_dir(self.0.path());
        command.output().unwrap()
    }

    fn tune(&self, more: &[&str]) -> Output {
        let first = ["tune", "conf.json", "work.json", "--candidates", "24", "--seeds", "2"];
        self.sim(&[&first[..], &["--held-out-seeds", "2"], more].concat())
    }

    fn shard(&self, name: &str, more: &[&str]) {
        let part = name.replace('-', "/");
        let output = self.tune(&[&["--shard", &part, "--output", name], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn threads_and_shards_change_no_byte() {
    let folder = Folder::new();
    let whole = folder.tune(&["--threads", "1"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    assert_eq!(text(&folder.tune(&["--threads", "3"]).stdout), text(&whole.stdout));
    for shard in ["1-3", "2-3", "3-3"] {
        folder.shard(shard, &["--threads", "2"]);
    }
    let merged = folder.sim(&["merge", "3-3", "1-3", "2-3"]);
    assert_eq!(text(&merged.stdout), text(&whole.stdout), "{}", text(&merged.stderr));
}

#[test]
fn it_finds_what_saves_and_says_how_sure_that_is() {
    let folder = Folder::new();
    let report = text(&folder.tune(&["--wait", "600"]).stdout);
    assert!(report.lines().all(|line| line.chars().count() <= 100), "{report}");
    let advice = report.split("\nOn the held-out traces, settings ").nth(1).unwrap_or_default();
    let saving = advice.split_whitespace().nth(2);
    let saving: f64 = saving.unwrap().parse().unwrap();
    assert!(saving > 30.0, "an hour of idling for builds of minutes: {report}");
    assert!(report.contains("systemTypes.\"x86_64-linux\" = { "), "{report}");
    assert!(report.contains("(assumed)"), "{report}");
    // The snippet is valid Nix, and a configuration accepts it.
    let snippet: Vec<_> = report
        .lines()
        .filter(|line| line.starts_with("systemTypes.") || line.starts_with("pollInterval"))
        .collect();
    assert_eq!(snippet.len(), 2, "{report}");
    // No other settings have as short a wait as an idle machine at all times.
    let none = text(&folder.tune(&[]).stdout);
    let none = none.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(none.contains("the configuration stays as it is"), "{none}");
}

#[test]
fn shards_of_different_searches_do_not_mix() {
    let folder = Folder::new();
    folder.shard("1-2", &[]);
    let complain = |arguments: &[&str]| {
        let output = folder.sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    let missing = complain(&["merge", "1-2"]);
    assert!(
        missing.contains("all shards from 1/2 to 2/2 are needed, each once; there are 1/2"),
        "{missing}"
    );
    folder.shard("2-2", &["--seed", "5"]);
    let other = complain(&["merge", "1-2", "2-2"]);
    assert!(other.contains("shard 2/2 is of another search than 1/2"), "{other}");
    folder.shard("2-2", &[]);
    let mut part = read(&folder.path("2-2"));
    part["tried"][1]["training"][0]["p95Ms"] = json!(1);
    fs::write(folder.path("2-2"), part.to_string()).unwrap();
    let disagree = complain(&["merge", "1-2", "2-2"]);
    assert!(disagree.contains("shards disagree on candidate 1"), "{disagree}");
    part["tried"] = json!([]);
    fs::write(folder.path("2-2"), part.to_string()).unwrap();
    let empty = complain(&["merge", "1-2", "2-2"]);
    assert!(empty.contains("does not begin with the current configuration"), "{empty}");
    assert!(complain(&["merge", "conf.json"]).contains("conf.json: "));
}

//! Scenarios as files: what they give, and what is said of wrong ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use simulator::engine::Seed;
use simulator::scenario::Scenario;
use simulator::trace::{read_workload, write_workload};

/// One source of every sort.
const EVERYTHING: &str = r#"{
  "format": "hydra-provisioner-scenario", "version": 1, "description": "everything", "seed": 7,
  "duration": 86400000,
  "jobsets": { "nixpkgs:trunk": 100, "nixos:small": 20 },
  "sources": [
    { "name": "pull requests", "arrivals": { "poisson": { "perHour": 20 } },
      "work": { "steps": { "min": 1, "max": 5 } },
      "kinds": [ { "system": "x86_64-linux", "weight": 8 },
                 { "system": "aarch64-linux", "weight": 2 },
                 { "system": "x86_64-linux", "features": ["kvm"], "durations": { "pareto": { "min": 60000, "alpha": 1.2, "max": 7200000 } } } ] },
    { "arrivals": { "rhythm": { "perHour": 30, "day": [0,0,0,0,0,0,10,50,90,100,100,90,70,90,100,100,90,70,40,20,10,0,0,0], "week": [100,100,100,100,90,20,10] } },
      "jobsets": [ { "name": "nixos:small" } ] },
    { "arrivals": { "flapping": { "perHour": 600, "on": 600000, "off": 1200000 } }, "durations": { "fixed": 30000 } },
    { "arrivals": { "burst": { "at": 3600000, "builds": 500, "within": 60000 } }, "localPriority": 10 },
    { "name": "endless", "arrivals": { "burst": { "at": 7200000, "builds": 1 } }, "durations": { "fixed": 31536000000 } },
    { "arrivals": { "poisson": { "perHour": 3 } }, "jobsets": [ { "name": "nixpkgs:trunk" } ],
      "work": { "graph": { "layers": [
        { "packages": 4, "durations": { "fixed": 600000 } },
        { "packages": 40, "dependencies": { "min": 1, "max": 3 }, "durations": { "logNormal": { "median": 60000, "sigma": 1.0 } }, "changes": 1 },
        { "packages": 300, "durations": { "exponential": { "mean": 90000 } }, "changes": 30 } ] } } }
  ],
  "incidents": [
    { "queueRunnerRestart": { "at": 7200000, "length": 120000 } },
    { "statusUnavailable": { "at": 8000000, "length": 120000 } },
    { "capacityDrought": { "at": 3600000, "length": 3600000, "types": ["x86_64-linux"] } },
    { "spotStorm": { "at": 40000000, "percent": 60 } },
    { "slowBoot": { "at": 0, "length": 3600000, "percent": 500 } },
    { "providerOutage": { "at": 50000000, "length": 60000 } },
    { "hang": { "at": 60000000, "percent": 10 } }
  ],
  "machines": { "x86_64-linux": { "boot": { "uniform": { "min": 30000, "max": 90000 } }, "spot": { "life": { "exponential": { "mean": 36000000 } }, "notice": 120000 } } },
  "queueRunner": { "protocol": "rest", "maxUnsupported": { "after": 600000 } },
  "cycle": { "interval": 60000 }
}"#;

fn scenario() -> Scenario {
    Scenario::parse("s.json", EVERYTHING.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

fn trace(seed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    write_workload(&scenario().workload(Seed(seed)).unwrap(), "", &mut out).unwrap();
    out
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The same bytes on any machine: another hash changes every published result.
#[test]
fn the_same_seed_gives_the_same_bytes_for_ever() {
    let trace = trace(7);
    assert_eq!(trace, self::trace(7));
    assert_ne!(trace, self::trace(8));
    let steps = trace.split(|byte| *byte == b'\n').count() - 2;
    assert_eq!((steps, hash(&trace)), (7336, 4_712_753_491_392_663_399));
}

#[test]
fn what_is_generated_can_be_read() {
    let trace = trace(7);
    let read = read_workload("t", trace.as_slice()).unwrap();
    let builds: Vec<_> = read.workload.steps().iter().map(|step| step.build).collect();
    assert!(builds.is_sorted(), "builds are numbered as they arrive");
    assert_eq!(read.workload.kinds().len(), 3);
    assert_eq!(read.workload.jobsets().len(), 3);
}

#[test]
fn a_scenario_is_written_as_it_is_read() {
    let text = serde_json::to_vec(&scenario()).unwrap();
    assert_eq!(Scenario::parse("s.json", &text).unwrap(), scenario());
    let queue_runner = scenario().queue_runner.settings();
    assert_eq!(queue_runner.max_unsupported.unwrap().whole_seconds(), 600);
}

/// Each the scenario above with `from` replaced by `to`.
#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (from, to, message) in [
        (
            "\"seed\": 7",
            "\"sead\": 7",
            "s.json:2: sead: unknown field `sead`, expected one of `format`, `version`, `description`, `seed`, `duration`, `jobsets`, `sources`, `incidents`, `machines`, `queueRunner`, `cycle`",
        ),
        (
            "\"perHour\": 20 ",
            "\"perHour\": -20 ",
            "s.json:6: sources[0].arrivals.poisson.perHour: invalid value: integer `-20`, expected u32",
        ),
        (
            "\"length\": 3600000, \"types\"",
            "\"length\": 0, \"types\"",
            "s.json: incidents[2]: length is 0, must be above",
        ),
        (
            "\"percent\": 60",
            "\"percent\": 160",
            "s.json: incidents[3]: percent is 160, must be from 1 to 100",
        ),
        (
            "\"perHour\": 600,",
            "\"perHour\": 0,",
            "s.json: sources[2].arrivals.flapping.perHour: is 0, must be from 1 to 3600000",
        ),
        (
            "\"sigma\": 1.0",
            "\"sigma\": 99",
            "s.json: sources[5].work.graph.layers[1].durations: sigma is 99, must be from 0 to 20",
        ),
        (
            "\"min\": 30000",
            "\"min\": 300000",
            "s.json: machines.x86_64-linux.boot: min 5m00.000s is above max 1m30.000s",
        ),
        (
            "[100,100,100,100,90,20,10]",
            "[100,100,100,100,90,20,101]",
            "s.json: sources[1].arrivals.rhythm.week[6]: is 101, must be from 0 to 100 percent",
        ),
        ("\"version\": 1", "\"version\": 2", "s.json: version: is 2, only 1 is known"),
        (
            "\"duration\": 86400000",
            "\"duration\": 3600000",
            "s.json: sources[3].arrivals.burst.at: is 1h00m00.000s, after the scenario's end at 1h00m00.000s\ns.json: sources[4].arrivals.burst.at: is 2h00m00.000s, after the scenario's end at 1h00m00.000s\ns.json: incidents[0]: begins at 2h00m00.000s, after the scenario's end",
        ),
    ] {
        let wrong = EVERYTHING.replacen(from, to, 1);
        assert_ne!(wrong, EVERYTHING, "{from} is not there");
        let error = Scenario::parse("s.json", wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}\n!=\n{message}");
    }
}

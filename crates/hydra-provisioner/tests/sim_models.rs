//! Effects of the models of machines and of the queue runner on a simulation, as a user sees them.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const CONF: &str = r#"{
  tag = "sim"; statusCommand = [ "false" ];
  systemTypes.x86_64-linux = {
    provider.command.program = [ "false" ];
    maxMachines = 1; runnablesPerMachine = 1; maxJobs = 16; gracePeriod = 60;
    supportedFeatures = [ "big-parallel" ];
  };
}"#;

/// A trace with a step of a minute that is submitted at that time, in milliseconds.
fn trace_of_one_step(folder: &Path, submit: u64) -> PathBuf {
    let trace = folder.join("trace.jsonl");
    let step = format!(r#"{{"id":1,"submit":{submit},"system":"x86_64-linux","duration":60000}}"#);
    let header = r#"{"format":"hydra-provisioner-workload","version":1,"steps":1}"#;
    fs::write(&trace, format!("{header}\n{step}\n")).unwrap();
    trace
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The numbers of all types together, of `steps` (JSON, ids are added) on `farm`.
fn run(steps: &[Value], farm: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut trace = "{\"format\":\"hydra-provisioner-workload\",\"version\":1}\n".to_owned();
    for (id, step) in (1..).zip(steps) {
        let mut step = step.clone();
        step["id"] = json!(id);
        step["system"] = json!("x86_64-linux");
        writeln!(trace, "{step}").unwrap();
    }
    fs::write(path("conf.nix"), CONF).unwrap();
    fs::write(path("work.jsonl"), trace).unwrap();
    fs::write(path("farm.json"), farm.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(["sim", "run"]).arg(path("conf.nix")).arg(path("work.jsonl"));
    command.arg("--farm").arg(path("farm.json")).args(["--format", "json"]);
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0]["results"]["total"].clone()
}

fn machine(model: &Value) -> Value {
    json!({ "machines": { "x86_64-linux": model }, "queueRunner": { "protocol": "classic" } })
}

/// Sixteen concurrent steps on four cores take four times as long, except for the copying.
#[test]
fn steps_slow_each_other_down() {
    let steps = vec![json!({ "submit": 0, "duration": 600_000 }); 16];
    let makespan = |model: Value| run(&steps, &machine(&model))["makespan"].as_u64().unwrap();
    let alone = makespan(json!({ "cores": 16 }));
    let slowed = makespan(json!({ "cores": 4, "copyPercent": 0 }));
    assert_eq!(slowed - alone, 3 * 600_000);
    let copying = makespan(json!({ "cores": 4, "copyPercent": 30 }));
    // 11.2 cores needed, 4 available: 30 % unchanged, 70 % 2.8 times as long.
    assert_eq!((copying - alone + 500) / 1000, 756);
    assert_eq!(makespan(json!({})), copying, "these are the defaults");
}

#[test]
fn big_parallel_steps_take_all_cores_unless_told() {
    let makespan = |step: Value| {
        let other = json!({ "submit": 0, "duration": 600_000 });
        let model = json!({ "cores": 4, "copyPercent": 0 });
        run(&[step, other], &machine(&model))["makespan"].as_u64().unwrap()
    };
    let big = |mut step: Value| {
        step["features"] = json!(["big-parallel"]);
        step
    };
    let step = json!({ "submit": 0, "duration": 600_000 });
    let usual = makespan(step.clone());
    assert_eq!(makespan(big(step)) - usual, 150_000, "five cores wanted of four");
    assert_eq!(makespan(big(json!({ "submit": 0, "duration": 600_000, "cores": 2 }))), usual);
}

/// An interrupted spot machine keeps its steps until the loss is noticed.
#[test]
fn a_silent_loss_is_noticed_late() {
    let makespan = |noticed: u64| {
        let spot = json!({ "life": { "inOrder": [200_000, 100_000_000] }, "notice": 0 });
        let mut farm = machine(&json!({ "spot": spot }));
        farm["queueRunner"]["lossNoticedAfter"] = json!(noticed);
        farm["cycle"] = json!({ "interval": 30_000 });
        run(&[json!({ "submit": 0, "duration": 300_000 })], &farm)["makespan"].as_u64().unwrap()
    };
    let (at_once, late) = (makespan(0), makespan(600_000));
    // Its replacement reduces the difference: it is not created before the provider has not listed the machine for a
    // while.
    assert!(late >= at_once + 400_000, "{at_once} {late}");
}

#[test]
fn builds_are_canceled() {
    let steps = [
        json!({ "submit": 0, "duration": 3_600_000, "cancel": 600_000 }),
        json!({ "submit": 0, "duration": 1000, "cancel": 86_400_000 }),
        json!({ "submit": 1000, "duration": 1000, "dependencies": [1] }),
    ];
    let total = run(&steps, &json!({}));
    assert_eq!((&total["built"], &total["canceled"]), (&json!(1), &json!(2)));
    assert!(total["busy"].as_u64().unwrap() < 600_000, "it ends on its machine: {total}");
}

/// With the queue runners since April 2025 a machine's slot is free while outputs are copied.
#[test]
fn a_slot_is_free_while_outputs_are_copied() {
    let steps = vec![json!({ "submit": 0, "duration": 100_000 }); 17];
    let wait = |reservation: &str| {
        let mut farm = machine(&json!({ "cores": 64, "copyPercent": 40 }));
        farm["queueRunner"]["reservation"] = json!(reservation);
        run(&steps, &farm)["wait"]["max"].as_u64().unwrap()
    };
    assert_eq!(wait("untilCopied") - wait("untilBuilt"), 20_000);
}

/// The machine of a step of ten hours stays until its outputs are copied: no rule is broken, and no work is lost.
#[test]
fn outputs_of_long_steps_are_copied_before_the_machine_goes() {
    let mut farm = machine(&json!({}));
    farm["queueRunner"]["reservation"] = json!("untilBuilt");
    let total = run(&[json!({ "submit": 0, "duration": 36_000_000 })], &farm);
    assert_eq!((&total["built"], &total["created"]), (&json!(1), &json!(1)));
    assert!(total["makespan"].as_u64().unwrap() < 37_000_000, "{total}");
}

/// The bounds contain the simulated cost, shown as a ratio to them.
#[test]
fn results_are_shown_as_ratios_to_the_bound() {
    let trace = "sim-traces/endless-build.json";
    let sim = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        let output = command.arg("sim").args(args).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let conf = "examples/sim/conf.nix";
    let json = sim(&["bound", conf, trace, "--wait", "0,3600", "--format", "json"]);
    let bounds: Value = serde_json::from_str(&json).unwrap();
    let [tight, loose] = [0, 1].map(|at| bounds[0]["bounds"][at]["least"].as_f64().unwrap());
    assert!(0.0 < loose && loose <= tight, "{json}");
    let table = sim(&["bound", conf, trace, "--wait", "3600"]);
    assert!(table.contains("at least, $  clairvoyant, $"), "{table}");
    let table = sim(&["run", conf, trace, "--bound"]).replace('\n', " ");
    let (_, ratio) = table.split_once("conf.nix costs ").unwrap();
    let ratio: f64 = ratio.split(' ').next().unwrap().parse().unwrap();
    assert!((1.0..2.0).contains(&ratio), "{table}");
}

/// One file without external resources.
#[test]
fn a_page_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let trace = "sim-traces/burst.json";
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(["sim", "report", "examples/sim/conf.nix", "examples/sim/conf.nix,interval=30"]);
    command.args(["--trace", trace, "--target", "600", "--output"]).arg(&page);
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.len() < 2_000_000, "{}", text.len());
    for words in ["It costs <b>$", "Machines over time", "By jobset", "Fairness", "<svg", "B: "] {
        assert!(text.contains(words), "{words} is not in the page");
    }
    for outside in ["<script", "http:", "https:", "url(", "@import", "NaN", "inf"] {
        assert!(!text.contains(outside), "{outside} is in the page");
    }
    assert!(text.contains("wait longer than the target of 10m00s"), "{text}");
}

/// Also in a run that is shorter than the time between two samples of the charts.
#[test]
fn a_page_has_the_largest_numbers_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let (conf, page) = (folder.path().join("conf.nix"), folder.path().join("page.html"));
    fs::write(&conf, CONF).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(["sim", "report"]).arg(conf).arg("--output").arg(&page);
    let output = command.arg("--trace").arg(trace_of_one_step(folder.path(), 0)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&page).unwrap();
    for words in
        ["Most machines of all types at once: <b>1</b>", "Most steps that wait at once: <b>1</b>"]
    {
        assert!(text.contains(words), "{words} is not in the page");
    }
}

/// The times of polls and of the queue runner's checks are not known beforehand: they are shown as a range.
#[test]
fn phases_of_the_looks_are_a_range() {
    let folder = tempfile::tempdir().unwrap();
    let (conf, trace) = (folder.path().join("conf.nix"), trace_of_one_step(folder.path(), 0));
    fs::write(&conf, CONF).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(["sim", "run"]).arg(conf).arg(trace);
    let output = command.args(["--phases", "20"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap().replace('\n', " ");
    assert!(table.contains("seed 0, 20 phases each"), "{table}");
    let (_, range) = table.split_once("wait mean ").unwrap();
    // A poll every 10 s, and a queue runner that checks the machines file every 30 s.
    let (least, rest) = range.split_once(" to ").unwrap();
    let seconds = |text: &str| {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap()
    };
    let spread = seconds(rest.split(',').next().unwrap()) - seconds(least);
    assert!((20..=40).contains(&spread), "{table}");
}

/// How often the queue is asked decides how long steps wait: the configuration's interval counts.
#[test]
fn the_poll_interval_of_a_configuration_counts() {
    let folder = tempfile::tempdir().unwrap();
    // Long after the first poll.
    let trace = trace_of_one_step(folder.path(), 1_000_000);
    let wait = |interval: u32| {
        let conf = folder.path().join(format!("{interval}.nix"));
        let settings = format!("pollInterval = {interval}; tag =");
        fs::write(&conf, CONF.replacen("tag =", &settings, 1)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.args(["sim", "run"]).arg(conf).arg(&trace);
        let output = command.args(["--format", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
        runs[0]["results"]["total"]["wait"]["mean"].as_u64().unwrap()
    };
    let (often, seldom) = (wait(10), wait(900));
    assert!(seldom > often + 600_000, "{often} ms, {seldom} ms");
}

/// The campaign's rule that idle machines go is about its own settings.
#[test]
fn a_machine_that_is_kept_for_long_breaks_no_rule() {
    let folder = tempfile::tempdir().unwrap();
    let (conf, farm) = (folder.path().join("conf.nix"), folder.path().join("farm.json"));
    let kept = CONF.replacen("maxMachines =", "keepLast = \"12h\"; maxMachines =", 1);
    fs::write(&conf, kept).unwrap();
    fs::write(&farm, r#"{"faults":{"until":0}}"#).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(["sim", "run"]).arg(conf).arg(trace_of_one_step(folder.path(), 0));
    let output = command.arg("--farm").arg(farm).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// One word is enough for a comparison with another provisioner; it uses the machine types of the first file.
#[test]
fn others_are_compared_by_one_word() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("conf.nix");
    fs::write(&conf, CONF.replace("maxMachines = 1", "maxMachines = 5")).unwrap();
    let compare = |confs: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.args(["sim", "compare"]).args(confs).args(["--format", "json"]);
        command.arg("--trace").arg(root().join("sim-traces/endless-build.json"));
        command.output().unwrap()
    };
    let conf = conf.to_str().unwrap();
    let words = ["original-by-second", "ci-runners", "machine-per-job", "cluster-autoscaler"];
    let words = [&["original"][..], &words[..], &["fixed-farm"]].concat();
    let output = compare(&[&[conf][..], &words[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let costs = runs.as_array().unwrap().iter().map(|run| &run["results"]["total"]);
    let costs: Vec<_> = costs.map(|total| total["costMicroDollars"].as_u64().unwrap()).collect();
    assert_eq!(costs.len(), 7);
    assert!(costs[6] > 3 * costs[0], "a fixed farm pays for five machines all the time: {costs:?}");
    let output = compare(&["original", "ci-runners"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("a configuration is missing"), "{message}");
}

/// Steps that few machines have slots for do not keep the others busy.
#[test]
fn packed_machines_cost_less() {
    let folder = tempfile::tempdir().unwrap();
    let cost = |pack: &str| {
        let conf = folder.path().join("conf.nix");
        let settings = format!("{pack} targetWait = 300; maxMachines = 20;");
        let text = CONF.replacen("maxMachines = 1; runnablesPerMachine = 1;", &settings, 1);
        fs::write(&conf, text.replacen("gracePeriod = 60", "idleTimeout = 600", 1)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.args(["sim", "run"]).arg(conf).arg(root().join("sim-traces/slow-boot.json"));
        let output = command.args(["--format", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
        runs[0]["results"]["total"]["costMicroDollars"].as_u64().unwrap()
    };
    let (spread, packed) = (cost(""), cost("pack = true;"));
    assert!(packed < spread / 20 * 19, "{spread}, {packed} micro-dollars");
}

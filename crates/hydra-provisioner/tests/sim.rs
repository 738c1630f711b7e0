//! `sim` as a user runs it.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use farm::Farm;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.arg("sim").args(args).current_dir(root());
    command
}

#[track_caller]
fn expect(args: &[&str], code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command(args).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{args:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

fn traces() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root().join("sim-traces"))
        .unwrap()
        .map(|entry| Path::new("sim-traces").join(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|name| name == "json" || name == "gz"))
        .map(|path| path.display().to_string())
        .collect();
    names.sort();
    names
}

/// Every number of every shipped trace, identical on any machine and with any number of threads. `UPDATE_CASES=1 cargo
/// test -p hydra-provisioner --test sim` rewrites them.
#[test]
fn shipped_traces_come_to_the_same_bytes_everywhere() {
    let traces = traces();
    assert!(traces.len() >= 11, "{traces:?}");
    let mut args = vec!["run", "examples/sim/conf.nix", "--format", "csv"];
    args.extend(traces.iter().map(String::as_str));
    let one_thread = expect(&[&args[..], &["--threads", "1"]].concat(), 0).0;
    let two_threads = expect(&[&args[..], &["--threads", "2"]].concat(), 0).0;
    assert_eq!(one_thread, two_threads);
    let expected = root().join("sim-traces/expected.csv");
    if std::env::var("UPDATE_CASES").is_ok() {
        fs::write(&expected, &one_thread).unwrap();
    }
    assert_eq!(one_thread, fs::read_to_string(expected).unwrap(), "UPDATE_CASES=1 accepts it");
    // Each trace matches its description.
    let at_rest = one_thread.lines().skip(1).filter(|line| line.contains(",true,true,total,"));
    assert_eq!(at_rest.count(), traces.len(), "each comes to rest");
    let column =
        one_thread.lines().next().unwrap().split(',').position(|name| name == "unsupported");
    let mut totals = one_thread.lines().filter(|line| line.contains(",total,"));
    let given_up = totals.find(|line| line.contains("rest-defaults.json")).unwrap();
    // Polled every 10 s the queue runner aborts nothing, polled every 300 s it does.
    assert_eq!(given_up.split(',').nth(column.unwrap()), Some("0"), "{given_up}");
    let slow = ["--interval", "300"];
    let rest = ["run", "examples/sim/conf.nix", "sim-traces/rest-defaults.json"];
    let (_, said) = expect(&[&rest[..], &slow].concat(), 0);
    assert!(said.contains("steps were aborted since no machine supported them in time"), "{said}");
}

/// The 95th percentile of the wait is within 5 % of that without the slow type.
#[test]
fn a_type_that_boots_slowly_holds_up_no_other() {
    let text = fs::read_to_string(root().join("sim-traces/arm-slow.json")).unwrap();
    let mut alone: Value = serde_json::from_str(&text).unwrap();
    alone["work"].as_array_mut().unwrap().truncate(1);
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    fs::write(file.path(), alone.to_string()).unwrap();
    let p95 = |trace: &str| {
        let args = ["run", "examples/sim/conf.nix", trace, "--seeds", "10", "--format", "json"];
        let runs: Value = serde_json::from_str(&expect(&args, 0).0).unwrap();
        let of = |run: &Value| run["results"]["types"]["x86_64-linux"]["wait"]["p95"].as_u64();
        runs.as_array().unwrap().iter().filter_map(of).sum::<u64>()
    };
    let (both, alone) = (p95("sim-traces/arm-slow.json"), p95(file.path().to_str().unwrap()));
    assert!(both.abs_diff(alone) * 100 <= 5 * alone, "{both} beside the slow type, {alone} alone");
}

#[test]
fn a_table_is_for_people() {
    let conf = "examples/sim/conf.nix";
    let (table, _) = expect(&["run", conf, "sim-traces/endless-build.json", "--seeds", "3"], 0);
    assert!(table.starts_with("sim-traces/endless-build.json: 3 seeds from 5 on"), "{table}");
    for line in ["cost, $", "machine hours paid", "wait, p99", "build time, max", "aarch64-linux"] {
        assert!(table.contains(line), "{line} is not in {table}");
    }
    let other = tempfile::NamedTempFile::with_suffix(".nix").unwrap();
    let text = fs::read_to_string(root().join(conf)).unwrap();
    fs::write(other.path(), text.replace("maxMachines = 20", "maxMachines = 5")).unwrap();
    let other = other.path().to_str().unwrap();
    let (table, _) = expect(&["compare", conf, other, "--trace", "sim-traces/burst.json"], 0);
    let cost = table.lines().find(|line| line.contains("cost, $")).unwrap();
    let costs: Vec<f64> = cost.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(costs.len() == 3 && costs[1] < costs[0], "fewer machines cost less: {cost}");
}

/// Two configurations on the same work with several seeds: the difference of the second to the first, and its
/// confidence interval.
#[test]
fn configurations_are_compared_seed_by_seed() {
    let conf = "examples/sim/conf.nix";
    let other = tempfile::NamedTempFile::with_suffix(".nix").unwrap();
    let text = fs::read_to_string(root().join(conf)).unwrap();
    fs::write(other.path(), text.replace("maxMachines = 20", "maxMachines = 2")).unwrap();
    let other = other.path().to_str().unwrap();
    let trace = "sim-traces/flapping.json";
    let row = |args: &[&str], name: &str| {
        let (table, _) = expect(args, 0);
        // Columns that do not fit beside each other are below each other.
        let line = table.lines().rfind(|line| line.contains(name)).unwrap().to_owned();
        (table, line)
    };
    let compare = ["compare", conf, other, "--trace", trace];
    let (table, cost) = row(&compare, "cost, $");
    assert!(table.contains(&format!("A: {conf}\nB: {other}\n")), "{table}");
    assert!(table.contains("B - A"), "{table}");
    assert!(!table.contains('*'), "one seed says nothing of how sure it is: {table}");
    let [first, second, difference] = cost.split_whitespace().skip(2).collect::<Vec<_>>()[..]
    else {
        panic!("{cost}")
    };
    let number = |text: &str| text.parse::<f64>().unwrap();
    assert!((number(second) - number(first) - number(difference)).abs() < 2e-4, "{cost}");
    assert!(number(difference) < 0.0 && difference.starts_with('-'), "{cost}");

    let (_, errors) = expect(&["compare", conf, other, conf, "--trace", trace], 2);
    assert!(errors.contains("examples/sim/conf.nix is named twice"), "{errors}");

    let several = [&compare[..], &["--seeds", "5"]].concat();
    let (table, wait) = row(&several, "wait, p95");
    assert!(table.contains("leaves out zero"), "{table}");
    assert!(
        wait.contains('+') && wait.trim_end().ends_with('*'),
        "steps wait longer for two machines: {wait}"
    );
    let (_, built) = row(&several, "steps built");
    assert!(built.trim_end().ends_with("+0"), "the same work: {built}");
}

#[test]
fn a_farm_of_mistakes_is_refused_or_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let farm = folder.path().join("farm.json");
    let farm = farm.to_str().unwrap();
    let args = ["run", "examples/sim/conf.nix", "sim-traces/endless-build.json", "--farm", farm];
    for (text, message) in [
        ("{\n \"cycel\": {} }", "line 2, column 8: unknown field `cycel`"),
        ("{ \"cycel\": {} }", "did you mean `cycle`?"),
        (
            r#"{ "machines": { "x86_64-linux": { "boot": { "recorded": [] } } } }"#,
            "machines.x86_64-linux.boot: there are no values",
        ),
        (
            r#"{ "incidents": [{ "at": 1, "kind": { "spotStorm": { "percent": 120 } } }] }"#,
            "incidents[0].kind.spotStorm.percent: at most 100",
        ),
    ] {
        fs::write(farm, text).unwrap();
        let (_, errors) = expect(&args, 2);
        assert!(errors.contains(farm) && errors.contains(message), "{errors}");
    }
    fs::write(farm, r#"{ "machines": { "x86_64-linx": {} } }"#).unwrap();
    let (_, errors) = expect(&args, 0);
    let warning = "no configuration has the machine type x86_64-linx; did you mean x86_64-linux?";
    assert!(errors.contains(warning), "{errors}");
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"format":"hydra-provisioner-workload","version":1}"#;
    let step = r#"{"id":1,"submit":0,"system":"a","duration":5,"dependencies":[2]}"#;
    let mut whole = Vec::new();
    let file = fs::File::open(root().join("sim-traces/nixpkgs-graph.jsonl.gz")).unwrap();
    { file }.read_to_end(&mut whole).unwrap();
    for (name, content, line, message) in [
        ("version.jsonl", header.replace('1', "9").into_bytes(), 1, "it has version 9"),
        (
            "unknown.jsonl",
            format!("{header}\n{step}\n").into_bytes(),
            2,
            "depends on 2, which is unknown",
        ),
        (
            "cycle.jsonl",
            format!("{header}\n{step}\n{}\n", step.replace('2', "1").replacen('1', "2", 1))
                .into_bytes(),
            2,
            "steps need each other in a circle: ",
        ),
        (
            "negative.jsonl",
            format!("{header}\n{}\n", step.replace(":0", ":-1")).into_bytes(),
            2,
            "times are milliseconds from 0 on, this is -1",
        ),
        ("cut.jsonl", format!("{header}\n{}", &step[..20]).into_bytes(), 2, "cut off"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        let (_, errors) = expect(&["run", "examples/sim/conf.nix", path], 2);
        assert!(errors.contains(&format!("{path}:{line}: ")), "{errors}");
        assert!(errors.contains(message), "{errors}");
    }
    let path = folder.path().join("cut.jsonl.gz");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (_, errors) = expect(&["run", "examples/sim/conf.nix", path.to_str().unwrap()], 2);
    assert!(errors.contains("cut.jsonl.gz:"), "{errors}");
}

/// Forty years of work, and an impatient user.
#[test]
fn ctrl_c_keeps_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = json!({
        "description": "a step a day for 39 years",
        "work": [{
            "jobset": "p:j",
            "arrivals": { "poisson": { "to": 86_400_000_u64 * 365 * 39, "meanGap": 86_400_000 } },
            "shape": { "layers": [{
                "steps": 1, "duration": { "fixed": 1000 }, "kinds": [{ "system": "x86_64-linux" }],
            }] },
        }],
    });
    let long = folder.path().join("long.json");
    fs::write(&long, scenario.to_string()).unwrap();
    let child = command(&["run", "examples/sim/conf.nix", "--threads", "1", "--format", "json"])
        .args([Path::new("sim-traces/endless-build.json"), &long])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Long enough for the first run and the start of the second; too short only weakens the test.
    thread::sleep(Duration::from_secs(5));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(runs[0]["complete"], true, "{runs}");
    assert_eq!(runs[1]["complete"], false, "{runs}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("1 of 2 runs were cut short"), "{errors}");
}

#[test]
fn a_campaign_is_seen_again_by_its_seed() {
    let (first, _) = expect(&["campaign", "--seed", "41", "--seeds", "2", "--knobs"], 0);
    let (again, _) = expect(&["campaign", "--seed", "41", "--seeds", "2", "--knobs"], 0);
    assert_eq!(first, again);
    assert!(first.contains("seed 41: ") && first.contains("seed 42: "), "{first}");
    assert!(first.contains("\"noCapacity\""), "{first}");
}

#[test]
fn recorded_cycles_are_replayed() {
    let farm = Farm::new(&json!({}));
    let recording = farm.path("recording.jsonl");
    for runnable in [0, 2, 0] {
        farm.set_runnable(runnable);
        let output = farm.run(&["run", "--record", recording.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let recording = recording.to_str().unwrap();
    let conf = farm.conf();
    let conf = conf.to_str().unwrap();
    let (same, _) = expect(&["replay", conf, recording], 0);
    let otherwise = |said: &str| {
        let last: Vec<_> = said.lines().last().unwrap().split(' ').collect();
        (last[0].parse::<u32>().unwrap(), last[2].parse::<u32>().unwrap())
    };
    let (others, plans) = otherwise(&same);
    assert!(others == 0 && plans >= 3, "{same}");
    let other = Farm::new(&json!({ "maxCreatesPerCycle": 1 }));
    let mut config: Value = serde_json::from_slice(&fs::read(conf).unwrap()).unwrap();
    config["systemTypes"]["x86_64-linux"]["maxMachines"] = json!(1);
    fs::write(other.conf(), config.to_string()).unwrap();
    let (differs, _) = expect(&["replay", other.conf().to_str().unwrap(), recording], 0);
    assert!(differs.contains("would be") && otherwise(&differs).0 > 0, "{differs}");

    // What was asked becomes a trace.
    let trace = farm.path("trace.jsonl");
    let (_, said) =
        expect(&["import", "recording", recording, "--output", trace.to_str().unwrap()], 0);
    assert!(said.contains("2 steps were canceled or aborted"), "{said}");
    let steps = fs::read_to_string(&trace).unwrap();
    assert_eq!(steps.lines().filter(|line| line.contains("\"submit\"")).count(), 2, "{steps}");
}

#[test]
fn work_is_made_and_imported() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("t.jsonl.gz");
    let trace = trace.to_str().unwrap();
    let conf = "examples/sim/conf.nix";
    expect(&["generate", "sim-traces/flapping.json", "--output", trace], 0);
    let csv = |trace: &str| {
        let (csv, _) = expect(&["run", conf, trace, "--format", "csv", "--seed", "6"], 0);
        csv.replace(trace, "TRACE")
    };
    assert_eq!(csv(trace), csv("sim-traces/flapping.json"));

    let mut plain = Vec::new();
    let packed = fs::File::open(trace).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    let zst = folder.path().join("t.jsonl.zst");
    let zst = zst.to_str().unwrap();
    let (_, errors) = expect(&["generate", "sim-traces/flapping.json", "--output", zst], 2);
    assert!(errors.contains(".zst is only read"), "{errors}");
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    fs::write(zst, ruzstd::encoding::compress_to_vec(&plain[..], level)).unwrap();
    assert_eq!(csv(zst), csv(trace));

    let swf = folder.path().join("a.swf");
    fs::write(&swf, "; comment\n1 0 5 100 1 -1 -1 1 -1 -1 1 3 1 1 1 1 -1 -1\n").unwrap();
    expect(&["import", "swf", swf.to_str().unwrap(), "--output", trace], 0);
    assert!(csv(trace).contains(",built,"));

    // In Nix's format: the second needs the first.
    let drvs = folder.path().join("drvs");
    fs::create_dir(&drvs).unwrap();
    let drv = |name: &str, inputs: &str| {
        let text = format!(
            r#"Derive([("out","/nix/store/o-{name}","","")],[{inputs}],[],"x86_64-linux","/bin/sh",[],[("name","{name}")])"#
        );
        fs::write(drvs.join(format!("d-{name}.drv")), text).unwrap();
    };
    drv("first", "");
    drv("second", r#"("/nix/store/d-first.drv",["out"])"#);
    expect(&["import", "derivations", drvs.to_str().unwrap(), "--output", trace], 0);
    let total = csv(trace).lines().nth(1).unwrap().to_owned();
    assert!(total.contains(",true,true,total,"), "{total}");
    fs::write(drvs.join("bad.drv"), "Derive([").unwrap();
    let (_, errors) =
        expect(&["import", "derivations", drvs.to_str().unwrap(), "--output", trace], 2);
    assert!(errors.contains("bad.drv: ends too early; is it cut off?"), "{errors}");
}

/// A real provisioner, its real cycles, and a simulated queue runner: work arrives, machines are created, build, and
/// are released.
#[test]
fn a_real_provisioner_serves_a_played_queue() {
    // At this speed two answers that are a second apart differ by ten minutes.
    let farm = Farm::new(&json!({ "maxStatusAge": 86400 }));
    let trace = farm.path("work.jsonl");
    let steps = (0..6)
        .map(|id| format!(r#"{{"id":{id},"submit":0,"system":"x86_64-linux","duration":600000}}"#));
    let header = r#"{"format":"hydra-provisioner-workload","version":1,"steps":6}"#;
    let lines: Vec<_> = std::iter::once(header.to_owned()).chain(steps).collect();
    fs::write(&trace, lines.join("\n") + "\n").unwrap();
    let mut simulated = command(&["serve", "--speed", "600", "--listen", "127.0.0.1:0"])
        .arg("--machines-file")
        .arg(farm.path("machines-file"))
        .arg("--status-file")
        .arg(farm.path("status.json"))
        .arg(&trace)
        .stdout(Stdio::piped())
        .spawn()
        .map(Simulated)
        .unwrap();
    let mut cycles = 0;
    // The queue runner must have been up for half an hour before idle machines are released: 3 s at this speed.
    while cycles < 3 || !farm.machines().is_empty() {
        cycles += 1;
        assert!(cycles < 100, "the machines are still there: {:?}", farm.machines());
        let output = farm.run(&["run"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(requested(&farm), 6, "a machine for each step");
    let status: Value =
        serde_json::from_slice(&fs::read(farm.path("status.json")).unwrap()).unwrap();
    assert_eq!(status["nrUnfinishedSteps"], 0, "{status}");
    let mut said = String::new();
    stop(&mut simulated).read_to_string(&mut said).unwrap();
    assert!(said.starts_with("listening on http://127.0.0.1:"), "{said}");
    assert!(said.ends_with("0 steps have not ended\n"), "{said}");
}

/// The simulated queue runner: a test that fails leaves none behind.
struct Simulated(Child);

impl Drop for Simulated {
    fn drop(&mut self) {
        // It has ended if the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stops the simulated queue runner and returns the rest of its output.
fn stop(Simulated(simulated): &mut Simulated) -> impl Read + use<> {
    let pid = rustix::process::Pid::from_child(simulated);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(simulated.wait().unwrap().success());
    simulated.stdout.take().unwrap()
}

/// How many machines the provider was asked for. On a slow host a machine comes and goes within one run.
fn requested(farm: &Farm) -> usize {
    let requests = farm.create_requests().into_iter();
    let requests = requests.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    requests.map(|request| request["name"].to_string()).collect::<BTreeSet<_>>().len()
}

/// The same over REST: builders register and disconnect as the provisioner starts and stops them over ssh (a stand-in),
/// and required features are read from Nix (a stand-in).
#[test]
fn a_real_provisioner_serves_a_played_rest_queue() {
    // At this speed two answers that are a second apart differ by ten minutes.
    let farm = Farm::new(&json!({ "maxStatusAge": 86400 }));
    let trace = farm.path("work.jsonl");
    let step = |id: u32, features: &str| {
        format!(
            r#"{{"id":{id},"submit":0,"system":"x86_64-linux","features":[{features}],"duration":600000}}"#
        )
    };
    let header = r#"{"format":"hydra-provisioner-workload","version":1,"steps":5}"#.to_owned();
    let steps = [step(0, ""), step(1, ""), step(2, ""), step(3, r#""kvm""#), step(4, r#""kvm""#)];
    fs::write(&trace, [&[header][..], &steps].concat().join("\n") + "\n").unwrap();
    // The real default of maxUnsupportedTimeInS would abort steps that a farm without machines cannot build yet.
    let settings = farm.path("farm.json");
    fs::write(
        &settings,
        r#"{"queueRunner":{"protocol":"rest","maxUnsupported":null,"dispatchTimer":60000}}"#,
    )
    .unwrap();
    let mut simulated = command(&["serve", "--speed", "600", "--listen", "127.0.0.1:0", "--farm"])
        .args([&settings, &trace])
        .stdout(Stdio::piped())
        .spawn()
        .map(Simulated)
        .unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(simulated.0.stdout.take().unwrap());
    output.read_line(&mut said).unwrap();
    simulated.0.stdout = Some(output.into_inner());
    let url = said.trim_end().strip_prefix("listening on ").unwrap();

    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf.as_object_mut()
        .unwrap()
        .retain(|name, _| name != "statusCommand" && name != "machinesFile");
    conf["queue"] = json!({ "url": url });
    conf["systemTypes"]["x86_64-linux:kvm"] = conf["systemTypes"]["x86_64-linux"].clone();
    fs::write(farm.conf(), conf.to_string()).unwrap();
    let stand_ins = root().join("examples/sim/stand-ins");
    let path = std::env::join_paths(
        [stand_ins].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let mut cycles = 0;
    while cycles < 3 || !farm.machines().is_empty() {
        cycles += 1;
        assert!(cycles < 100, "the machines are still there: {:?}", farm.machines());
        let output = farm
            .command(&["run"])
            .env("PATH", &path)
            .env("SIMULATED_QUEUE_RUNNER", url)
            .env("MACHINES", farm.path("machines"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        // The simulated queue runner's clock runs faster than ours, which is reported.
        let mut warnings = errors.lines().filter(|line| line.contains("WARN"));
        assert!(warnings.all(|line| line.contains("ahead of our clock")), "{errors}");
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(requested(&farm), 5, "a machine for each step");
    let mut said = String::new();
    stop(&mut simulated).read_to_string(&mut said).unwrap();
    assert_eq!(said, "0 steps have not ended\n");
}

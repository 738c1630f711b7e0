//! What `sim` accepts and rejects, as a user runs it.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CONF: &str = "examples/sim/conf.nix";
const TWO_STEPS: &str = r#"{"format":"hydra-provisioner-workload","version":1}
{"id":1,"submit":0,"system":"x86_64-linux","duration":60000}
{"id":2,"submit":0,"system":"x86_64-linux","duration":60000,"dependencies":[1]}
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[track_caller]
fn expect(args: &[&str], code: i32) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    let output = command.arg("sim").args(args).current_dir(root()).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{args:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

/// A folder with files in it; the paths are in the order of the files.
fn files<const N: usize>(files: [(&str, &str); N]) -> (tempfile::TempDir, [String; N]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = files.map(|(name, text)| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    (folder, paths)
}

/// Without randomness an interval of ± 0 would look like certainty.
#[test]
fn seeds_that_change_nothing_are_told() {
    let (_folder, [trace, farm]) = files([
        ("work.jsonl", TWO_STEPS),
        ("farm.json", r#"{"machines":{"x86_64-linux":{"boot":{"exponential":{"mean":50000}}}}}"#),
    ]);
    let fast = format!("{CONF},interval=30");
    for args in [vec!["run", CONF, &trace], vec!["compare", CONF, &fast, "--trace", &trace]] {
        let (text, _) = expect(&[&args[..], &["--seeds", "4"]].concat(), 0);
        assert!(text.contains("nothing in this trace and farm is left to chance"), "{text}");
        assert!(!text.contains('±') && !text.contains('*'), "{text}");
        let by_chance = [&args[..], &["--seeds", "4", "--farm", &farm]].concat();
        let (text, _) = expect(&by_chance, 0);
        assert!(text.contains('±') && !text.contains("left to chance"), "{text}");
        // Phases are no chance either.
        let phases = [&args[..], &["--seeds", "3", "--phases", "3"]].concat();
        let (text, _) = expect(&phases, 0);
        assert!(
            text.contains("left to chance")
                && text.contains("by when provisioner and queue runner look"),
            "{text}"
        );
        assert!(!text.contains('±') && !text.contains('*'), "{text}");
    }
    let report = |options: &[&str]| {
        let (folder, _) = files([]);
        let page = folder.path().join("page.html");
        let args = ["report", CONF, &fast, "--trace", &trace, "--output", page.to_str().unwrap()];
        expect(&[&args[..], options].concat(), 0);
        fs::read_to_string(page).unwrap()
    };
    let text = report(&["--seeds", "3"]);
    assert!(text.contains("All 3 seeds have the same results"), "{text}");
    assert!(text.contains("nothing in this trace and farm is left to chance"));
    assert!(!text.contains('±'));
    let text = report(&["--seeds", "2", "--phases", "3"]);
    assert!(text.contains("All 2 seeds have the same results"), "{text}");
    assert!(text.contains("means of 3 phases") && !text.contains('±'), "{text}");
    let text = report(&["--phases", "4"]);
    assert!(!text.contains("seeds have the same results"), "{text}");
    assert!(text.contains("means of 4 phases") && !text.contains('±'), "{text}");
    let text = report(&["--seeds", "3", "--phases", "2", "--farm", &farm]);
    assert!(text.contains("means of 3 seeds, each the mean of 2 phases"), "{text}");
    assert!(text.contains('±'));
}

/// An option without an effect would look like one with it.
#[test]
fn options_that_have_no_effect_are_refused() {
    let (_folder, [trace]) = files([("work.jsonl", TWO_STEPS)]);
    let [every_30, fixed] = ["interval=30", "policy=fixed-farm"].map(|set| format!("{CONF},{set}"));
    for (args, message) in [
        (&["bound", "original", &trace][..], "original: bounds hold for any provisioner: name a"),
        (&["bound", &fixed, &trace], "fixed-farm: bounds hold for any provisioner: name a"),
        (&["bound", &every_30, &trace], "bounds do not depend on when the queue is asked"),
        (&["bound", CONF, &trace, "--seeds", "3"], "unexpected argument '--seeds'"),
        (&["bound", CONF, &trace, "--warm-up", "3"], "unexpected argument '--warm-up'"),
        (&["tune", &fixed, &trace], "fixed-farm: settings are searched for our own rules: name a"),
        (&["tune", "original", &trace], "original: settings are searched for our own rules"),
        (
            &["report", CONF, "--trace", &trace, "--output", "/tmp/x.html", "--format", "json"],
            "unexpected argument '--format'",
        ),
    ] {
        let (_, errors) = expect(args, 2);
        assert!(errors.contains(message), "{args:?}: {errors}");
    }
}

/// Thirty steps wait for machines, one that comes later for nothing. The bounds are for all of them.
#[test]
fn bounds_are_in_every_format() {
    let step = |id: u32, submit: u32| {
        format!(r#"{{"id":{id},"submit":{submit},"system":"x86_64-linux","duration":60000}}"#)
    };
    let header = r#"{"format":"hydra-provisioner-workload","version":1}"#.to_owned();
    let steps = (0..31).map(|id| step(id, if id < 30 { 0 } else { 400_000 }));
    let text: Vec<_> = [header].into_iter().chain(steps).collect();
    let (_folder, [trace]) = files([("work.jsonl", &(text.join("\n") + "\n"))]);
    let run = ["run", CONF, &trace, "--bound", "--warm-up", "1", "--phases", "2", "--format"];
    let runs: serde_json::Value =
        serde_json::from_str(&expect(&[&run[..], &["json"]].concat(), 0).0).unwrap();
    let (bounds, results) = (&runs[1]["bounds"], &runs[1]["results"]["total"]);
    assert_eq!((&runs[1]["phase"], &results["wait"]["p95"]), (&1.into(), &0.into()));
    assert!(bounds["wait"].as_u64().unwrap() > 60_000, "{bounds}");
    assert!(bounds["least"].as_f64().unwrap() > 0.0, "{bounds}");
    let (csv, _) = expect(&[&run[..], &["csv"]].concat(), 0);
    let mut lines = csv.lines();
    let columns = ",phase,boundWaitMs,leastMicroDollars,clairvoyantMicroDollars,leftOut";
    assert!(lines.next().unwrap().ends_with(columns), "{csv}");
    let wait = bounds["wait"].to_string();
    let total = lines.clone().rfind(|line| line.contains(",total,")).unwrap();
    assert!(total.contains(&format!(",1,{wait},")) && total.ends_with(",0"), "{csv}");
    assert!(lines.next_back().unwrap().ends_with(",1,,,,"), "{csv}");
    let (csv, _) = expect(&["bound", CONF, &trace, "--wait", "0,60", "--format", "csv"], 0);
    assert!(csv.starts_with("trace,seed,boundWaitMs,leastMicroDollars,"), "{csv}");
    assert_eq!((csv.lines().count(), csv.contains(",0,60000,")), (3, true), "{csv}");
}

#[test]
fn there_is_no_ratio_to_a_bound_of_nothing() {
    let free = r#"{"tariff":{"price":[[0,0]]}}"#;
    let farm = format!(r#"{{"machines":{{"x86_64-linux":{free},"aarch64-linux":{free}}}}}"#);
    let (folder, [trace, farm]) = files([("work.jsonl", TWO_STEPS), ("farm.json", &farm)]);
    let (table, _) = expect(&["run", CONF, &trace, "--bound", "--farm", &farm], 0);
    assert!(table.replace('\n', " ").contains("the bounds of its cost are $0"), "{table}");
    let page = folder.path().join("page.html");
    let every_30 = format!("{CONF},interval=30");
    let report = ["report", CONF, &every_30, "--trace", &trace, "--farm", &farm, "--output"];
    expect(&[&report[..], &[page.to_str().unwrap()]].concat(), 0);
    let text = fs::read_to_string(page).unwrap();
    assert!(text.contains("the least possible cost is $0"), "{text}");
    assert!(text.contains("<td>it is $0</td>") && !text.contains("NaN"), "{text}");
}

/// Nix takes seconds for a large configuration.
#[test]
fn a_configuration_with_several_settings_is_evaluated_once() {
    let conf = r#"{"tag":"t","sshCommand":["false"],"systemTypes":{"x86_64-linux":{
        "provider":{"command":{"program":["false"]}},"runnablesPerMachine":1}}}"#;
    let (_folder, [trace, conf]) = files([("work.jsonl", TWO_STEPS), ("conf.json", conf)]);
    let [fast, slow] = [20, 60].map(|interval| format!("{conf},interval={interval}"));
    let compare = ["compare", &conf, &fast, &slow, "original", "--trace", &trace];
    let (_, errors) = expect(&compare, 0);
    assert_eq!(errors.matches("sshCommand").count(), 1, "{errors}");
}

#[test]
fn traces_are_told_by_their_names() {
    let scenario = fs::read_to_string(root().join("sim-traces/burst.json")).unwrap();
    let (_folder, [log, empty, steps, upper]) = files([
        ("log.swf", "; Version: 2.2\n"),
        ("empty.jsonl", "{\"format\":\"hydra-provisioner-workload\",\"version\":1}\n"),
        ("work.jsonl", TWO_STEPS),
        ("burst.json", &scenario),
    ]);
    for (trace, message) in [
        (log.as_str(), "workloads end in .jsonl, scenarios in .json, both also with .gz or .zst"),
        ("trace", "is no trace by its name"),
        (&empty, "has no step: there is nothing to simulate"),
    ] {
        let (_, errors) = expect(&["run", CONF, trace], 2);
        assert!(errors.contains(message), "{errors}");
    }
    expect(&["run", CONF, &steps, &upper], 0);
    for name in ["out.zst", "out", "out.json"] {
        let (_, errors) = expect(&["generate", &upper, "--output", name], 2);
        assert!(errors.contains("a workload's name ends in .jsonl or .jsonl.gz"), "{errors}");
    }
}

#[test]
fn imports_without_a_step_are_refused() {
    let (folder, [json, log]) = files([("drvs.json", "{}"), ("log.swf", "; nothing\n")]);
    let empty = folder.path().join("drvs");
    fs::create_dir(&empty).unwrap();
    let output = folder.path().join("out.jsonl");
    let output = output.to_str().unwrap();
    let empty = empty.to_str().unwrap();
    for (kind, file) in [("derivations", &*json), ("derivations", empty), ("swf", &log)] {
        let (_, errors) = expect(&["import", kind, file, "--output", output], 2);
        assert!(errors.contains("has no step that was or can be built"), "{errors}");
        assert!(!Path::new(output).exists());
    }
}

#[test]
fn processors_of_a_log_are_work() {
    let job = "1 0 -1 600 4 -1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1\n";
    let (folder, [log]) = files([("log.swf", job)]);
    let output = folder.path().join("out.jsonl");
    let output = output.to_str().unwrap();
    for (processors, steps) in [("steps", 4), ("ignore", 1)] {
        let import = ["import", "swf", &log, "--processors", processors, "--output", output];
        expect(&import, 0);
        assert_eq!(fs::read_to_string(output).unwrap().lines().count(), steps + 1);
    }
}

/// Numbers of nothing look like results: a wait of 0 is the best one.
#[test]
fn what_leaves_nothing_to_count_is_refused() {
    let nothing = r#"{"description":"","work":[{"jobset":"p:j",
        "arrivals":{"flapping":{"to":86400000,"on":0,"off":60000,"meanGap":1000}},
        "shape":{"layers":[{"steps":1,"duration":{"fixed":1000},"kinds":[{"system":"x86_64-linux"}]}]}}]}"#;
    let endless = nothing.replace("86400000", "18446744073709551615").replace("1000}}", "1}}");
    let riscv = TWO_STEPS.replace("x86_64", "riscv64");
    let last_seed = fs::read_to_string(root().join("sim-traces/flapping.json")).unwrap();
    let last_seed = last_seed.replace("\"seed\": 6", "\"seed\": 18446744073709551615");
    let (folder, [last_seed, nothing, endless, trace, riscv]) = files([
        ("last-seed.json", &*last_seed),
        ("nothing.json", nothing),
        ("endless.json", &endless),
        ("work.jsonl", TWO_STEPS),
        ("riscv.jsonl", &riscv),
    ]);
    let output = folder.path().join("out.jsonl");
    for (args, message) in [
        (vec!["run", CONF, &nothing], "has no step: there is nothing to simulate"),
        (
            vec!["generate", &nothing, "--output", output.to_str().unwrap()],
            "has no step: there is nothing to simulate",
        ),
        (
            vec!["run", CONF, &endless],
            "work: it may be 18446744073709551615 steps, more than 50000000",
        ),
        (
            vec!["run", CONF, &trace, "--warm-up", "1"],
            "its last step is submitted at 0.000s, so --warm-up 1 excludes all steps",
        ),
        (
            vec!["run", CONF, &trace, "--seed", "18446744073709551615", "--seeds", "2"],
            "--seed 18446744073709551615 leaves no 2 seeds",
        ),
        (
            vec!["campaign", "--seed", "18446744073709551615", "--seeds", "3"],
            "--seed 18446744073709551615 leaves no 3 seeds",
        ),
        (
            vec!["tune", CONF, &last_seed],
            "last-seed.json: seed 18446744073709551615 leaves no 3 seeds",
        ),
        (vec!["run", CONF, &trace, "--threads", "99999999"], "must be a number from 0"),
        (vec!["bound", CONF, &riscv], "no machine type builds any of its steps"),
        (vec!["bound", CONF, &trace, "--wait", "18446744073709551615"], "is not in"),
    ] {
        let (_, errors) = expect(&args, 2);
        assert!(errors.contains(message), "{args:?}: {errors}");
    }
}

/// Without it, "no candidate keeps the wait limit" would be all that is said.
#[test]
fn a_search_with_steps_that_nothing_builds_is_warned_of() {
    let (_folder, [trace]) = files([("riscv.jsonl", &TWO_STEPS.replace("x86_64", "riscv64"))]);
    let search = ["--candidates", "7", "--seeds", "1", "--held-out-seeds", "1"];
    let (_, errors) = expect(&[&["tune", CONF, &trace][..], &search].concat(), 0);
    let warning = "no machine type builds its steps of riscv64-linux, with any settings";
    assert_eq!(errors.matches(warning).count(), 1, "{errors}");
}

/// What a farm file sets applies, also if it is the default; what it does not set is the configuration's.
#[test]
fn a_farm_file_and_a_configuration_complete_each_other() {
    let conf = r#"{"tag":"t","statusCommand":["false"],"pollInterval":600,"systemTypes":{"x86_64-linux":{
        "provider":{"command":{"program":["false"]}},"runnablesPerMachine":1,"dollarsPerHour":2}}}"#;
    let farm = |model: &str, cycle: &str| {
        format!(r#"{{"machines":{{"x86_64-linux":{{"tariff":{{{model}}}}}}},"cycle":{{{cycle}}}}}"#)
    };
    let by_the_hour = farm(r#""billing":"perStartedHour""#, "");
    let usual = farm(r#""price":[[0,100000]]"#, r#""poll":10000"#);
    let without_poll = farm(r#""price":[[0,100000]]"#, "");
    let (_folder, [trace, conf, by_the_hour, usual, without_poll]) = files([
        ("work.jsonl", TWO_STEPS),
        ("conf.json", conf),
        ("by-the-hour.json", &by_the_hour),
        ("usual.json", &usual),
        ("without-poll.json", &without_poll),
    ]);
    let run = |farm| {
        let (text, _) = expect(&["run", &conf, &trace, "--farm", farm, "--format", "json"], 0);
        let runs: serde_json::Value = serde_json::from_str(&text).unwrap();
        let total = &runs[0]["results"]["total"];
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        (number(&total["costMicroDollars"]), number(&runs[0]["results"]["turns"]))
    };
    let ((hours, _), (seconds, many), (_, few)) =
        (run(&by_the_hour), run(&usual), run(&without_poll));
    assert!(hours >= 2_000_000 && hours % 2_000_000 == 0, "{hours}");
    assert!(seconds < 100_000 && many > few, "{seconds} {many} {few}");
}

/// A price is assumed if neither the farm nor the configuration has one, whatever else they set.
#[test]
fn prices_that_nobody_set_are_assumed() {
    let conf = r#"{"tag":"t","statusCommand":["false"],"systemTypes":{"x86_64-linux":{
        "provider":{"command":{"program":["false"]}},"runnablesPerMachine":1,"dollarsPerHour":0.10}}}"#;
    let by_the_hour = r#"{"machines":{"x86_64-linux":{"tariff":{"billing":"perStartedHour"}}}}"#;
    let (_folder, [trace, with_price, without, farm]) = files([
        ("work.jsonl", TWO_STEPS),
        ("with.json", conf),
        ("without.json", &conf.replace(",\"dollarsPerHour\":0.10", "")),
        ("farm.json", by_the_hour),
    ]);
    for (args, price) in [
        (&["run", &with_price, &trace][..], "$0.10 an hour, by the second"),
        (&["run", &without, &trace], "$0.10 an hour (assumed), by the second"),
        (&["run", &with_price, &trace, "--farm", &farm], "$0.10 an hour, by the hour begun"),
        (&["run", &without, &trace, "--farm", &farm], "$0.10 an hour (assumed), by the hour begun"),
    ] {
        let (table, _) = expect(args, 0);
        assert!(table.replace('\n', " ").contains(price), "{price} is not in {table}");
    }
}

/// A canceled step leaves the queue with the steps that need it, also if no machine builds them.
#[test]
fn a_served_queue_has_canceled_steps() {
    let canceled = TWO_STEPS.replacen(":60000", ":60000,\"cancel\":600000", 1);
    let (folder, [trace]) = files([("work.jsonl", &canceled)]);
    let [machines, status] = ["machines", "status.json"].map(|name| folder.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(["sim", "serve", &trace, "--speed", "1000", "--machines-file"]).arg(machines);
    let mut simulated = command.arg("--status-file").arg(&status).spawn().unwrap();
    let is_empty = || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let status = serde_json::from_slice(&fs::read(&status).unwrap_or_default());
        let status: serde_json::Value = status.unwrap_or_default();
        status["nrUnfinishedSteps"] == 0
    };
    let is_canceled = (0..300).any(|_| is_empty());
    simulated.kill().unwrap();
    simulated.wait().unwrap();
    assert!(is_canceled, "after 600 s, at 1000 s per second");
}

/// Hetzner bills by the hour begun, unless the farm file says otherwise.
#[test]
fn servers_of_hetzner_are_billed_by_the_hour() {
    let conf = r#"{"tag":"t","statusCommand":["false"],"systemTypes":{"x86_64-linux":{"provider":{"hcloud":{
        "tokenFile":"/token","image":"1","serverTypes":["cx22"],"locations":["fsn1"],
        "authorizedKeys":["ssh-ed25519 AAAA a"]}},"runnablesPerMachine":1,"dollarsPerHour":2}}}"#;
    let by_second = r#"{"machines":{"x86_64-linux":{"tariff":{"billing":{"perSecond":{"minimumSeconds":60}}}}}}"#;
    let (_folder, [trace, conf, by_second]) =
        files([("work.jsonl", TWO_STEPS), ("conf.json", conf), ("by-second.json", by_second)]);
    let cost = |farm: &[&str]| {
        let args = [&["run", &conf, &trace, "--format", "json"][..], farm].concat();
        let runs: serde_json::Value = serde_json::from_str(&expect(&args, 0).0).unwrap();
        runs[0]["results"]["total"]["costMicroDollars"].as_u64().unwrap()
    };
    let hours = cost(&[]);
    assert!(hours >= 2_000_000 && hours % 2_000_000 == 0, "{hours}");
    let seconds = cost(&["--farm", &by_second]);
    assert!(seconds < 2_000_000, "{seconds}");
}

/// A farm that waits for something that never happens is not a result: the message shows what waits, and why.
#[test]
fn what_never_comes_to_rest_is_told() {
    let riscv = TWO_STEPS
        .replace("x86_64-linux\",\"duration\":60000,", "riscv64-linux\",\"duration\":60000,");
    let (_folder, [trace]) = files([("work.jsonl", &riscv)]);
    let (table, errors) = expect(&["run", CONF, &trace], 4);
    assert!(errors.contains("did not come to rest in 30 days"), "{errors}");
    let why = "steps of riscv64-linux: 1 wait for a machine: no machine type builds them";
    assert!(errors.contains(why), "{errors}");
    assert!(!errors.contains("machines that are left"), "{errors}");
    assert!(table.contains("did not come to rest"), "{table}");
}

#[test]
fn tables_say_what_they_rest_on_in_80_columns() {
    let (_folder, [farm]) = files([(
        "farm.json",
        r#"{"machines":{"aarch64-linux":{"tariff":{"billing":"perStartedHour","price":[[0,340000]]}}}}"#,
    )]);
    let trace = "sim-traces/flapping.json";
    let run = ["run", CONF, trace, "--seeds", "2", "--farm", &farm, "--warm-up", "mser5"];
    let (table, _) = expect(&run, 0);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for line in [
        "Price of aarch64-linux: $0.34 an hour, by the hour begun",
        "Price of x86_64-linux: $0.10 an hour (assumed), by the second, 60 s at least",
        "stopped: $0.002 an hour.",
        "failed tries count.",
    ] {
        assert!(table.replace('\n', " ").contains(line), "{line} is not in {table}");
    }
    let cut = ["run", CONF, trace, "--warm-up", "7200", "--format", "json"];
    let results: serde_json::Value = serde_json::from_str(&expect(&cut, 0).0).unwrap();
    assert_eq!(results[0]["results"]["warmUp"], 7_200_000);
    let (_, errors) = expect(&["run", CONF, trace, "--warm-up", "x"], 2);
    assert!(errors.contains("must be a number of seconds, or mser5"), "{errors}");
}

/// Each configuration may have its own interval and farm.
#[test]
fn farms_are_compared_like_configurations() {
    let (_folder, [trace, slow]) = files([
        ("work.jsonl", TWO_STEPS),
        ("slow.json", r#"{"machines":{"x86_64-linux":{"boot":{"fixed":600000}}}}"#),
    ]);
    let (fast, slow) = (format!("{CONF},interval=1"), format!("{CONF},farm={slow}"));
    let args = ["compare", CONF, &fast, &slow, "--trace", &trace, "--format", "csv"];
    let (csv, _) = expect(&args, 0);
    let mut lines = csv.lines();
    let column = |name: &str| csv.lines().next().unwrap().split(',').position(|c| c == name);
    let (turns, wait) = (column("turns").unwrap(), column("waitMaxMs").unwrap());
    // The name of a configuration with settings is quoted because it contains a comma.
    let total = |line: &str, at: usize| {
        let rest = line.strip_prefix('"').and_then(|line| line.split_once("\","));
        let rest = rest.map_or_else(|| line.split_once(',').unwrap().1, |(_, rest)| rest);
        rest.split(',').nth(at - 1).unwrap().parse::<u64>().unwrap()
    };
    let mut totals = lines.by_ref().filter(|line| line.contains(",total,"));
    let [usual, fast, slow] = [(); 3].map(|()| totals.next().unwrap());
    assert!(total(fast, turns) > 2 * total(usual, turns), "{csv}");
    assert!(total(slow, wait) > total(usual, wait) + 500_000, "{csv}");

    let (_, errors) = expect(&["compare", CONF, "c.nix,poll=3", "--trace", &trace], 2);
    assert!(errors.contains("unknown setting `poll`"), "{errors}");
}

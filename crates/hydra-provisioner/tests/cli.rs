//! The command line as a user runs it: complete standard output and exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;

use farm::{Farm, stderr, stdout};
use serde_json::json;

#[test]
fn machines_are_created_used_drained_and_destroyed() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(2);
    let output = farm.run(&[]);
    // The order depends on which one is ready first.
    let in_order = |text: String| {
        let [one, other] = ["  hydra-provisioned-0: ready\n", "  hydra-provisioned-1: ready\n"];
        text.replace(&format!("{other}{one}"), &format!("{one}{other}"))
    };
    assert_eq!(
        in_order(stdout(&output)),
        "machine types
  x86_64-linux: 2 runnable, 2 wanted, 2 allowed, 0 present
machines
  none
actions
  create hydra-provisioned-0 (x86_64-linux)
  create hydra-provisioned-1 (x86_64-linux)
results
  hydra-provisioned-0: ready
  hydra-provisioned-1: ready
  machines file: published, 2 machines
"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        farm.machines_file(),
        [
            "root@127.0.0.2 x86_64-linux,i686-linux - 1 1 - - -",
            "root@127.0.0.3 x86_64-linux,i686-linux - 1 1 - - -"
        ]
    );

    // One is building and the other idle, and nothing waits: the queue runner still lists the idle one.
    let queue_machines = |idle_enabled: bool| {
        json!({
            "root@127.0.0.2": { "enabled": true, "currentJobs": 1 },
            "ssh://root@127.0.0.3": { "enabled": idle_enabled, "currentJobs": 0, "idleSince": 1 },
        })
    };
    farm.set_queue(&json!({}), &queue_machines(true));
    let output = farm.run(&["run"]);
    assert!(
        stdout(&output).ends_with(
            "results
  machines file: published, 0 machines
  hydra-provisioned-1: not released yet: the queue runner may still give it builds
"
        ),
        "{}",
        stdout(&output)
    );
    assert_eq!(farm.machines().len(), 2);

    // Now it has read the machines file without the machine.
    farm.set_queue(&json!({}), &queue_machines(false));
    let output = farm.run(&["run"]);
    assert!(
        stdout(&output).contains("results\n  hydra-provisioned-1: destroyed\n"),
        "{}",
        stdout(&output)
    );
    assert_eq!(farm.machines(), ["hydra-provisioned-0"], "the busy machine stays");
}

#[test]
fn plan_and_status_change_nothing() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    let plan = farm.run(&["plan"]);
    assert_eq!(
        stdout(&plan),
        "machine types
  x86_64-linux: 1 runnable, 1 wanted, 1 allowed, 0 present
machines
  none
actions
  create hydra-provisioned-0 (x86_64-linux)
"
    );
    assert!(!farm.path("state").exists() && !farm.path("machines-file").exists());
    assert_eq!(farm.machines(), [""; 0]);

    assert_eq!(farm.run(&["run"]).status.code(), Some(0));
    let status = stdout(&farm.run(&["status"]));
    let cells: Vec<_> = status.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells[..4], ["hydra-provisioned-0", "x86_64-linux", "up", "127.0.0.2"]);
    assert_eq!(cells[5..], ["-", "-", "in", "use"], "jobs, paid time left, verdict");
}

#[test]
fn a_recorded_snapshot_is_planned_again() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(3);
    let snapshot = farm.run(&["plan", "--print-snapshot"]);
    fs::write(farm.path("snapshot.json"), &snapshot.stdout).unwrap();
    let file = farm.path("snapshot.json");
    farm.set_runnable(0);
    let again = farm.run(&["plan", "--json", "--snapshot", file.to_str().unwrap()]);
    let plan: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(plan["provision"].as_array().unwrap().len(), 3);
}

#[test]
fn every_problem_of_a_configuration_is_told_and_nothing_touched() {
    let farm = Farm::new(&json!({ "paralellism": 0, "tag": "a b", "gracePeriod": 3 }));
    for command in ["check", "run", "plan", "status"] {
        let output = farm.run(&[command]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""));
        let log = stderr(&output);
        for problem in [
            "3 problems",
            "gracePeriod: unknown option",
            "paralellism: unknown option; did you mean parallelism?",
            "tag: must be letters, digits, '.', '_' and '-' and start with a letter or digit, is \"a b\"",
        ] {
            assert!(log.contains(problem), "{problem} is not in {log}");
        }
        // A service does not need the file again before its next reload.
        let is_beside_service = ["plan", "status"].contains(&command);
        let hint = "continues with the configuration that it loaded before";
        assert_eq!(log.contains(hint), is_beside_service, "{command}: {log}");
    }
    assert!(!farm.path("state").exists());
}

#[test]
fn a_good_configuration_is_said_to_be_good_with_its_highest_cost() {
    let farm = Farm::new(&json!({}));
    let output = farm.run(&["check"]);
    let unknown = "at most unknown per hour: no type has dollarsPerHour";
    let good = format!("{}: good, 1 machine type\n{unknown}\n", farm.conf().display());
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), good));
    let mut conf: serde_json::Value =
        serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    let types = conf["systemTypes"].as_object_mut().unwrap();
    types.insert("aarch64-linux".to_owned(), types["x86_64-linux"].clone());
    types["x86_64-linux"]["dollarsPerHour"] = json!(0.096);
    fs::write(farm.conf(), conf.to_string()).unwrap();
    let said = stdout(&farm.run(&["check"]));
    let cost = said.lines().nth(1).unwrap();
    assert_eq!(cost, "at most $2.88 per hour, without aarch64-linux (no dollarsPerHour)");
    // The plan shows the price of each machine, where it is known.
    let plan = stdout(&farm.run(&["plan"]));
    assert!(!plan.contains("dollars per hour"), "{plan}");
    farm.set_runnable(1);
    let plan = stdout(&farm.run(&["plan"]));
    let prices = plan.split_once("dollars per hour\n").unwrap().1;
    assert_eq!(prices, "  running machines: $0.00\n  hydra-provisioned-0: $0.096, when created\n");
}

#[test]
fn a_trial_of_the_provider_names_what_would_fail() {
    let farm = Farm::new(&json!({}));
    let output = farm.run(&["check", "--online"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.trim_end().ends_with(": list: good"), "{said}");
    let mut conf: serde_json::Value =
        serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf["systemTypes"]["x86_64-linux"]["provider"]["command"]["program"] = json!(["/nothing"]);
    fs::write(farm.conf(), conf.to_string()).unwrap();
    let output = farm.run(&["check", "--online"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stdout(&output).contains(": list: REFUSED: "), "{}", stdout(&output));
}

#[test]
fn without_queue_status_nothing_is_released() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    farm.run(&[]);
    fs::write(farm.path("status.json"), r#"{"status":"down"}"#).unwrap();
    let output = farm.run(&[]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!((farm.machines().len(), farm.machines_file().len()), (1, 1));
}

#[test]
fn a_second_run_is_told_who_holds_the_lock() {
    let farm = Farm::new(&json!({}));
    // The first run waits for its status, which is a pipe that has no writer yet.
    fs::remove_file(farm.path("status.json")).unwrap();
    let fifo = farm.path("status.json");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut first = farm
        .command(&["run"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Opening the pipe for writing waits until the first run's `cat` reads from it.
    let writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let second = farm.run(&["run"]);
    assert_eq!(second.status.code(), Some(3));
    let holder = format!("lock: pid {}, running {}", first.id(), farm.conf().display());
    assert!(stderr(&second).contains(&holder), "{holder} is not in {}", stderr(&second));
    drop(writer);
    first.wait().unwrap();
}

#[test]
fn manual_pages_and_completions_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&std::ffi::OsStr]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"))
            .args(args)
            .output()
            .unwrap()
    };
    let output = run(&["generate".as_ref(), "man".as_ref(), folder.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = fs::read_to_string(folder.path().join("hydra-provisioner-run.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains("\\-\\-watch"), "{page}");
    let output = run(&["generate".as_ref(), "completions".as_ref(), "bash".as_ref()]);
    assert!(stdout(&output).contains("complete -F _hydra"), "{}", stdout(&output));
}

/// Log options may be anywhere; a configuration follows the command.
/// The largest number of seconds is beyond the end of the system's clock.
#[test]
fn a_run_waits_ten_years_at_most() {
    let farm = Farm::new(&json!({}));
    let output = farm.run(&["run", "--wait", &u64::MAX.to_string()]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--wait"), "{}", stderr(&output));
    assert_eq!(farm.run(&["run", "--wait", "315360000"]).status.code(), Some(0));
}

#[test]
fn options_may_stand_before_the_command() {
    let farm = Farm::new(&json!({}));
    let program = || std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    let before =
        program().args(["--log-format", "json", "check"]).arg(farm.conf()).output().unwrap();
    assert_eq!(before.status.code(), Some(0), "{}", String::from_utf8_lossy(&before.stderr));
    let wrong = program().arg(farm.conf()).args(["check", "conf.nix"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let errors = String::from_utf8(wrong.stderr).unwrap();
    assert!(errors.contains("stands before the command"), "{errors}");
    let unsaid = program().arg(farm.conf()).arg("--watch").output().unwrap();
    assert_eq!(unsaid.status.code(), Some(2));
    assert!(
        stderr(&unsaid).contains("with options, write `run CONF --watch`"),
        "{}",
        stderr(&unsaid)
    );
    let nothing = program().output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    // A command without CONF uses the one that the NixOS module installs.
    let installed = program().arg("check").output().unwrap();
    let (out, errors) = (stdout(&installed), stderr(&installed));
    assert!(format!("{out}{errors}").contains("/etc/hydra-provisioner/conf."), "{out}{errors}");
}

#[test]
fn a_misspelt_command_is_said_to_be_one() {
    let program = || std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    for words in [&["statsu"][..], &["statsu", "conf.nix"], &["--log", "debug", "statsu", "--json"]]
    {
        let output = program().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let said = stderr(&output);
        assert!(said.contains("did you mean 'status'?"), "{words:?}: {said}");
    }
}

/// Also messages before the run; and a log that cannot be written stops nothing.
#[test]
fn logs_are_json_throughout_and_may_be_lost() {
    let program = || std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    for words in
        [&["--log-format=json", "run", "--bogus"][..], &["--log-format", "json", "check", "/"]]
    {
        let said = stderr(&program().args(words).output().unwrap());
        assert!(!said.is_empty());
        for line in said.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["timestamp"].is_string() && line["level"] == "ERROR", "{line}");
        }
    }
    let farm = Farm::new(&json!({ "machinesFile": "/dev/null/nowhere" }));
    farm.set_runnable(1);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = farm.command(&["run"]).stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
}

/// systemd does not start a service again after exit code 2: that is for files that are wrong.
#[test]
fn a_nix_that_does_not_answer_is_not_a_wrong_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let nix = folder.path().join("nix-instantiate");
    fs::write(folder.path().join("conf.nix"), "{ }").unwrap();
    let check = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"))
            .arg("check")
            .arg(folder.path().join("conf.nix"))
            .env("PATH", folder.path())
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("install Nix"), "{code:?} {said}");
    for (script, expected) in [("kill -9 $$", 1), ("exit 1", 2)] {
        fs::write(&nix, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
        let (code, said) = check();
        assert_eq!(code, Some(expected), "{script}: {said}");
    }
}

/// Several runs of Nix 2.8 at the same time may find its database busy, and one of them fails needlessly.
#[test]
fn nix_is_run_again_while_its_database_is_busy() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let nix = folder.path().join("nix-instantiate");
    let script = "#!/bin/sh
        if mkdir \"$(dirname \"$0\")/asked\"; then
            echo \"error: SQLite database '/nix/var/nix/db/db.sqlite' is busy\" >&2
            exit 1
        fi
        echo '{}'";
    fs::write(&nix, script).unwrap();
    fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("conf.nix"), "{ }").unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"))
        .arg("check")
        .arg(folder.path().join("conf.nix"))
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(folder.path().join("asked").exists());
}

//! The first steps of a new operator: write a configuration, see what it would change, look at the farm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use farm::service::{ACTIVATE, Service, ask, until};
use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

/// Every command of docs/tour.md, in order, apart from the service.
#[test]
fn the_tour_can_be_followed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_hydra-provisioner"),
        bin.join("hydra-provisioner"),
    )
    .unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .args([root.join("examples"), root.join("sim-traces")])
        .arg(folder.path())
        .status();
    assert!(copied.unwrap().success());
    let tour = fs::read_to_string(root.join("docs/tour.md")).unwrap();
    let commands = tour.lines().filter_map(|line| line.strip_prefix("$ "));
    let commands: Vec<_> = commands.filter(|command| !command.contains("--watch")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for command in commands {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(folder.path()).stdin(Stdio::null());
        shell.env("C", "examples/quickstart/conf.nix").env("PATH", &path);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", stderr(&output));
    }
}

/// Every one is valid, except for files that only the operator has.
#[test]
fn init_writes_a_configuration_that_passes_check() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(folder.path().join("key.pub"), "ssh-ed25519 AAAA hydra\n").unwrap();
    for provider in ["command", "ec2", "hcloud", "nixops", "qemu"] {
        for queue in ["classic", "http://[::1]:8080"] {
            let file = folder.path().join(format!("{provider}-{}.nix", queue.len()));
            let file = file.to_str().unwrap();
            let args = [
                "init",
                file,
                "--provider",
                provider,
                "--queue",
                queue,
                "--type",
                "x86_64-linux:kvm",
            ];
            let output = run(&args);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            let text = fs::read_to_string(file).unwrap();
            assert!(
                text.contains("# Upper limit")
                    && text.contains(queue.trim_start_matches("classic"))
            );
            let text = text
                .replace("/var/lib/hydra/queue-runner/.ssh/id_buildfarm", key.to_str().unwrap());
            fs::write(file, text).unwrap();
            let output = run(&["check", file]);
            assert_eq!(output.status.code(), Some(0), "{provider}: {}", stderr(&output));
            let said = stdout(&output);
            assert!(provider == "qemu" || said.contains("at most $1.00 per hour"), "{said}");
            let again = run(&args);
            assert_eq!(again.status.code(), Some(2));
            assert!(stderr(&again).contains("exists already and was not changed"));
        }
    }
    let printed = run(&["init", "-"]);
    assert!(stdout(&printed).contains("provider.command.program"), "{}", stderr(&printed));
    for bad in [
        ["--queue", "tcp://x"],
        ["--type", "linux"],
        ["--queue", "http://u:p@h"],
        ["--type", "a-b:\"$"],
    ] {
        assert_eq!(run(&["init", "-", bad[0], bad[1]]).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn help_shows_all_commands() {
    let help = stdout(&run(&["--help"]));
    for command in ["init", "generate", "status", "plan", "check", "why"] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{help}"
        );
    }
}

fn change(farm: &Farm, name: &str, value: Value) {
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf["systemTypes"]["x86_64-linux"][name] = value;
    fs::write(farm.path("other.json"), conf.to_string()).unwrap();
}

#[test]
fn plan_tells_what_another_configuration_would_change() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(3);
    let unknown = farm.run(&["plan", "--diff"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("--diff=OTHER"), "{}", stderr(&unknown));
    assert!(farm.run(&["run"]).status.success());
    let same = farm.run(&["plan", "--diff"]);
    assert_eq!(stdout(&same), "nothing would change\n");
    change(&farm, "maxMachines", json!(1));
    let mut plan = program(&["plan", "--diff"]);
    plan.arg(farm.path("other.json"));
    let other = stdout(&Farm::with_environment(plan).output().unwrap());
    assert!(other.starts_with("types\n- x86_64-linux: "), "{other}");
    assert!(other.contains("\nmachines\n- hydra-provisioned-1: in use"), "{other}");
    assert!(other.contains("\n+ hydra-provisioned-1: "), "{other}");
    assert!(!other.contains("hydra-provisioned-0: "), "{other}");
    let option = format!("--diff={}", farm.path("other.json").display());
    let back = stdout(&farm.run(&["plan", &option]));
    assert!(back.contains("\n+ hydra-provisioned-1: in use"), "{back}");
}

#[test]
fn status_is_shown_again_and_again() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    let args = ["status", "--watch", "--interval", "1", "--json"];
    let mut child = farm.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["machines"], json!([]));
    assert!(farm.run(&["run"]).status.success());
    while next()["machines"][0]["name"] != "hydra-provisioned-0" {}
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Printed before anything is done.
#[test]
fn a_port_that_is_taken() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = farm.run(&["run", "--watch", "--metrics", &address]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("cannot listen on {address}: ")),
        "{}",
        stderr(&output)
    );
    assert_eq!(farm.machines(), [""; 0]);
    assert!(!farm.path("state").exists(), "it had begun");
}

#[test]
fn the_page_is_on_a_socket() {
    let farm = Farm::new(&json!({}));
    let socket = farm.path("http.sock");
    // The lock of a killed service.
    drop(UnixListener::bind(&socket).unwrap());
    let listen = format!("unix:{}", socket.display());
    let service = Service::start(&farm, &["--listen", &listen]);
    until("it listens", || service.log().contains("status page on unix:"));
    assert!(ask(&socket, "/").contains(" 200 OK"));
    assert!(ask(&socket, "/metrics").contains("hydra_provisioner_active 1"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let second = Farm::new(&json!({}));
    let refused = second.run(&["run", "--watch", "--listen", &listen]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("cannot listen on unix:"), "{}", stderr(&refused));
    assert!(ask(&socket, "/metrics").contains(" 200 OK"), "it was taken away");
    for bad in ["unix:http.sock", "localhost:9478", "127.0.0.1"] {
        assert_eq!(
            second.run(&["run", "--watch", "--listen", bad]).status.code(),
            Some(2),
            "{bad}"
        );
    }
}

#[test]
fn systemd_may_listen_for_us() {
    for place in ["/http.sock", "tcp"] {
        let farm = Farm::new(&json!({}));
        let socket = farm.path("http.sock");
        let place = if place == "tcp" { place.to_owned() } else { socket.display().to_string() };
        let mut command = Command::new("python3");
        command.args(["-c", ACTIVATE, &place, env!("CARGO_BIN_EXE_hydra-provisioner")]);
        command.args(["run", "--watch", "--interval", "1"]).arg(farm.conf());
        let service = Service::of(&farm, Farm::with_environment(command));
        if place == "tcp" {
            assert!(service.get("/metrics").0.contains(" 200 OK"));
        } else {
            until("it listens", || service.log().contains("that systemd handed over"));
            assert!(ask(&socket, "/metrics").contains(" 200 OK"));
        }
    }
}

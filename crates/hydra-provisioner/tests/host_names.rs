//! The REST queue runner identifies builders by their host names. If a provider does not report them, the machine
//! itself is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// Answers every `/status` with the cell's current content until the test ends. `/status/queues` is not requested.
fn serve(status: Arc<Mutex<Value>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
            let body = match request.split(' ').nth(1) {
                Some("/status") => status.lock().unwrap().to_string(),
                _ => json!({ "queues": {} }).to_string(),
            };
            let length = body.len();
            // A client that has disconnected asks again.
            let _gone = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

fn status(waiting: u64, machines: &Value) -> Value {
    let systems = json!({ "x86_64-linux": { "nrRunnableWaiting": waiting } });
    json!({
        "queueRunner": { "status": "up", "uptime": 1_000_000, "queueStats": systems },
        "machines": machines,
    })
}

fn builder(jobs: u64) -> Value {
    json!({ "its-own-name": { "stats": { "currentJobs": jobs, "idleSince": 1 - jobs } } })
}

fn script(farm: &Farm, name: &str, text: &str) {
    fs::write(farm.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(farm.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a cycle with the folder's `ssh`.
fn run(farm: &Farm) -> Output {
    let path = format!("{}:{}", farm.path("").display(), std::env::var("PATH").unwrap());
    farm.command(&["run"]).env("PATH", path).output().unwrap()
}

/// A farm with a provider that reports no host names, and the status in `cell`.
fn silent_farm(cell: &Arc<Mutex<Value>>) -> Farm {
    let farm =
        Farm::new(&json!({ "queue": { "url": serve(Arc::clone(cell)) }, "statusCommand": null }));
    let provider = "sh \"$(dirname \"$0\")/provider\" \"$(dirname \"$0\")\" \"$1\" |
        sed 's/\"host_name\": \"[^\"]*\"/\"host_name\": null/g'";
    script(&farm, "silent-provider", provider);
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    let command = &mut conf["systemTypes"]["x86_64-linux"]["provider"]["command"];
    command["program"] = json!([farm.path("silent-provider")]);
    fs::write(farm.conf(), conf.to_string()).unwrap();
    farm
}

#[test]
fn a_machine_is_asked_for_the_name_that_its_provider_does_not_tell() {
    let cell = Arc::new(Mutex::new(status(1, &json!({}))));
    let farm = silent_farm(&cell);
    script(&farm, "ssh", "case \"$*\" in *'uname -n') echo its-own-name ;; esac");
    let made = run(&farm);
    assert_eq!(made.status.code(), Some(0), "{}{}", stdout(&made), stderr(&made));

    *cell.lock().unwrap() = status(0, &builder(1));
    let busy = stdout(&run(&farm));
    assert!(busy.contains("hydra-provisioned-0: keep: 1 build running"), "{busy}");

    *cell.lock().unwrap() = status(0, &builder(0));
    let drained = stdout(&run(&farm));
    assert!(drained.contains("drain and destroy hydra-provisioned-0"), "{drained}");
    assert_eq!(farm.machines().len(), 1, "its builder is still connected");

    *cell.lock().unwrap() = status(0, &json!({}));
    run(&farm);
    assert_eq!(farm.machines(), [""; 0]);
}

/// The name was read when it was deployed. A renamed machine may be the unknown builder, so it stays.
#[test]
fn a_machine_that_was_renamed_stays_while_its_new_name_builds() {
    let cell = Arc::new(Mutex::new(status(1, &json!({}))));
    let farm = silent_farm(&cell);
    script(&farm, "ssh", "case \"$*\" in *'uname -n') echo at-first ;; esac");
    run(&farm);
    script(&farm, "ssh", "case \"$*\" in *'uname -n') echo its-own-name ;; esac");
    for _ in 0..2 {
        *cell.lock().unwrap() = status(0, &builder(1));
        let busy = stdout(&run(&farm));
        assert!(busy.contains("it may be its-own-name, a builder that is unknown here"), "{busy}");
        assert_eq!(farm.machines().len(), 1);
    }
}

#[test]
fn a_machine_whose_name_nobody_tells_is_kept_and_says_why() {
    let cell = Arc::new(Mutex::new(status(1, &json!({}))));
    let farm = silent_farm(&cell);
    script(&farm, "ssh", "exit 0");
    let made = stdout(&run(&farm));
    assert!(
        made.contains("its host name is not known, so it stays while an unknown builder is busy"),
        "{made}"
    );

    *cell.lock().unwrap() = status(0, &builder(1));
    let kept = stdout(&run(&farm));
    assert!(kept.contains("it may be its-own-name, a builder that is unknown here"), "{kept}");
}

/// A wrong report of a provider is ignored: the machine's own answer counts, with a warning.
#[test]
fn a_host_name_that_a_provider_tells_wrongly_is_found_out() {
    let cell = Arc::new(Mutex::new(status(1, &json!({}))));
    let farm = silent_farm(&cell);
    let provider = "sh \"$(dirname \"$0\")/provider\" \"$(dirname \"$0\")\" \"$1\" |
        sed 's/\"host_name\": \"[^\"]*\"/\"host_name\": \"wrong.example.org\"/g'";
    script(&farm, "silent-provider", provider);
    script(&farm, "ssh", "case \"$*\" in *'uname -n') echo Its-Own-Name ;; esac");
    let made = run(&farm);
    let said = format!("{}{}", stdout(&made), stderr(&made));
    assert!(said.contains("wrong.example.org, the machine itself reports its-own-name"), "{said}");

    // It builds: nothing happens to it, whether it answers or not.
    for answer in ["case \"$*\" in *'uname -n') echo Its-Own-Name ;; esac", "exit 1"] {
        script(&farm, "ssh", answer);
        *cell.lock().unwrap() = status(0, &builder(1));
        run(&farm);
        assert_eq!(farm.machines().len(), 1);
    }
}

/// Reported names without a listed builder do not prove that a machine is idle.
#[test]
fn a_told_name_alone_does_not_release_a_machine_while_somebody_unknown_builds() {
    let cell = Arc::new(Mutex::new(status(1, &json!({}))));
    let farm = silent_farm(&cell);
    let provider = "sh \"$(dirname \"$0\")/provider\" \"$(dirname \"$0\")\" \"$1\"";
    script(&farm, "silent-provider", provider);
    script(&farm, "ssh", "exit 0");
    run(&farm);
    for _ in 0..3 {
        *cell.lock().unwrap() = status(0, &builder(1));
        run(&farm);
        assert_eq!(farm.machines().len(), 1);
    }
}

/// A provider confuses two machines: it reports the name of another, idle builder. What it reports is no evidence until
/// the machine has confirmed it, so its builder, which builds, is not stopped.
#[test]
fn the_reported_name_of_an_idle_builder_does_not_release_a_machine() {
    let cell = Arc::new(Mutex::new(status(1, &json!({}))));
    let farm = silent_farm(&cell);
    let provider = "sh \"$(dirname \"$0\")/provider\" \"$(dirname \"$0\")\" \"$1\" |
        sed 's/\"host_name\": \"[^\"]*\"/\"host_name\": \"elsewhere\"/g'";
    script(&farm, "silent-provider", provider);
    script(&farm, "ssh", "case \"$*\" in *'uname -n') exit 1 ;; esac");
    run(&farm);
    assert_eq!(farm.machines().len(), 1);
    for answer in ["exit 1", "echo", "echo who are you"] {
        script(
            &farm,
            "ssh",
            &format!(
                "case \"$*\" in *'uname -n') {answer} ;; *stop*) echo >\"$(dirname \"$0\")/stopped\" ;; esac"
            ),
        );
        let elsewhere = json!({ "stats": { "currentJobs": 0, "idleSince": 1 } });
        *cell.lock().unwrap() = status(
            0,
            &json!({
                "its-own-name": { "stats": { "currentJobs": 1, "idleSince": 0 } }, "elsewhere": elsewhere,
            }),
        );
        let kept = stdout(&run(&farm));
        assert!(
            kept.contains("has not confirmed its host name yet, and it may be its-own-name"),
            "{kept}"
        );
        assert_eq!(farm.machines().len(), 1);
        assert!(!farm.path("stopped").exists(), "{answer}");
    }
}

/// A provider mixes up the names of two machines: the builder of the one that counts as idle is not stopped before the
/// machines themselves have been asked.
#[test]
fn swapped_names_do_not_stop_a_busy_builder() {
    let busy = json!({ "stats": { "currentJobs": 1, "idleSince": 0 } });
    let idle = json!({ "stats": { "currentJobs": 0, "idleSince": 1 } });
    let builders = json!({ "m-0": idle, "m-1": busy });
    let cell = Arc::new(Mutex::new(status(0, &builders)));
    let farm = silent_farm(&cell);
    let machine = |number: u32, told: &str| {
        json!({
            "name": format!("hydra-provisioned-{number}"), "type": "x86_64-linux", "state": "up",
            "address": format!("10.0.0.{number}"), "host_name": told,
        })
    };
    let list = json!({ "machines": [machine(0, "m-1"), machine(1, "m-0")] });
    script(&farm, "silent-provider", &format!("cat >/dev/null; echo '{list}'"));
    script(
        &farm,
        "ssh",
        "case \"$*\" in *10.0.0.0*uname*) echo m-0 ;; *10.0.0.1*uname*) echo m-1 ;;
         *stop*) echo \"$*\" >>\"$(dirname \"$0\")/stopped\" ;; esac",
    );
    for _ in 0..3 {
        run(&farm);
    }
    let stopped = fs::read_to_string(farm.path("stopped")).unwrap_or_default();
    assert!(!stopped.contains("10.0.0.1"), "{stopped}");
}

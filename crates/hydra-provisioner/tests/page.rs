//! The status page, and other answers of the service's listener.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use farm::service::{Service, until};
use farm::{Farm, stdout};
use serde_json::{Value, json};

const LISTEN: &[&str] = &["--metrics", "127.0.0.1:0"];
/// Maximum size of a page with 25 machines, in bytes.
const MOST_BYTES: usize = 30_000;

#[test]
fn the_page_tells_of_25_machines_and_is_small() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(25);
    let service = Service::start(&farm, LISTEN);
    until("25 ready", || service.get("/").1.matches("✔ ready").count() == 25);
    let (head, page) = service.get("/");
    assert!(page.len() < MOST_BYTES, "{} bytes", page.len());
    assert!(head.contains("Content-Type: text/html; charset=utf-8"), "{head}");
    assert!(
        head.contains("Content-Security-Policy: default-src 'none'; style-src 'self'"),
        "{head}"
    );
    assert!(page.contains("<title>25/30 · $0.00/h"), "{page}");
    let mut at = 0;
    for part in
        ["role=\"status\"", "Needs attention", "Types", "Machines", "Next", "History", "Cost"]
    {
        at += page[at..].find(part).unwrap_or_else(|| panic!("{part} is not where it should be"));
    }
    for elsewhere in ["http://", "https://", "<style", "onclick"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    let (_, machine) = service.get("/machine/hydra-provisioned-7");
    assert!(machine.contains("ssh root@127.0.0.9") && machine.contains("ready after"), "{machine}");
    assert!(service.get("/type/x86_64-linux").1.contains("<svg"));
    assert!(service.get("/machine/%2e%2e%3cscript%3e").0.contains("404"));
    assert!(service.get("/?stop").1.contains("Refresh again"));
    assert!(service.get("/").1.contains("<noscript><meta http-equiv=\"refresh\""));
}

/// Their sums are larger than any number.
#[test]
fn numbers_without_an_end_are_shown() {
    let farm = Farm::new(&json!({}));
    let steps = json!({ "runnable": 1e30, "running": 1e30, "waitTime": 1e30 });
    let kvm = ["x86_64-linux", "x86_64-linux:kvm", "i686-linux:x", "i686-linux:y"];
    farm.set_queue(
        &kvm.map(|kind| (kind.to_owned(), steps.clone())).into_iter().collect(),
        &json!({}),
    );
    let service = Service::start(&farm, LISTEN);
    let most = u64::MAX.to_string();
    until("asked", || service.get("/status.json").1.contains(&most));
    for path in ["/", "/metrics", "/type/x86_64-linux"] {
        let (head, body) = service.get(path);
        assert!(head.contains("200 OK") && body.contains(&most), "{path}: {head} {body}");
    }
}

#[test]
fn it_is_true_while_things_are_under_way_and_tells_of_changes() {
    let farm = Farm::new(&json!({}));
    let mut conf: Value = serde_json::from_slice(&std::fs::read(farm.conf()).unwrap()).unwrap();
    let program = &mut conf["systemTypes"]["x86_64-linux"]["provider"]["command"]["program"];
    let slow = ["env", "SLOW_SECONDS=600"].map(Value::from);
    program.as_array_mut().unwrap().splice(0..0, slow);
    std::fs::write(farm.conf(), conf.to_string()).unwrap();
    farm.set_runnable(1);
    let service = Service::start(&farm, LISTEN);
    until("being created", || service.get("/").1.contains("◔ starting</span> (create, "));
    assert!(service.get("/readyz").0.contains("200") && service.get("/healthz").1 == "ok\n");

    let mut stream = TcpStream::connect(service.address()).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    farm.set_runnable(2);
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "Content-Type: text/event-stream"));
    assert!(lines.any(|line| line.starts_with("data: ")));

    until("two machines", || {
        let status: Value = serde_json::from_str(&service.get("/status.json").1).unwrap();
        status["version"] == 1 && status["machines"].as_array().unwrap().len() == 2
    });
    let (_, history) = service.get("/history.jsonl?machine=hydra-provisioned-0");
    let first: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    assert_eq!((&first["what"], history.lines().count()), (&json!("requested"), 1), "{history}");
}

/// What a reader who knew nothing of the program missed on an earlier page.
#[test]
fn failures_of_one_cause_are_one_need_with_a_remedy() {
    let farm = Farm::new(&json!({}));
    let mut conf: Value = serde_json::from_slice(&std::fs::read(farm.conf()).unwrap()).unwrap();
    let refuses = "case $1 in list) echo '{\"machines\":[]}';; *) echo 'limit of 3 servers reached' >&2; exit 1;; esac";
    conf["systemTypes"]["x86_64-linux"]["provider"]["command"]["program"] =
        json!(["sh", "-c", refuses, "cloud"]);
    std::fs::write(farm.conf(), conf.to_string()).unwrap();
    let waits = json!({ "runnable": 3, "running": 0, "waitTime": 540 });
    let nobodys = json!({ "runnable": 2, "running": 0, "waitTime": 7200 });
    let types = json!({ "x86_64-linux": waits, "x86_64-linux:big-parallel": nobodys });
    farm.set_queue(&types, &json!({}));
    let service = Service::start(&farm, LISTEN);
    until("three fail", || service.get("/").1.matches("✖ failing").count() == 3);
    let (_, page) = service.get("/");
    for part in [
        "<title>2 FAILED · ",
        "0 machines and 3 requested",
        "those of x86_64-linux:big-parallel longest: 1h00m on average",
        "cannot create hydra-provisioned-0, hydra-provisioned-1, hydra-provisioned-2",
        "try at once: hydra-provisioner retry x86_64-linux",
        "add big-parallel to supportedFeatures",
        "wanted, not ready yet; cannot create it",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let why = stdout(&farm.run(&["why", "x86_64-linux"]));
    assert!(why.contains("no machine is created before ") && why.contains("limit of 3"), "{why}");
    let status: Value = serde_json::from_str(&service.get("/status.json").1).unwrap();
    let needs = status["needs"].as_array().unwrap();
    assert_eq!(needs.len(), 2, "{needs:?}");
    let history: Value = serde_json::from_str(
        stdout(&farm.run(&["history", "--failed", "--json"])).lines().next().unwrap(),
    )
    .unwrap();
    assert!(history["what"]["failed"]["retryAt"].is_u64(), "{history}");
}

#[test]
fn requests_that_never_end_hold_no_thread_and_are_cut_off() {
    const CLIENTS: usize = 400;
    let farm = Farm::new(&json!({}));
    let service = Service::start(&farm, LISTEN);
    let half_open = |_| {
        let mut stream = TcpStream::connect(service.address()).unwrap();
        write!(stream, "GET / HT").unwrap();
        stream
    };
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(half_open).collect();
    assert!(service.get("/metrics").0.contains("200"));
    let threads = std::fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap().count();
    assert!(threads < CLIENTS / 10, "{threads} threads");
    // The server closes them; a test that hangs fails by its own time limit.
    for client in &mut clients {
        let mut answer = Vec::new();
        let _reset = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}

#[test]
fn why_names_the_rule_its_inputs_and_when_it_changes() {
    let farm = Farm::new(&json!({}));
    let mut conf: Value = serde_json::from_slice(&std::fs::read(farm.conf()).unwrap()).unwrap();
    conf["systemTypes"]["x86_64-linux"]["gracePeriod"] = json!(600);
    std::fs::write(farm.conf(), conf.to_string()).unwrap();
    farm.set_runnable(1);
    assert_eq!(farm.run(&["run"]).status.code(), Some(0));
    let of_type = stdout(&farm.run(&["why", "x86_64-linux"]));
    assert!(
        of_type.contains("(1 runnable - 0 ignoredRunnables) / 1 runnablesPerMachine"),
        "{of_type}"
    );
    assert!(of_type.contains("one more from 2 runnable steps on"), "{of_type}");
    let idle = json!({ "root@127.0.0.2": { "enabled": true, "currentJobs": 0, "idleSince": 1 } });
    farm.set_queue(&json!({}), &idle);
    let of_machine = stdout(&farm.run(&["why", "hydra-provisioned-0"]));
    for part in [
        "hydra-provisioned-0: keep: used ",
        "its provider reports: up",
        "builds according to the queue runner: 0",
        "if nothing else happens, from ",
        "  destroy: not needed, idle for 10m",
    ] {
        assert!(of_machine.contains(part), "{part} is not in {of_machine}");
    }
    assert_eq!(farm.run(&["why", "nobody"]).status.code(), Some(2));
}

#[test]
fn cost_and_status_tell_of_no_machines_too() {
    let farm = Farm::new(&json!({}));
    assert_eq!(stdout(&farm.run(&["status"])), "no machines\n");
    let status: Value = serde_json::from_str(&stdout(&farm.run(&["status", "--json"]))).unwrap();
    assert_eq!((&status["version"], &status["machines"]), (&json!(1), &json!([])));
    assert!(stdout(&farm.run(&["cost"])).contains("x86_64-linux"));
    let cost: Value = serde_json::from_str(&stdout(&farm.run(&["cost", "--json"]))).unwrap();
    assert_eq!(cost["total"]["month"], json!(0));
}

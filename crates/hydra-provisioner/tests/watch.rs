//! `run --watch` as systemd runs it: readiness, status, metrics, reloads, a clean end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// A service manager: receives the service's notifications.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(farm: &Farm) -> Self {
        let socket = UnixDatagram::bind(farm.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Self { socket }
    }

    /// The next message that starts with `start`; watchdog pings may come in between.
    fn expect(&self, start: &str) -> String {
        loop {
            let message = self.next();
            if message.starts_with(start) {
                return message;
            }
        }
    }

    /// Waits for messages that contain these texts, in any order.
    fn expect_all(&self, texts: &[&str]) {
        let mut missing = texts.to_vec();
        while !missing.is_empty() {
            let message = self.next();
            missing.retain(|text| !message.contains(text));
        }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    }

    /// Waits until the service's status is `text`.
    fn expect_status(&self, text: &str) {
        while !self.expect("STATUS=").contains(text) {}
    }
}

/// A service with its log in `log`.
fn watch(farm: &Farm, args: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = farm.command(&[&["run", "--watch"], args].concat());
    command.env("NOTIFY_SOCKET", farm.path("notify")).envs(environment.iter().copied());
    let log = fs::File::create(farm.path("log")).unwrap();
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn log(farm: &Farm) -> String {
    fs::read_to_string(farm.path("log")).unwrap()
}

/// Waits until a condition is true.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(180), "not {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// It ends within 2 s on an idle machine.
const END: Duration = Duration::from_secs(8);

/// Its exit code. It ends soon, whatever it is doing.
fn terminate(child: &mut Child) -> Option<i32> {
    let began = Instant::now();
    signal(child, "-TERM");
    let code = child.wait().unwrap().code();
    assert!(began.elapsed() < END, "ended after {:?}", began.elapsed());
    code
}

/// Changes the configuration with `change`.
fn reconfigure(farm: &Farm, change: impl Fn(&mut Value)) {
    let mut conf = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    change(&mut conf);
    fs::write(farm.conf(), conf.to_string()).unwrap();
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The address of metrics, from the log.
fn metrics_address(farm: &Farm) -> String {
    until("the address of metrics is logged", || log(farm).contains("/metrics"));
    let log = log(farm);
    log.split_once("metrics at http://").unwrap().1.split_once("/metrics").unwrap().0.to_owned()
}

#[test]
fn it_serves_until_told_to_stop_and_metrics_tell_of_it() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(2);
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "1", "--metrics", "127.0.0.1:0"], &[]);
    let address = metrics_address(&farm);
    manager.expect("READY=1");
    manager.expect_status("2 machines, 0 operations under way, queue up");
    let wanted = [
        "# TYPE hydra_provisioner_operation_failures_total counter",
        "hydra_provisioner_queue_up 1",
        "hydra_provisioner_creations_total{type=\"x86_64-linux\"} 2",
        "hydra_provisioner_provider_up{type=\"x86_64-linux\"} 1",
        "hydra_provisioner_machines{type=\"x86_64-linux\",state=\"up\"} 2",
        "hydra_provisioner_runnable_steps{type=\"x86_64-linux\"} 2",
        "hydra_provisioner_wanted_machines{type=\"x86_64-linux\"} 2",
        "hydra_provisioner_allowed_machines{type=\"x86_64-linux\"} 2",
        "hydra_provisioner_clock_offset_seconds 0",
        "hydra_provisioner_storage_up 1",
    ];
    until("all in the metrics", || {
        let page = get(&address, "/metrics");
        assert!(page.starts_with("HTTP/1.0 200 OK"), "{page}");
        wanted.iter().all(|line| page.lines().any(|found| found == *line))
    });
    let page = get(&address, "/metrics");
    let mut family = "";
    for line in page.lines().filter(|line| line.contains("hydra_provisioner_")) {
        let words: Vec<_> = line.split([' ', '{']).collect();
        match words[..2] {
            ["#", "TYPE"] => family = words[2],
            ["#", _] => {}
            // A histogram's samples have suffixes.
            _ => assert!(words[0].starts_with(family), "{} stands with its family", words[0]),
        }
    }
    assert!(get(&address, "/other").starts_with("HTTP/1.0 404"));

    // Other processes may read meanwhile, and query the history.
    let plan = farm.run(&["plan"]);
    assert_eq!(plan.status.code(), Some(0), "{}", stderr(&plan));
    assert!(stdout(&plan).contains("hydra-provisioned-1: in use"), "{}", stdout(&plan));
    assert!(stdout(&farm.run(&["status"])).contains("hydra-provisioned-1"));
    let history = stdout(&farm.run(&["history"]));
    for happening in ["requested", "created in", "ready after", "published"] {
        assert!(history.contains(happening), "{happening} is not in {history}");
    }
    let of_one = stdout(&farm.run(&["history", "--json", "--machine", "hydra-provisioned-1"]));
    for line in of_one.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["machine"], "hydra-provisioned-1");
    }
    assert!(of_one.lines().count() >= 4, "{of_one}");

    let lines = log(&farm).lines().count();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(log(&farm).lines().count(), lines, "nothing happens, and it logs: {}", log(&farm));
    assert_eq!(terminate(&mut child), Some(0));
    manager.expect("STOPPING=1");
    assert_eq!(farm.machines().len(), 2);
}

#[test]
fn it_ends_at_once_while_a_creation_hangs_and_the_next_run_resolves_what_came_of_it() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "1"], &[("HANG_AT", "create,")]);
    manager.expect_status("1 operation under way");
    assert_eq!(terminate(&mut child), Some(0));
    assert_eq!(farm.machines(), [""; 0]);
    assert_eq!(farm.run(&["run"]).status.code(), Some(0));
    assert_eq!(farm.machines_file().len(), 1);
}

/// A machine being created must not delay other machines, nor releases.
#[test]
fn a_creation_that_hangs_delays_no_other_type() {
    let farm = Farm::new(&json!({}));
    reconfigure(&farm, |conf| {
        let types = conf["systemTypes"].as_object_mut().unwrap();
        types.insert("aarch64-linux".to_owned(), types["x86_64-linux"].clone());
    });
    let step = json!({ "runnable": 1, "running": 0 });
    farm.set_queue(&json!({ "aarch64-linux": step }), &json!({}));
    let manager = Manager::new(&farm);
    let hangs = [("HANG_AT", "\"type\":\"aarch64-linux\"")];
    let mut child = watch(&farm, &["--interval", "1"], &hangs);
    manager.expect_status("1 operation under way");

    let began = Instant::now();
    farm.set_queue(&json!({ "aarch64-linux": step, "x86_64-linux": step }), &json!({}));
    until("published", || farm.machines_file().len() == 1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    farm.set_queue(&json!({ "aarch64-linux": step }), &json!({}));
    until("released", || farm.machines().is_empty());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(terminate(&mut child), Some(0));
}

/// SIGHUP reads the configuration again; systemd is notified as `Type=notify-reload` requires.
#[test]
fn a_reload_takes_the_configuration_as_it_is_then() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(2);
    let most = |number: u64| {
        move |conf: &mut Value| conf["systemTypes"]["x86_64-linux"]["maxMachines"] = number.into()
    };
    reconfigure(&farm, most(1));
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "3600"], &[]);
    manager.expect_status("1 machine, 0 operations under way");
    reconfigure(&farm, most(2));
    signal(&child, "-HUP");
    let reported = manager.expect("RELOADING=1");
    assert!(reported.contains("MONOTONIC_USEC="), "{reported}");
    manager.expect("READY=1");
    until("created", || farm.machines_file().len() == 2);
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn the_watchdog_is_told_that_we_live() {
    let farm = Farm::new(&json!({}));
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &[], &[("WATCHDOG_USEC", "300000")]);
    for _ in 0..3 {
        assert_eq!(manager.expect("WATCHDOG"), "WATCHDOG=1");
    }
    assert_eq!(terminate(&mut child), Some(0));
}

/// At the start a bad configuration ends the service; later the old one stays active. A corrected one is loaded without
/// a message.
#[test]
fn a_bad_configuration() {
    let farm = Farm::new(&json!({}));
    let good = fs::read(farm.conf()).unwrap();
    let manager = Manager::new(&farm);
    fs::write(farm.conf(), r#"{ "tagg": "x" }"#).unwrap();
    let mut child = watch(&farm, &[], &[]);
    assert_eq!(child.wait().unwrap().code(), Some(2));

    fs::write(farm.conf(), &good).unwrap();
    let mut child = watch(&farm, &["--interval", "1"], &[]);
    manager.expect_status("queue up");
    fs::write(farm.conf(), r#"{ "tagg": "x" }"#).unwrap();
    signal(&child, "-HUP");
    manager.expect("RELOADING=1");
    // The reload is over, and its result is reported.
    manager.expect_all(&["READY=1", "configuration NOT reloaded"]);
    until("refused", || log(&farm).contains("the old configuration stays active"));
    farm.set_runnable(1);
    until("created", || farm.machines_file().len() == 1);
    fs::write(farm.path("other.json"), &good).unwrap();
    let mut status = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    status.arg("status").arg(farm.path("other.json"));
    let said = stdout(&Farm::with_environment(status).output().unwrap());
    assert!(said.contains("its configuration was NOT reloaded") && said.contains("tagg"), "{said}");
    let reads = || log(&farm).matches("configuration read").count();
    let before = reads();
    fs::write(farm.conf(), &good).unwrap();
    until("read again", || reads() > before);
    until("taken over", || !stdout(&farm.run(&["status"])).contains("NOT reloaded"));
    // A change of an option that needs a restart is rejected too.
    reconfigure(&farm, |conf| conf["tag"] = "another".into());
    until("refused", || log(&farm).contains("stateDir, tag and lease cannot change"));
    manager.expect_status("configuration NOT reloaded");
    assert_eq!(terminate(&mut child), Some(0));
}

/// The state directory was deleted: another run may have started in a new one.
#[test]
fn it_ends_when_its_state_directory_is_not_its_own_any_more() {
    let farm = Farm::new(&json!({}));
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "1"], &[]);
    manager.expect_status("queue up");
    fs::rename(farm.path("state"), farm.path("elsewhere")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(log(&farm).contains("stateDir was deleted or replaced"), "{}", log(&farm));
}

/// Read-only commands show the service's running operations, and that a service runs.
#[test]
fn others_see_what_it_has_under_way() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "1"], &[("HANG_AT", "create,")]);
    manager.expect_status("1 operation under way");
    until("under way", || stdout(&farm.run(&["status"])).contains("requested (create)"));
    for command in ["status", "plan"] {
        let said = stdout(&farm.run(&[command]));
        let service = format!("a service runs (pid {}, serving ", child.id());
        assert!(said.starts_with(&service), "{said}");
        assert!(!said.contains("NOT reloaded"), "{said}");
    }
    let json: Value = serde_json::from_str(&stdout(&farm.run(&["plan", "--json"]))).unwrap();
    assert!(json["provision"].is_array(), "{json}");
    assert_eq!(terminate(&mut child), Some(0));
    let said = stdout(&farm.run(&["status"]));
    assert!(!said.contains("a service runs") && !said.contains("(create)"), "{said}");
}

/// An order with a duration ends after it.
#[test]
fn a_schedule_begins_and_ends_while_it_runs() {
    let farm = Farm::new(&json!({}));
    let now = jiff::Timestamp::now().as_second();
    let clock = |seconds: i64| {
        let minutes = seconds.rem_euclid(86_400) / 60;
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    };
    // It lasts for at least 20 s.
    let hours = format!("{}-{}", clock(now - 120), clock(now + 80));
    reconfigure(&farm, |conf| {
        conf["systemTypes"]["x86_64-linux"]["schedule"] =
            json!([{ "hours": hours, "timeZone": "UTC", "minMachines": 2 }]);
    });
    let mut child = watch(&farm, &["--interval", "1"], &[]);
    until("created", || farm.machines_file().len() == 2);
    until("over", || farm.machines().is_empty());
    assert_eq!(terminate(&mut child), Some(0));
}

/// The same configuration has the same cost, and the same plan for the same snapshot, at any time.
#[test]
fn what_is_no_look_at_the_present_does_not_depend_on_the_time() {
    let farm = Farm::new(&json!({}));
    let snapshot = stdout(&farm.run(&["plan", "--print-snapshot"]));
    let mut snapshot: Value = serde_json::from_str(&snapshot).unwrap();
    // A Thursday at 03:00.
    snapshot["takenAt"] = 1_700_103_600.into();
    fs::write(farm.path("snapshot.json"), snapshot.to_string()).unwrap();
    let path = farm.path("snapshot.json").display().to_string();
    let now = jiff::Timestamp::now().as_second();
    let hour = now.rem_euclid(86_400) / 3600;
    for (hours, machines) in [("02:30-03:30".to_owned(), 2), (format!("{hour}:00-{hour}:59"), 0)] {
        if (2..=3).contains(&hour) {
            return;
        }
        reconfigure(&farm, |conf| {
            let entry = &mut conf["systemTypes"]["x86_64-linux"];
            entry["schedule"] = json!([{ "hours": hours, "timeZone": "UTC", "minMachines": 2 }]);
        });
        let plan = farm.run(&["plan", "--json", "--snapshot", &path]);
        let plan: Value = serde_json::from_str(&stdout(&plan)).unwrap();
        assert_eq!(plan["provision"].as_array().unwrap().len(), machines, "{hours}: {plan}");
    }
}

/// SIGTERM ends it within 2 s, whatever it waits for and whatever its children do.
#[test]
fn it_ends_at_any_moment() {
    let deaf = "trap '' TERM; : >DIR/hangs; sleep 600";
    let moments = [
        ("list", "list,", json!({})),
        ("create", "create,", json!({})),
        ("destroy", "destroy,", json!({})),
        ("queue", "nothing", json!({ "statusCommand": ["sh", "-c", deaf] })),
        ("publish", "nothing", json!({ "updateCommand": ["sh", "-c", deaf] })),
        ("deploy", "nothing", json!({ "touchKeepAlive": true, "checkSsh": true })),
    ];
    for (moment, hang_at, options) in moments {
        let farm = Farm::new(&json!({}));
        farm.set_runnable(1);
        if moment == "destroy" {
            assert!(farm.run(&["run"]).status.success());
            farm.set_runnable(0);
        }
        let directory = farm.path("").display().to_string();
        reconfigure(&farm, |conf| {
            for (name, value) in options.as_object().unwrap() {
                let text = value.to_string().replace("DIR/", &directory);
                conf[name] = serde_json::from_str(&text).unwrap();
            }
            if moment == "publish" {
                conf.as_object_mut().unwrap().remove("machinesFile");
            }
        });
        // An ssh that never ends.
        fs::create_dir(farm.path("bin")).unwrap();
        let ssh = farm.path("bin/ssh");
        fs::write(&ssh, format!("#!/bin/sh\n{}", deaf.replace("DIR/", &directory))).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&ssh).status().unwrap().success());
        let path = format!("{}:{}", farm.path("bin").display(), std::env::var("PATH").unwrap());
        let environment = [("HANG_AT", hang_at), ("PATH", path.as_str())];
        let mut child = watch(&farm, &["--interval", "1"], &environment);
        until(moment, || farm.path("hangs").exists());
        assert_eq!(terminate(&mut child), Some(0), "{moment}");
    }
}

/// Before it has started: its configuration is still being evaluated.
#[test]
fn it_ends_while_its_configuration_is_evaluated() {
    let farm = Farm::new(&json!({}));
    fs::create_dir(farm.path("bin")).unwrap();
    let nix = farm.path("bin/nix-instantiate");
    let script = format!("#!/bin/sh\n: >{}/hangs; exec sleep 600", farm.path("").display());
    fs::write(&nix, script).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&nix).status().unwrap().success());
    fs::write(farm.path("conf.nix"), "{ }").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    let path = format!("{}:{}", farm.path("bin").display(), std::env::var("PATH").unwrap());
    command.args(["run", "--watch"]).arg(farm.path("conf.nix")).env("PATH", path);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    until("evaluating", || farm.path("hangs").exists());
    terminate(&mut child);
}

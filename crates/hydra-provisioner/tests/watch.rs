//! `run --watch` as systemd runs it: readiness, status, cycles, metrics, an orderly end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farm::Farm;
use serde_json::json;

/// A service manager: receives what the service tells.
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
        let mut buffer = [0; 1024];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned();
            if message.starts_with(start) {
                return message;
            }
        }
    }
}

fn watch(farm: &Farm, args: &[&str]) -> Child {
    let mut command = farm.command(&[&["run", "--watch"], args].concat());
    command.env("NOTIFY_SOCKET", farm.path("notify"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

fn terminate(child: &mut Child) -> Option<i32> {
    signal(child, "-TERM");
    child.wait().unwrap().code()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Where the log says that metrics are.
fn metrics_address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("metrics at")).unwrap().unwrap();
    // The rest of the log is read too, or the pipe would fill.
    std::thread::spawn(move || lines.for_each(drop));
    line.split_once("http://").unwrap().1.strip_suffix("/metrics").unwrap().to_owned()
}

#[test]
fn cycles_go_on_until_told_to_stop_and_metrics_tell_of_them() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(2);
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "1", "--metrics", "127.0.0.1:0"]);
    let address = metrics_address(&mut child);
    manager.expect("READY=1");
    assert_eq!(manager.expect("STATUS="), "STATUS=last cycle: done");
    manager.expect("STATUS=");

    let page = get(&address, "/metrics");
    assert!(page.starts_with("HTTP/1.0 200 OK"), "{page}");
    for line in [
        "# TYPE hydra_provisioner_cycles_total counter",
        "hydra_provisioner_queue_up 1",
        "hydra_provisioner_provider_up{type=\"x86_64-linux\"} 1",
        "hydra_provisioner_machines{type=\"x86_64-linux\",state=\"up\"} 2",
        "hydra_provisioner_runnable_steps{type=\"x86_64-linux\"} 2",
        "hydra_provisioner_wanted_machines{type=\"x86_64-linux\"} 2",
        "hydra_provisioner_allowed_machines{type=\"x86_64-linux\"} 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line:?} is not in\n{page}");
    }
    let mut family = "";
    for line in page.lines().filter(|line| line.contains("hydra_provisioner_")) {
        let words: Vec<_> = line.split([' ', '{']).collect();
        match words[..2] {
            ["#", "TYPE"] => family = words[2],
            ["#", _] => {}
            _ => assert_eq!(words[0], family, "a sample stands with its family"),
        }
    }
    assert!(page.contains("hydra_provisioner_cycles_total{result=\"done\"} "), "{page}");
    assert!(get(&address, "/").starts_with("HTTP/1.0 404"));

    assert_eq!(terminate(&mut child), Some(0));
    manager.expect("STOPPING=1");
    assert_eq!(farm.machines().len(), 2);
}

#[test]
fn the_current_cycle_may_end_before_the_end() {
    let farm = Farm::new(&json!({}));
    farm.set_runnable(1);
    let manager = Manager::new(&farm);
    let mut command = farm.command(&["run", "--watch"]);
    command.env("NOTIFY_SOCKET", farm.path("notify")).env("SLOW_SECONDS", "3");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    manager.expect("READY=1");
    assert_eq!(terminate(&mut child), Some(0));
    assert_eq!(farm.machines_file().len(), 1, "the machine was made and published");
}

/// SIGHUP starts a cycle at once, with the configuration as it is then; systemd is told as `Type=notify-reload` wants it.
#[test]
fn a_reload_starts_a_cycle() {
    let farm = Farm::new(&json!({}));
    let manager = Manager::new(&farm);
    let mut child = watch(&farm, &["--interval", "3600"]);
    assert_eq!(manager.expect("STATUS="), "STATUS=last cycle: done");
    farm.set_runnable(1);
    signal(&child, "-HUP");
    let told = manager.expect("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    manager.expect("READY=1");
    assert_eq!(manager.expect("STATUS="), "STATUS=last cycle: done");
    assert_eq!(farm.machines().len(), 1);
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn the_watchdog_is_told_that_we_live() {
    let farm = Farm::new(&json!({}));
    let manager = Manager::new(&farm);
    let mut command = farm.command(&["run", "--watch"]);
    command.env("NOTIFY_SOCKET", farm.path("notify")).env("WATCHDOG_USEC", "300000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..3 {
        assert_eq!(manager.expect("WATCHDOG"), "WATCHDOG=1");
    }
    assert_eq!(terminate(&mut child), Some(0));
}

/// At the start a bad configuration ends the service; later it waits to be mended.
#[test]
fn a_bad_configuration() {
    let farm = Farm::new(&json!({}));
    let good = std::fs::read(farm.conf()).unwrap();
    let manager = Manager::new(&farm);
    std::fs::write(farm.conf(), r#"{ "tagg": "x" }"#).unwrap();
    let mut child = watch(&farm, &[]);
    assert_eq!(child.wait().unwrap().code(), Some(2));

    std::fs::write(farm.conf(), &good).unwrap();
    let mut child = watch(&farm, &["--interval", "1"]);
    assert_eq!(manager.expect("STATUS="), "STATUS=last cycle: done");
    std::fs::write(farm.conf(), r#"{ "tagg": "x" }"#).unwrap();
    while manager.expect("STATUS=") != "STATUS=last cycle: bad-config" {}
    std::fs::write(farm.conf(), &good).unwrap();
    while manager.expect("STATUS=") != "STATUS=last cycle: done" {}
    assert_eq!(terminate(&mut child), Some(0));
}

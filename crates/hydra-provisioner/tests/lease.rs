//! Two hosts, one of them active: `lease.postgresql` with a real PostgreSQL.

#![cfg(feature = "lease")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use farm::database::Server;
use farm::{Farm, service, stderr};
use serde_json::{Value, json};

/// Time limit of a takeover.
const TAKEOVER: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(90);

/// Records the start and end of each call, with its host.
const PROVIDER: &str = r#"#!/bin/sh
set -eu
directory=$1 host=$2 verb=$3
say() { [ "$verb" = list ] || echo "$(date +%s.%N) $host $1 $verb $$" >>"$directory/calls"; }
request=$(cat)
say begins
sleep 0.2
printf %s "$request" | "$EXAMPLE_PROVIDER" "$directory/machines" "$verb"
say ends
"#;

/// A farm with two hosts, `a` and `b`, which share only their machines and the database.
struct Hosts {
    farm: Farm,
}

impl Hosts {
    fn new(databases: [&str; 2]) -> Self {
        let farm = Farm::new(&json!({}));
        fs::write(farm.path("provider"), PROVIDER).unwrap();
        let conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
        for (host, database) in ["a", "b"].into_iter().zip(databases) {
            let mut conf = conf.clone();
            let program = json!(["sh", farm.path("provider"), farm.path(""), host]);
            conf["systemTypes"]["x86_64-linux"]["provider"]["command"]["program"] = program;
            conf["stateDir"] = json!(farm.path(&format!("state-{host}")));
            conf["machinesFile"] = json!(farm.path(&format!("machines-file-{host}")));
            conf["lease"] = json!({ "postgresql": database });
            fs::write(farm.path(&format!("{host}.json")), conf.to_string()).unwrap();
        }
        farm.set_runnable(2);
        Self { farm }
    }

    fn start(&self, host: &str) -> Host {
        self.start_with(Command::new(env!("CARGO_BIN_EXE_hydra-provisioner")), host)
    }

    fn start_with(&self, mut command: Command, host: &str) -> Host {
        command.args(["run", "--watch", "--interval", "1"]);
        command.arg(self.farm.path(&format!("{host}.json")));
        let log = fs::File::create(self.farm.path(&format!("log-{host}"))).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        Host(Farm::with_environment(command).spawn().unwrap())
    }

    /// Writes a file that is refused. Returns its path and what it was.
    fn spoil(&self, host: &str) -> (PathBuf, Vec<u8>) {
        let conf = self.farm.path(&format!("{host}.json"));
        let good = fs::read(&conf).unwrap();
        fs::write(&conf, r#"{ "tag": 7 }"#).unwrap();
        self.until("refused", || self.log(host).contains("not reloaded, the old configuration"));
        (conf, good)
    }

    fn log(&self, host: &str) -> String {
        fs::read_to_string(self.farm.path(&format!("log-{host}"))).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let logs = [self.log("a"), self.log("b")].join("---\n");
            assert!(began.elapsed() < PATIENCE, "not {what}:\n{logs}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Calls that change something: time, host, and whether it is the start.
    fn calls(&self) -> Vec<(f64, String, bool)> {
        let text = fs::read_to_string(self.farm.path("calls")).unwrap_or_default();
        let calls = text.lines().map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[0].parse().unwrap(), words[1].to_owned(), words[2] == "begins")
        });
        calls.collect()
    }

    fn has_called(&self, host: &str) -> bool {
        self.calls().iter().any(|(_, by, _)| by == host)
    }

    /// Once a host has begun to act, the other one never acts again.
    fn check_never_two(&self) {
        let calls = self.calls();
        let mut turns: Vec<&str> = calls.iter().map(|(_, host, _)| host.as_str()).collect();
        turns.dedup();
        let hosts: BTreeSet<_> = turns.iter().collect();
        assert_eq!(turns.len(), hosts.len(), "two at work: {calls:?}");
        let requests: BTreeSet<_> = self.farm.machines().into_iter().collect();
        assert_eq!(requests.len(), self.farm.machines().len());
    }

    /// `a` is active, `b` stands by, and work comes and goes all the time.
    fn begin(&self) -> (Host, Host) {
        let a = self.start("a");
        self.until("a made two", || self.farm.machines().len() == 2);
        let b = self.start("b");
        self.until("b stands by", || self.log("b").contains("this host stands by; active is"));
        assert!(self.log("b").contains(&format!("pid {}, hydra-provisioner", a.0.id())));
        (a, b)
    }

    /// After the fault, `b` has this much time; then it brings the farm to five machines, and to none.
    fn check_takeover(&self, trouble: Instant) {
        self.farm.set_runnable(5);
        self.until("b is active", || self.log("b").contains("this host is the active one"));
        let took = trouble.elapsed();
        assert!(took <= TAKEOVER, "took over after {took:?}");
        self.until("b made five", || self.farm.machines().len() == 5);
        self.farm.set_runnable(0);
        self.until("b released all", || self.farm.machines().is_empty());
        assert!(self.has_called("b"));
        self.check_never_two();
    }
}

/// A provisioner that ends with the test.
struct Host(Child);

impl Host {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Work comes and goes until it is dropped: the active host does it.
struct Churn(Arc<AtomicBool>);

impl Churn {
    fn start(hosts: &Hosts) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&goes_on);
        let path = hosts.farm.path("status.json");
        thread::spawn(move || {
            for turn in 0_u64.. {
                if !seen.load(Ordering::SeqCst) {
                    return;
                }
                let types = json!({ "x86_64-linux": { "runnable": turn % 4, "running": 0 } });
                let status = json!({ "status": "up", "uptime": 1_000_000, "machineTypes": types, "machines": {} });
                let _gone = fs::write(&path, status.to_string());
                thread::sleep(Duration::from_millis(700));
            }
        });
        Self(goes_on)
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
        // A write that is in progress.
        thread::sleep(Duration::from_millis(50));
    }
}

/// Forwards to the database until it is disconnected: then nothing passes, without a notice.
struct Proxy {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_cut);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let seen = Arc::clone(&seen);
                    thread::spawn(move || forward(from, to, &seen));
                }
            }
        });
        Self { port, is_cut }
    }

    fn url(&self) -> String {
        format!("postgresql://hydra@127.0.0.1:{}/postgres", self.port)
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut buffer = [0; 4096];
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        // Later data is dropped.
        if !is_cut.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if !is_cut.load(Ordering::SeqCst) {
        let _gone = to.shutdown(Shutdown::Both);
    }
}

#[test]
fn the_active_host_is_killed() {
    let server = Server::start();
    let hosts = Hosts::new([&server.socket(), &server.socket()]);
    let (mut a, _b) = hosts.begin();
    let churn = Churn::start(&hosts);
    hosts.until("a at work", || hosts.calls().len() >= 8);
    let trouble = Instant::now();
    a.0.kill().unwrap();
    a.0.wait().unwrap();
    hosts.until("b acts", || hosts.has_called("b"));
    drop(churn);
    hosts.check_takeover(trouble);
}

/// Its kernel still answers the server. It is killed before the other host begins, and never continues.
#[test]
fn the_active_host_is_frozen() {
    let server = Server::start();
    let hosts = Hosts::new([&server.socket(), &server.socket()]);
    let (mut a, _b) = hosts.begin();
    let churn = Churn::start(&hosts);
    hosts.until("a at work", || hosts.calls().len() >= 8);
    let trouble = Instant::now();
    a.signal("-STOP");
    hosts.until("b acts", || hosts.has_called("b"));
    assert_eq!(a.0.try_wait().unwrap().and_then(|status| status.signal()), Some(9));
    drop(churn);
    hosts.check_takeover(trouble);
}

/// It stops by itself, and stands by when it is back.
#[test]
fn the_active_host_is_cut_off() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let hosts = Hosts::new([&proxy.url(), &server.socket()]);
    let (mut a, _b) = hosts.begin();
    let churn = Churn::start(&hosts);
    hosts.until("a at work", || hosts.calls().len() >= 8);
    let trouble = Instant::now();
    proxy.cut();
    hosts.until("b acts", || hosts.has_called("b"));
    let said = "not the active host any more, nothing is done from here";
    assert!(hosts.log("a").contains(said), "{}", hosts.log("a"));
    assert_eq!(a.0.try_wait().unwrap(), None, "it does not stand by");
    drop(churn);
    hosts.check_takeover(trouble);
    hosts.until("a asks anew", || hosts.log("a").contains("the lease's database hangs"));
}

/// During the outage nothing is done, and nothing is lost.
#[test]
fn the_database_is_gone_for_a_while() {
    let mut server = Server::start();
    let hosts = Hosts::new([&server.socket(), &server.socket()]);
    let a = hosts.start("a");
    hosts.until("a made two", || hosts.farm.machines().len() == 2);
    server.stop();
    hosts.until("the loss of the lease is reported", || {
        hosts.log("a").contains("the lease cannot be asked for")
    });
    hosts.farm.set_runnable(4);
    let mut run = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
    run.arg("run").arg(hosts.farm.path("b.json"));
    let refused = Farm::with_environment(run).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("see lease.postgresql"), "{}", stderr(&refused));
    assert_eq!(hosts.farm.machines().len(), 2, "something was done");
    server.begin();
    hosts.until("a made four", || hosts.farm.machines().len() == 4);
    hosts.check_never_two();
    drop(a);
}

/// A file that was refused before does not end a host that loses the lease, nor a standby with a database that hangs.
#[test]
fn a_bad_file_does_not_end_a_host() {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port);
    let hosts = Hosts::new([&server.socket(), &proxy.url()]);
    let (mut a, mut b) = hosts.begin();
    let (conf, good) = hosts.spoil("a");
    hosts.spoil("b");
    proxy.cut();
    let continues = "not loaded, the earlier configuration stays active";
    hosts.until("b begins anew", || hosts.log("b").contains(continues));
    server.stop();
    hosts.until("a begins anew", || hosts.log("a").contains(continues));
    server.begin();
    hosts.farm.set_runnable(4);
    hosts.until("a made four", || hosts.farm.machines().len() == 4);
    fs::write(conf, good).unwrap();
    hosts.farm.set_runnable(5);
    hosts.until("a made five", || hosts.farm.machines().len() == 5);
    assert_eq!(a.0.try_wait().unwrap(), None);
    assert_eq!(b.0.try_wait().unwrap(), None);
}

/// It executes itself anew, and must still answer at the socket of systemd.
#[test]
fn a_standby_that_reloads_keeps_the_socket_of_systemd() {
    let server = Server::start();
    let hosts = Hosts::new([&server.socket(), &server.socket()]);
    let _a = hosts.start("a");
    hosts.until("a made two", || hosts.farm.machines().len() == 2);
    let socket = hosts.farm.path("http.sock");
    let socket_text = socket.display().to_string();
    let program = [service::ACTIVATE, &socket_text, env!("CARGO_BIN_EXE_hydra-provisioner")];
    let mut activate = Command::new("python3");
    activate.arg("-c").args(program);
    let b = hosts.start_with(activate, "b");
    let stood_by = || hosts.log("b").matches("this host stands by; active is").count();
    hosts.until("b stands by", || stood_by() == 1);
    for turn in 2..4 {
        assert!(service::ask(&socket, "/healthz").contains(" 200 OK"));
        b.signal("-HUP");
        hosts.until("b stands by again", || stood_by() == turn);
    }
    assert!(service::ask(&socket, "/metrics").contains("hydra_provisioner_active 0"));
}

#[test]
fn what_a_lease_must_say() {
    let check = |lease: Value| {
        let farm = Farm::new(&json!({ "lease": lease }));
        let output = farm.run(&["check"]);
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    for (lease, said) in [
        (json!({}), "lease.postgresql: must be set"),
        (json!({ "postgresql": "dbname=hydra" }), "lease.postgresql: names no host"),
        (json!({ "postgresql": "postgresql://h:hunter2@db/x" }), "put it into a file"),
        (json!({ "postgresql": "host=db sslmode=require" }), "asks for TLS"),
        (json!({ "postgresql": "host=db", "passwordFile": "x" }), "lease.passwordFile"),
        (json!({ "postgresql": "host=db", "ttl": 3 }), "lease.ttl"),
    ] {
        let reported = check(lease);
        assert!(reported.contains(said) && !reported.contains("hunter2"), "{reported}");
    }
}

//! The REST queue runner's status: real samples, variants, a server that misbehaves, and real Nix.

// An error in a test helper fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod nix;
mod server;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use adapters::config::QueueSettings;
use adapters::lock::Access;
use adapters::queue::QueueSource;
use adapters::queue::derivations::{DrvPath, Features};
use adapters::queue::{self, Asked};
use planner::{Feature, Queue, QueueStatus, Timestamp};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

fn up(status: QueueStatus) -> Queue {
    match status {
        QueueStatus::Up(queue) => queue,
        QueueStatus::Unavailable(reason) => panic!("unavailable: {reason}"),
    }
}

fn reason(status: QueueStatus) -> String {
    match status {
        QueueStatus::Up(queue) => panic!("up: {queue:?}"),
        QueueStatus::Unavailable(reason) => reason,
    }
}

fn features(words: &str) -> Features {
    words.split_whitespace().map(Feature::new).collect()
}

/// `KIND WAITING+RUNNING`, in order; kinds without steps are left out.
fn demand(queue: &Queue) -> Vec<String> {
    let reported = queue.demand.iter().filter(|demand| demand.runnable + demand.running > 0);
    reported
        .map(|demand| format!("{} {}+{}", demand.kind, demand.runnable, demand.running))
        .collect()
}

fn sample(folder: &str, file: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/queue");
    std::fs::read(data.join(folder).join(file)).unwrap()
}

/// Parses the answers received at `now`.
fn read_at(
    now: u64,
    status: &[u8],
    queues: Result<&[u8], String>,
    features_of: impl Fn(&DrvPath) -> Option<Features>,
) -> QueueStatus {
    queue::rest::read(status, queues, Asked::at(Timestamp(now)), features_of)
}

/// The features of the samples' derivations, from samples/README.md.
fn known(path: &DrvPath) -> Option<Features> {
    let words = match path.base_name().get(33..)? {
        "b.drv" => "kvm big-parallel",
        "f.drv" => "benchmark",
        _ => "",
    };
    Some(features(words))
}

/// What a server does with one request: its path, and its authorization if there is one.
type Answer = fn(&str, &mut TcpStream);

/// Serves on a loopback port; the thread ends with the test's process.
fn server(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(request)) = lines.next() else { return };
                let headers = lines.map_while(|line| line.ok().filter(|line| !line.is_empty()));
                let mut asked = request.split(' ').nth(1).unwrap().to_owned();
                for header in headers {
                    if let Some(login) = header.to_lowercase().strip_prefix("authorization: ") {
                        asked = format!("{asked} {}", &header[header.len() - login.len()..]);
                    }
                }
                answer(&asked, &mut stream);
            });
        }
    });
    url
}

/// A client may close the connection early.
fn send(stream: &mut TcpStream, code: &str, body: &[u8]) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {code} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(body);
}

fn queued(path: &str, stream: &mut TcpStream) {
    match path {
        "/status" => send(stream, "200", &queued_just_now()),
        "/status/queues" => send(stream, "200", &sample("rest-queued", "status-queues.json")),
        _ => send(stream, "404", b"{\"error\":\"Not found\"}"),
    }
}

/// The sample of a queue without builders, with the current time.
fn queued_just_now() -> Vec<u8> {
    let mut status: Value = serde_json::from_slice(&sample("rest-queued", "status.json")).unwrap();
    status["queueRunner"]["time"] = jiff::Timestamp::now().to_string().into();
    serde_json::to_vec(&status).unwrap()
}

fn source(
    url: String,
    nix: &Path,
    state_dir: &Path,
    limit: Duration,
) -> Box<dyn QueueSource + Send> {
    let nix_command = vec![nix.to_str().unwrap().to_owned()];
    queue::source(&QueueSettings::Rest { url, nix_command }, limit, state_dir, Access::ReadWrite)
}

/// A program named `nix` that runs `script` and records its arguments, one call per line.
fn fake_nix(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("nix");
    let calls = directory.join("calls");
    std::fs::write(&path, format!("#!/bin/sh\necho \"$*\" >>{}\n{script}\n", calls.display()))
        .unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn calls(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Shows every requested derivation; those of `b` need kvm.
const SHOW_ALL: &str = r#"sep='{'
for path; do case $path in
  *-b.drv) printf '%s"%s":{"env":{"requiredSystemFeatures":"kvm"}}' "$sep" "$path"; sep=, ;;
  /*) printf '%s"%s":{"env":{}}' "$sep" "$path"; sep=, ;;
esac; done
echo '}'"#;

/// Answers `/status` and then `/status/queues`.
fn answer(listener: &TcpListener, queues: &str) {
    let status: &[u8] = br#"{"queueRunner":{"status":"up"},"machines":{}}"#;
    for body in [status, queues.as_bytes()] {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
        send(&mut stream, "200", body);
    }
}

fn step(path: &str) -> String {
    let base = path.trim_start_matches("/nix/store/");
    format!(r#"{{"drvPath":"{base}","runnable":true}}"#)
}

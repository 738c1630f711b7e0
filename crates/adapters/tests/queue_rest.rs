//! Current Hydra's REST status: real samples, variants, a server that misbehaves, and real Nix.

// What goes wrong in a test's own helper fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adapters::config::QueueSettings;
use adapters::lock::Access;
use adapters::queue;
use adapters::queue::derivations::{DrvPath, Features};
use adapters::queue::rest::read;
use planner::{AcceptsJobs, Feature, Host, Queue, QueueStatus, Timestamp};
use reconciler::world::QueueSource;

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
    let told = queue.demand.iter().filter(|demand| demand.runnable + demand.running > 0);
    told.map(|demand| format!("{} {}+{}", demand.kind, demand.runnable, demand.running)).collect()
}

fn sample(folder: &str, file: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/queue");
    std::fs::read(data.join(folder).join(file)).unwrap()
}

/// The features of the samples' derivations, as samples/README.md tells them.
fn known(path: &DrvPath) -> Option<Features> {
    let words = match path.base_name().get(33..)? {
        "b.drv" => "kvm big-parallel",
        "f.drv" => "benchmark",
        _ => "",
    };
    Some(features(words))
}

#[test]
fn real_answers() {
    for (folder, uptime, expected, machines) in [
        (
            "rest-queued",
            23,
            &[
                "aarch64-linux 1+0",
                "i686-linux 1+0",
                "x86_64-linux 2+0",
                "x86_64-linux:benchmark 1+0",
                "x86_64-linux:big-parallel,kvm 1+0",
            ][..],
            &[][..],
        ),
        // `nrRunnableWaiting` of x86_64-linux says 1 here, `totalRunnable` 4: three wait.
        (
            "rest-building",
            302,
            &[
                "aarch64-linux 1+0",
                "i686-linux 0+1",
                "x86_64-linux 1+1",
                "x86_64-linux:benchmark 1+0",
                "x86_64-linux:big-parallel,kvm 1+0",
            ],
            &[("vm", 2, None)],
        ),
        (
            "rest-after",
            315,
            &["aarch64-linux 1+0", "x86_64-linux:big-parallel,kvm 1+0"],
            &[("vm", 0, Some(Timestamp(1_795_473_782)))],
        ),
        ("rest-gone", 319, &["aarch64-linux 1+0", "x86_64-linux:big-parallel,kvm 1+0"], &[]),
    ] {
        let status = sample(folder, "status.json");
        let queue = up(read(&status, Ok(&sample(folder, "status-queues.json")), known));
        assert_eq!(demand(&queue), expected, "{folder}");
        assert_eq!(queue.uptime.0, uptime, "{folder}");
        let seen: Vec<_> = queue
            .machines
            .iter()
            .map(|machine| (machine.host.clone(), machine.current_jobs, machine.idle_since))
            .collect();
        let machines: Vec<_> =
            machines.iter().map(|(host, jobs, idle)| (Host::new(host), *jobs, *idle)).collect();
        assert_eq!(seen, machines, "{folder}");
        assert!(queue.machines.iter().all(|machine| machine.accepts_jobs == AcceptsJobs::Yes));
        assert_eq!(queue.warnings, [""; 0], "{folder}");
    }
}

#[test]
fn without_the_lists_the_counts_of_the_last_dispatch_stand_in() {
    let queue = up(read(&sample("rest-queued", "status.json"), Err("GET x: 404".into()), known));
    assert_eq!(demand(&queue), ["aarch64-linux 1+0", "i686-linux 1+0", "x86_64-linux 4+0"]);
    assert_eq!(
        queue.warnings,
        [
            "which features the waiting steps require is not known, all count as requiring none: GET x: 404"
        ]
    );
}

#[test]
fn unknown_features_count_as_none_with_a_warning() {
    let status = sample("rest-queued", "status.json");
    let queues = sample("rest-queued", "status-queues.json");
    let only_b = |path: &DrvPath| known(path).filter(|features| features.len() == 2);
    let queue = up(read(&status, Ok(&queues), only_b));
    assert_eq!(
        demand(&queue),
        [
            "aarch64-linux 1+0",
            "i686-linux 1+0",
            "x86_64-linux 3+0",
            "x86_64-linux:big-parallel,kvm 1+0"
        ]
    );
    assert_eq!(queue.warnings.len(), 1);
    assert!(queue.warnings[0].starts_with("the features that 5 waiting steps require"));
}

#[test]
fn only_what_waits_or_runs_counts() {
    let path = "2innw8daj996r0wv56czrlgksjpykl70-b.drv";
    let status = br#"{"queueRunner":{"status":"up","queueStats":{"s":{"totalRunnable":9,"nrRunnableWaiting":9}}},"machines":{}}"#;
    for (flags, expected) in [
        (r#""runnable":true"#, &["s:big-parallel,kvm 1+0"][..]),
        (r#""runnable":true,"alreadyScheduled":true"#, &["s:big-parallel,kvm 0+1"]),
        (r#""runnable":false"#, &[]),
        (r#""alreadyScheduled":false"#, &[]),
        (r#""runnable":true,"finished":true"#, &[]),
        (r#""runnable":true,"cancelled":true"#, &[]),
        (r#""runnable":"true""#, &[]),
    ] {
        let queues = format!(r#"{{"queues":{{"s":[{{"drvPath":"{path}",{flags}}}]}}}}"#);
        let queue = up(read(status, Ok(queues.as_bytes()), known));
        assert_eq!(demand(&queue), expected, "{flags}");
        assert_eq!(queue.warnings, [""; 0]);
    }
}

#[test]
fn odd_details_are_warnings_and_err_towards_busy() {
    let status = br#"{"queueRunner":{"status":"up","machinesTotal":4,
        "queueStats":{"s":{"nrRunnableWaiting":3,"activeRunnable":1},"t":[],"u":{"nrRunnableWaiting":"x"}}},
      "machines":{"a":{"stats":{"currentJobs":0,"idleSince":5},"jobs":["p"]},
                  "b":{"jobs":[]},"c":7,"d":{"stats":{"currentJobs":0.0,"idleSince":5}}}}"#;
    let queues = br#"{"queues":{"s":"none","t":[7,{"runnable":true,"drvPath":"--help"}]}}"#;
    let queue = up(read(status, Ok(queues), known));
    assert_eq!(demand(&queue), ["s 3+1", "t 1+0"]);
    let jobs: Vec<_> = queue.machines.iter().map(|machine| machine.current_jobs).collect();
    assert_eq!(jobs, [1, 1, 1, 0]);
    assert_eq!(
        queue.warnings[..7],
        [
            "queue status: queueStats.\"t\" is not an object; it is skipped",
            "queue status: queueStats.\"u\".nrRunnableWaiting is not a number; it counts as 0",
            "queue status: machines.\"b\" does not tell its currentJobs; it is taken for busy",
            "queue status: machines.\"c\" does not tell its currentJobs; it is taken for busy",
            "queue status: queues.\"s\" is not a list; it is skipped",
            "queue status: a step in queues.\"t\" is not an object; it is skipped",
            "queue status: a step in queues.\"t\": \"--help\" is not a store path: invalid store path hash length",
        ]
    );
}

#[test]
fn builders_that_hide_behind_one_host_name_are_not_idle() {
    let status = br#"{"queueRunner":{"status":"up","machinesTotal":2},"machines":{"a":{"stats":{"currentJobs":0,"idleSince":5}}}}"#;
    let queue = up(read(status, Ok(br#"{"queues":{}}"#), known));
    assert_eq!((queue.machines[0].current_jobs, queue.machines[0].idle_since), (1, None));
    assert!(queue.warnings[0].starts_with("queue status: 2 builders are connected but 1 listed"));
}

#[test]
fn what_cannot_be_relied_on() {
    for (status, expected) in [
        ("[]", "/status is not a JSON object: "),
        ("{}", "/status has no queueRunner: is this the REST server of Hydra's queue runner?"),
        (r#"{"queueRunner":{}}"#, "/status does not say whether the queue runner is up"),
        (r#"{"queueRunner":{"status":"stopping"}}"#, "the queue runner is \"stopping\""),
        (
            r#"{"queueRunner":{"status":"up"}}"#,
            "/status has no object machines: builds could be missed",
        ),
        (
            r#"{"queueRunner":{"status":"up","queueStats":1},"machines":{}}"#,
            "queueStats of /status is not an object",
        ),
    ] {
        let why = reason(read(status.as_bytes(), Ok(b"{}"), known));
        assert!(why.starts_with(expected), "{why}");
    }
}

/// What a server does with one request.
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
                lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
                answer(request.split(' ').nth(1).unwrap(), &mut stream);
            });
        }
    });
    url
}

/// A client that has heard enough hangs up: its business.
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
        "/status" => send(stream, "200", &sample("rest-queued", "status.json")),
        "/status/queues" => send(stream, "200", &sample("rest-queued", "status-queues.json")),
        _ => send(stream, "404", b"{\"error\":\"Not found\"}"),
    }
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

/// A program named `nix` that runs `script` and notes its arguments, one call a line.
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

/// Shows every derivation that is asked for; those of `b` need kvm.
const SHOW_ALL: &str = r#"sep='{'
for path; do case $path in
  *-b.drv) printf '%s"%s":{"env":{"requiredSystemFeatures":"kvm"}}' "$sep" "$path"; sep=, ;;
  /*) printf '%s"%s":{"env":{}}' "$sep" "$path"; sep=, ;;
esac; done
echo '}'"#;

#[test]
fn a_server_that_answers_well_is_asked_and_nix_only_once() {
    let scratch = tempfile::tempdir().unwrap();
    let nix = fake_nix(scratch.path(), SHOW_ALL);
    let url = server(queued);
    let expected =
        ["aarch64-linux 1+0", "i686-linux 1+0", "x86_64-linux 3+0", "x86_64-linux:kvm 1+0"];
    let mut first = source(url.clone(), &nix, scratch.path(), MINUTE);
    for _ in 0..2 {
        let queue = up(first.queue_status());
        assert_eq!(demand(&queue), expected);
        assert_eq!(queue.warnings, [""; 0]);
    }
    // Another process reads what the first left on disk.
    let mut second = source(url, &nix, scratch.path(), MINUTE);
    assert_eq!(demand(&up(second.queue_status())), expected);
    let calls = calls(scratch.path());
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].starts_with(
        "--extra-experimental-features nix-command derivation show --offline /nix/store/2innw8d"
    ));
}

#[test]
fn a_damaged_cache_is_not_believed() {
    let scratch = tempfile::tempdir().unwrap();
    let nix = fake_nix(scratch.path(), SHOW_ALL);
    for damaged in [&b"\0\xff"[..], b"{\"2innw8daj996r0wv56czrlgksjpykl70-b.drv\":[\"x\"", b"[]"] {
        std::fs::write(scratch.path().join("derivation-features.json"), damaged).unwrap();
        let queue = up(source(server(queued), &nix, scratch.path(), MINUTE).queue_status());
        assert!(demand(&queue).contains(&"x86_64-linux:kvm 1+0".to_owned()));
    }
}

#[test]
fn one_missing_derivation_does_not_lose_the_others() {
    let scratch = tempfile::tempdir().unwrap();
    let script = format!(
        "case \"$*\" in *-base.drv*) echo 'error: path base is not valid' >&2; exit 1;; esac\n{SHOW_ALL}"
    );
    let nix = fake_nix(scratch.path(), &script);
    let mut source = source(server(queued), &nix, scratch.path(), MINUTE);
    let queue = up(source.queue_status());
    assert!(demand(&queue).contains(&"x86_64-linux:kvm 1+0".to_owned()));
    assert_eq!(queue.warnings.len(), 1);
    let warning = &queue.warnings[0];
    assert!(warning.starts_with("the features that 1 waiting steps require"), "{warning}");
    assert!(warning.ends_with("error: path base is not valid"), "{warning}");
    let before = calls(scratch.path()).len();
    up(source.queue_status());
    assert_eq!(calls(scratch.path()).len(), before + 1, "only the missing one is asked again");
}

#[test]
fn a_nix_that_cannot_be_used_leaves_the_counts() {
    let scratch = tempfile::tempdir().unwrap();
    let expected = ["aarch64-linux 1+0", "i686-linux 1+0", "x86_64-linux 4+0"];
    for (script, end) in [
        ("echo 'not json'", "nix did not print a JSON object: expected ident at line 1 column 2"),
        ("echo 'error: no store' >&2; exit 1", "error: no store"),
        ("echo '{}'", "nix did not show their derivations"),
    ] {
        let nix = fake_nix(scratch.path(), script);
        let queue = up(source(server(queued), &nix, scratch.path(), MINUTE).queue_status());
        assert_eq!(demand(&queue), expected);
        assert!(queue.warnings[0].ends_with(end), "{:?}", queue.warnings);
    }
    let nowhere = scratch.path().join("nowhere");
    let queue = up(source(server(queued), &nowhere, scratch.path(), MINUTE).queue_status());
    assert_eq!(demand(&queue), expected);
    assert!(queue.warnings[0].contains("cannot run"), "{:?}", queue.warnings);
    let nix = fake_nix(scratch.path(), "exec sleep 600");
    let short = Duration::from_secs(1);
    let queue = up(source(server(queued), &nix, scratch.path(), short).queue_status());
    assert_eq!(demand(&queue), expected);
    assert!(queue.warnings[0].contains("and was killed"), "{:?}", queue.warnings);
}

#[test]
fn a_server_that_misbehaves_is_unavailable() {
    fn fails(_: &str, stream: &mut TcpStream) {
        send(stream, "500", b"oops");
    }
    fn garbage(_: &str, stream: &mut TcpStream) {
        send(stream, "200", b"<html>\0\xff");
    }
    fn not_http(_: &str, stream: &mut TcpStream) {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
    }
    fn hangs(_: &str, stream: &mut TcpStream) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
        // Until the client hangs up.
        let _ = std::io::copy(stream, &mut std::io::sink());
    }
    fn huge(_: &str, stream: &mut TcpStream) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b' '; 1 << 13]).is_ok() {}
    }
    let scratch = tempfile::tempdir().unwrap();
    let nix = scratch.path().join("nix");
    for (answer, limit, expected) in [
        (fails as Answer, MINUTE, "/status: http status: 500"),
        (garbage, MINUTE, "/status is not a JSON object: "),
        (not_http, MINUTE, "http"),
        (hangs, Duration::from_millis(300), "/status: timeout: global"),
        (huge, MINUTE, "/status: the response body is larger than request limit: 134217728"),
    ] {
        let began = Instant::now();
        let why = reason(source(server(answer), &nix, scratch.path(), limit).queue_status());
        assert!(why.starts_with("queue.url: ") && why.contains(expected), "{why}");
        assert!(began.elapsed() < Duration::from_secs(30), "{why}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let why =
        reason(source(format!("http://{nobody}"), &nix, scratch.path(), MINUTE).queue_status());
    assert!(why.contains("Connection refused"), "{why}");
}

#[test]
fn a_server_without_lists_of_steps_still_tells_the_counts() {
    fn old(path: &str, stream: &mut TcpStream) {
        match path {
            "/status" => queued(path, stream),
            _ => send(stream, "404", b"{}"),
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let nix = fake_nix(scratch.path(), SHOW_ALL);
    let queue = up(source(server(old), &nix, scratch.path(), MINUTE).queue_status());
    assert_eq!(demand(&queue), ["aarch64-linux 1+0", "i686-linux 1+0", "x86_64-linux 4+0"]);
    assert!(
        queue.warnings[0].ends_with("/status/queues: http status: 404"),
        "{:?}",
        queue.warnings
    );
    assert_eq!(calls(scratch.path()), [""; 0]);
}

/// Real derivations of the real Nix, in a store of their own; a step that is not in it is asked for too.
#[test]
fn real_nix_tells_features() {
    let scratch = tempfile::tempdir().unwrap();
    let expression = r#"
        let step = name: more:
          derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // more);
        in [
          (step "plain" { })
          (step "vm" { requiredSystemFeatures = [ "kvm" "big-parallel" ]; })
          (step "structured" { __structuredAttrs = true; requiredSystemFeatures = [ "benchmark" ]; })
        ]"#;
    let store = scratch.path().join("store");
    let output = Command::new("nix-instantiate")
        .args(["--store", store.to_str().unwrap(), "-E", expression])
        .env_remove("NIX_REMOTE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut steps: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(step).collect();
    assert_eq!(steps.len(), 3);
    steps.push(step("/nix/store/2innw8daj996r0wv56czrlgksjpykl70-b.drv"));
    let queues = format!(r#"{{"queues":{{"x86_64-linux":[{}]}}}}"#, steps.join(","));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || answer(&listener, &queues));
    let nix_command = ["nix", "--store", store.to_str().unwrap()].map(str::to_owned).to_vec();
    let settings = QueueSettings::Rest { url, nix_command };
    let queue =
        up(queue::source(&settings, MINUTE, scratch.path(), Access::ReadWrite).queue_status());
    server.join().unwrap();
    assert_eq!(
        demand(&queue),
        ["x86_64-linux 2+0", "x86_64-linux:benchmark 1+0", "x86_64-linux:big-parallel,kvm 1+0"]
    );
    assert_eq!(queue.warnings.len(), 1);
    assert!(queue.warnings[0].contains("2innw8daj996r0wv56czrlgksjpykl70-b.drv"));
}

/// Who only looks (`plan`, `status`) writes nothing down.
#[test]
fn features_are_not_remembered_without_the_lock() {
    for (access, remembered) in [(Access::ReadOnly, false), (Access::ReadWrite, true)] {
        let scratch = tempfile::tempdir().unwrap();
        let nix = fake_nix(scratch.path(), SHOW_ALL);
        let nix_command = vec![nix.to_str().unwrap().to_owned()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let step = step("/nix/store/2innw8daj996r0wv56czrlgksjpykl70-b.drv");
        let queues = format!(r#"{{"queues":{{"x86_64-linux":[{step}]}}}}"#);
        let server = thread::spawn(move || answer(&listener, &queues));
        let settings = QueueSettings::Rest { url, nix_command };
        let state_dir = scratch.path().join("state");
        let queue = up(queue::source(&settings, MINUTE, &state_dir, access).queue_status());
        server.join().unwrap();
        assert_eq!(demand(&queue), ["x86_64-linux:kvm 1+0"]);
        assert_eq!(state_dir.exists(), remembered, "{access:?}");
    }
}

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

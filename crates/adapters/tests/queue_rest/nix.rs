//! The features of waiting derivations, from Nix.

use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use adapters::config::QueueSettings;
use adapters::lock::Access;
use adapters::queue;

use super::{MINUTE, SHOW_ALL, answer, calls, demand, fake_nix, queued, server, source, step, up};

#[test]
fn a_damaged_cache_is_ignored() {
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
    assert!(warning.starts_with("the features that 1 waiting step requires"), "{warning}");
    assert!(warning.ends_with("error: path base is not valid"), "{warning}");
    let before = calls(scratch.path()).len();
    let queue = up(source.queue_status());
    assert_eq!(calls(scratch.path()).len(), before, "a refusal is remembered");
    assert!(queue.warnings[0].ends_with("called again after 10m00s"), "{:?}", queue.warnings);
}

#[test]
fn without_a_usable_nix_the_counts_remain() {
    let expected = ["aarch64-linux 1+0", "i686-linux 1+0", "x86_64-linux 4+0"];
    for (script, end) in [
        ("echo 'not json'", "nix did not print a JSON object: expected ident at line 1 column 2"),
        ("echo 'error: no store' >&2; exit 1", "error: no store"),
        ("echo '{}'", "nix did not show their derivations"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let nix = fake_nix(scratch.path(), script);
        let queue = up(source(server(queued), &nix, scratch.path(), MINUTE).queue_status());
        assert_eq!(demand(&queue), expected);
        assert!(queue.warnings[0].ends_with(end), "{:?}", queue.warnings);
    }
    let scratch = tempfile::tempdir().unwrap();
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

/// Real derivations of a real Nix, in a separate store; a step that it lacks is requested as well.
#[test]
fn real_nix_shows_features() {
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

/// Read-only commands (`plan`, `status`) write nothing.
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

/// 60 derivations that are not in the store according to Nix, among 60 that are.
#[test]
fn many_missing_derivations_are_learnt_once() {
    let scratch = tempfile::tempdir().unwrap();
    let script = format!(
        "for path; do case $path in *-missing.drv)\n\
         echo \"error: path '$path' is not a valid store path\" >&2; exit 1;; esac; done\n{SHOW_ALL}"
    );
    let nix = fake_nix(scratch.path(), &script);
    let hash = |n: usize| format!("2innw8daj996r0wv56czrlgksj{:06}", 100 * n).replace('2', "x");
    let names = |n| if n % 2 == 0 { "missing" } else { "b" };
    let steps: Vec<_> = (0..120).map(|n| step(&format!("{}-{}.drv", hash(n), names(n)))).collect();
    let queues = format!(r#"{{"queues":{{"x86_64-linux":[{}]}}}}"#, steps.join(","));
    let nix_command = vec![nix.to_str().unwrap().to_owned()];
    let mut calls_before = 0;
    for (look, expected_calls) in [(0, 61..=64), (1, 0..=20), (2, 0..=0)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let queues = queues.clone();
        let server = thread::spawn(move || answer(&listener, &queues));
        // As a new process each time: the cache is read from the disk.
        let settings = QueueSettings::Rest { url, nix_command: nix_command.clone() };
        let source = queue::source(&settings, MINUTE, scratch.path(), Access::ReadWrite);
        let queue = up({ source }.queue_status());
        server.join().unwrap();
        let calls = calls(scratch.path()).len();
        assert!(expected_calls.contains(&(calls - calls_before)), "{calls} calls by look {look}");
        calls_before = calls;
        if look > 0 {
            assert_eq!(demand(&queue), ["x86_64-linux 60+0", "x86_64-linux:kvm 60+0"]);
        }
    }
}

/// A Nix that shows nothing is called once per status, and for everything as soon as it works again.
#[test]
fn a_failing_nix_is_not_called_repeatedly() {
    let scratch = tempfile::tempdir().unwrap();
    let trouble = "echo 'error: cannot connect to socket' >&2; exit 1";
    let nix = fake_nix(scratch.path(), trouble);
    let url = server(queued);
    let mut before = 0;
    for expected_calls in [1..=16, 1..=1, 1..=1] {
        let mut source = source(url.clone(), &nix, scratch.path(), MINUTE);
        let queue = up(source.queue_status());
        assert!(queue.warnings[0].ends_with("cannot connect to socket"), "{:?}", queue.warnings);
        let calls = calls(scratch.path()).len();
        assert!(expected_calls.contains(&(calls - before)), "{} calls", calls - before);
        before = calls;
    }
    fake_nix(scratch.path(), SHOW_ALL);
    let queue = up(source(url, &nix, scratch.path(), MINUTE).queue_status());
    assert!(demand(&queue).contains(&"x86_64-linux:kvm 1+0".to_owned()));
    assert_eq!(queue.warnings, [""; 0]);
}

/// A call with thousands of paths is not repeated in a message.
#[test]
fn a_message_does_not_contain_all_paths() {
    let scratch = tempfile::tempdir().unwrap();
    let nix = fake_nix(scratch.path(), "exec sleep 600");
    let hash = |n: usize| format!("xinnw8daj996r0wv56czrlgksj{n:06}").replace('2', "x");
    let steps: Vec<_> = (0..5_000).map(|n| step(&format!("{}-b.drv", hash(n)))).collect();
    let queues = format!(r#"{{"queues":{{"x86_64-linux":[{}]}}}}"#, steps.join(","));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || answer(&listener, &queues));
    let queue = up(source(url, &nix, scratch.path(), Duration::from_secs(2)).queue_status());
    server.join().unwrap();
    assert_eq!(demand(&queue), ["x86_64-linux 5000+0"]);
    let warning = &queue.warnings[0];
    assert!(warning.len() < 1000 && warning.contains("was killed"), "{warning}");
}

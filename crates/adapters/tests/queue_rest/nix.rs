//! What Nix tells of the waiting derivations.

use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use adapters::config::QueueSettings;
use adapters::lock::Access;
use adapters::queue;

use super::{MINUTE, SHOW_ALL, answer, calls, demand, fake_nix, queued, server, source, step, up};

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

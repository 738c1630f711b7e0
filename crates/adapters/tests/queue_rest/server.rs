//! Working and faulty servers.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{
    Answer, MINUTE, SHOW_ALL, calls, demand, fake_nix, queued, reason, send, server, source, up,
};

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
        // Until the client closes the connection.
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
fn a_server_without_lists_of_steps_still_reports_the_counts() {
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

/// Credentials are sent, and never part of a message.
#[test]
fn a_password_is_never_shown() {
    fn asks(path: &str, stream: &mut TcpStream) {
        match path {
            // "farm:secret/@"
            "/status Basic ZmFybTpzZWNyZXQvQA==" => queued("/status", stream),
            _ => send(stream, "401", b""),
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let nix = scratch.path().join("nix");
    let place = server(asks).replace("http://", "");
    let url = format!("http://farm:secret%2F%40@{place}");
    let queue = up(source(url, &nix, scratch.path(), MINUTE).queue_status());
    let reported = queue.warnings.join(" ");
    assert!(
        reported.contains(&format!("GET http://{place}/status/queues: http status: 401")),
        "{reported}"
    );
    assert!(!reported.contains("secret"), "{reported}");
    for url in [
        format!("http://farm:secret@{place}"),
        "http://farm:secret@127.0.0.1:1".to_owned(),
        "http://farm:secret@a b".to_owned(),
        "http://farm:secret@[".to_owned(),
        "http://farm:secret/x@127.0.0.1:1".to_owned(),
        "https://farm:secret@127.0.0.1:99999".to_owned(),
    ] {
        let why = reason(source(url, &nix, scratch.path(), MINUTE).queue_status());
        assert!(why.starts_with("queue.url: GET http") && !why.contains("secret"), "{why}");
    }
}

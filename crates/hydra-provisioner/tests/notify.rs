//! Programs and webhooks that are called when something fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use farm::Farm;
use farm::service::{Service, until};
use serde_json::{Value, json};

#[test]
fn programs_are_told_and_one_that_hangs_holds_up_nothing() {
    let farm = Farm::new(&json!({}));
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    let reported = farm.path("reported");
    let write = format!("cat >{0}.new && mv {0}.new {0}", reported.display());
    conf["notify"] = json!([
        { "on": ["failed"], "command": ["sh", "-c", write] },
        { "command": ["sleep", "600"] },
    ]);
    conf["systemTypes"]["aarch64-linux"] =
        json!({ "provider": { "command": { "program": ["false"] } }, "maxMachines": 1 });
    fs::write(farm.conf(), conf.to_string()).unwrap();
    farm.set_runnable(1);
    let _service = Service::start(&farm, &[]);
    until("the program has run", || reported.exists());
    let reported: Value = serde_json::from_slice(&fs::read(&reported).unwrap()).unwrap();
    assert_eq!((&reported["version"], &reported["events"][0]["on"]), (&json!(1), &json!("failed")));
    assert!(
        reported["text"].as_str().unwrap().contains("aarch64-linux: cannot list"),
        "{reported}"
    );
    farm.set_runnable(3);
    until("the loop continues", || farm.machines_file().len() == 3);
}

/// A server that returns what is posted.
fn server() -> (u16, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, posted) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let lower = head.to_ascii_lowercase();
            let (_, rest) = lower.split_once("content-length: ").unwrap();
            let mut body = vec![0; rest.split("\r\n").next().unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            let _gone = sender.send((head, serde_json::from_slice(&body).unwrap()));
        }
    });
    (port, posted)
}

/// The URL is a secret: the log never contains it, not even if the server does not answer.
#[test]
fn webhooks_are_told_of_a_limit_in_dollars() {
    let farm = Farm::new(&json!({}));
    let (port, posted) = server();
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    fs::write(farm.path("url"), format!("http://127.0.0.1:{port}/hooks/s3cret\n")).unwrap();
    conf["notify"] = json!([
        { "on": ["budget"], "webhookFile": farm.path("url") },
        { "on": ["budget"], "webhook": "http://127.0.0.1:1/hooks/s3cret" },
    ]);
    conf["maxHourlyCost"] = json!(1.0);
    conf["systemTypes"]["x86_64-linux"]["dollarsPerHour"] = json!(0.5);
    fs::write(farm.conf(), conf.to_string()).unwrap();
    farm.set_runnable(5);
    let service = Service::start(&farm, &[]);
    let (head, reported) = posted.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(head.starts_with("POST /hooks/s3cret "), "{head}");
    let text = reported["text"].as_str().unwrap();
    assert_eq!(
        text,
        "x86_64-linux: no more machines, maxHourlyCost of the farm is reached ($1.00)"
    );
    assert_eq!(
        (&reported["content"], &reported["events"][0]["on"]),
        (&reported["text"], &json!("budget"))
    );
    until("the other one is tried", || service.log().contains("notify: 127.0.0.1:1: "));
    assert!(!service.log().contains("s3cret"), "{}", service.log());
    assert_eq!(farm.machines().len(), 2);
}

#[test]
fn who_is_told_must_be_one() {
    for (item, said) in [
        (json!({}), "notify[1]: must have command"),
        (json!({ "command": ["a"], "webhook": "https://a" }), "notify[1]: must have only one"),
        (json!({ "webhook": "a/s3cret" }), "notify[1].webhook: must start with http"),
        (json!({ "webhookFile": "url" }), "notify[1].webhookFile: "),
        (
            json!({ "command": ["a"], "on": ["money"] }),
            "valid are failed, unhealthy, orphan and budget",
        ),
    ] {
        let farm = Farm::new(&json!({ "notify": [item] }));
        let output = farm.run(&["check"]);
        let reported = farm::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{reported}");
        assert!(reported.contains(said) && !reported.contains("s3cret"), "{reported}");
    }
}

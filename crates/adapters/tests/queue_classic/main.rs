//! Classic Hydra's status: real samples, variants, and the command around them.

// An error in a test helper fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod recorded;

use std::time::Duration;

use adapters::config::QueueSettings;
use adapters::lock::Access;
use adapters::queue::{self, Asked, classic};
use planner::{AcceptsJobs, Queue, QueueStatus, Seconds, Timestamp};

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

/// Parses `bytes`, asked for at a time that no answer here contains.
fn parse(bytes: &[u8]) -> QueueStatus {
    classic::parse(bytes, Asked::at(Timestamp(1_700_000_100)))
}

/// One line each: demand, machines and warnings.
fn summary(queue: &Queue) -> Vec<String> {
    let time = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| time.0.to_string());
    let demand = queue.demand.iter().map(|demand| {
        format!(
            "{} runnable={} running={} active={}",
            demand.kind,
            demand.runnable,
            demand.running,
            time(demand.last_active)
        )
    });
    let machines = queue.machines.iter().map(|machine| {
        format!(
            "@{} port={} accepts={} jobs={} idle={}",
            machine.host,
            machine.port.map_or("-".to_owned(), |port| port.to_string()),
            if machine.accepts_jobs == AcceptsJobs::Yes { "yes" } else { "no" },
            machine.current_jobs,
            time(machine.idle_since)
        )
    });
    demand.chain(machines).chain(queue.warnings.iter().map(|line| format!("! {line}"))).collect()
}

#[test]
fn a_status_of_2018() {
    // The text after `jobsets` is missing: the types of the 85 steps are not known.
    let cut = include_str!("../data/queue/classic-2018-up.json");
    let why = reason(parse(cut.as_bytes()));
    assert!(why.starts_with("85 steps are runnable, but machineTypes"), "{why}");
    let none = cut.replace("\"nrRunnableSteps\":85", "\"nrRunnableSteps\":0");
    let queue = up(classic::parse(none.as_bytes(), Asked::at(Timestamp(1_526_485_724))));
    assert_eq!(queue.uptime, Seconds(180));
    assert_eq!(summary(&queue), ["@localhost port=- accepts=yes jobs=0 idle=-"]);
}

#[test]
fn machines_of_2025() {
    let queue = up(parse(include_bytes!("../data/queue/classic-2025-machines-fragment.json")));
    assert_eq!(
        summary(&queue),
        [
            "@elated-minsky.builder.nixos.org port=- accepts=yes jobs=3 idle=-",
            "@goofy-hopcroft.builder.nixos.org port=- accepts=yes jobs=4 idle=-",
        ]
    );
}

/// Without a machine of the queue runner's own system they are not built.
#[test]
fn builtin_steps_want_a_machine_of_our_own_system() {
    let own = format!("{}-linux", std::env::consts::ARCH);
    let status = format!(
        r#"{{"status":"up","machines":{{}},
             "machineTypes":{{"builtin":{{"runnable":2,"running":1}},"{own}":{{"runnable":3}}}}}}"#
    );
    let queue = up(parse(status.as_bytes()));
    assert_eq!(summary(&queue), [format!("{own} runnable=5 running=1 active=-")]);
}

#[test]
fn variants() {
    for (machine_types, machines, expected) in [
        ("{}", "{}", &[][..]),
        (
            r#"{"x86_64-linux":{"runnable":5,"running":2,"waitTime":90},
                "x86_64-linux:big-parallel,kvm":{"runnable":1,"running":0,"waitTime":3,"lastActive":1700000000},
                "i686-linux":{"runnable":0,"running":0,"lastActive":0},
                "riscv64-linux":{}}"#,
            "{}",
            &[
                "i686-linux runnable=0 running=0 active=-",
                "riscv64-linux runnable=0 running=0 active=-",
                "x86_64-linux runnable=5 running=2 active=-",
                "x86_64-linux:big-parallel,kvm runnable=1 running=0 active=1700000000",
            ],
        ),
        // The same features in another order, a doubled comma, a lone colon: one kind.
        (
            r#"{"a:y,x":{"runnable":1,"lastActive":5},"a:x,,y":{"runnable":2,"lastActive":9},"b:":{"runnable":1},"b":{"runnable":1}}"#,
            "{}",
            &["a:x,y runnable=3 running=0 active=9", "b runnable=2 running=0 active=-"],
        ),
        // Numbers of all kinds.
        (
            r#"{"a":{"runnable":2.0,"running":"3","lastActive":"1700000000.9"},
                "b":{"runnable":"7","lastActive":1700000000000}}"#,
            "{}",
            &[
                "a runnable=2 running=3 active=1700000000",
                "b runnable=7 running=0 active=-",
                "! queue status: machineTypes.\"b\".lastActive is 1700000000000, not a time in seconds; it is ignored",
            ],
        ),
        (
            "{}",
            r#"{"root@10.0.0.7":{"enabled":true,"currentJobs":0,"idleSince":1700000000},
                "ssh-ng://root@h:2222?x=1":{"enabled":false,"currentJobs":2.0,"new":{}},
                "ssh://u@[::1]":{"enabled":"false","currentJobs":0,"idleSince":0}}"#,
            &[
                "@10.0.0.7 port=- accepts=yes jobs=0 idle=1700000000",
                "@h port=2222 accepts=no jobs=2 idle=-",
                "@::1 port=- accepts=no jobs=0 idle=-",
            ],
        ),
        // An unreadable count means busy, and a busy machine is not idle, whatever else is reported.
        (
            "{}",
            r#"{"a":{"enabled":true,"currentJobs":"one","idleSince":9},"b":{"enabled":true},"c":[],
                "d":{"enabled":true,"currentJobs":0.2},"e":{"enabled":1,"currentJobs":"0"},
                "f":{"enabled":false,"currentJobs":-1,"idleSince":9}}"#,
            &[
                "@a port=- accepts=yes jobs=1 idle=-",
                "@b port=- accepts=yes jobs=1 idle=-",
                "@c port=- accepts=yes jobs=1 idle=-",
                "@d port=- accepts=yes jobs=1 idle=-",
                "@e port=- accepts=yes jobs=0 idle=-",
                "@f port=- accepts=no jobs=1 idle=-",
                "! queue status: machines.\"a\".currentJobs is \"one\", not a count; the machine counts as busy",
                "! queue status: machines.\"b\".currentJobs is missing; the machine counts as busy",
                "! queue status: machines.\"c\".currentJobs is missing; the machine counts as busy",
                "! queue status: machines.\"c\".enabled is missing; the machine counts as enabled",
                "! queue status: machines.\"e\".enabled is 1, neither true nor false; the machine counts as enabled",
                "! queue status: machines.\"f\".currentJobs is -1, not a count; the machine counts as busy",
            ],
        ),
    ] {
        let status = format!(
            r#"{{"status":"up","unknown":[1],"machineTypes":{machine_types},"machines":{machines}}}"#
        );
        assert_eq!(summary(&up(parse(status.as_bytes()))), expected, "{status}");
    }
}

#[test]
fn unusable_answers() {
    let deep = "[".repeat(200_000);
    for (bytes, expected) in [
        (r#"{"status":"down"}"#.as_bytes(), "the queue runner is down"),
        (br#"{"status":"odd"}"#, "the queue runner is \"odd\""),
        (b"{}", "the queue status does not say whether the runner is up"),
        (br#"{"status":1}"#, "the queue status does not say whether the runner is up"),
        (
            br#"{"status":"up","machineTypes":[],"machines":{}}"#,
            "machineTypes of the queue status is not an object",
        ),
        (
            br#"{"status":"up","machines":{},"machineTypes":{"a":7}}"#,
            "machineTypes.\"a\" of the queue status is not an object",
        ),
        // Steps that cannot be counted do not count as zero.
        (
            br#"{"status":"up","machines":{},"machineTypes":{"a":{"runnable":"many"}}}"#,
            "machineTypes.\"a\".runnable is \"many\", not a count",
        ),
        (
            br#"{"status":"up","machines":{},"machineTypes":{"a":{"runnable":1,"running":-1}}}"#,
            "machineTypes.\"a\".running is -1, not a count",
        ),
        (
            br#"{"status":"up","machines":{},"machineTypes":{"a":{"runnable":null}}}"#,
            "machineTypes.\"a\".runnable is null, not a count",
        ),
        (br#"{"status":"up","machines":[]}"#, "machines of the queue status is not an object"),
        (br#"{"status":"up"}"#, "the queue status has no object machines: builds could be missed"),
        (b"", "the queue status is not a JSON object: "),
        (b"\0", "the queue status is not a JSON object: "),
        (b"{\"status\":\"u\xff\"}", "the queue status is not a JSON object: "),
        (br#"{"status":"up","machines":{"#, "the queue status is not a JSON object: "),
        (deep.as_bytes(), "the queue status is not a JSON object: "),
    ] {
        // The rest of the message is the JSON parser's.
        let why = reason(parse(bytes));
        let matches =
            if expected.ends_with(": ") { why.starts_with(expected) } else { why == expected };
        assert!(matches, "{why}");
    }
    let why = reason(parse(b"bash: hydra-queue-runner: command not found\n\x1b[2J"));
    assert!(
        why.ends_with(r#"; it is "bash: hydra-queue-runner: command not found\n\u{1b}[2J""#),
        "{why}"
    );
    assert!(reason(parse(b" \n")).ends_with("; it is nothing"));
    let nested = format!(r#"{{"status":"up","machines":{deep}"#);
    assert!(reason(parse(nested.as_bytes())).contains("recursion limit exceeded"));
}

fn ask(script: &str, limit: Duration) -> QueueStatus {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    queue::source(&QueueSettings::Classic { command }, limit, "/nowhere".as_ref(), Access::ReadOnly)
        .queue_status()
}

#[test]
fn the_output_is_used_only_if_the_command_succeeds() {
    let minute = Duration::from_secs(60);
    let print = r#"echo '{"status":"up","uptime":7.9,"machines":{}}'"#;
    assert_eq!(up(ask(print, minute)).uptime, Seconds(7));
    // Then standard error is ignored.
    assert_eq!(up(ask(&format!("echo warning >&2; {print}"), minute)).uptime, Seconds(7));

    let failed = reason(ask(&format!("{print}; echo 'may be wrong' >&2; exit 1"), minute));
    assert!(failed.ends_with(" ended with exit code 1, its output may be wrong: may be wrong"));
    let silent = reason(ask("exit 3", minute));
    assert!(silent.ends_with(" ended with exit code 3: nothing on standard error"), "{silent}");
    let hangs = reason(ask("exec sleep 600", Duration::from_millis(200)));
    assert!(hangs.ends_with("did not end within 0.2 s and was killed"), "{hangs}");

    let command = vec!["/nowhere/hydra-queue-runner".to_owned(), "--status".to_owned()];
    let mut source = queue::source(
        &QueueSettings::Classic { command },
        minute,
        "/nowhere".as_ref(),
        Access::ReadOnly,
    );
    assert_eq!(
        reason(source.queue_status()),
        "statusCommand: cannot run /nowhere/hydra-queue-runner: No such file or directory (os error 2)"
    );
}

/// Its age could not be known. Only a hand-written answer has no time.
#[test]
fn an_answer_with_a_time_that_cannot_be_read_is_not_trusted() {
    let answer = |time: &str| {
        let text = format!("{{\"status\":\"up\"{time},\"machineTypes\":{{}},\"machines\":{{}}}}");
        parse(text.as_bytes())
    };
    for time in ["\"soon\"", "null", "0", "-1", "[]", "1700000000000"] {
        let why = reason(answer(&format!(",\"time\":{time}")));
        assert!(why.starts_with("time is ") && why.contains("not a time"), "{time}: {why}");
    }
    assert_eq!(up(answer("")).time, None);
    assert_eq!(up(answer(",\"time\":\"1700000000\"")).time, Some(Timestamp(1_700_000_000)));
}

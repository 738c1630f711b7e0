//! Real and invalid answers.

use adapters::queue::derivations::DrvPath;
use planner::{AcceptsJobs, Host, Seconds, Timestamp};

/// When the samples in `rest-queued` were taken.
const NOW: u64 = 1_795_473_493;

use super::{demand, features, known, read_at, reason, sample, up};

#[test]
fn real_answers() {
    for (folder, now, uptime, expected, machines) in [
        (
            "rest-queued",
            1_795_473_493,
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
            1_795_473_771,
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
            1_795_473_785,
            315,
            &["aarch64-linux 1+0", "x86_64-linux:big-parallel,kvm 1+0"],
            &[("vm", 0, Some(Timestamp(1_795_473_782)))],
        ),
        (
            "rest-gone",
            1_795_473_788,
            319,
            &["aarch64-linux 1+0", "x86_64-linux:big-parallel,kvm 1+0"],
            &[],
        ),
    ] {
        let status = sample(folder, "status.json");
        let queue = up(read_at(now, &status, Ok(&sample(folder, "status-queues.json")), known));
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

/// A machine that was disconnected 15 minutes before, as the real queue runner of August 2026 still reported it.
#[test]
fn a_lost_builder_stays_busy_and_is_warned_of() {
    let (status, steps) =
        (sample("rest-lost", "status.json"), sample("rest-lost", "status-queues.json"));
    let queue = up(read_at(1_795_643_424, &status, Ok(&steps), |_| Some(features("kvm"))));
    assert_eq!(demand(&queue), ["x86_64-linux:kvm 8+2"]);
    let [lost] = &queue.machines[..] else { panic!("{:?}", queue.machines) };
    assert_eq!(
        (lost.host.to_string().as_str(), lost.current_jobs, lost.idle_since),
        ("rfarm-4", 2, None)
    );
    let [warning] = &queue.warnings[..] else { panic!("{:?}", queue.warnings) };
    assert!(
        warning.starts_with("builder \"rfarm-4\" has not pinged the queue runner for 15m46s"),
        "{warning}"
    );

    let text = String::from_utf8(status).unwrap();
    for (silence, warned) in [("299", false), ("300", true), ("null", false)] {
        let text = text.replace("\"sinceLastPing\": 946", &format!("\"sinceLastPing\": {silence}"));
        let queue =
            up(read_at(1_795_643_424, text.as_bytes(), Ok(&steps), |_| Some(features("kvm"))));
        assert_eq!(!queue.warnings.is_empty(), warned, "{silence}: {:?}", queue.warnings);
    }
}

#[test]
fn without_the_lists_the_counts_of_the_last_dispatch_are_used() {
    let queue =
        up(read_at(NOW, &sample("rest-queued", "status.json"), Err("GET x: 404".into()), known));
    assert_eq!(demand(&queue), ["aarch64-linux 1+0", "i686-linux 1+0", "x86_64-linux 4+0"]);
    assert_eq!(
        queue.warnings,
        [
            "the features that the waiting steps require are not known; all count as requiring none: GET x: 404"
        ]
    );
}

#[test]
fn unknown_features_count_as_none_with_a_warning() {
    let status = sample("rest-queued", "status.json");
    let queues = sample("rest-queued", "status-queues.json");
    let only_b = |path: &DrvPath| known(path).filter(|features| features.len() == 2);
    let queue = up(read_at(NOW, &status, Ok(&queues), only_b));
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
        let queue = up(read_at(NOW, status, Ok(queues.as_bytes()), known));
        assert_eq!(demand(&queue), expected, "{flags}");
        assert_eq!(queue.warnings, [""; 0]);
    }
}

#[test]
fn invalid_details_are_warnings_and_mean_busy() {
    let status = br#"{"queueRunner":{"status":"up","machinesTotal":5,
        "queueStats":{"s":{"nrRunnableWaiting":3,"activeRunnable":1},"t":[],"u":{"nrRunnableWaiting":"2"}}},
      "machines":{"a":{"stats":{"currentJobs":0,"idleSince":5},"jobs":["p"]},
                  "b":{"jobs":[]},"c":7,"d":{"stats":{"currentJobs":0.0,"idleSince":5}},"e":{"stats":{"currentJobs":-1}}}}"#;
    let queues = br#"{"queues":{"s":"none","t":[7,{"runnable":true,"drvPath":"--help"}]}}"#;
    let queue = up(read_at(NOW, status, Ok(queues), known));
    assert_eq!(demand(&queue), ["s 3+1", "t 1+0", "u 2+0"]);
    let jobs: Vec<_> = queue.machines.iter().map(|machine| machine.current_jobs).collect();
    assert_eq!(jobs, [1, 1, 1, 0, 1]);
    assert_eq!(
        queue.warnings[..6],
        [
            "queue status: machines.\"b\".stats.currentJobs is missing; the machine counts as busy",
            "queue status: machines.\"c\".stats.currentJobs is missing; the machine counts as busy",
            "queue status: machines.\"e\".stats.currentJobs is -1, not a count; the machine counts as busy",
            "queue status: queues.\"s\" is not a list; it is skipped",
            "queue status: a step in queues.\"t\" is not an object; it is skipped",
            "queue status: a step in queues.\"t\": \"--help\" is not the store path of a derivation: its hash is not 32 characters of Nix's base 32",
        ]
    );
}

#[test]
fn builders_with_the_same_host_name_are_not_idle() {
    let status = br#"{"queueRunner":{"status":"up","machinesTotal":2},"machines":{"a":{"stats":{"currentJobs":0,"idleSince":5}}}}"#;
    let queue = up(read_at(NOW, status, Ok(br#"{"queues":{}}"#), known));
    assert_eq!((queue.machines[0].current_jobs, queue.machines[0].idle_since), (1, None));
    assert!(queue.warnings[0].starts_with("queue status: 2 builders are connected but 1 listed"));
}

/// The step e waited for 24 s (`avgRunnableTime` and `waitTimeMs` of the same answer: 0 and 50 ms).
#[test]
fn waits_and_totals() {
    let queues = sample("rest-queued", "status-queues.json");
    let queue = up(read_at(NOW, &sample("rest-queued", "status.json"), Ok(&queues), known));
    let waits: Vec<_> = queue.demand.iter().map(|demand| demand.wait_seconds).collect();
    assert_eq!(waits, [Some(24), Some(24), Some(48), Some(24), Some(24)]);
    assert_eq!((queue.runnable_total, queue.unsupported_steps), (Some(6), 6));
    assert_eq!((queue.time, queue.clock_offset_seconds), (Some(Timestamp(NOW)), 0));
}

#[test]
fn times_are_by_our_clock() {
    let status = sample("rest-after", "status.json");
    for (ahead, warned) in [(0_i64, false), (30, false), (-31, true), (7200, true)] {
        let now = 1_795_473_785_u64.checked_add_signed(-ahead).unwrap();
        let queue = up(read_at(now, &status, Ok(br#"{"queues":{}}"#), known));
        assert_eq!(queue.clock_offset_seconds, ahead);
        assert_eq!(queue.machines[0].idle_since, Some(Timestamp(now - 3)));
        assert_eq!(queue.warnings.iter().any(|line| line.contains("our clock")), warned);
    }
}

#[test]
fn failures_and_step_times() {
    let status = br#"{"queueRunner":{"status":"up","nrUnsupportedStepsAborted":2},"machines":{"a":{"stats":
        {"currentJobs":0,"lastFailure":1700000000,"disabledUntil":0,"consecutiveFailures":3,"nrStepsDone":4,
         "totalStepTimeMs":9999,"totalStepBuildTimeMs":"8000"}}}}"#;
    let queue = up(read_at(NOW, status, Ok(br#"{"queues":{}}"#), known));
    let machine = &queue.machines[0];
    assert_eq!((machine.consecutive_failures, machine.steps_done), (3, Some(4)));
    assert_eq!(machine.last_failure, Some(Timestamp(1_700_000_000)));
    assert_eq!(machine.disabled_until, None);
    assert_eq!(machine.total_step_time, Some(Seconds(9)));
    assert_eq!(machine.total_build_time, Some(Seconds(8)));
    assert!(queue.warnings[0].contains("maxUnsupportedTimeInS"), "{:?}", queue.warnings);
}

#[test]
fn unusable_answers() {
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
        // Steps that are neither listed nor counted must not be missed.
        (
            r#"{"queueRunner":{"status":"up","queueStats":{"s":[]}},"machines":{}}"#,
            "queueStats.\"s\" is not an object",
        ),
        (
            r#"{"queueRunner":{"status":"up","queueStats":{"s":{"nrRunnableWaiting":-1}}},"machines":{}}"#,
            "queueStats.\"s\".nrRunnableWaiting is -1, not a count",
        ),
    ] {
        let why = reason(read_at(NOW, status.as_bytes(), Ok(b"{}"), known));
        assert!(why.starts_with(expected), "{why}");
    }
}

/// Its age could not be known. Only a hand-written answer has no time.
#[test]
fn an_answer_with_a_time_that_cannot_be_read_is_not_trusted() {
    let answer = |time: &str| {
        let text = format!(
            "{{\"queueRunner\":{{\"status\":\"up\"{time},\"uptime\":5}},\"machines\":{{}}}}"
        );
        read_at(NOW, text.as_bytes(), Ok(b"[]".as_slice()), known)
    };
    for time in ["\"soon\"", "null", "0", "1795473493", "[]"] {
        let why = reason(answer(&format!(",\"time\":{time}")));
        assert!(
            why.contains("queueRunner.time is ") && why.contains("not a time"),
            "{time}: {why}"
        );
    }
}

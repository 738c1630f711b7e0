//! For any answer of a queue runner, also a damaged one, nothing panics and nothing
//! grows without limit; a busy machine is never missing from an accepted answer.

// An error in a test helper fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adapters::queue::{Asked, classic, derivations, rest};
use planner::{Queue, QueueStatus, Timestamp};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

#[path = "../../planner/tests/mutations/mod.rs"]
mod mutations;

use mutations::at_least;

const ASKED: Asked = Asked { from: Timestamp(1_795_590_000), to: Timestamp(1_795_590_005) };
const CLASSIC: [&[u8]; 5] = [
    include_bytes!("data/queue/classic-2018-up.json"),
    include_bytes!("data/queue/classic-2025-machines-fragment.json"),
    include_bytes!("data/queue/classic-2022-crashed.json"),
    include_bytes!("data/queue/classic-2025-copying.json"),
    br#"{"status":"up","uptime":1.5,"machineTypes":{"x86_64-linux:kvm":{"runnable":3,"running":1,"lastActive":7}},"machines":{"ssh-ng://root@[::1]:2222?x=y":{"enabled":true,"currentJobs":1}}}"#,
];
const REST: [[&[u8]; 2]; 4] = [
    [
        include_bytes!("data/queue/rest-queued/status.json"),
        include_bytes!("data/queue/rest-queued/status-queues.json"),
    ],
    [
        include_bytes!("data/queue/rest-building/status.json"),
        include_bytes!("data/queue/rest-building/status-queues.json"),
    ],
    [
        include_bytes!("data/queue/rest-after/status.json"),
        include_bytes!("data/queue/rest-after/status-queues.json"),
    ],
    [
        include_bytes!("data/queue/rest-gone/status.json"),
        include_bytes!("data/queue/rest-gone/status-queues.json"),
    ],
];

/// Overwrites, inserts and cuts bytes.
fn mutate_bytes(sample: &[u8], edits: &[(Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for (at, how, byte) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match how % 4 {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn odd_value() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(i64::MIN),
        json!("-1"),
        json!("0"),
        json!("7"),
        json!("1e9"),
        json!(1_795_590_000_000_u64),
        json!("2026-11-25T00:00:00Z"),
        json!(0),
        json!(u64::MAX),
        json!(-1e300),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!("up"),
        json!("\u{0}\u{1b}[2J@:[::]"),
        json!([]),
        json!([[[{}]]]),
        json!({}),
        json!({"": {"": null}, "a:b:c,,": 1, "ssh://@[": {"currentJobs": []}}),
    ])
}

/// Replaces, removes or renames the value that a walk from the root ends at.
fn mutate_value(value: &mut Value, path: &[Index], how: u8, odd: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = odd.clone();
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(step.index(map.len())).unwrap().clone();
            match (rest.is_empty(), how % 3) {
                (true, 0) => drop(map.remove(&key)),
                (true, 1) => {
                    let moved = map.remove(&key).unwrap();
                    map.insert(format!("{key}{odd}"), moved);
                }
                _ => mutate_value(&mut map[&key], rest, how, odd),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = step.index(list.len());
            mutate_value(&mut list[at], rest, how, odd);
        }
        other => *other = odd.clone(),
    }
}

type Edit = (Vec<Index>, u8, Value);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = (prop::collection::vec(any::<Index>(), 0..6), any::<u8>(), odd_value());
    prop::collection::vec(edit, 1..4)
}

fn mutate_json(sample: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(sample).unwrap();
    for (path, how, odd) in edits {
        mutate_value(&mut value, path, *how, odd);
    }
    serde_json::to_vec(&value).unwrap()
}

/// A machine is idle only if its number of jobs is reported and zero.
fn check_jobs(queue: &Queue, listed: &Map<String, Value>) {
    for (machine, entry) in queue.machines.iter().zip(listed.values()) {
        if machine.current_jobs > 0 {
            continue;
        }
        let classic = entry.get("currentJobs");
        let reported = classic.or_else(|| entry.get("stats")?.get("currentJobs"));
        let reported = reported.unwrap_or_else(|| panic!("idle without a count: {entry}"));
        let is_zero = reported.as_f64() == Some(0.0) || reported.as_str() == Some("0");
        assert!(is_zero, "{reported} counts as idle");
    }
}

/// A classic status without machines is accepted only if nothing in it is active.
fn check_nothing_is_active(answer: &Value, queue: &Queue) {
    assert!(queue.machines.is_empty());
    assert!(answer["nrActiveSteps"].as_u64().is_none_or(|active| active == 0));
    assert!(queue.demand.iter().all(|demand| demand.running == 0));
}

/// The rules for every answer. `answer` is JSON if it was accepted.
fn check(status: &QueueStatus, answer: &[u8]) {
    match status {
        QueueStatus::Unavailable(reason) => assert!(!reason.is_empty()),
        QueueStatus::Up(queue) => {
            let answer: Value = serde_json::from_slice(answer).unwrap();
            match answer["machines"].as_object() {
                Some(listed) => {
                    assert_eq!(queue.machines.len(), listed.len(), "a machine was lost");
                    check_jobs(queue, listed);
                }
                None => check_nothing_is_active(&answer, queue),
            }
            for machine in &queue.machines {
                assert!(machine.current_jobs == 0 || machine.idle_since.is_none());
            }
            assert!(queue.warnings.len() < 50, "{} warnings", queue.warnings.len());
            assert!(queue.warnings.iter().all(|line| !line.contains(['\0', '\u{1b}'])));
        }
    }
}

fn read_rest(status: &[u8], queues: &[u8]) {
    for queues in [Ok(queues), Err("refused".to_owned())] {
        check(&rest::read(status, queues, ASKED, |_| None), status);
    }
}

proptest! {
    #![proptest_config(at_least(2_500))]

    #[test]
    fn classic_bytes(
        sample in select(CLASSIC.to_vec()),
        edits in prop::collection::vec(any::<(Index, u8, u8)>(), 1..6),
    ) {
        let bytes = mutate_bytes(sample, &edits);
        check(&classic::parse(&bytes, ASKED), &bytes);
        let _ = derivations::parse(&bytes);
    }

    #[test]
    fn classic_values(sample in select(CLASSIC.to_vec()), edits in edits()) {
        let bytes = mutate_json(sample, &edits);
        check(&classic::parse(&bytes, ASKED), &bytes);
        let _ = derivations::parse(&bytes);
    }

    #[test]
    fn rest_bytes(
        [status, queues] in select(REST.to_vec()),
        edits in prop::collection::vec(any::<(Index, u8, u8)>(), 1..6),
    ) {
        read_rest(&mutate_bytes(status, &edits), queues);
        read_rest(status, &mutate_bytes(queues, &edits));
    }

    #[test]
    fn rest_values([status, queues] in select(REST.to_vec()), edits in edits()) {
        read_rest(&mutate_json(status, &edits), queues);
        read_rest(status, &mutate_json(queues, &edits));
    }
}

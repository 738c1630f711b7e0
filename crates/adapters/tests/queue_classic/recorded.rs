//! Output of real queue runners of several years, and what their releases omit.

use adapters::queue::{Asked, classic};
use planner::{Queue, QueueStatus, Seconds, Timestamp};

use super::{reason, summary, up};

const CANCELED: &[u8] = include_bytes!("../data/queue/classic-2022-canceled.json");
const CRASHED: &[u8] = include_bytes!("../data/queue/classic-2022-crashed.json");
const COPYING: &[u8] = include_bytes!("../data/queue/classic-2025-copying.json");

fn at(now: u64, bytes: &[u8]) -> QueueStatus {
    classic::parse(bytes, Asked::at(Timestamp(now)))
}

/// Read when it was printed.
fn just_now(bytes: &[u8]) -> Queue {
    let answer: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let queue = up(at(answer["time"].as_u64().unwrap(), bytes));
    assert_eq!(queue.clock_offset_seconds, 0);
    queue
}

/// Canceled steps stay in `machineTypes` until the dispatcher wakes.
#[test]
fn phantom_steps() {
    let queue = just_now(include_bytes!("../data/queue/classic-2022-phantom-step.json"));
    assert_eq!((queue.demand[0].runnable, queue.runnable_total), (1, Some(0)));
    let queue = just_now(CANCELED);
    assert_eq!((queue.demand[1].runnable, queue.runnable_total), (2, Some(0)));
    assert_eq!(queue.demand[1].wait_seconds, Some(48));
}

/// `max_unsupported_time = 0`: the step was aborted in the second in which it became runnable.
#[test]
fn aborted_steps_cause_a_warning() {
    for (bytes, warned) in [
        (&include_bytes!("../data/queue/classic-2022-phantom-step.json")[..], true),
        (include_bytes!("../data/queue/classic-2022-aborted.json"), false),
        (include_bytes!("../data/queue/classic-2025-queued.json"), false),
        (CRASHED, false),
    ] {
        let queue = just_now(bytes);
        let hint = queue.warnings.iter().any(|line| line.contains("max_unsupported_time"));
        assert_eq!(hint, warned, "{:?}", queue.warnings);
    }
}

#[test]
fn steps_that_prefer_a_local_build() {
    let queue = just_now(include_bytes!("../data/queue/classic-2022-local-steps.json"));
    let own = format!("{}-linux:local runnable=2 running=0 active=-", std::env::consts::ARCH);
    assert_eq!(summary(&queue), [own]);
    assert_eq!((queue.runnable_total, queue.unsupported_steps), (Some(2), 2));
}

/// The releases of January 2023 to April 2025 have no key `machines` until a machine is listed.
#[test]
fn a_farm_at_zero_of_2025() {
    let queue = just_now(include_bytes!("../data/queue/classic-2025-no-machines.json"));
    assert_eq!(summary(&queue), [""; 0]);
    let queue = just_now(include_bytes!("../data/queue/classic-2025-queued.json"));
    assert_eq!(summary(&queue), ["x86_64-linux runnable=12 running=0 active=-"]);
    assert_eq!(queue.demand[0].wait_seconds, None);
}

#[test]
fn no_machines_is_accepted_only_while_nothing_is_active() {
    for (rest, accepted) in [
        (r#""nrActiveSteps":0"#, true),
        (r#""machineTypes":{}"#, true),
        (r#""machines":null,"nrActiveSteps":0,"machineTypes":null"#, true),
        (r#""machineTypes":null"#, false),
        (r#""machineTypes":{"a":{"runnable":3,"running":0}}"#, true),
        (r#""nrActiveSteps":1,"machineTypes":{}"#, false),
        (r#""nrActiveSteps":"?","machineTypes":{}"#, false),
        (r#""nrActiveSteps":-1"#, false),
        (r#""nrActiveSteps":0,"nrStepsBuilding":1"#, false),
        (r#""nrActiveSteps":0,"nrStepsCopyingFrom":1"#, false),
        (r#""machineTypes":{},"nrStepsCopyingTo":1"#, false),
        (r#""nrActiveSteps":0,"machineTypes":{"a":{"running":1}}"#, false),
        (r#""uptime":5"#, false),
        (r#""machines":[],"nrActiveSteps":0"#, false),
    ] {
        let status = at(1000, format!(r#"{{"status":"up",{rest}}}"#).as_bytes());
        assert_eq!(matches!(status, QueueStatus::Up(_)), accepted, "{rest}");
    }
}

/// The releases of February to June 2023 report no machine types.
#[test]
fn steps_of_unreported_types_are_not_missed() {
    let status = |runnable: u64| {
        let text = r#""status":"up","machines":{},"machineTypes":{}"#;
        at(1000, format!(r#"{{{text},"nrRunnableSteps":{runnable}}}"#).as_bytes())
    };
    assert_eq!(up(status(0)).runnable_total, Some(0));
    let why = reason(status(40));
    assert!(
        why.starts_with("40 steps are runnable, but machineTypes of the queue status is"),
        "{why}"
    );
    assert!(why.ends_with("update Hydra"), "{why}");
}

/// Since April 2025 a machine's job ends when its outputs begin to be copied.
#[test]
fn outputs_being_copied() {
    let queue = just_now(COPYING);
    assert_eq!(queue.copying_steps, 1);
    assert!(queue.machines.iter().all(|machine| machine.current_jobs == 0));
    assert_eq!(just_now(CRASHED).copying_steps, 0);
    for (active, jobs, copying) in [
        ("3", "1", 2),
        ("1", "1", 0),
        ("0", "1", 0),
        ("\"2\"", "\"1\"", 1),
        // An unreadable value must not hide a copy.
        ("-1", "0", 1),
        ("{}", "0", 1),
        ("1", "-1", 1),
        ("1", "null", 1),
    ] {
        let status = format!(
            r#"{{"status":"up","nrActiveSteps":{active},
                 "machines":{{"a":{{"enabled":true,"currentJobs":{jobs}}}}}}}"#
        );
        let queue = up(at(1000, status.as_bytes()));
        assert_eq!(queue.copying_steps, copying, "{active} active, {jobs} reported");
    }
    for (counts, copying) in [
        (r#""nrStepsCopyingFrom":1"#, 1),
        (r#""nrActiveSteps":0,"nrStepsBuilding":1,"nrStepsCopyingTo":1"#, 2),
        (r#""nrActiveSteps":1,"nrStepsCopyingFrom":1"#, 1),
        (r#""nrActiveSteps":0,"nrStepsCopyingFrom":"many""#, 1),
        (r#""nrStepsWaiting":4"#, 0),
    ] {
        let machines = r#""machines":{"a":{"enabled":true,"currentJobs":0}}"#;
        let queue = up(at(1000, format!(r#"{{"status":"up",{counts},{machines}}}"#).as_bytes()));
        assert_eq!(queue.copying_steps, copying, "{counts}");
    }
}

/// The values that show unhealthy machines, and how fast the others are.
#[test]
fn failures_and_step_times() {
    let queue = just_now(CRASHED);
    let [crashed, busy, ..] = &queue.machines[..] else { panic!("{:?}", queue.machines) };
    assert_eq!(crashed.disabled_until, Some(Timestamp(1_795_590_868)));
    assert_eq!(crashed.last_failure, Some(Timestamp(1_795_590_802)));
    assert_eq!((crashed.consecutive_failures, crashed.steps_done), (1, Some(0)));
    assert_eq!((crashed.total_step_time, crashed.current_jobs), (None, 0));
    assert_eq!((busy.disabled_until, busy.last_failure), (None, None));
    assert_eq!((busy.consecutive_failures, busy.current_jobs), (0, 2));

    let machine = &just_now(CANCELED).machines[0];
    assert_eq!(machine.steps_done, Some(10));
    assert_eq!(machine.total_step_time, Some(Seconds(163)));
    assert_eq!(machine.total_build_time, Some(Seconds(160)));
}

/// The machine was idle for 24 s when the answer was created, with any offset of the queue runner's clock.
#[test]
fn times_are_by_our_clock() {
    for ahead in [0_i64, 20, 3600, -3600, -6 * 3600] {
        let now = 1_795_589_804_u64.checked_add_signed(-ahead).unwrap();
        let queue = up(at(now, CANCELED));
        assert_eq!(queue.time, Some(Timestamp(1_795_589_804)));
        assert_eq!(queue.clock_offset_seconds, ahead);
        assert_eq!(queue.machines[0].idle_since, Some(Timestamp(now - 24)));
        assert_eq!(queue.demand[1].last_active, Some(Timestamp(now - 24)));
        let is_warned = queue.warnings.iter().any(|line| line.contains("our clock"));
        assert_eq!(is_warned, ahead.abs() > 30, "{:?}", queue.warnings);
    }
    // Created some time between question and answer: no offset can be computed.
    let asked = Asked { from: Timestamp(1_795_589_800), to: Timestamp(1_795_589_809) };
    assert_eq!(up(classic::parse(CANCELED, asked)).clock_offset_seconds, 0);
}

//! Which answers of the queue runner are trusted, and when it is asked.

use planner::{Queue, QueueMachine, QueueStatus, Timestamp};
use reconciler::Event;

use crate::harness::{Harness, TYPE, configuration, pool, two_providers, up};

/// A status that says it is from `time` by a clock that is `offset` seconds ahead of ours.
fn status(harness: &Harness, runnable: u64, time: u64, offset: i64) -> QueueStatus {
    let QueueStatus::Up(queue) = harness.status(runnable, &[Harness::disabled(0, 0)]) else {
        panic!("it is up");
    };
    QueueStatus::Up(Queue { time: Some(Timestamp(time)), clock_offset_seconds: offset, ..queue })
}

fn is_available(harness: &Harness) -> bool {
    matches!(harness.reconciler.snapshot().queue, QueueStatus::Up(_))
}

#[test]
fn it_is_asked_at_every_interval_and_never_twice_at_once() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.pass(100);
    assert_eq!(harness.questions.len(), 1, "the first is not answered yet");
    harness.queue(0, &[]);
    assert_eq!(harness.questions.len(), 1, "the next is due");
    harness.queue(0, &[]);
    harness.pass(9);
    assert!(harness.questions.is_empty());
    harness.pass(1);
    assert_eq!(harness.questions.len(), 1);
}

#[test]
fn an_answer_to_another_question_is_ignored() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    let old = harness.questions[0];
    harness.queue(0, &[]);
    harness.pass(10);
    let status = harness.status(9, &[]);
    harness.tell(Event::Queue { question: old, status });
    harness.act();
    assert!(harness.operations.is_empty());
    assert_eq!(harness.questions.len(), 1);
}

#[test]
fn a_status_whose_time_does_not_advance_becomes_unavailable() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    for _ in 0..12 {
        let status = status(&harness, 0, 1_000_000, 0);
        harness.queue_is(&status);
        harness.pass(10);
    }
    assert!(is_available(&harness));
    let old = status(&harness, 9, 1_000_000, 0);
    harness.queue_is(&old);
    assert!(!is_available(&harness));
    assert!(harness.operations.is_empty(), "nothing is done because of it");
    let plan = harness.reconciler.plan().to_string();
    assert!(plan.contains("its time has been 1970-01-12 13:46:40"), "{plan}");
    let new = status(&harness, 1, 1_000_130, 0);
    harness.queue_is(&new);
    assert!(is_available(&harness));
}

#[test]
fn an_old_status_is_not_trusted_before_its_time_advances() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    let old = status(&harness, 3, 1_000_000 - 6 * 3600, -6 * 3600);
    harness.queue_is(&old);
    assert!(!is_available(&harness));
    harness.pass(1);
    assert_eq!(harness.questions.len(), 1, "the question is repeated soon");
    harness.queue_is(&old);
    assert!(!is_available(&harness), "it is a file that nothing updates");

    let mut harness = Harness::new(pool());
    harness.list(&[]);
    let behind = status(&harness, 3, 1_000_000 - 3600, -3600);
    harness.queue_is(&behind);
    assert!(!is_available(&harness));
    harness.pass(1);
    let later = status(&harness, 3, 1_000_001 - 3600, -3600);
    harness.queue_is(&later);
    assert!(is_available(&harness), "its clock is only behind");
    assert_eq!(harness.operations.len(), 3);
}

#[test]
fn a_status_that_is_no_newer_confirms_nothing() {
    let mut harness = Harness::with_ready_machine(pool());
    let first = status(&harness, 0, 1_000_010, 0);
    harness.queue_is(&first);
    assert!(harness.file.is_empty());
    harness.queue_is(&first);
    assert!(harness.operations.is_empty(), "the same answer again");
    harness.pass(1);
    assert_eq!(harness.questions.len(), 1, "the question is repeated soon");
    let newer = status(&harness, 0, 1_000_011, 0);
    harness.queue_is(&newer);
    assert_eq!(harness.under_way(), ["destroy farm-0"]);
}

#[test]
fn a_frozen_status_is_not_asked_for_every_second() {
    let mut harness = Harness::with_ready_machine(pool());
    let frozen = status(&harness, 0, 1_000_010, 0);
    harness.queue_is(&frozen);
    let mut asked = 0;
    for _ in 0..60 {
        asked += harness.questions.len();
        if !harness.questions.is_empty() {
            harness.queue_is(&frozen);
        }
        harness.pass(1);
    }
    assert!((6..=11).contains(&asked), "{asked} times in a minute");
}

#[test]
fn an_unavailable_status_is_reported_once_and_releases_nothing() {
    let mut harness = Harness::with_ready_machine(pool());
    for _ in 0..3 {
        harness.queue_is(&QueueStatus::Unavailable("down".to_owned()));
        harness.pass(10);
    }
    assert!(harness.operations.is_empty());
    assert_eq!(harness.file, ["farm-0"]);
    harness.queue(1, &[]);
    let history: Vec<_> = harness.disk.history.iter().map(|(_, what)| what.to_string()).collect();
    let count = |text: &str| history.iter().filter(|line| line.as_str() == text).count();
    assert_eq!(count("queue status unavailable: down"), 1);
    assert_eq!(count("queue status available again"), 1);
}

#[test]
fn a_quiet_farm_is_not_planned_again() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    let written = harness.disk.history.len();
    for second in 0..20 {
        let mut status = harness.status(1, &[Harness::listed(0, 1)]);
        if let QueueStatus::Up(queue) = &mut status {
            queue.uptime.0 += second;
        }
        harness.queue_is(&status);
        harness.list(&[up(0)]);
    }
    assert_eq!(harness.disk.history.len(), written, "nothing happened");
}

#[test]
fn setting_the_clock_changes_no_wait() {
    for step in [-7200_i64, 7200] {
        let mut pool = pool();
        pool.idle_timeout = planner::IdleTimeout::After(planner::Seconds(300));
        let mut harness = Harness::with_ready_machine(pool);
        harness.queue(0, &[Harness::listed(0, 0)]);
        harness.now = harness.now.saturating_add_signed(step);
        harness.tell(Event::ClockStepped { seconds: step });
        harness.act();
        let ready_at = 1_000_000_u64.saturating_add_signed(step);
        while harness.now < ready_at + 280 {
            harness.queue(0, &[Harness::listed(0, 0)]);
        }
        assert_eq!(harness.file, ["farm-0"], "{step}");
        harness.pass(20);
        assert!(harness.file.is_empty(), "{step}");
    }
}

/// Nobody answers: the first plan is made after 30 s, whatever the clock says.
#[test]
fn setting_the_clock_does_not_delay_the_first_plan() {
    let mut harness = Harness::new(pool());
    harness.pass(10);
    harness.now -= 7200;
    harness.tell(Event::ClockStepped { seconds: -7200 });
    harness.pass(19);
    assert!(harness.reconciler.seen().is_none());
    harness.pass(2);
    assert!(harness.reconciler.seen().is_some(), "the first plan");
}

/// A plan is made again when an answer shows something new, not with every answer.
#[test]
fn an_answer_that_shows_something_new_is_planned_for_at_once() {
    let mut harness = Harness::with_ready_machine(pool());
    let busy = |jobs| QueueMachine { current_jobs: jobs, ..Harness::listed(0, 1) };
    let answers = [
        (1, busy(1), None, true),
        (1, busy(1), None, false),
        (2, busy(1), None, true),
        (2, busy(2), None, true),
        (2, busy(2), Some("it is odd"), true),
        (2, busy(2), Some("it is odd"), false),
    ];
    for (step, (runnable, machine, warning, is_new)) in answers.into_iter().enumerate() {
        let mut status = harness.status(runnable, &[machine]);
        if let QueueStatus::Up(queue) = &mut status {
            queue.warnings.extend(warning.map(str::to_owned));
        }
        harness.pass(1);
        harness.queue_is(&status);
        let planned_at = harness.reconciler.seen().unwrap().taken_at;
        assert_eq!(planned_at.0 == harness.now, is_new, "answer {step}");
    }
}

/// How long steps wait is a reason to plan again only for types that have a `targetWait`.
#[test]
fn waits_matter_only_for_a_target() {
    for target_wait in [None, Some(planner::Seconds(300))] {
        let mut harness = Harness::new(planner::PoolPolicy { target_wait, ..pool() });
        harness.list(&[]);
        harness.queue(1, &[]);
        harness.queue(1, &[]);
        let QueueStatus::Up(queue) = &harness.reconciler.seen().unwrap().queue else { panic!() };
        assert_eq!(queue.demand[0].wait_seconds.is_some(), target_wait.is_some());
        let QueueStatus::Up(shown) = harness.reconciler.shown().queue else { panic!() };
        assert!(shown.demand[0].wait_seconds.is_some(), "people see it in any case");
    }
}

/// `maxStatusAge` is two minutes.
#[test]
fn a_status_may_be_as_old_as_max_status_age() {
    for (offset, is_trusted) in [(-120, true), (-121, false)] {
        let mut harness = Harness::new(pool());
        harness.list(&[]);
        let mut status = harness.status(1, &[]);
        if let QueueStatus::Up(queue) = &mut status {
            queue.time = Some(Timestamp(harness.now - 120));
            queue.clock_offset_seconds = offset;
        }
        harness.queue_is(&status);
        let is_up = matches!(harness.reconciler.queue(), QueueStatus::Up(_));
        assert_eq!(is_up, is_trusted, "{offset}");
        let said = |harness: &Harness, text: &str| {
            harness.disk.history.iter().any(|(_, what)| what.to_string().contains(text))
        };
        assert!(!said(&harness, "available again"), "it is the first answer");
    }
}

/// It was stored somewhere, and says less about the present than the last answer.
#[test]
fn a_status_that_is_older_than_the_last_one_is_ignored() {
    let mut harness = Harness::with_ready_machine(pool());
    let stored = status(&harness, 3, 1_000_010, 0);
    harness.queue_is(&stored);
    assert_eq!(harness.file, ["farm-0"]);
    let newer = status(&harness, 0, 1_000_011, 0);
    harness.queue_is(&newer);
    assert!(harness.file.is_empty());
    for _ in 0..2 {
        harness.queue_is(&stored);
        assert!(harness.file.is_empty(), "an old answer takes no machine back");
    }
    // A clock that was set advances from there.
    for seconds in [-7200_i64, 7200] {
        harness.queue_is(&newer);
        let set = 1_000_020_u64.saturating_add_signed(seconds);
        let first = status(&harness, 3, set, seconds);
        harness.queue_is(&first);
        harness.queue_is(&first);
        assert!(harness.file.is_empty(), "it may have been stored before the clock was set");
        let advanced = status(&harness, 3, set + 1, seconds);
        harness.queue_is(&advanced);
        assert_eq!(harness.file, ["farm-0"], "{seconds}");
        let set_right = [set + 2, set + 3]
            .map(|time| status(&harness, 0, time.saturating_add_signed(-seconds), 0));
        for status in &set_right {
            harness.queue_is(status);
        }
        assert!(harness.file.is_empty(), "{seconds}");
    }
}

/// Only the first plan waits for first answers; a provider that is new after a reload delays nothing.
#[test]
fn a_new_provider_delays_no_plan() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.tell(Event::Configured(Box::new(two_providers())));
    harness.act();
    let idle = status(&harness, 0, 1_000_010, 0);
    harness.queue_is(&idle);
    assert!(harness.now < 1_000_030);
    let plan = harness.reconciler.plan().to_string();
    assert!(harness.file.is_empty(), "the new provider has not answered: {plan}");
}

/// A machine that finishes its builds and gets no others gets none when the queue runner does not answer, nor after a
/// restart.
#[test]
fn a_lost_status_brings_no_builds_back() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    assert_eq!(harness.file.len(), 1);
    harness.pass(10);
    harness.queue(0, &[Harness::listed(0, 1)]);
    assert!(harness.file.is_empty(), "it gets no more builds");
    harness.pass(10);
    let down = QueueStatus::Unavailable("down".to_owned());
    harness.queue_is(&down);
    assert!(harness.file.is_empty(), "as before");
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[up(0)]);
    harness.queue_is(&down);
    assert!(harness.file.is_empty(), "as before the restart");
    harness.pass(10);
    harness.queue(1, &[Harness::disabled(0, 1)]);
    assert_eq!(harness.file.len(), 1, "it is needed again");
}

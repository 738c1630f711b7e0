//! When the reconciler wakes by itself, and that setting the clock moves these times with it.

use planner::{Machine, MachineState, Operation, Seconds, Timestamp};
use reconciler::{Configuration, Event, Timing};

use crate::harness::{Answers, Harness, TYPE, configuration, pool, up};

/// Questions and listings are so rare that only what the test begins is waited for.
fn quiet() -> Configuration {
    let mut configuration = configuration(&[(TYPE, pool())]);
    let day = Seconds(86_400);
    configuration.timing = Timing {
        poll_interval: day,
        list_interval: day,
        keep_alive_interval: Some(Seconds(300)),
        ..Timing::default()
    };
    configuration
}

impl Harness {
    fn quiet() -> Self {
        let mut harness = Self::of(quiet(), reconciler::State::default());
        harness.list(&[]);
        // It is the only answer of this day, so it already shows the machine.
        harness.queue(1, &[Self::listed(0, 1)]);
        harness
    }

    /// Seconds until it wakes by itself.
    fn wakes_in(&self) -> u64 {
        self.reconciler.poll_timeout().unwrap().0.saturating_sub(self.now)
    }

    /// The system clock jumps.
    fn step(&mut self, seconds: i64) {
        self.now = self.now.saturating_add_signed(seconds);
        self.tell(Event::ClockStepped { seconds });
        self.act();
    }
}

/// Leaves the harness in a state that ends by itself.
type Situation = fn() -> Harness;

fn hanging_creation() -> Harness {
    Harness::quiet()
}

fn booting() -> Harness {
    let mut harness = Harness::quiet();
    harness.end(Operation::Create, 0, Ok(Machine { state: MachineState::Starting, ..up(0) }));
    // Its provider is asked again and again while it boots; here it does not answer.
    harness.pass(2);
    harness
}

fn ready() -> Harness {
    let mut harness = Harness::quiet();
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    harness
}

fn unwritten_file() -> Harness {
    let mut harness = Harness::quiet();
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.list(&[up(0)]);
    harness.publications = Answers::Fail;
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    harness
}

fn unwritten_state() -> Harness {
    let mut harness = ready();
    harness.records = Answers::Fail;
    harness.tell(Event::Configured(Box::new(quiet())));
    harness.act();
    harness
}

const SITUATIONS: [(&str, Situation, u64); 5] = [
    ("a creation is abandoned 15 s after its limit", hanging_creation, 900 + 15),
    ("a boot fails at its limit", booting, 1800 - 2),
    ("keep-alive is touched at its interval", ready, 300),
    ("a machines file that could not be written is tried again", unwritten_file, 10),
    ("a state that could not be written is tried again", unwritten_state, 10),
];

#[test]
fn it_wakes_when_something_ends_and_not_before() {
    for (what, situation, seconds) in SITUATIONS {
        let harness = situation();
        assert_eq!(harness.wakes_in(), seconds, "{what}");
    }
}

#[test]
fn setting_the_clock_makes_no_wait_longer_or_shorter() {
    for (what, situation, seconds) in SITUATIONS {
        for step in [-5000_i64, 5000] {
            let mut harness = situation();
            harness.step(step);
            assert_eq!(harness.wakes_in(), seconds, "{what}, the clock was set by {step} s");
        }
    }
}

/// It is handed to the driver once, and not again while it ends.
#[test]
fn what_hangs_is_abandoned_once_at_its_limit() {
    let mut harness = Harness::quiet();
    harness.pass(914);
    assert!(harness.abandoned.is_empty());
    harness.pass(1);
    assert_eq!(harness.abandoned.len(), 1);
    harness.pass(100);
    assert_eq!(harness.abandoned.len(), 1);
    let history = harness.happened(0);
    assert!(history.iter().any(|line| line.contains("create")), "{history:?}");
}

/// While it waits for a free slot, it wakes when an operation ends, not at every moment.
#[test]
fn a_touch_that_is_due_but_has_no_slot_is_no_reason_to_wake() {
    let mut configuration = quiet();
    configuration.timing.parallelism = 1;
    let mut harness = Harness::of(configuration, reconciler::State::default());
    harness.list(&[]);
    harness.queue(2, &[Harness::listed(0, 1), Harness::listed(1, 1)]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    harness.end(Operation::Create, 1, Ok(up(1)));
    harness.end(Operation::Deploy, 0, Ok(up(0)));
    assert_eq!(harness.under_way(), ["deploy farm-1"]);
    harness.list(&[up(0), up(1)]);
    harness.pass(300);
    assert_eq!(harness.under_way(), ["deploy farm-1"]);
    assert_eq!(harness.wakes_in(), 1815 - 300);
}

/// The plan of a farm where nothing happens is made once.
#[test]
fn nothing_is_planned_again_between_two_moments_at_which_something_changes() {
    let mut harness = ready();
    let planned = |harness: &Harness| harness.reconciler.seen().unwrap().taken_at;
    let before = planned(&harness);
    harness.pass(299);
    assert_eq!(planned(&harness), before);
    harness.pass(1);
    assert_eq!(harness.under_way(), ["keep-alive farm-0"]);
    harness.pass(5);
    harness.end(Operation::KeepAlive, 0, Ok(up(0)));
    harness.pass(5);
    assert_eq!(planned(&harness), before, "a touch changes no plan");
    assert_eq!(harness.reconciler.now(), Timestamp(harness.now));
}

#[test]
fn keep_alive_is_touched_only_on_machines_that_can_build() {
    // The next listing shows this.
    let lists = |machine: Option<Machine>| {
        let mut harness = ready();
        let mut soon = quiet();
        soon.timing.list_interval = Seconds(1);
        harness.tell(Event::Configured(Box::new(soon)));
        harness.pass(1);
        harness.list(machine.as_slice());
        harness.tell(Event::Configured(Box::new(quiet())));
        harness.act();
        harness
    };
    for (case, mut harness) in [
        ("is off", lists(Some(Machine { state: MachineState::Stopped, ..up(0) }))),
        ("does not answer", lists(Some(Machine { state: MachineState::Unreachable, ..up(0) }))),
        ("is missing", lists(None)),
    ] {
        harness.pass(400);
        let touched = harness.under_way().contains(&"keep-alive farm-0".to_owned());
        assert!(!touched, "{case}: {:?}", harness.under_way());
    }
    let mut good = lists(Some(up(0)));
    good.pass(400);
    assert_eq!(good.under_way(), ["keep-alive farm-0"]);
}

//! Several providers, and what a listing changes besides its machines.

use planner::{Host, Machine, MachineType, Operation, PoolPolicy, Resource, Timestamp};
use reconciler::{Configuration, Event, Listing, OperationErrorKind, ProviderId, State};

use crate::harness::{ARM, Harness, TYPE, configuration, error, name, pool, two_providers, up};

/// `TYPE` at `elsewhere`; `cloud` is not configured.
fn moved() -> Configuration {
    let mut configuration = configuration(&[(TYPE, pool())]);
    configuration.providers.insert(MachineType::new(TYPE), ProviderId("elsewhere".to_owned()));
    configuration
}

impl Harness {
    /// Answers the listings of this provider, at the next time when it is asked; others get no answer yet.
    fn list_of(&mut self, of: &str, result: &Result<Listing, String>) {
        for _ in 0..120 {
            if self.listings.iter().any(|(_, provider)| provider.0 == of) {
                break;
            }
            self.pass(1);
        }
        for (listing, provider) in std::mem::take(&mut self.listings) {
            if provider.0 == of {
                self.tell(Event::Listed { listing, provider, result: result.clone() });
            } else {
                self.listings.push((listing, provider));
            }
        }
        self.act();
    }

    fn machines_of(&mut self, of: &str, machines: &[Machine]) {
        self.list_of(of, &Ok(Listing { machines: machines.to_vec(), ..Listing::default() }));
    }

    fn plan(&self) -> String {
        self.reconciler.plan().to_string()
    }
}

const TWICE: &str = "two machines are called farm-0";

#[test]
fn a_machine_of_the_same_name_at_another_configured_provider_is_another_machine() {
    let mut harness = Harness::of(two_providers(), State::default());
    harness.machines_of("cloud", &[up(0)]);
    harness.machines_of("other", &[]);
    harness.queue(0, &[]);
    assert!(!harness.plan().contains(TWICE), "{}", harness.plan());
    harness.machines_of("other", &[up(0)]);
    assert!(harness.plan().contains(TWICE), "{}", harness.plan());
    harness.machines_of("other", &[]);
    assert!(!harness.plan().contains(TWICE), "shown as soon as it changes: {}", harness.plan());
}

/// Only its address shows whether the provider of earlier settings lists the same machine.
#[test]
fn after_a_move_the_earlier_provider_lists_the_same_machine_unless_its_address_differs() {
    let there = Machine { address: Some(Host::new("10.0.0.99")), ..up(0) };
    for (listed, is_other) in [(up(0), false), (there, true)] {
        let mut harness = Harness::with_ready_machine(pool());
        harness.queue(1, &[Harness::listed(0, 1)]);
        harness.tell(Event::Configured(Box::new(moved())));
        harness.act();
        harness.machines_of("elsewhere", &[up(0)]);
        let at = |harness: &Harness| harness.disk.records[&name(0)].provider.0.clone();
        assert_eq!(at(&harness), "elsewhere");
        harness.machines_of("cloud", &[listed]);
        assert_eq!(at(&harness), "elsewhere");
        assert_eq!(harness.plan().contains(TWICE), is_other, "{}", harness.plan());
    }
}

/// Its creation failed at one provider. A machine of its name elsewhere is that machine.
#[test]
fn a_requested_machine_that_another_provider_lists_is_found_there() {
    let mut harness = Harness::of(two_providers(), State::default());
    harness.machines_of("cloud", &[]);
    harness.machines_of("other", &[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::TimedOut, "no answer")));
    harness.machines_of("other", &[up(0)]);
    let record = &harness.disk.records[&name(0)];
    assert_eq!((record.provider.0.as_str(), record.exists), ("other", true));
    assert!(!harness.plan().contains(TWICE), "{}", harness.plan());
}

#[test]
fn a_machine_whose_creation_failed_is_created_by_the_provider_that_is_configured_now() {
    let mut harness = Harness::new(pool());
    harness.list(&[]);
    harness.queue(1, &[]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Failed, "no")));
    harness.tell(Event::Configured(Box::new(moved())));
    harness.act();
    harness.machines_of("elsewhere", &[]);
    for _ in 0..60 {
        harness.queue(1, &[]);
        harness.list(&[]);
    }
    let (_, task) = harness.operations.first().unwrap();
    assert_eq!((task.operation, task.provider.0.as_str()), (Operation::Create, "elsewhere"));
    assert_eq!(harness.reconciler.records().count(), 1);
}

#[test]
fn the_history_names_the_type_whose_provider_fails() {
    let mut harness = Harness::of(two_providers(), State::default());
    harness.machines_of("cloud", &[]);
    harness.list_of("other", &Err("no answer".to_owned()));
    let entries = harness.reconciler.take_history();
    let failed: Vec<_> = entries
        .iter()
        .filter(|entry| entry.what.to_string().contains("cannot list machines"))
        .map(|entry| entry.machine_type.clone())
        .collect();
    assert_eq!(failed, [Some(MachineType::new(ARM))]);
}

/// Only a listing that shows something new is a reason to plan again.
#[test]
fn a_listing_that_shows_something_new_is_planned_for_at_once() {
    let not_ours = |names: &[&str]| {
        let not_ours = names.iter().map(|name| planner::MachineName::new(*name)).collect();
        Ok(Listing { not_ours, ..Listing::default() })
    };
    let free = |free| {
        let resources = vec![Resource { name: "MiB".into(), free, needs: [].into() }];
        Ok(Listing { resources, ..Listing::default() })
    };
    let error = |text: &str| Err(text.to_owned());
    let answers = [
        ("nothing", not_ours(&[]), false),
        ("a machine of others", not_ours(&["pet"]), true),
        ("the same", not_ours(&["pet"]), false),
        ("it is gone", not_ours(&[]), true),
        ("no answer", error("one"), true),
        ("no answer for the same reason", error("one"), false),
        ("no answer for another reason", error("two"), true),
        ("an answer", not_ours(&[]), true),
        ("a resource", free(50), true),
        ("more of it", free(60), true),
        ("no resource", not_ours(&[]), true),
        ("still none", not_ours(&[]), false),
    ];
    let nothing = PoolPolicy { max_machines: 0, ..pool() };
    let mut harness = Harness::new(nothing);
    harness.list(&[]);
    let is_planned =
        |harness: &Harness| harness.reconciler.seen().unwrap().taken_at == Timestamp(harness.now);
    for (waiting, (what, answer, is_new)) in (1..).zip(answers) {
        while harness.listings.is_empty() {
            harness.pass(1);
        }
        // It is planned for the queue, so that the plan is not old.
        harness.queue(waiting, &[]);
        harness.pass(1);
        assert!(!is_planned(&harness), "{what}");
        harness.list_as(&answer);
        assert_eq!(is_planned(&harness), is_new, "{what}");
    }
    while harness.listings.is_empty() {
        harness.pass(1);
    }
    harness.queue(0, &[]);
    harness.pass(60);
    harness.list(&[]);
    assert!(is_planned(&harness), "the last plan is as old as the listing interval");
}

/// An answer that arrives twice, or after the next question, says nothing.
#[test]
fn an_answer_to_an_earlier_listing_is_ignored() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.pass(60);
    let earlier = harness.listings.clone();
    harness.list(&[up(0)]);
    harness.pass(60);
    assert_eq!((earlier.len(), harness.listings.len()), (1, 1));
    let (listing, provider) = earlier[0].clone();
    harness.tell(Event::Listed { listing, provider, result: Ok(Listing::default()) });
    harness.act();
    assert!(!harness.plan().contains("not in its provider's listing"), "{}", harness.plan());
    harness.list(&[]);
    assert!(harness.plan().contains("not in its provider's listing"), "{}", harness.plan());
}

//! What providers list and do not list, in any order.

use planner::{
    Host, Machine, MachineName, MachineState, MachineType, Operation, QueueMachine, Tag, Verdict,
};
use reconciler::{Event, Listing, ProviderId};

use crate::harness::{ARM, Harness, TYPE, configuration, name, pool, two_providers, up};

#[test]
fn one_wrong_empty_listing_releases_nothing() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.pass(60);
    harness.list(&[]);
    harness.queue(1, &[Harness::listed(0, 0)]);
    assert_eq!(harness.file, ["farm-0"]);
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
    assert!(
        harness.reconciler.plan().to_string().contains("farm-0 is not in its provider's listing")
    );
    harness.pass(60);
    harness.list(&[up(0)]);
    assert_eq!(
        harness.happened(0)[4..],
        ["not in its provider's listing", "in its provider's listing again"]
    );
}

#[test]
fn one_that_stays_missing_is_replaced_and_then_destroyed() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 1)]);
    harness.pass(60);
    harness.list(&[]);
    harness.pass(60);
    harness.list(&[]);
    harness.queue(1, &[Harness::listed(0, 1)]);
    harness.pass(60);
    harness.list(&[]);
    harness.queue(1, &[Harness::listed(0, 1)]);
    assert_eq!(harness.under_way(), ["create farm-1"], "a busy machine is not touched");
    harness.pass(10);
    harness.queue(1, &[Harness::disabled(0, 0)]);
    harness.queue(1, &[Harness::disabled(0, 0)]);
    harness.queue(1, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.under_way(), ["create farm-1", "destroy farm-0"]);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.list(&[]);
    assert!(!harness.disk.records.contains_key(&name(0)));
}

/// A cloud reuses addresses: the jobs of the machine there now are its own.
#[test]
fn one_that_is_gone_is_not_kept_because_of_its_successor_at_the_same_address() {
    for (port, expected) in [(22, vec!["destroy farm-0"]), (2222, vec![])] {
        let mut harness = Harness::with_ready_machine(pool());
        harness.queue(2, &[Harness::listed(0, 0)]);
        let there = Machine { ssh_port: port, ..up(0) };
        let successor = Machine { name: name(1), ..there };
        harness.pass(1);
        harness.end(Operation::Create, 1, Ok(successor.clone()));
        harness.end(Operation::Deploy, 1, Ok(successor.clone()));
        for _ in 0..4 {
            harness.pass(60);
            harness.list(std::slice::from_ref(&successor));
            let listed = QueueMachine { port: Some(port), ..Harness::listed(0, 0) };
            let other = QueueMachine { port: Some(22), ..Harness::listed(0, 0) };
            harness.queue(1, &[listed, other]);
        }
        assert_eq!(harness.under_way(), expected, "{port}");
    }
}

#[test]
fn a_listing_may_lag_behind_a_creation() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(2, &[Harness::listed(0, 1)]);
    harness.pass(10);
    harness.queue(2, &[Harness::listed(0, 1)]);
    harness.end(Operation::Create, 1, Ok(up(1)));
    harness.end(Operation::Deploy, 1, Ok(up(1)));
    assert_eq!(harness.file, ["farm-0", "farm-1"]);
    for _ in 0..9 {
        harness.pass(60);
        harness.list(&[up(0)]);
        harness.queue(2, &[Harness::listed(0, 1), Harness::listed(1, 1)]);
    }
    assert_eq!(harness.file, ["farm-0", "farm-1"]);
    assert!(harness.operations.is_empty(), "{:?}", harness.under_way());
}

#[test]
fn a_listing_that_was_asked_for_before_an_operation_ended_says_nothing_of_its_machine() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.pass(60);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    assert_eq!(harness.listings.len(), 1);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.list(&[]);
    assert_eq!(
        harness.reconciler.records().count(),
        1,
        "the listing is older than the end of the operation"
    );
    harness.list(&[]);
    assert_eq!(harness.reconciler.records().count(), 0);
}

/// The queue runner may take hours to notice that a machine is gone. By then another machine may have its address.
#[test]
fn one_that_stays_missing_gets_no_new_builds_though_the_queue_runner_calls_it_busy() {
    let mut pool = pool();
    pool.idle_timeout = planner::IdleTimeout::After(planner::Seconds(600));
    let mut harness = Harness::with_ready_machine(pool);
    let since = harness.now;
    while harness.now < since + 100 {
        harness.queue(1, &[Harness::listed(0, 1)]);
        harness.list(&[]);
    }
    assert_eq!(harness.file, ["farm-0"], "a listing may be wrong");
    while harness.now < since + 300 {
        harness.queue(1, &[Harness::listed(0, 1)]);
        harness.list(&[]);
    }
    assert!(!harness.file.contains(&"farm-0".to_owned()), "{:?}", harness.file);
    assert!(!harness.under_way().contains(&"destroy farm-0".to_owned()));
}

/// Moments are counted from zero in each run; those of an earlier run mean nothing.
#[test]
fn one_that_vanished_is_missing_from_the_first_listing_after_a_restart() {
    let mut harness = Harness::with_ready_machine(pool());
    for _ in 0..20 {
        harness.queue(1, &[Harness::listed(0, 0)]);
    }
    harness.pass(60);
    harness.list(&[Machine { state: MachineState::Stopped, ..up(0) }]);
    harness.queue(1, &[]);
    harness.end(Operation::Start, 0, Ok(up(0)));
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list(&[]);
    harness.queue(1, &[]);
    assert!(harness.happened(0).contains(&"not in its provider's listing".to_owned()));
}

#[test]
fn a_provider_that_cannot_list_keeps_its_machines_as_they_are() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.pass(60);
    harness.list_as(&Err("no answer".to_owned()));
    harness.queue(0, &[Harness::listed(0, 0)]);
    assert_eq!(harness.file, ["farm-0"]);
    harness.pass(10);
    harness.queue(5, &[Harness::listed(0, 0)]);
    assert!(harness.operations.is_empty());
    harness.pass(60);
    harness.list_as(&Err("no answer".to_owned()));
    let count = |harness: &Harness, text: &str| {
        harness.disk.history.iter().filter(|(_, what)| what.to_string().contains(text)).count()
    };
    assert_eq!(count(&harness, "cannot list machines: no answer"), 1, "once");
    harness.pass(60);
    harness.list(&[up(0)]);
    assert_eq!(count(&harness, "machines can be listed again"), 1);
}

#[test]
fn a_destroyed_machine_does_not_come_back_when_its_provider_cannot_list() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(0, &[Harness::listed(0, 0)]);
    harness.queue(0, &[Harness::disabled(0, 0)]);
    harness.end(Operation::Destroy, 0, Ok(up(0)));
    harness.pass(60);
    harness.list_as(&Err("no answer".to_owned()));
    assert_eq!(harness.file, [""; 0]);
    let mut harness = harness.restarted(configuration(&[(TYPE, pool())]));
    harness.list_as(&Err("no answer".to_owned()));
    harness.queue(1, &[]);
    assert_eq!(harness.file, [""; 0]);
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let mut harness = Harness::new(pool());
    harness.queue(0, &[]);
    let foreign = |name: &str, tag: Option<&str>| Machine {
        tag: tag.map(Tag::new),
        ..Machine { name: MachineName::new(name), ..up(9) }
    };
    harness.list_as(&Ok(Listing {
        machines: vec![
            foreign("db-server-prod", None),
            foreign("farm-07", None),
            foreign("farm-5", Some("other")),
            foreign("pet", Some("farm")),
        ],
        not_ours: vec![MachineName::new("elsewhere")],
        ..Listing::default()
    }));
    harness.queue(0, &[]);
    harness.queue(0, &[]);
    harness.queue(0, &[]);
    assert_eq!(harness.under_way(), ["destroy pet"]);
    let text = harness.reconciler.plan().to_string();
    for name in ["db-server-prod", "farm-07", "farm-5", "elsewhere"] {
        assert!(text.contains(&format!("{name} is not ours")), "{text}");
    }
    harness.pass(10);
    harness.queue(3, &[]);
    assert_eq!(harness.under_way()[1..], ["create farm-0", "create farm-1", "create farm-2"][..2]);
}

#[test]
fn of_two_machines_of_one_name_none_is_touched() {
    let mut harness = Harness::new(pool());
    harness.list(&[up(0), Machine { address: Some(Host::new("10.0.0.77")), ..up(0) }]);
    for _ in 0..4 {
        harness.pass(10);
        harness.queue(0, &[]);
    }
    assert!(!harness.under_way().iter().any(|task| task.starts_with("destroy")));
    assert!(harness.reconciler.plan().to_string().contains("two machines are called farm-0"));
}

#[test]
fn a_machine_that_rebooted_is_deployed_again() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    let at = |seconds| Machine { started_at: Some(planner::Timestamp(seconds)), ..up(0) };
    harness.pass(60);
    harness.list(&[at(1_000_000)]);
    harness.pass(60);
    harness.list(&[at(1_000_060)]);
    assert!(harness.operations.is_empty(), "providers round start times");
    harness.pass(60);
    harness.list(&[at(1_000_121)]);
    assert_eq!(harness.under_way(), ["deploy farm-0"]);
    assert_eq!(harness.file, [""; 0]);
}

#[test]
fn a_machine_that_powered_itself_off_leaves_the_machines_file() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 0)]);
    harness.pass(60);
    harness.list(&[Machine { state: MachineState::Stopped, ..up(0) }]);
    assert_eq!(harness.file, [""; 0]);
    assert_eq!(harness.under_way(), ["start farm-0"]);
}

#[test]
fn an_address_that_is_removed_or_changes_is_still_known() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.queue(1, &[Harness::listed(0, 4)]);
    harness.pass(60);
    for address in [None, Some(Host::new("farm-0.example.org"))] {
        harness.list(&[Machine { address, ..up(0) }]);
        for _ in 0..4 {
            harness.pass(20);
            harness.queue(0, &[Harness::listed(0, 4)]);
        }
        let plan = harness.reconciler.plan();
        assert!(matches!(plan.verdicts[&name(0)], Verdict::Keep { .. }), "{plan}");
        assert!(harness.operations.is_empty());
    }
}

#[test]
fn a_machine_moves_to_the_provider_that_is_configured_now() {
    let mut harness = Harness::with_ready_machine(pool());
    let mut moved = configuration(&[(TYPE, pool())]);
    moved.providers = [(MachineType::new(TYPE), ProviderId("elsewhere".to_owned()))].into();
    harness.tell(Event::Configured(Box::new(moved)));
    harness.act();
    let asked: Vec<_> = harness.listings.iter().map(|(_, provider)| provider.0.as_str()).collect();
    assert!(asked.contains(&"elsewhere"), "{asked:?}");
    harness.list(&[up(0)]);
    let record = harness.reconciler.records().next().unwrap();
    assert_eq!(
        (record.provider.0.as_str(), harness.reconciler.records().count()),
        ("elsewhere", 1)
    );
}

#[test]
fn a_machine_of_a_provider_that_is_not_configured_any_more_is_still_seen() {
    let mut harness = Harness::with_ready_machine(pool());
    let mut moved = configuration(&[(TYPE, pool())]);
    moved.providers = [(MachineType::new(TYPE), ProviderId("elsewhere".to_owned()))].into();
    harness.tell(Event::Configured(Box::new(moved)));
    harness.pass(60);
    for (listing, provider) in std::mem::take(&mut harness.listings) {
        let machines = if provider.0 == "cloud" { vec![up(0)] } else { Vec::new() };
        let result = Ok(Listing { machines, ..Listing::default() });
        harness.tell(Event::Listed { listing, provider, result });
    }
    harness.act();
    for _ in 0..3 {
        harness.queue(0, &[Harness::disabled(0, 0)]);
    }
    let (_, task) = harness.operations.first().unwrap();
    assert_eq!((task.operation, task.provider.0.as_str()), (Operation::Destroy, "cloud"));
}

/// Reported by the provider in an event, or in its next listing.
#[test]
fn a_machine_that_its_provider_takes_away_is_drained_and_replaced_at_once() {
    for is_listed in [false, true] {
        let mut harness = Harness::with_ready_machine(pool());
        harness.queue(1, &[Harness::listed(0, 1)]);
        harness.pass(60);
        assert_eq!(harness.file, ["farm-0"]);
        if is_listed {
            harness.list(&[Machine { interrupted: true, ..up(0) }]);
        } else {
            let provider = ProviderId("cloud".to_owned());
            harness.tell(Event::Interrupted { provider, machine: name(0) });
            harness.act();
        }
        assert!(harness.file.is_empty(), "it gets no more builds");
        assert_eq!(harness.under_way(), ["create farm-1"], "it still builds");
        harness.queue(0, &[Harness::disabled(0, 0)]);
        harness.pass(10);
        harness.queue(0, &[Harness::disabled(0, 0)]);
        assert_eq!(harness.under_way(), ["create farm-1", "destroy farm-0"]);
        assert!(harness.happened(0).contains(&"its provider interrupts it".to_owned()));
    }
}

/// It belongs to another provider or is gone: nothing happens.
#[test]
fn an_announcement_about_no_machine_of_the_provider_is_nothing() {
    let mut harness = Harness::with_ready_machine(pool());
    for (provider, number) in [("another cloud", 0), ("cloud", 7)] {
        let provider = ProviderId(provider.to_owned());
        harness.tell(Event::Interrupted { provider, machine: name(number) });
        harness.act();
    }
    assert_eq!(harness.file, ["farm-0"]);
}

/// The last transactions were lost, and its name was given again: two machines of one name would stay for ever.
#[test]
fn a_name_is_that_of_another_providers_machine_once_the_first_one_has_vanished() {
    let mut harness = Harness::with_ready_machine(pool());
    harness.tell(Event::Configured(Box::new(two_providers())));
    let other = Machine {
        machine_type: MachineType::new(ARM),
        address: Some(Host::new("10.0.0.9")),
        ..up(0)
    };
    let duplicate = "two machines are called farm-0";
    for round in 0..5 {
        harness.pass(60);
        for (listing, provider) in std::mem::take(&mut harness.listings) {
            let is_other = provider == ProviderId("other".to_owned());
            let machines = if is_other { vec![other.clone()] } else { Vec::new() };
            let result = Ok(Listing { machines, ..Listing::default() });
            harness.tell(Event::Listed { listing, provider, result });
        }
        harness.queue(0, &[Harness::listed(0, 0)]);
        let plan = harness.reconciler.plan().to_string();
        assert_eq!(plan.contains(duplicate), round < 2, "{round}: {plan}");
    }
    assert_eq!(harness.disk.records[&name(0)].machine.machine_type, MachineType::new(ARM));
}

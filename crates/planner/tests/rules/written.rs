//! The JSON of snapshots and policies: state files and cases. What has its default is not written, and all else is read back.

use planner::{
    Demand, DemandKey, InMachinesFile, Machine, MachineName, MachineType, Policy, PoolPolicy,
    Queue, QueueMachine, Seconds, Sequence, System, Tag,
};

use crate::farm::{HOUR, TYPE, ago, failing, leaving, listed, pool, remembers, up};

fn keys(value: &impl serde::Serialize) -> Vec<String> {
    let value = serde_json::to_value(value).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

fn read_back<T>(value: &T) -> T
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

#[test]
fn of_a_requested_machine_only_the_request_is_written() {
    let machine = Machine::requested(MachineName::new("farm-0"), MachineType::new(TYPE));
    let written = keys(&machine);
    for absent in ["memory", "interrupted", "problems", "tag"] {
        assert!(!written.contains(&absent.to_owned()), "{absent}: {written:?}");
    }
    assert!(keys(&machine.memory).is_empty(), "{:?}", keys(&machine.memory));
    assert_eq!(read_back(&machine), machine);
}

#[test]
fn what_is_known_of_a_machine_is_read_back() {
    let mut machine = remembers(up(0), |memory| {
        memory.in_machines_file = InMachinesFile::NoMore(Sequence(7));
        memory.steps_built = 12;
        memory.leaving = Some(leaving());
        memory.failing = Some(failing(planner::Operation::Deploy, ago(HOUR)));
    });
    machine.interrupted = true;
    assert_eq!(read_back(&machine), machine);
    let entry = QueueMachine { consecutive_failures: 3, ..listed(0, 1) };
    assert_eq!(read_back(&entry), entry);
    assert!(!keys(&listed(0, 1)).contains(&"consecutiveFailures".to_owned()));
}

/// A provider need not say by which user a machine is reached.
#[test]
fn a_machine_is_reached_as_root_at_port_22_unless_it_says_otherwise() {
    let text = r#"{"name": "farm-0", "type": "t", "state": "up"}"#;
    let machine: Machine = serde_json::from_str(text).unwrap();
    assert_eq!((machine.ssh_user.as_str(), machine.ssh_port), ("root", 22));
}

#[test]
fn a_queue_is_read_back_with_its_keys() {
    let kind = DemandKey { system: System::new(TYPE), features: [].into() };
    let classic = Queue { demand: vec![Demand::none_of(kind)], ..Queue::default() };
    let rest = Queue { keys: planner::MachineKeys::HostName, ..classic.clone() };
    for queue in [&classic, &rest] {
        assert_eq!(read_back(queue), *queue);
    }
    assert!(!keys(&classic).contains(&"keys".to_owned()), "{:?}", keys(&classic));
}

/// As documented in docs/configuration.md.
#[test]
fn a_type_has_the_documented_defaults() {
    let new = PoolPolicy::new(vec![System::new(TYPE)]);
    assert_eq!((new.max_machines, new.min_machines, new.max_creating, new.max_jobs), (1, 0, 5, 1));
    assert_eq!(new.runnables_per_machine.get(), 10);
    assert_eq!(new.health_timeout, Seconds(600));
    assert_eq!(new.progress_timeout, Seconds(12 * HOUR));
    assert_eq!(new.give_up_after, Seconds(HOUR));
    assert!(!keys(&new).contains(&"rotation".to_owned()));
    let mut aged = pool();
    aged.rotation.max_age = Some(Seconds(HOUR));
    let policy = Policy::new(Tag::new("farm"), [(MachineType::new(TYPE), aged)].into());
    assert_eq!(read_back(&policy), policy);
}

/// Recordings and state files of earlier versions have these names.
#[test]
fn earlier_names_are_read() {
    let text = r#"{"name": "farm-0", "type": "t", "state": "up", "settings": "a", "memory":
        {"listed": {"noMore": 7}, "knownToQueue": true, "settings": "b"}}"#;
    let machine: Machine = serde_json::from_str(text).unwrap();
    assert_eq!(machine.made_from.as_deref(), Some("a"));
    assert_eq!(machine.memory.made_from.as_deref(), Some("b"));
    assert_eq!(machine.memory.in_machines_file, InMachinesFile::NoMore(Sequence(7)));
    assert!(machine.memory.was_in_queue_status);
    let step: planner::ReleaseStep = serde_json::from_str(r#""unlist""#).unwrap();
    assert_eq!(step, planner::ReleaseStep::Unpublish);
    let order = r#"{"word": "pauseAll", "at": 7}"#;
    let order: planner::Order = serde_json::from_str(order).unwrap();
    assert_eq!(order.kind, planner::OrderKind::PauseAll);
}

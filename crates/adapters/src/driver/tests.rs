//! The driver in the real environment, without a queue runner.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use planner::MachineType;
use serde_json::{Value, json};

use super::*;
use crate::config::parse;
use crate::queue::QueueSource;

const TYPE: &str = "x86_64-linux";

fn config_of(state_dir: &Path, types: &Value) -> Config {
    let config =
        json!({ "stateDir": state_dir, "statusCommand": ["/bin/false"], "systemTypes": types });
    parse(&config).unwrap()
}

/// One type with `settings`, at most one machine.
fn config(state_dir: &Path, settings: Value) -> Config {
    let mut machine_type =
        json!({ "maxMachines": 1, "provider": { "command": { "program": ["true"] } } });
    let given: serde_json::Map<String, Value> = serde_json::from_value(settings).unwrap();
    machine_type.as_object_mut().unwrap().extend(given);
    config_of(state_dir, &json!({ TYPE: machine_type }))
}

/// A machine of the type `name` of `config`, as an earlier version recorded it.
fn record_machine(config: &Config, name: &str) {
    let provider = &config.providers[&MachineType::new(name)];
    let machine = json!({ "type": name, "provider": provider, "created": true });
    let machines = json!({ "machines": { "hydra-provisioned-0": machine } });
    std::fs::write(config.state_dir.join("machines.json"), machines.to_string()).unwrap();
}

/// The types with remembered settings.
fn known_types(driver: &Driver) -> Vec<&str> {
    let types = driver.providers.settings().values().flat_map(BTreeMap::keys);
    types.map(MachineType::as_str).collect()
}

/// Its settings applied three days later. Their end is in the future, also after the clock was set back.
#[test]
fn a_clock_that_was_set_back_ends_the_hours_of_a_schedule() {
    let days = 3;
    let folder = tempfile::tempdir().unwrap();
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let day = then.strftime("%a").to_string().to_lowercase();
    let settings = json!({ "schedule": [{ "days": day, "maxMachines": 7 }] });
    let mut driver = Driver::open(config(folder.path(), settings), Mode::Act).unwrap();
    driver.clock = Clock::before_set_back(Duration::from_secs(86_400 * days.unsigned_abs()));
    driver.scheduled = driver.config.policy_at(driver.clock.now());
    driver.configure();
    let machines =
        |driver: &Driver| driver.reconciler.policy().pools[&MachineType::new(TYPE)].max_machines;
    assert_eq!(machines(&driver), 7);
    driver.check_clock();
    assert_eq!(machines(&driver), 1);
}

fn next_event(driver: &Driver) -> Event {
    match driver.messages.recv_timeout(Duration::from_secs(60)) {
        Ok(Message::Event(event)) => event,
        Ok(_) => unreachable!("nobody sends anything else"),
        Err(error) => unreachable!("nothing was reported: {error}"),
    }
}

struct Panics;

impl QueueSource for Panics {
    fn queue_status(&mut self) -> QueueStatus {
        unreachable!("a bug")
    }
}

/// Without an event, it would count as asked forever, and nothing would be asked again.
#[test]
fn a_question_that_ends_in_a_panic_has_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(config(folder.path(), json!({})), Mode::Act).unwrap();
    driver.queue = Arc::new(Mutex::new(Box::new(Panics)));
    driver.reconciler.act(driver.clock.now());
    let effects = std::iter::from_fn(|| driver.reconciler.poll_effect()).collect::<Vec<_>>();
    let ask = effects.into_iter().find(|effect| matches!(effect, Effect::AskQueue(_))).unwrap();
    driver.carry_out(ask);
    let Event::Queue { status: QueueStatus::Unavailable(reason), .. } = next_event(&driver) else {
        unreachable!("something else was reported")
    };
    assert!(reason.contains("a bug"), "{reason}");
}

/// A panic may come after an effect; without a thread there was none.
#[test]
fn an_operation_without_a_thread_or_with_a_panic_ends() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Driver::open(config(folder.path(), json!({})), Mode::Act).unwrap();
    let operation = OperationId(7);
    let failed = move |error| Event::Ended { operation, result: Err(error) };
    // More than the memory of any machine.
    let without_room = thread::Builder::new().stack_size(1 << 60);
    for (thread, expected) in [
        (thread::Builder::new(), OperationErrorKind::TimedOut),
        (without_room, OperationErrorKind::Failed),
    ] {
        threads::report(thread, &driver.sender, failed, || unreachable!("a bug"));
        let event = next_event(&driver);
        let Event::Ended { operation: OperationId(7), result: Err(error) } = &event else {
            unreachable!("{event:?}")
        };
        assert_eq!(error.kind, expected, "{error}");
    }
}

fn qemu(host_memory: u64) -> Value {
    json!({ "provider": { "qemu": { "image": "/image", "authorizedKeys": ["ssh-ed25519 AAAA me"], "hostMemory": host_memory } } })
}

/// The least `hostMemory` of a provider's types is the limit.
#[test]
fn the_settings_of_a_removed_type_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let both = config_of(folder.path(), &json!({ "a": qemu(1000), "b": qemu(3000) }));
    let one = config_of(folder.path(), &json!({ "b": qemu(3000) }));
    let mut driver = Driver::open(both, Mode::Act).unwrap();
    assert_eq!(known_types(&driver), ["a", "b"]);
    driver.reload(one.clone()).unwrap();
    assert_eq!(known_types(&driver), ["b"]);
    driver.recorder.as_ref().unwrap().ticket().wait();
    let (_, _, remembered) = Store::open(folder.path(), &one.policy, Access::ReadOnly).unwrap();
    assert_eq!(remembered.values().map(BTreeMap::len).sum::<usize>(), 1);
}

#[test]
fn the_settings_of_a_removed_type_stay_while_a_machine_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let all = config_of(folder.path(), &json!({ "a": qemu(1000), "b": qemu(3000), "c": qemu(9) }));
    let one = config_of(folder.path(), &json!({ "b": qemu(3000) }));
    record_machine(&all, "a");
    let driver = Driver::open(one, Mode::Act).unwrap();
    assert_eq!(known_types(&driver), ["a", "b"]);
    let provider = driver.providers.get(driver.providers.settings().keys().next().unwrap());
    let resources = provider.unwrap().resources();
    assert!(resources[0].name.contains(" 3000 "), "{resources:?}");
    assert_eq!(resources[0].needs.keys().map(MachineType::as_str).collect::<Vec<_>>(), ["b"]);
}

/// The messages of a queue that is read are deleted.
#[test]
fn only_configured_providers_receive_interruption_notices() {
    let ec2 = |region: &str| {
        json!({ "a": { "provider": { "ec2": {
            "region": region, "image": "ami-0123456789abcdef0", "instanceTypes": ["m7i.large"],
            "subnets": ["subnet-0123456789abcdef0"], "purchase": ["spot"],
            "authorizedKeys": ["ssh-ed25519 AAAA me"],
        } } } })
    };
    let folder = tempfile::tempdir().unwrap();
    let old = config_of(folder.path(), &ec2("eu-central-1"));
    let new = config_of(folder.path(), &ec2("us-east-1"));
    record_machine(&old, "a");
    let driver = Driver::open(new, Mode::Look).unwrap();
    let ids = driver.providers.settings().keys();
    assert_eq!(
        ids.map(|id| id.0.as_str()).collect::<Vec<_>>(),
        ["ec2 eu-central-1", "ec2 us-east-1"]
    );
    let announcing = driver.providers.announcing();
    assert_eq!(announcing.map(|(id, _)| id.0.as_str()).collect::<Vec<_>>(), ["ec2 us-east-1"]);
}

/// Another process has created the new one, for an order.
#[test]
fn a_replaced_database_is_noticed_and_gets_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), json!({}));
    let open = |access| Store::open(folder.path(), &config.policy, access).unwrap();
    let (mut store, ..) = open(Access::ReadWrite);
    let providers = Providers::new(&config, BTreeMap::new(), []);
    store.remember_providers(providers.settings()).unwrap();
    assert_eq!(store.notice_replacement(), None);
    std::fs::remove_file(folder.path().join("state.sqlite")).unwrap();
    drop(open(Access::ReadWrite));
    assert!(store.notice_replacement().is_some());
    assert_eq!(store.notice_replacement(), None);
    store.write(&[]).unwrap();
    let (_, _, remembered) = open(Access::ReadOnly);
    assert_eq!(remembered, *providers.settings());
}

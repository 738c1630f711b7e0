//! Steps of a type without capacity.

use planner::{Feature, MachineType, Operation, System};
use reconciler::{OperationErrorKind, State};

use crate::harness::{Harness, TYPE, configuration, error, pool, up};

const OTHER: &str = "aarch64-linux,x86_64-linux";

#[test]
fn another_type_gets_it_until_there_is_capacity_again() {
    let mut other = pool();
    other.systems.push(System::new("aarch64-linux"));
    other.supported_features.insert(Feature::new("big"));
    let configuration = configuration(&[(TYPE, pool()), (OTHER, other)]);
    let mut harness = Harness::of(configuration, State::default());
    harness.list(&[]);
    harness.queue(1, &[]);
    assert_eq!(harness.under_way(), ["create farm-0"]);
    harness.end(Operation::Create, 0, Err(error(OperationErrorKind::Capacity, "none left")));
    assert_eq!(harness.under_way(), ["create farm-1"]);
    let sizing = &harness.reconciler.plan().sizing;
    assert_eq!(sizing[&MachineType::new(TYPE)].hands_over[&MachineType::new(OTHER)], 1);

    // The type itself is tried again, then gets its steps back.
    harness.pass(80);
    assert_eq!(harness.under_way(), ["create farm-1", "create farm-0"]);
    harness.end(Operation::Create, 0, Ok(up(0)));
    let sizing = &harness.reconciler.plan().sizing;
    assert!(sizing[&MachineType::new(TYPE)].hands_over.is_empty());
    assert_eq!(sizing[&MachineType::new(OTHER)].wanted, 0);
}

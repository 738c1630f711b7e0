//! No mutated configuration makes the reader panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use adapters::config::parse;
use proptest::prelude::*;
use serde_json::{Map, Value};

#[path = "../../planner/tests/mutations/mod.rs"]
mod mutations;

use mutations::at_least;

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~äß\u{0}\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
        let set = proptest::collection::btree_map("[a-zA-Z:, ]{0,10}", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>()));
        prop_oneof![list, set]
    })
}

/// All values inside `value`, counted in order.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// Replaces the value with number `at`; returns whether it was in here.
fn replace(value: &mut Value, at: &mut usize, new: &Value) -> bool {
    if *at == 0 {
        *value = new.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, at, new)),
        Value::Object(map) => map.values_mut().any(|item| replace(item, at, new)),
        _ => false,
    }
}

fn everything() -> Value {
    serde_json::from_str(include_str!("data/config/everything.json")).unwrap()
}

proptest! {
    #![proptest_config(at_least(10_000))]

    /// Up to three values anywhere in a full configuration are replaced.
    #[test]
    fn mutated_configurations_never_panic(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4)
    ) {
        let mut config = everything();
        for (index, new) in &mutations {
            let mut at = index.index(count(&config));
            prop_assert!(replace(&mut config, &mut at, new));
        }
        if let Err(problems) = parse(&config) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(!problem.place.is_empty() && !problem.message.is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(at_least(10_000))]

    /// Any bytes of the file's text are replaced.
    #[test]
    fn mutated_text_never_panics(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut text = include_bytes!("data/config/everything.json").to_vec();
        for (index, byte) in mutations {
            let at = index.index(text.len());
            text[at] = byte;
        }
        if let Ok(config) = serde_json::from_slice::<Value>(&text) {
            let _checked = parse(&config);
        }
    }
}

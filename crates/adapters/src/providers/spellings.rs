//! A busy machine is not released, however its provider and the queue runner write where it is: each change of the two
//! texts makes it the same machine, a machine that cannot be used, or one beside an unknown busy builder.

use std::collections::BTreeMap;

use planner::{
    MachineType, Policy, PoolPolicy, QueueStatus, Snapshot, System, Tag, Timestamp, Verdict, plan,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::wire;
use crate::mutations::at_least;
use crate::queue::{Asked, classic};

const NOW: Timestamp = Timestamp(1_795_473_782);
const TYPE: &str = "x86_64-linux";
/// What a provider says, and the queue runner's key.
const PLACES: [(&str, &str); 8] = [
    ("[2001:db8::4]", "root@[2001:db8::4]"),
    ("2001:db8::4", "ssh://root@[2001:db8:0::4]:22"),
    ("::ffff:10.0.0.7", "root@10.0.0.7"),
    ("10.0.0.7", "ssh-ng://root@10.0.0.7?compress=true"),
    ("10.0.0.7:2222", "ssh://root@10.0.0.7:2222"),
    ("ssh://build@10.0.0.7", "build@10.0.0.7"),
    ("M.Example.ORG.", "root@m.example.org"),
    ("fe80::1%eth0", "ssh://root@[fe80::1%25eth0]"),
];

type Edits = Vec<(Index, u8, char)>;

fn edits() -> impl Strategy<Value = Edits> {
    vec(
        (any::<Index>(), 0..4_u8, select("[]:/@?%#.&=- 05afzZé\n\"\\".chars().collect::<Vec<_>>())),
        0..4,
    )
}

/// `text` with characters replaced, inserted, removed, or in the other case.
fn mutated(text: &str, edits: &Edits) -> String {
    let mut text: Vec<_> = text.chars().collect();
    for (at, how, new) in edits {
        let at = at.index(text.len().max(1));
        match (how, text.get(at).copied()) {
            (0, Some(_)) => text[at] = *new,
            (1, Some(_)) => drop(text.remove(at)),
            (2, Some(old)) if old.is_ascii_lowercase() => text[at] = old.to_ascii_uppercase(),
            (2, Some(old)) => text[at] = old.to_ascii_lowercase(),
            _ => text.insert(at.min(text.len()), *new),
        }
    }
    text.into_iter().collect()
}

fn verdict(address: &str, key: &str) -> Option<Verdict> {
    let machine = json!({ "name": "farm-0", "type": TYPE, "state": "up", "address": address });
    let answer = json!({ "machines": [machine] }).to_string();
    let mut machines = wire::machines(answer.as_bytes(), NOW).unwrap_or_default();
    machines.first_mut()?.memory.ready_since = Some(Timestamp(NOW.0 - 90_000));
    let status = json!({
        "status": "up", "time": NOW.0, "uptime": 90_000,
        "machineTypes": { TYPE: { "runnable": 0, "running": 1 } },
        "machines": { key: { "enabled": true, "currentJobs": 1 } },
    });
    let queue = classic::parse(status.to_string().as_bytes(), Asked::at(NOW));
    assert!(matches!(queue, QueueStatus::Up(_)), "{queue:?}");
    let pool = PoolPolicy::new(vec![System::new(TYPE)]);
    let policy = Policy::new(Tag::new("farm"), BTreeMap::from([(MachineType::new(TYPE), pool)]));
    let plan = plan(&policy, &Snapshot { machines, ..Snapshot::new(NOW, queue) });
    plan.verdicts.into_values().next()
}

proptest! {
    #![proptest_config(at_least(10_000))]

    #[test]
    fn no_change_of_a_text_releases_a_busy_machine(
        (address, key) in select(PLACES.to_vec()),
        of_address in edits(),
        of_key in edits(),
    ) {
        let (address, key) = (mutated(address, &of_address), mutated(key, &of_key));
        let verdict = verdict(&address, &key);
        prop_assert!(
            matches!(verdict, Some(Verdict::InUse | Verdict::Keep { .. })),
            "{address:?} {key:?}: {verdict:?}"
        );
    }
}

//! The number of cases of mutation tests. Tests of `adapters` include this file too.

use proptest::prelude::ProptestConfig;

/// So many cases, or as many as `PROPTEST_CASES` says if that is more.
pub fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

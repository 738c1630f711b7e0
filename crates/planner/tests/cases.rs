//! Planner cases: one folder for each rule and edge, in `tests/cases/`.
//!
//! `why.txt` says what the case shows, `policy.json` and `snapshot.json` are the input, `plan.txt` is the expected plan.
//! `UPDATE_CASES=1 cargo test -p planner` rewrites `plan.txt`: read the diff before you commit it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may")]

use std::fs;
use std::path::Path;

fn read(case: &Path, file: &str) -> String {
    let path = case.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse<T: serde::de::DeserializeOwned>(case: &Path, file: &str) -> T {
    serde_json::from_str(&read(case, file))
        .unwrap_or_else(|error| panic!("{}: {error}", case.join(file).display()))
}

#[test]
fn every_case_is_planned_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 30, "only {} cases were found in {}", cases.len(), folder.display());
    let mut wrong = Vec::new();
    for case in &cases {
        let why = read(case, "why.txt");
        assert!(!why.trim().is_empty(), "{} does not say what it shows", case.display());
        let plan = planner::plan(&parse(case, "policy.json"), &parse(case, "snapshot.json"));
        if std::env::var("UPDATE_CASES").is_ok() {
            fs::write(case.join("plan.txt"), plan.to_string()).unwrap();
        }
        let expected = read(case, "plan.txt");
        if plan.to_string() != expected {
            let name = case.display();
            wrong.push(format!("{name}: {why}--- expected\n{expected}--- planned\n{plan}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE_CASES=1 accepts the plans)", wrong.join("\n"));
}

//! `plan --diff`: what another configuration would decide for the same snapshot.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use planner::Plan;

/// What `new` decides and `old` does not (`+`), and the reverse (`-`), by section.
pub(crate) fn diff(old: &Plan, new: &Plan) -> String {
    let mut text = String::new();
    section(&mut text, "types", &named(&old.sizing), &named(&new.sizing));
    section(&mut text, "machines", &named(&old.verdicts), &named(&new.verdicts));
    section(&mut text, "next", &steps(old), &steps(new));
    section(&mut text, "warnings", &lines(&old.warnings), &lines(&new.warnings));
    if text.is_empty() { "nothing would change\n".to_owned() } else { text }
}

fn named<K: Display, V: Display>(map: &BTreeMap<K, V>) -> Vec<String> {
    map.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

fn lines(items: &[impl Display]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn steps(plan: &Plan) -> Vec<String> {
    let start = plan.start.iter().map(|name| format!("start {name}"));
    let deploy = plan.deploy.iter().map(|name| format!("deploy {name}"));
    let others = lines(&plan.provision).into_iter().chain(lines(&plan.release));
    others.chain(start).chain(deploy).collect()
}

fn section(text: &mut String, title: &str, old: &[String], new: &[String]) {
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| ('-', line));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| ('+', line));
    let mut changes: Vec<_> = gone.chain(come).collect();
    if changes.is_empty() {
        return;
    }
    // Lines about the same subject are adjacent, the old one first.
    let subject = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
    changes.sort_by_key(|(sign, line)| (subject(line), *sign == '+'));
    let _ = writeln!(text, "{title}");
    for (sign, line) in changes {
        let _ = writeln!(text, "{sign} {line}");
    }
}

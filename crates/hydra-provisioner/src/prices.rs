//! The prices of a plan's machines.

use std::fmt::Write as _;

use planner::{Money, Plan, Policy, Snapshot};

/// The section `dollars per hour`, or nothing if no price is known.
pub(crate) fn section(policy: &Policy, snapshot: &Snapshot, plan: &Plan) -> String {
    let mut all = Money(0);
    let mut lines = Vec::new();
    for machine in snapshot.machines.iter().filter(|machine| machine.state.is_live()) {
        let price = snapshot.price_of(policy, machine);
        all = all.plus(price.unwrap_or_default());
        lines.push((machine.name.to_string(), price, ""));
    }
    for new in &plan.provision {
        let price = snapshot.price_of_type(policy, &new.machine_type);
        lines.push((new.name.to_string(), price, ", when created"));
    }
    if lines.iter().all(|(_, price, _)| price.is_none()) {
        return String::new();
    }
    let mut text = format!("dollars per hour\n  running machines: {all}\n");
    for (name, price, when) in lines {
        let price = price.map_or_else(|| "not known".to_owned(), |price| price.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name}: {price}{when}");
    }
    text
}

//! The settings of a configuration, in words.

use std::collections::BTreeMap;

use planner::{Filling, IdleTimeout, PoolPolicy, Seconds};
use simulator::simulation::Setup;

/// How often the queue is polled, and one line for each group of machine types with the same settings.
pub(super) fn of(setup: &Setup) -> Vec<String> {
    let mut types: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, pool) in &setup.policy.pools {
        types.entry(of_pool(pool)).or_default().push(name.as_str());
    }
    let interval = Seconds(setup.farm.cycle.interval.whole_seconds());
    let of_types = types.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", ")));
    of_types.chain([format!("The queue is asked every {interval}")]).collect()
}

fn of_pool(pool: &PoolPolicy) -> String {
    let most = match (pool.min_machines, pool.max_machines) {
        (0, most) => format!("at most {}", planner::counted(u64::from(most), "machine")),
        (least, most) => format!("{least} to {}", planner::counted(u64::from(most), "machine")),
    };
    let jobs = match pool.max_jobs {
        0 | 1 => "one step at a time".to_owned(),
        jobs => format!("{jobs} steps at a time"),
    };
    let sized = match pool.target_wait {
        Some(target) => {
            format!("as many as waiting steps need to start within {target} on average")
        }
        None => format!("one machine for every {} waiting steps", pool.runnables_per_machine),
    };
    let idle = match pool.idle_timeout {
        IdleTimeout::After(length) => length.to_string(),
        IdleTimeout::Auto => {
            "as long as a new one takes to be ready, surplus ones not at all".to_owned()
        }
    };
    let last = match pool.keep_last {
        Seconds(0) => String::new(),
        length => format!(", the last one of the type at least {length}"),
    };
    let surplus = match pool.filling {
        Filling::Spread => "",
        Filling::Pack => ", surplus ones get no new steps",
    };
    format!("{most}, each with {jobs}; {sized}; idle ones stay {idle}{last}{surplus}")
}

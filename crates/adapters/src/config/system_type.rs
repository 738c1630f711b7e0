//! `systemTypes.<SYSTEM[,SYSTEM][:FEATURE,...]>`.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use planner::{Feature, IdleAction, PoolPolicy, Seconds, SpeedFactor, System};

use super::provider;
use super::reader::Attrs;
use crate::providers::ProviderSettings;

/// Reads one type. The provider is `None` where a problem with it was noted.
pub(super) fn read(
    name: &str,
    attrs: &Attrs<'_>,
    max_creates_per_cycle: u32,
) -> (PoolPolicy, Option<ProviderSettings>) {
    let (systems, features) = name.split_once(':').unwrap_or((name, ""));
    let systems = names(attrs, "system", systems).into_iter().map(System::new).collect();
    let features = if name.contains(':') { names(attrs, "feature", features) } else { Vec::new() };
    let mut pool = PoolPolicy::new(systems);
    pool.mandatory_features = features.into_iter().map(Feature::new).collect();
    pool.supported_features = supported_features(attrs);
    pool.max_creates_per_cycle =
        attrs.count("maxCreatesPerCycle", 1).unwrap_or(max_creates_per_cycle);
    read_sizes(attrs, &mut pool);
    read_machines_file_fields(attrs, &mut pool);
    if attrs.flag("stopOnIdle") == Some(true) {
        pool.idle_action = IdleAction::Stop;
    }
    let give_up_after = attrs.number("giveUpAfter", 0..=u64::MAX);
    pool.give_up_after = give_up_after.map_or(pool.give_up_after, Seconds);
    pool.grace_period = Seconds(attrs.number("gracePeriod", 0..=u64::MAX).unwrap_or(0));
    (pool, provider::read(attrs))
}

fn read_sizes(attrs: &Attrs<'_>, pool: &mut PoolPolicy) {
    let min_machines = attrs.count("minMachines", 0);
    let max_machines = attrs.count("maxMachines", 0);
    pool.min_machines = min_machines.unwrap_or(pool.min_machines);
    pool.max_machines = max_machines.unwrap_or(pool.max_machines);
    if pool.min_machines > pool.max_machines {
        let default = if max_machines.is_none() { " (the default)" } else { "" };
        attrs.problem(
            "minMachines",
            format!("is {}, above maxMachines {}{default}", pool.min_machines, pool.max_machines),
        );
    }
    pool.ignored_runnables = attrs.number("ignoredRunnables", 0..=u64::MAX).unwrap_or(0);
    let runnables = attrs.count("runnablesPerMachine", 1).and_then(NonZeroU32::new);
    pool.runnables_per_machine = runnables.unwrap_or(pool.runnables_per_machine);
}

fn read_machines_file_fields(attrs: &Attrs<'_>, pool: &mut PoolPolicy) {
    pool.max_jobs = attrs.count("maxJobs", 1).unwrap_or(pool.max_jobs);
    pool.speed_factor = speed_factor(attrs).unwrap_or(pool.speed_factor);
    pool.ssh_key = attrs.text("sshKey");
    if let Some(key) = &pool.ssh_key
        && !is_one_field(key)
    {
        attrs.problem(
            "sshKey",
            format!(
                "cannot stand in a machines file, which has no quoting: {key:?} has a blank or '#'"
            ),
        );
    }
}

fn supported_features(attrs: &Attrs<'_>) -> BTreeSet<Feature> {
    let features = attrs.texts("supportedFeatures").unwrap_or_default();
    for feature in features.iter().filter(|feature| !is_list_item(feature)) {
        attrs.problem(
            "supportedFeatures",
            format!("{feature:?} cannot stand in a machines file (blank, comma, '#' or empty)"),
        );
    }
    features.into_iter().map(Feature::new).collect()
}

/// Hydra takes a decimal number; thousandths are enough.
fn speed_factor(attrs: &Attrs<'_>) -> Option<SpeedFactor> {
    let value = attrs.get("speedFactor")?;
    let Some(number) = value.as_number() else {
        return attrs.mismatch("speedFactor", "a number", value);
    };
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let thousandths = (fraction.len() <= 3)
        .then(|| format!("{whole}{fraction:0<3}").parse::<u32>().ok())
        .flatten()
        .filter(|thousandths| *thousandths > 0);
    if thousandths.is_none() {
        attrs.problem(
            "speedFactor",
            format!("must be above 0, at most 1000000, with three decimals at the most, is {text}"),
        );
    }
    thousandths.map(|thousandths| SpeedFactor { thousandths })
}

/// The comma-separated names in a type's name, each once.
fn names(attrs: &Attrs<'_>, what: &str, list: &str) -> Vec<String> {
    let mut names = Vec::new();
    for name in list.split(',') {
        if name.is_empty() {
            attrs.own_problem(format!(
                "its name has an empty {what}; it must be SYSTEM[,SYSTEM...][:FEATURE,...]"
            ));
        } else if !is_list_item(name) || name.contains(':') {
            attrs.own_problem(format!(
                "its name has the {what} {name:?}, which cannot stand in a machines file"
            ));
        } else if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn is_list_item(item: &str) -> bool {
    is_one_field(item) && !item.contains(',')
}

/// Fields of a machines file are separated by blanks, `#` starts a comment, nothing can be quoted.
fn is_one_field(field: &str) -> bool {
    !field.is_empty() && !field.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

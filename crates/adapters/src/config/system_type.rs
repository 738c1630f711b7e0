//! `systemTypes.<SYSTEM[,SYSTEM][:FEATURE,...]>`.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use planner::{
    CostLimits, Feature, Filling, IdleAction, IdleTimeout, MachineType, PoolPolicy, RotationPolicy,
    Seconds, SpeedFactor, System,
};

use super::machines_file;
use super::provider;
use super::quantities::LONGEST_SECONDS;
use super::reader::Attrs;
use super::schedule::{self, ScheduleEntry};
use crate::providers::ProviderSettings;

/// `targetWait` of a type without the original's options for the number of machines.
const DEFAULT_TARGET_WAIT: Seconds = Seconds(400);

/// A type's name is a tag of its instances.
const MOST_EC2_NAME: usize = 256;

/// The farm's defaults for all of its types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    /// `maxCreatesPerCycle` at the top level.
    pub(super) max_creates_per_cycle: Option<u32>,
    /// `maxCreating` at the top level.
    pub(super) max_creating: Option<u32>,
}

/// One configured type.
pub(super) struct SystemType {
    pub(super) pool: PoolPolicy,
    /// `None` if a problem with it was reported.
    pub(super) provider: Option<ProviderSettings>,
    pub(super) schedule: Vec<ScheduleEntry>,
}

/// Reads one type.
pub(super) fn read(name: &str, attrs: &Attrs<'_>, defaults: Defaults) -> SystemType {
    let (systems, features) = name.split_once(':').unwrap_or((name, ""));
    let systems: Vec<_> = names(attrs, "system", systems).into_iter().map(System::new).collect();
    refuse_words_that_are_no_systems(attrs, &systems);
    let features = if name.contains(':') { names(attrs, "feature", features) } else { Vec::new() };
    let mut pool = PoolPolicy::new(systems);
    pool.mandatory_features = features.into_iter().map(Feature::new).collect();
    pool.supported_features = supported_features(attrs);
    read_sizes(attrs, &mut pool);
    read_creation_limits(attrs, defaults, &mut pool);
    read_times(attrs, &mut pool);
    read_rotation(attrs, &mut pool.rotation);
    read_machines_file_fields(attrs, &mut pool);
    pool.dollars_per_hour = attrs.dollars("dollarsPerHour");
    pool.cost_limits = cost_limits(attrs);
    let fallback = attrs.texts("fallback");
    pool.fallback = fallback.map(|types| types.into_iter().map(MachineType::new).collect());
    if attrs.flag("stopOnIdle") == Some(true) {
        pool.idle_action = IdleAction::Stop;
    }
    let schedule = schedule::read(attrs, &pool);
    warn_of_unused_pack(attrs, &pool, &schedule);
    let mut provider = provider::read(attrs, &pool);
    if matches!(provider, Some(ProviderSettings::Ec2(_))) && name.chars().count() > MOST_EC2_NAME {
        attrs.own_problem(format!(
            "its name has more than the {MOST_EC2_NAME} characters that a tag of EC2 can have"
        ));
    }
    if attrs.flag("replaceOnChange") == Some(true) {
        pool.rotation.settings = provider.as_ref().map(ProviderSettings::digest);
        provider.iter_mut().for_each(ProviderSettings::watch_image);
    }
    SystemType { pool, provider, schedule }
}

/// Words that stand where a system or a feature stands in a status. No step ever counts for a type of them alone.
fn refuse_words_that_are_no_systems(attrs: &Attrs<'_>, systems: &[System]) {
    let [system] = systems else { return };
    let instead = match system.as_str() {
        "builtin" => {
            "downloads by Nix itself (system builtin) are built by machines of the queue runner's own system"
        }
        "local" => {
            "steps that prefer a local build (preferLocalBuild) are built by any machine of their system"
        }
        _ => return,
    };
    attrs.own_problem(format!("no steps would count for it: {instead}; remove it"));
}

/// With some idle timeouts, surplus machines get no new builds anyway.
fn warn_of_unused_pack(attrs: &Attrs<'_>, pool: &PoolPolicy, schedule: &[ScheduleEntry]) {
    if pool.filling == Filling::Spread {
        return;
    }
    let is_unused = |timeout| matches!(timeout, IdleTimeout::Auto | IdleTimeout::After(Seconds(0)));
    let mut timeouts = schedule.iter().filter_map(ScheduleEntry::idle_timeout);
    if pool.max_jobs == 1 {
        attrs.warning("pack", "changes nothing with maxJobs = 1: each machine is full or idle");
    } else if is_unused(pool.idle_timeout) && timeouts.all(is_unused) {
        attrs.warning(
            "pack",
            "changes nothing without an idleTimeout in seconds: machines that are not needed get no new builds then",
        );
    }
}

fn read_creation_limits(attrs: &Attrs<'_>, defaults: Defaults, pool: &mut PoolPolicy) {
    let per_cycle = attrs.count("maxCreatesPerCycle", 1).or(defaults.max_creates_per_cycle);
    pool.creates_per_5_minutes = per_cycle;
    let creating = attrs.count("maxCreating", 1).or(defaults.max_creating);
    pool.max_creating = creating.unwrap_or(pool.max_creating);
}

fn read_times(attrs: &Attrs<'_>, pool: &mut PoolPolicy) {
    let seconds = |name| attrs.seconds(name, 0..=u64::MAX);
    pool.give_up_after = seconds("giveUpAfter").unwrap_or(pool.give_up_after);
    pool.health_timeout = seconds("healthTimeout").unwrap_or(pool.health_timeout);
    pool.progress_timeout = seconds("progressTimeout").unwrap_or(pool.progress_timeout);
    pool.keep_last = seconds("keepLast").unwrap_or(pool.keep_last);
    let paid = |name| attrs.seconds(name, 1..=LONGEST_SECONDS);
    pool.use_while_paid = paid("useWhilePaid").unwrap_or(pool.use_while_paid);
    pool.keep_while_paid = paid("keepWhilePaid").unwrap_or(pool.keep_while_paid);
    let grace_period = seconds("gracePeriod").map(IdleTimeout::After);
    let idle_timeout = attrs.idle_timeout("idleTimeout");
    if attrs.get("gracePeriod").is_some() && attrs.get("idleTimeout").is_some() {
        attrs.problem("gracePeriod", "is the old name of idleTimeout, which is set too; remove it");
    }
    pool.idle_timeout = idle_timeout.or(grace_period).unwrap_or_default();
    let target_wait = attrs.seconds("targetWait", 1..=LONGEST_SECONDS);
    pool.target_wait = if attrs.get("runnablesPerMachine").is_none() {
        target_wait.or(Some(DEFAULT_TARGET_WAIT))
    } else {
        if target_wait.is_some() {
            attrs.warning("targetWait", schedule::TARGET_WAIT_IS_UNUSED);
        }
        None
    };
}

fn read_rotation(attrs: &Attrs<'_>, rotation: &mut RotationPolicy) {
    rotation.max_age = attrs.seconds("maxAge", 1..=LONGEST_SECONDS);
    rotation.max_builds = attrs.number("maxBuilds", 1..=u64::MAX);
    rotation.max_unavailable = attrs.count("maxUnavailable", 1);
}

/// `maxHourlyCost`, `maxDailyCost` and `maxMonthlyCost` of the farm or of a type.
pub(super) fn cost_limits(attrs: &Attrs<'_>) -> CostLimits {
    CostLimits {
        hourly: attrs.dollars("maxHourlyCost"),
        daily: attrs.dollars("maxDailyCost"),
        monthly: attrs.dollars("maxMonthlyCost"),
    }
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
    if attrs.flag("pack") == Some(true) {
        pool.filling = Filling::Pack;
    }
    pool.store_uri = machines_file::store_uri(attrs);
    pool.ssh_key = attrs.text("sshKey");
    if let Some(key) = &pool.ssh_key
        && !is_one_field(key)
    {
        attrs.problem(
            "sshKey",
            format!(
                "cannot be written to a machines file, which has no quoting: {key:?} has a blank or '#'"
            ),
        );
    }
}

fn supported_features(attrs: &Attrs<'_>) -> BTreeSet<Feature> {
    let features = attrs.texts("supportedFeatures").unwrap_or_default();
    for feature in features.iter().filter(|feature| !is_list_item(feature)) {
        attrs.problem(
            "supportedFeatures",
            format!(
                "{feature:?} cannot be written to a machines file (blank, comma, '#' or empty)"
            ),
        );
    }
    features.into_iter().map(Feature::new).collect()
}

/// Hydra reads a decimal number; thousandths are enough.
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

/// The comma-separated names in a type's name, without duplicates.
fn names(attrs: &Attrs<'_>, what: &str, list: &str) -> Vec<String> {
    let mut names = Vec::new();
    for name in list.split(',') {
        if name.is_empty() {
            attrs.own_problem(format!(
                "its name has an empty {what}; it must be SYSTEM[,SYSTEM...][:FEATURE,...]"
            ));
        } else if !is_list_item(name) || name.contains(':') {
            attrs.own_problem(format!(
                "its name has the {what} {name:?}, which cannot be written to a machines file"
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

/// Blanks separate the fields of a machines file and `#` begins a comment; there is no quoting.
fn is_one_field(field: &str) -> bool {
    !field.is_empty() && !field.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

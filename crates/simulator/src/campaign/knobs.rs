//! What is drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use planner::{DemandKey, Feature, MachineType, Policy, PoolPolicy, System, Tag, Timestamp};
use serde::Serialize;

use super::policies::{
    draw_limits, draw_numbers, draw_policies, draw_prices, draw_schedule, draw_small_budget,
    lift_limits,
};
use crate::cloud::{BillingModel, MachineModel, Spot, Tariff};
use crate::engine::{Distribution, Millis, Purpose, Random, Seed};
use crate::queue_runner::Settings;
use crate::simulation::Setup;
use crate::workload::{NewStep, Workload, WorkloadBuilder};
use crate::world::{CycleTiming, Farm, Faults, Given, Incident, IncidentKind, Limits, Notices};

/// Worst case: one machine of half the usual speed does all work, loses it, and does it again.
const TIMES_THE_WORK: u64 = 4;

/// Days from the beginning of 2024 to that of later months.
const FIRST_DAYS: [u64; 5] = [31, 60, 91, 182, 335];

/// Time between two cancellations of builds.
const CANCELLATION_INTERVAL: Millis = Millis::from_minutes(10);
/// Offset from a whole interval, so that cancellations do not coincide with reads of the machines file.
const CANCELLATION_OFFSET: Millis = Millis::from_seconds(17);

/// Everything that is drawn from a seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Knobs {
    /// The seed.
    pub seed: u64,
    /// Virtual time zero.
    pub begin: Timestamp,
    /// The policy.
    pub policy: Policy,
    /// The environment, including its faults.
    pub farm: Farm,
    /// Further configurations, and when each is loaded.
    pub changes: Vec<(Millis, Policy)>,
    /// Number of steps.
    pub steps: u64,
    /// Ids of steps that are left out, see [`super::shrink()`].
    pub left_out: BTreeSet<u64>,
    /// Time within which all steps are submitted.
    pub submitted_within: Millis,
    /// Chance, in millionths, that a step depends on another one.
    pub dependencies: u32,
    /// Chance, in millionths, that a step's build is canceled.
    pub canceled: u32,
    /// Durations of steps.
    pub durations: Distribution,
}

impl Knobs {
    /// Draws everything from `seed`.
    pub fn draw(seed: Seed) -> Self {
        let mut rng = seed.stream(Purpose::Knobs, 0);
        let mut policy = draw_policy(&mut rng);
        let mut farm = draw_farm(&mut rng, &policy);
        let mut policies = seed.stream(Purpose::Knobs, 2);
        draw_prices(&mut policies, &mut policy, &mut farm);
        draw_policies(&mut policies, &mut policy);
        draw_limits(&mut policies, &mut policy, &farm);
        draw_small_budget(&mut seed.stream(Purpose::Knobs, 6), &mut policy, &mut farm);
        let mut clocks = seed.stream(Purpose::Knobs, 3);
        farm.faults.clock_steps = rare_chance(&mut clocks, 300_000);
        let mut more = seed.stream(Purpose::Knobs, 4);
        draw_answer_faults(&mut more, &mut farm.faults);
        let mut changes = draw_changes(&mut more, &farm, &policy);
        if changes.is_empty() {
            changes = draw_schedule(&mut policies, farm.faults.until, &policy);
        }
        lift_limits(&mut policies, farm.faults.until, &policy, &mut changes);
        draw_rooms(&mut seed.stream(Purpose::Knobs, 5), &policy, &mut farm);
        Self {
            seed: seed.0,
            begin: draw_begin(&mut policies),
            policy,
            farm,
            changes,
            steps: rng.between(1, 300),
            left_out: BTreeSet::new(),
            submitted_within: Millis(rng.below(Millis::from_hours(12).0)),
            dependencies: small_chance(&mut rng, 900_000),
            canceled: small_chance(&mut rng, 900_000),
            durations: Distribution::LogNormal {
                median: Millis::from_seconds(rng.between(5, 900)),
                sigma: 1.2,
            },
        }
    }

    /// The simulation that these values describe.
    pub fn setup(&self) -> Setup {
        let mut rng = Seed(self.seed).stream(Purpose::Knobs, 1);
        Setup {
            seed: Seed(self.seed),
            policy: self.policy.clone(),
            limits: Limits {
                create_timeout: Millis::from_minutes(rng.between(2, 20)),
                deploy_timeout: Millis::from_minutes(rng.between(5, 20)),
                release_timeout: Millis::from_minutes(rng.between(2, 10)),
                parallelism: u32::try_from(rng.between(1, 8)).unwrap_or(1),
            },
            farm: self.farm.clone(),
            workload: Arc::new(self.workload()),
        }
    }

    /// The steps that are not left out.
    pub fn step_ids(&self) -> impl Iterator<Item = u64> {
        (0..self.steps).filter(|id| !self.left_out.contains(id))
    }

    pub(super) fn longest_work(&self) -> Millis {
        let workload = self.workload();
        let all = workload.steps().iter().map(|step| step.duration().0).sum::<u64>();
        Millis(all.saturating_mul(TIMES_THE_WORK))
    }

    fn workload(&self) -> Workload {
        let seed = Seed(self.seed);
        let mut arrivals = seed.stream(Purpose::Arrivals, 0);
        let mut durations = seed.stream(Purpose::Durations, 0);
        let mut shapes = seed.stream(Purpose::Shapes, 0);
        let kinds = self.kinds();
        let mut submits: Vec<_> =
            (0..self.steps).map(|_| Millis(arrivals.below(self.submitted_within.0 + 1))).collect();
        submits.sort_unstable();
        let mut builder = WorkloadBuilder::new();
        for (id, submit) in (0..).zip(submits) {
            let mut dependencies = Vec::new();
            while id > 0 && dependencies.len() < 4 && shapes.chance(self.dependencies) {
                dependencies.push(shapes.below(id));
            }
            dependencies.retain(|id| !self.left_out.contains(id));
            let step = NewStep {
                id,
                submit,
                duration: durations.sample(&self.durations).max(Millis(1)),
                kind: shapes.pick(&kinds).cloned().unwrap_or_else(|| kind("x86_64-linux", &[])),
                jobset: format!("project:{}", shapes.below(3)),
                build: id / 5,
                global_priority: i32::from(shapes.chance(20_000)),
                local_priority: 100,
                dependencies,
                cores: None,
                cancel: shapes.chance(self.canceled).then(|| next_cancellation(submit)),
            };
            if !self.left_out.contains(&id) {
                // Ids are in order and dependencies point backwards, so nothing can be refused.
                let _refused = builder.add(step);
            }
        }
        builder.finish().unwrap_or_default()
    }

    /// Steps that at least one pool can build.
    fn kinds(&self) -> Vec<DemandKey> {
        let mut kinds = Vec::new();
        for pool in self.policy.pools.values().filter(|pool| pool.max_machines > 0) {
            for system in &pool.systems {
                let features = pool.mandatory_features.clone();
                kinds.push(DemandKey { system: system.clone(), features: features.clone() });
                let all = features.union(&pool.supported_features).cloned().collect();
                kinds.push(DemandKey { system: system.clone(), features: all });
            }
        }
        kinds
    }
}

fn draw_policy(rng: &mut Random) -> Policy {
    const TYPES: [(&str, &[&str]); 5] = [
        ("x86_64-linux", &["x86_64-linux", "i686-linux"]),
        ("aarch64-linux", &["aarch64-linux"]),
        ("x86_64-linux:big-parallel", &["x86_64-linux"]),
        ("x86_64-linux:kvm,nixos-test", &["x86_64-linux"]),
        ("riscv64-linux", &["riscv64-linux"]),
    ];
    let mut pools = BTreeMap::new();
    for (name, systems) in TYPES {
        if !pools.is_empty() && rng.chance(500_000) {
            continue;
        }
        let systems = systems.iter().map(|system| System::new(*system)).collect();
        let mandatory = name.split_once(':').map_or("", |(_, features)| features);
        let names = mandatory.split(',').filter(|name| !name.is_empty());
        let mandatory = names.map(Feature::new).collect();
        pools.insert(MachineType::new(name), draw_pool(rng, systems, mandatory));
    }
    Policy::new(Tag::new("sim"), pools)
}

fn draw_pool(rng: &mut Random, systems: Vec<System>, mandatory: BTreeSet<Feature>) -> PoolPolicy {
    let mut pool = PoolPolicy::new(systems);
    draw_numbers(rng, &mut pool);
    pool.mandatory_features = mandatory;
    if rng.chance(500_000) {
        pool.supported_features.insert(Feature::new("benchmark"));
    }
    pool
}

/// In half of the cases, some hours before the end of a month; otherwise at any hour of a day.
fn draw_begin(rng: &mut Random) -> Timestamp {
    let Timestamp(year) = Farm::EPOCH.0;
    if rng.chance(500_000) {
        return Timestamp(year + rng.below(Millis::from_hours(24).whole_seconds()));
    }
    let days = rng.pick(&FIRST_DAYS).copied().unwrap_or(0) * 24;
    let hours = days.saturating_sub(rng.below(30));
    Timestamp(year + Millis::from_hours(hours).whole_seconds())
}

fn draw_farm(rng: &mut Random, policy: &Policy) -> Farm {
    let until = Millis::from_hours(rng.between(2, 24));
    let mut machines = BTreeMap::new();
    for name in policy.pools.keys() {
        machines.insert(name.clone(), draw_machine(rng));
    }
    let minutes =
        |most: u64| Distribution::Uniform { min: Millis::ZERO, max: Millis::from_minutes(most) };
    let classic = rng.chance(600_000);
    // The default of two minutes does not allow to scale from zero; it has its own tests.
    let rest = Settings { max_unsupported: None, ..Settings::REST };
    Farm {
        given: Given::default(),
        notices: Notices::default(),
        machines,
        queue_runner: if classic { Settings::CLASSIC } else { rest },
        cycle: CycleTiming {
            interval: Millis::from_seconds(rng.between(5, 300)),
            list_interval: Millis::from_seconds(rng.between(10, 600)),
            first: Millis::ZERO,
        },
        incidents: draw_incidents(rng, until),
        faults: Faults {
            until,
            list_fails: small_chance(rng, 200_000),
            list_is_empty: small_chance(rng, 20_000),
            slow_answers: small_chance(rng, 300_000),
            doubled_answers: small_chance(rng, 300_000),
            listed_after: minutes(rng.below(20)),
            no_queue_status: small_chance(rng, 200_000),
            publish_fails: small_chance(rng, 200_000),
            log_fails: small_chance(rng, 100_000),
            killed: small_chance(rng, 200_000),
            no_capacity: small_chance(rng, 300_000),
            step_fails: small_chance(rng, 200_000),
            answer_lost: small_chance(rng, 200_000),
            step_hangs: small_chance(rng, 100_000),
            boot_hangs: small_chance(rng, 100_000),
            boot_fails: small_chance(rng, 200_000),
            breaks: small_chance(rng, 500_000),
            is_lost: small_chance(rng, 1_000_000),
            broken_for: minutes(60),
            renamed: small_chance(rng, 500_000),
            build_fails: small_chance(rng, 50_000),
            queue_runner_stops: small_chance(rng, 300_000),
            queue_runner_down_for: minutes(30),
            ..Faults::default()
        },
    }
}

/// In a third of the cases a chance below `most`, in millionths.
fn rare_chance(rng: &mut Random, most: u64) -> u32 {
    let chance = u32::try_from(rng.below(most)).unwrap_or(0);
    if rng.chance(333_333) { chance } else { 0 }
}

/// In a fifth of the cases, hosts have room for two machines of a type only: for all that `minMachines` may ask for.
fn draw_rooms(rng: &mut Random, policy: &Policy, farm: &mut Farm) {
    if rng.chance(200_000) {
        for kind in policy.pools.keys() {
            farm.machines.entry(kind.clone()).or_default().room = Some(2);
        }
    }
}

/// Old or wrong answers, and a database that loses its last transactions: each in a third of the cases.
fn draw_answer_faults(rng: &mut Random, faults: &mut Faults) {
    let mut some = |most: u64| rare_chance(rng, most);
    faults.stale_status = some(300_000);
    faults.frozen_status = some(50_000);
    faults.foreign_machines = some(300_000);
    faults.duplicate_machines = some(300_000);
    faults.wrong_host_names = some(300_000);
    faults.transactions_lost = some(1_000_000);
}

/// In a third of the cases the configuration changes twice: a machine type may be gone for a while, and is there again in
/// the end.
fn draw_changes(rng: &mut Random, farm: &Farm, policy: &Policy) -> Vec<(Millis, Policy)> {
    let until = farm.faults.until;
    let mut times = [rng.below(until.0), rng.below(until.0)];
    times.sort_unstable();
    let mut first = another(policy, farm, rng);
    if first.pools.len() > 1 && rng.chance(500_000) {
        first.pools.pop_last();
    }
    let last = another(policy, farm, rng);
    let changes = times.map(Millis).into_iter().zip([first, last]).collect();
    if rng.chance(333_333) { changes } else { Vec::new() }
}

/// The same machine types with other numbers. What they build stays the same: steps are drawn by it.
fn another(policy: &Policy, farm: &Farm, rng: &mut Random) -> Policy {
    let mut another = policy.clone();
    another.pools.values_mut().for_each(|pool| draw_numbers(rng, pool));
    draw_policies(rng, &mut another);
    draw_limits(rng, &mut another, farm);
    another
}

fn draw_machine(rng: &mut Random) -> MachineModel {
    let mut seconds = |most: u64| Distribution::Uniform {
        min: Millis::from_seconds(1),
        max: Millis::from_seconds(1 + rng.below(most)),
    };
    let (create, boot, first_deploy) = (seconds(60), seconds(120), seconds(300));
    let (redeploy, stop, destroy) = (seconds(5), seconds(60), seconds(60));
    let mut tariff = Tariff::default();
    if rng.chance(500_000) {
        tariff.billing = BillingModel::PerStartedHour;
    }
    let spot = rng.chance(200_000).then(|| Spot {
        life: Distribution::Exponential { mean: Millis::from_hours(8) },
        notice: Millis::from_minutes(2),
    });
    MachineModel {
        create,
        boot,
        first_deploy,
        redeploy,
        stop,
        destroy,
        tariff,
        spot,
        ..MachineModel::default()
    }
}

fn draw_incidents(rng: &mut Random, until: Millis) -> Vec<Incident> {
    let count = rng.below(4);
    let draw = |_| {
        let at = Millis(rng.below(until.0));
        let length = Millis::from_minutes(rng.between(1, 90));
        let kind = match rng.below(4) {
            0 => IncidentKind::QueueRunnerRestart,
            1 => IncidentKind::CapacityDrought,
            2 => IncidentKind::SpotStorm {
                percent: u8::try_from(rng.below(101)).unwrap_or(100),
                notice: Millis::from_minutes(2 * rng.below(2)),
            },
            _ => IncidentKind::SlowBoot { factor: u32::try_from(rng.between(2, 20)).unwrap_or(2) },
        };
        Incident { at, length, types: Vec::new(), kind }
    };
    (0..count).map(draw).collect()
}

/// 0 in a third of the cases, so that faults also occur alone; otherwise up to `most`.
fn small_chance(rng: &mut Random, most: u32) -> u32 {
    if rng.chance(333_333) { 0 } else { u32::try_from(rng.below(u64::from(most))).unwrap_or(most) }
}

/// Many builds are canceled at once, as when an evaluation is canceled: all work disappears at one moment.
fn next_cancellation(submit: Millis) -> Millis {
    let before = submit.0 / CANCELLATION_INTERVAL.0 * CANCELLATION_INTERVAL.0;
    Millis(before) + CANCELLATION_INTERVAL + CANCELLATION_OFFSET
}

fn kind(system: &str, features: &[&str]) -> DemandKey {
    let features = features.iter().map(|name| Feature::new(*name)).collect();
    DemandKey { system: System::new(system), features }
}

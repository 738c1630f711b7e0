//! The planner's table of contents.

use std::collections::{BTreeMap, BTreeSet};

use crate::demand::{PoolDemand, demand_by_pool, size};
use crate::matching::{QueueMachines, SeenInQueue};
use crate::names::{MachineName, MachineType};
use crate::plan::{Attempt, Plan, Provision, Release, Verdict, Warning};
use crate::policy::{Policy, PoolPolicy};
use crate::retention::{self, Reserve, Surroundings};
use crate::selection::{Names, select};
use crate::snapshot::{Machine, MachineState, QueueStatus, Snapshot};
use crate::time::Seconds;

/// A machine with what the queue runner and the bill say of it.
pub(crate) struct Observed<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) in_queue: Option<SeenInQueue>,
    pub(crate) paid_time_left: Seconds,
    pub(crate) naming: Naming,
}

/// Whether a name tells which machine is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Unique,
    Shared,
}

impl Observed<'_> {
    pub(crate) fn jobs(&self) -> u64 {
        self.in_queue.map_or(0, |seen| seen.jobs)
    }
}

/// Decides what is to be done about `snapshot` to serve `policy`.
pub fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::default();
    warn_of_odd_input(policy, snapshot, &mut plan.warnings);

    let machines = observe(snapshot);
    let demand = demand_by_pool(policy, &snapshot.queue, &mut plan.warnings);
    let by_type = machines_by_type(policy, &machines);
    let mut names = Names::new(&policy.tag, machines.keys().copied());

    for (machine_type, machines) in by_type {
        if snapshot.unlisted.contains_key(machine_type) {
            freeze(&machines, &mut plan);
            continue;
        }
        let pool = policy.pools.get(machine_type);
        let demand = match &snapshot.queue {
            QueueStatus::Up(_) => Some(demand.get(machine_type).cloned().unwrap_or_default()),
            QueueStatus::Unavailable(_) => None,
        };
        let mut used = 0;
        if let Some(pool) = pool {
            used =
                use_machines(machine_type, pool, demand.as_ref(), &machines, &mut names, &mut plan);
        }
        retain(snapshot, pool, &demand.unwrap_or_default(), &machines, used, &mut plan);
    }
    list_phases(policy, &machines, snapshot, &mut plan);
    plan
}

/// Every machine by name, looked up in the queue. Of two with one name the first counts.
fn observe(snapshot: &Snapshot) -> BTreeMap<&MachineName, Observed<'_>> {
    let queue = QueueMachines::of_status(&snapshot.queue);
    let mut machines: BTreeMap<_, Observed<'_>> = BTreeMap::new();
    for machine in &snapshot.machines {
        machines
            .entry(&machine.name)
            .and_modify(|first| first.naming = Naming::Shared)
            .or_insert_with(|| Observed {
                machine,
                in_queue: queue.find(machine),
                paid_time_left: machine.paid_time_left(snapshot.taken_at),
                naming: Naming::Unique,
            });
    }
    machines
}

/// Configured types without machines count too: they may want some.
fn machines_by_type<'a>(
    policy: &'a Policy,
    machines: &'a BTreeMap<&MachineName, Observed<'a>>,
) -> BTreeMap<&'a MachineType, Vec<&'a Observed<'a>>> {
    let mut by_type: BTreeMap<&MachineType, Vec<_>> =
        policy.pools.keys().map(|machine_type| (machine_type, Vec::new())).collect();
    for observed in machines.values() {
        by_type.entry(&observed.machine.machine_type).or_default().push(observed);
    }
    by_type
}

/// What is not seen is not touched: the machines last seen stay, and no new ones are made beside them.
fn freeze(machines: &[&Observed<'_>], plan: &mut Plan) {
    for observed in machines {
        let machine = observed.machine;
        plan.verdicts.insert(machine.name.clone(), retention::keep_unlisted());
        if machine.state == MachineState::Up {
            plan.publish_as_seen.push(machine.clone());
        }
    }
}

/// Sizes the pool, takes machines into use and asks for new ones. Returns how many it will have.
fn use_machines<'a>(
    machine_type: &MachineType,
    pool: &PoolPolicy,
    demand: Option<&PoolDemand>,
    machines: &[&'a Observed<'a>],
    names: &mut Names<'_>,
    plan: &mut Plan,
) -> u32 {
    let present = machines.iter().filter(|m| m.machine.state != MachineState::Requested).count();
    let mut sizing = size(pool, demand, u32::try_from(present).unwrap_or(u32::MAX));
    let selection = select(pool, sizing.allowed, machines);
    for observed in &selection.chosen {
        let machine = observed.machine;
        plan.verdicts.insert(machine.name.clone(), Verdict::InUse);
        if machine.state == MachineState::Requested {
            plan.provision.push(provision(machine.name.clone(), machine_type, Attempt::Again));
        }
    }
    for _ in 0..selection.create {
        plan.provision.push(provision(names.next(), machine_type, Attempt::First));
    }
    sizing.deferred = selection.deferred;
    plan.sizing.insert(machine_type.clone(), sizing);
    u32::try_from(selection.chosen.len()).unwrap_or(u32::MAX).saturating_add(selection.create)
}

fn provision(name: MachineName, machine_type: &MachineType, attempt: Attempt) -> Provision {
    Provision { name, machine_type: machine_type.clone(), attempt }
}

/// Judges the machines that are not in use, live ones first: they have the first claim on the reserve.
fn retain(
    snapshot: &Snapshot,
    pool: Option<&PoolPolicy>,
    demand: &PoolDemand,
    machines: &[&Observed<'_>],
    used: u32,
    plan: &mut Plan,
) {
    let mut room = pool.map_or(0, |pool| pool.max_machines.saturating_sub(used));
    let mut rest: Vec<_> =
        machines.iter().filter(|m| !plan.verdicts.contains_key(&m.machine.name)).collect();
    rest.sort_by_key(|observed| !observed.machine.state.is_live());
    for observed in rest {
        let around = Surroundings {
            now: snapshot.taken_at,
            queue: &snapshot.queue,
            pool,
            demand,
            reserve: if room > 0 { Reserve::HasRoom } else { Reserve::Full },
        };
        let verdict = retention::verdict(observed, &around);
        if retention::stays_in_existence(&verdict) {
            room = room.saturating_sub(1);
        }
        plan.verdicts.insert(observed.machine.name.clone(), verdict);
    }
}

/// Turns verdicts into the phases of the plan.
fn list_phases(
    policy: &Policy,
    machines: &BTreeMap<&MachineName, Observed<'_>>,
    snapshot: &Snapshot,
    plan: &mut Plan,
) {
    for (name, verdict) in &plan.verdicts {
        let Some(machine) = machines.get(name).map(|observed| observed.machine) else { continue };
        let configured = policy.pools.contains_key(&machine.machine_type);
        let frozen = snapshot.unlisted.contains_key(&machine.machine_type);
        match verdict {
            Verdict::InUse => {
                if matches!(machine.state, MachineState::Stopped | MachineState::Stopping) {
                    plan.start.push(name.clone());
                }
                plan.deploy.push(name.clone());
            }
            // A kept machine is deployed too: its `/run/keep-alive` must not grow old while it builds.
            Verdict::Keep { .. } if configured && !frozen && machine.state.is_live() => {
                plan.deploy.push(name.clone());
            }
            Verdict::Keep { .. } => {}
            Verdict::Release { how, reason } => {
                plan.release.push(Release {
                    name: name.clone(),
                    how: *how,
                    reason: reason.clone(),
                });
            }
        }
    }
    plan.deploy.extend(
        plan.provision.iter().filter(|p| p.attempt == Attempt::First).map(|p| p.name.clone()),
    );
}

fn warn_of_odd_input(policy: &Policy, snapshot: &Snapshot, warnings: &mut Vec<Warning>) {
    match &snapshot.queue {
        QueueStatus::Unavailable(reason) => {
            warnings.push(Warning::QueueUnavailable { reason: reason.clone() });
        }
        QueueStatus::Up(queue) => warnings.extend(
            queue.warnings.iter().map(|message| Warning::Queue { message: message.clone() }),
        ),
    }
    warnings.extend(snapshot.unlisted.iter().map(|(machine_type, reason)| Warning::Unlisted {
        machine_type: machine_type.clone(),
        reason: reason.clone(),
    }));
    for (machine_type, pool) in &policy.pools {
        if pool.min_machines > pool.max_machines {
            warnings.push(Warning::MinAboveMax { machine_type: machine_type.clone() });
        }
    }
    let mut seen = BTreeSet::new();
    for machine in &snapshot.machines {
        if !seen.insert(&machine.name) {
            warnings.push(Warning::DuplicateMachine { name: machine.name.clone() });
        }
    }
}

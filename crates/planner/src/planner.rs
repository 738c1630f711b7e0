//! The planner's table of contents.

use std::collections::BTreeMap;

use crate::admission::Admission;
use crate::demand::{PoolDemand, demand_by_pool, size};
use crate::endpoint::Host;
use crate::matching::{QueueMachines, SeenInQueue};
use crate::names::{MachineName, MachineType};
use crate::plan::{Attempt, NoRoom, Plan, Provision, Release, Sizing, Verdict, Warning};
use crate::policy::{Policy, PoolPolicy};
use crate::retention::{self, Reserve, Surroundings};
use crate::selection::{Names, Selection, select};
use crate::snapshot::{Machine, MachineState, QueueStatus, Snapshot};
use crate::time::Seconds;

/// A machine with what the queue runner and the bill say of it.
pub(crate) struct Observed<'a> {
    /// Its place among all of them, by name.
    index: usize,
    pub(crate) machine: &'a Machine,
    pub(crate) in_queue: Option<SeenInQueue>,
    /// The busy builder, of those that we do not know, that it may be.
    may_be: Option<&'a Host>,
    pub(crate) paid_time_left: Seconds,
    pub(crate) naming: Naming,
    /// For how long every deployment has failed.
    pub(crate) failing_for: Option<Seconds>,
}

/// Whether a name tells which machine is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Unique,
    Shared,
}

/// The verdicts given so far, by [`Observed::index`].
struct Verdicts(Vec<Option<Verdict>>);

impl Verdicts {
    fn give(&mut self, observed: &Observed<'_>, verdict: Verdict) {
        self.0[observed.index] = Some(verdict);
    }

    fn is_open(&self, observed: &Observed<'_>) -> bool {
        self.0[observed.index].is_none()
    }
}

impl<'a> Observed<'a> {
    pub(crate) fn jobs(&self) -> u64 {
        self.in_queue.map_or(0, |seen| seen.jobs)
    }

    /// The busy builder, of those that we do not know, that it may be.
    pub(crate) fn may_be(&self) -> Option<&'a Host> {
        self.may_be
    }

    /// For how long its deployment has failed, if that is too long. What builds is never given up.
    pub(crate) fn given_up(&self, pool: &PoolPolicy) -> Option<Seconds> {
        let idle = self.machine.state.is_live() && self.jobs() == 0 && self.may_be.is_none();
        self.failing_for.filter(|failing_for| idle && *failing_for >= pool.give_up_after)
    }
}

/// The plan in the making.
struct Draft<'a> {
    plan: Plan,
    verdicts: Verdicts,
    names: Names<'a>,
    admission: Admission<'a>,
}

/// Decides what is to be done about `snapshot` to serve `policy`.
pub fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    let machines = observe(policy, snapshot);
    let mut draft = Draft {
        plan: Plan::default(),
        verdicts: Verdicts(vec![None; machines.len()]),
        names: Names::new(&policy.tag, machines.iter().map(|m| &m.machine.name)),
        admission: Admission::new(&snapshot.resources),
    };
    warn_of_odd_input(policy, snapshot, &machines, &mut draft.plan.warnings);
    let demand = demand_by_pool(policy, &snapshot.queue, &mut draft.plan.warnings);

    for (machine_type, machines) in machines_by_type(policy, &machines) {
        if snapshot.unlisted.contains_key(machine_type) {
            draft.freeze(&machines);
            continue;
        }
        let pool = policy.pools.get(machine_type);
        let demand = match &snapshot.queue {
            QueueStatus::Up(_) => Some(demand.get(machine_type).cloned().unwrap_or_default()),
            QueueStatus::Unavailable(_) => None,
        };
        let mut used = 0;
        if let Some(pool) = pool {
            let sizing = size(pool, demand.as_ref(), count_existing(&machines));
            let selection = select(pool, sizing.allowed, &machines);
            used = selection.size();
            draft.use_machines(machine_type, sizing, &selection);
        }
        draft.retain(snapshot, pool, &demand.unwrap_or_default(), &machines, used);
    }
    draft.list_phases(policy, &machines, snapshot);
    draft.plan
}

/// Every machine, sorted by name, looked up in the queue. Of two with one name the first counts.
fn observe<'a>(policy: &Policy, snapshot: &'a Snapshot) -> Vec<Observed<'a>> {
    let queue =
        QueueMachines::of_status(&snapshot.queue, &snapshot.machines, &policy.other_machines);
    let mut sorted: Vec<_> = snapshot.machines.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    sorted
        .chunk_by(|a, b| a.name == b.name)
        .enumerate()
        .filter_map(|(index, namesakes)| {
            let machine = *namesakes.first()?;
            let in_queue = queue.find(machine);
            Some(Observed {
                index,
                machine,
                in_queue,
                may_be: queue.may_be(machine, in_queue),
                paid_time_left: machine.paid_time_left(snapshot.taken_at),
                failing_for: machine.failing_since.map(|since| snapshot.taken_at.since(since)),
                naming: if namesakes.len() == 1 { Naming::Unique } else { Naming::Shared },
            })
        })
        .collect()
}

/// Configured types without machines count too: they may want some.
fn machines_by_type<'a>(
    policy: &'a Policy,
    machines: &'a [Observed<'a>],
) -> BTreeMap<&'a MachineType, Vec<&'a Observed<'a>>> {
    let mut by_type: BTreeMap<&MachineType, Vec<_>> =
        policy.pools.keys().map(|machine_type| (machine_type, Vec::new())).collect();
    for observed in machines {
        by_type.entry(&observed.machine.machine_type).or_default().push(observed);
    }
    by_type
}

fn count_existing(machines: &[&Observed<'_>]) -> u32 {
    let existing = machines.iter().filter(|m| m.machine.state != MachineState::Requested);
    u32::try_from(existing.count()).unwrap_or(u32::MAX)
}

impl Draft<'_> {
    /// What is not seen is not touched: the machines last seen stay, and no new ones are made beside them.
    fn freeze(&mut self, machines: &[&Observed<'_>]) {
        for observed in machines {
            let machine = observed.machine;
            self.verdicts.give(observed, retention::keep_unlisted());
            if machine.state == MachineState::Up {
                self.plan.publish_as_seen.push(machine.clone());
            }
        }
    }

    /// Takes the selected machines into use and asks for the new ones, as far as there is room.
    fn use_machines(
        &mut self,
        machine_type: &MachineType,
        mut sizing: Sizing,
        selection: &Selection<'_>,
    ) {
        for observed in &selection.chosen {
            let state = observed.machine.state;
            let comes_up = matches!(
                state,
                MachineState::Requested | MachineState::Stopped | MachineState::Stopping
            );
            if comes_up && !self.admit(machine_type, &mut sizing.no_room) {
                self.verdicts.give(observed, retention::keep_for_room());
                continue;
            }
            self.verdicts.give(observed, Verdict::InUse);
            if state == MachineState::Requested {
                let name = observed.machine.name.clone();
                self.plan.provision.push(provision(name, machine_type, Attempt::Again));
            }
        }
        for _ in 0..selection.create {
            if self.admit(machine_type, &mut sizing.no_room) {
                let name = self.names.next();
                self.plan.provision.push(provision(name, machine_type, Attempt::First));
            }
        }
        sizing.deferred = selection.deferred;
        self.plan.sizing.insert(machine_type.clone(), sizing);
    }

    fn admit(&mut self, machine_type: &MachineType, no_room: &mut Option<NoRoom>) -> bool {
        let Err(short) = self.admission.take(machine_type) else { return true };
        let no_room = no_room.get_or_insert_with(|| NoRoom {
            machines: 0,
            resource: short.name.clone(),
            free: short.free,
            needs: short.needs.get(machine_type).copied().unwrap_or(0),
        });
        no_room.machines = no_room.machines.saturating_add(1);
        false
    }

    /// Judges the machines that are not in use, live ones first: they have the first claim on the reserve.
    fn retain(
        &mut self,
        snapshot: &Snapshot,
        pool: Option<&PoolPolicy>,
        demand: &PoolDemand,
        machines: &[&Observed<'_>],
        used: u32,
    ) {
        let mut room = pool.map_or(0, |pool| pool.max_machines.saturating_sub(used));
        let mut rest: Vec<_> = machines.iter().filter(|m| self.verdicts.is_open(m)).collect();
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
            self.verdicts.give(observed, verdict);
        }
    }

    /// Turns verdicts into the phases of the plan.
    fn list_phases(&mut self, policy: &Policy, machines: &[Observed<'_>], snapshot: &Snapshot) {
        let plan = &mut self.plan;
        plan.verdicts = machines
            .iter()
            .zip(self.verdicts.0.drain(..))
            .filter_map(|(observed, verdict)| Some((observed.machine.name.clone(), verdict?)))
            .collect();
        for (observed, (name, verdict)) in machines.iter().zip(&plan.verdicts) {
            let machine = observed.machine;
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
        let new = plan.provision.iter().filter(|p| p.attempt == Attempt::First);
        plan.deploy.extend(new.map(|provision| provision.name.clone()));
    }
}

fn provision(name: MachineName, machine_type: &MachineType, attempt: Attempt) -> Provision {
    Provision { name, machine_type: machine_type.clone(), attempt }
}

fn warn_of_odd_input(
    policy: &Policy,
    snapshot: &Snapshot,
    machines: &[Observed<'_>],
    warnings: &mut Vec<Warning>,
) {
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
    for Observed { machine, .. } in machines {
        let name = &machine.name;
        warnings.extend(
            machine
                .problems
                .iter()
                .cloned()
                .map(|problem| Warning::Machine { name: name.clone(), problem }),
        );
    }
    let shared = machines.iter().filter(|observed| observed.naming == Naming::Shared);
    warnings.extend(
        shared.map(|observed| Warning::DuplicateMachine { name: observed.machine.name.clone() }),
    );
}

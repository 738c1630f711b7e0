//! The planner: calls the rules one after the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::Admission;
use crate::common_cause;
use crate::cost_limits::{self, Limits};
use crate::demand::{PoolDemand, demand_by_pool, size};
use crate::experience::Experience;
use crate::fallback::hand_over;
use crate::idle_timeout::{IdleTimeouts, Replacement};
use crate::names::MachineType;
use crate::observed::{Observed, observe};
use crate::phases::list_phases;
use crate::plan::{Attempt, Plan, Provision, Verdict, Warning};
use crate::policy::{Policy, PoolPolicy};
use crate::retention::{self, Context, Reserve};
use crate::rotation::Rotation;
use crate::selection::{Names, Selection, preference, select};
use crate::sizing::{
    AllowedBy, Blockers, Deferral, Deferred, LimitName, LimitReached, NoRoom, Sizing,
};
use crate::snapshot::{AcceptsJobs, MachineState, QueueStatus, Snapshot};
use crate::surplus::{self, surplus};
use crate::time::{Timestamp, earliest};
use crate::warnings::{warn_of_problems, warn_of_unexpected_input};

/// Decides what to do about `snapshot` to serve `policy`.
pub fn plan(policy: &Policy, snapshot: &Snapshot) -> Plan {
    let mut machines = observe(policy, snapshot);
    let mut warnings = Vec::new();
    judge_health(policy, snapshot, &mut machines, &mut warnings);
    let machines = machines;
    let mut planning = Planning {
        plan: Plan { warnings, ..Plan::default() },
        verdicts: vec![None; machines.len()],
        names: Names::new(
            &policy.tag,
            machines.iter().map(|m| &m.machine.name).chain(&snapshot.not_ours),
        ),
        admission: Admission::new(&snapshot.resources),
        limits: Limits::new(policy, snapshot, &machines),
        snapshot,
    };
    warn_of_unexpected_input(policy, snapshot, &machines, &mut planning.plan.warnings);
    warn_of_problems(snapshot, &machines, &mut planning.plan.warnings);
    let mut demand = demand_by_pool(policy, &snapshot.queue, &mut planning.plan.warnings);
    let handed_over = hand_over(policy, snapshot, &machines, &mut demand);
    planning.wake_at(handed_over.until);

    for (machine_type, machines) in machines_by_type(policy, &machines) {
        if snapshot.unlistable.contains_key(machine_type) {
            planning.freeze(&machines);
            continue;
        }
        let pool = policy.pools.get(machine_type);
        let demand = match &snapshot.queue {
            QueueStatus::Up(_) => Some(demand.get(machine_type).cloned().unwrap_or_default()),
            QueueStatus::Unavailable(_) => None,
        };
        let experience = snapshot.experience.get(machine_type).copied().unwrap_or_default();
        let mut used = 0;
        let mut rotation = Rotation::default();
        if let Some(pool) = pool {
            let present = count_existing(&machines);
            let mut sizing = Sizing {
                hands_over: handed_over.by(machine_type),
                takes_over: handed_over.to(machine_type),
                ..size(pool, demand.as_ref(), &experience, present)
            };
            let blockers = Blockers {
                back_off: snapshot.back_off.get(machine_type),
                paused: snapshot.orders_in_force().find(|order| order.pauses(machine_type)),
            };
            let has_room = planning.admission.has_room(machine_type)
                && planning.limits.have_room(machine_type);
            let now = snapshot.taken_at;
            rotation = Rotation::of(pool, sizing.allowed, &machines, &blockers, has_room, now);
            sizing.replacing = rotation.replacing();
            let selection = select(pool, sizing.allowed, &machines, &blockers, &rotation, now);
            used = selection.size();
            planning.use_machines(machine_type, sizing, &selection);
        }
        let timeouts = planning.idle_timeouts(machine_type, pool, &experience);
        planning.retain(pool, &demand.unwrap_or_default(), timeouts, &machines, used, &rotation);
    }
    planning.finish(policy, &machines)
}

/// The plan under construction.
struct Planning<'a> {
    plan: Plan,
    /// The verdicts given so far, by [`Observed::index`].
    verdicts: Vec<Option<Verdict>>,
    names: Names<'a>,
    admission: Admission<'a>,
    limits: Limits<'a>,
    snapshot: &'a Snapshot,
}

/// Judges health type by type: what most machines of a type share is not the fault of any of them.
fn judge_health(
    policy: &Policy,
    snapshot: &Snapshot,
    machines: &mut [Observed<'_>],
    warnings: &mut Vec<Warning>,
) {
    let unhealthy = machines.iter().filter(|machine| machine.unhealthy.is_some());
    let types: BTreeSet<_> =
        unhealthy.map(|machine| machine.machine.machine_type.clone()).collect();
    for (machine_type, pool) in policy.pools.iter().filter(|(name, _)| types.contains(name)) {
        let of_type = machines.iter_mut().filter(|m| m.machine.machine_type == *machine_type);
        if common_cause::judge(of_type, pool, snapshot.taken_at) {
            warnings.push(Warning::CommonCause { machine_type: machine_type.clone() });
        }
    }
}

/// Includes configured types without machines: they may need some.
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

/// One more machine may not be used because of a limit.
fn defer(sizing: &mut Sizing, reached: LimitReached) {
    let earlier = sizing.deferred.as_ref().map_or(0, |deferred| deferred.machines);
    let machines = earlier.saturating_add(1);
    sizing.deferred = Some(Deferred { machines, reason: Deferral::Limit(reached) });
}

/// `maxMachines` machines of a type run; one that is not used must go first.
const TYPE_IS_FULL: LimitReached =
    LimitReached { limit: LimitName::MaxMachines, by_type: true, until: None };

/// The machines that could be used and are not being released.
fn staying<'a>(
    pool: &PoolPolicy,
    machines: &[&&'a Observed<'a>],
) -> impl Iterator<Item = &'a Observed<'a>> {
    let live = machines.iter().map(|observed| **observed);
    live.filter(|observed| {
        observed.machine.state.is_live()
            && observed.is_usable(pool)
            && observed.machine.memory.leaving.is_none()
    })
}

/// The machine of a type of which none is in use that stays when all others have gone.
fn last_machine(pool: &PoolPolicy, machines: &[&&Observed<'_>]) -> Option<usize> {
    let best = staying(pool, machines).min_by_key(|observed| preference(observed));
    best.map(|observed| observed.index)
}

fn count_existing(machines: &[&Observed<'_>]) -> u32 {
    let existing = machines.iter().filter(|m| {
        m.machine.state != MachineState::Requested && m.machine.memory.destroyed_at.is_none()
    });
    u32::try_from(existing.count()).unwrap_or(u32::MAX)
}

impl<'a> Planning<'a> {
    /// What cannot be observed is not touched: the machines last seen stay, and no new ones are created.
    fn freeze(&mut self, machines: &[&Observed<'_>]) {
        for observed in machines {
            self.verdicts[observed.index] = Some(retention::keep_of_unlistable(observed));
        }
    }

    /// Takes the selected machines into use and asks for the new ones, as far as there is room.
    fn use_machines(
        &mut self,
        machine_type: &MachineType,
        mut sizing: Sizing,
        selection: &Selection<'_>,
    ) {
        sizing.deferred.clone_from(&selection.deferred);
        let (mut starts, mut requests) = (selection.starts, selection.requests);
        for (number, observed) in (0..).zip(&selection.chosen) {
            let state = observed.machine.state;
            // The resources of a machine under way are already counted.
            let comes_up = observed.operation().is_none()
                && matches!(
                    state,
                    MachineState::Requested | MachineState::Stopped | MachineState::Stopping
                );
            // A request or start without an answer is counted as running already: it is only repeated.
            let takes_a_start = comes_up && !cost_limits::may_cost(observed);
            if takes_a_start && starts == 0 {
                self.verdicts[observed.index] = Some(retention::keep_for_limit(TYPE_IS_FULL));
                defer(&mut sizing, TYPE_IS_FULL);
                continue;
            }
            if let Err(reached) = self.count(observed, number, comes_up) {
                if comes_up {
                    self.verdicts[observed.index] = Some(retention::keep_for_limit(reached));
                } else {
                    sizing.allowed = sizing.allowed.min(number);
                    sizing.allowed_by = AllowedBy::CostLimits;
                }
                defer(&mut sizing, reached);
                continue;
            }
            if comes_up && !self.admit(machine_type, &mut sizing.no_room) {
                self.verdicts[observed.index] = Some(retention::keep_for_room());
                continue;
            }
            self.verdicts[observed.index] = Some(Verdict::InUse);
            starts -= u32::from(takes_a_start);
            if state == MachineState::Requested
                && requests > 0
                && self.may_ask_provider(observed, machine_type)
            {
                requests -= 1;
                let attempt = match observed.machine.memory.failing {
                    Some(_) => Attempt::Again,
                    None => Attempt::First,
                };
                let name = observed.machine.name.clone();
                let machine_type = machine_type.clone();
                self.plan.provision.push(Provision { name, machine_type, attempt });
            }
        }
        let chosen = u32::try_from(selection.chosen.len()).unwrap_or(u32::MAX);
        self.create(machine_type, chosen, selection.create, &mut sizing);
        if let Some(Deferred { reason, .. }) = &sizing.deferred {
            self.wake_at(reason.until());
        }
        self.plan.sizing.insert(machine_type.clone(), sizing);
    }

    /// Counts a machine against the limits. A machine that may already exist is already counted as running.
    fn count(
        &mut self,
        observed: &Observed<'_>,
        number: u32,
        comes_up: bool,
    ) -> Result<(), LimitReached> {
        match (comes_up, cost_limits::may_cost(observed)) {
            (true, false) => self.limits.begin(&observed.machine.machine_type, number),
            (true, true) => self.limits.begin_again(observed, number),
            (false, _) => self.limits.continue_use(observed, number),
        }
    }

    /// Creates `number` machines. `chosen` others are used: the first new one is the type's `chosen`th, from 0
    /// (`minMachines`).
    fn create(
        &mut self,
        machine_type: &MachineType,
        chosen: u32,
        number: u32,
        sizing: &mut Sizing,
    ) {
        if number > 0 && self.snapshot.storage_error.is_some() {
            sizing.deferred = Some(Deferred { machines: number, reason: Deferral::NoStorage });
            return;
        }
        for nth in chosen..chosen.saturating_add(number) {
            if let Err(reached) = self.limits.begin(machine_type, nth) {
                defer(sizing, reached);
            } else if self.admit(machine_type, &mut sizing.no_room) {
                self.plan.provision.push(Provision {
                    name: self.names.next(),
                    machine_type: machine_type.clone(),
                    attempt: Attempt::First,
                });
            }
        }
    }

    /// Whether its provider may be asked now, for the first time or again, for a machine that exists only as a recorded intent.
    fn may_ask_provider(&mut self, observed: &Observed<'_>, machine_type: &MachineType) -> bool {
        let now = self.snapshot.taken_at;
        let until = self.snapshot.back_off.get(machine_type).map(|back_off| back_off.until);
        let backed_off = until.is_some_and(|until| now < until);
        if backed_off {
            self.wake_at(until);
        }
        !backed_off && observed.may_be_operated() && self.snapshot.storage_error.is_none()
    }

    fn admit(&mut self, machine_type: &MachineType, no_room: &mut Option<NoRoom>) -> bool {
        let Err(short) = self.admission.take(machine_type) else { return true };
        let no_room = no_room.get_or_insert_with(|| NoRoom {
            machines: 0,
            resource: short.name.clone(),
            free: short.free,
            needs: short.need_of(machine_type),
        });
        no_room.machines = no_room.machines.saturating_add(1);
        false
    }

    /// How long idle machines of a type are kept. Not at all while the running machines would exceed a cost limit if they
    /// continued.
    fn idle_timeouts(
        &mut self,
        machine_type: &MachineType,
        pool: Option<&PoolPolicy>,
        experience: &Experience,
    ) -> IdleTimeouts {
        let Some(pool) = pool.filter(|_| !self.limits.are_exceeded(machine_type)) else {
            return IdleTimeouts::NONE;
        };
        let back_off = self.snapshot.back_off.get(machine_type);
        let replacement = Replacement::of(back_off, self.snapshot.taken_at);
        let timeouts = IdleTimeouts::of(pool, experience, replacement);
        self.wake_at(timeouts.until);
        timeouts
    }

    /// Judges the machines that are not in use. Live ones come first: what they leave of `maxMachines` is the room for
    /// stopped ones in reserve.
    fn retain(
        &mut self,
        pool: Option<&PoolPolicy>,
        demand: &PoolDemand,
        timeouts: IdleTimeouts,
        machines: &[&Observed<'_>],
        used: u32,
        rotation: &Rotation<'_>,
    ) {
        let mut room = pool.map_or(0, |pool| pool.max_machines.saturating_sub(used));
        let mut rest: Vec<_> =
            machines.iter().filter(|m| self.verdicts[m.index].is_none()).collect();
        rest.sort_by_key(|observed| !observed.machine.state.is_live());
        let last = pool.filter(|_| used == 0).and_then(|pool| last_machine(pool, &rest));
        let running = machines.iter().map(|observed| observed.jobs()).fold(0, u64::saturating_add);
        let surplus = pool
            .map(|pool| surplus(pool, staying(pool, &rest), running, demand.runnable, used))
            .unwrap_or_default();
        let surplus_accept =
            pool.map_or(AcceptsJobs::Yes, |pool| surplus::accept_jobs(pool, &self.snapshot.queue));
        for observed in rest {
            let is_surplus = surplus.contains(&observed.index);
            let judgment = retention::judge(
                observed,
                &Context {
                    queue: &self.snapshot.queue,
                    pool,
                    demand,
                    outdated: rotation.why_leaving(observed),
                    accepts_jobs: if is_surplus { surplus_accept } else { AcceptsJobs::Yes },
                    reserve: if room > 0 { Reserve::HasRoom } else { Reserve::Full },
                    idle_timeout: if last == Some(observed.index) {
                        timeouts.of_last
                    } else if is_surplus {
                        timeouts.of_surplus
                    } else {
                        timeouts.usual
                    },
                },
            );
            if retention::stays_in_existence(&judgment.verdict) {
                room = room.saturating_sub(1);
            }
            self.wake_at(judgment.until);
            self.verdicts[observed.index] = Some(judgment.verdict);
        }
    }

    /// Turns verdicts into actions.
    fn finish(mut self, policy: &Policy, machines: &[Observed<'a>]) -> Plan {
        self.plan.verdicts = machines
            .iter()
            .zip(self.verdicts.drain(..))
            .filter_map(|(observed, verdict)| Some((observed.machine.name.clone(), verdict?)))
            .collect();
        self.plan.orders = self.snapshot.orders_in_force().cloned().collect();
        for order in self.snapshot.orders_in_force() {
            self.wake_at(order.until);
        }
        self.wake_at(self.limits.change_at());
        let wake_at = list_phases(&mut self.plan, policy, machines, self.snapshot);
        self.wake_at(wake_at);
        self.plan
    }

    /// Notes that the plan changes at `time`, if that is in the future.
    fn wake_at(&mut self, time: Option<Timestamp>) {
        let to_come = time.filter(|time| *time > self.snapshot.taken_at);
        self.plan.wake_at = earliest(self.plan.wake_at, to_come);
    }
}

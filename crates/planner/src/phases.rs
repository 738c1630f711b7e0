//! Turns verdicts into the actions that are due now. The reconciler has nothing to decide.

use crate::health::{Health, Unhealthy, stalls_at, unregistered_at};
use crate::matching::{REREGISTRATION_TIMEOUT, is_disabled_though_published};
use crate::memory::Operation;
use crate::names::MachineName;
use crate::observed::Observed;
use crate::orders::OrderKind;
use crate::plan::{Plan, Release, Verdict};
use crate::policy::Policy;
use crate::release::{AwaitReason, ReleaseStep, next_step};
use crate::rotation::ages_at;
use crate::snapshot::{AcceptsJobs, MachineState, QueueStatus, Snapshot};
use crate::time::{Seconds, Timestamp, earliest};

/// Fills in the actions of `plan`: start, deploy, publish, release. Returns when they change without an event.
pub(crate) fn list_phases(
    plan: &mut Plan,
    policy: &Policy,
    machines: &[Observed<'_>],
    snapshot: &Snapshot,
) -> Option<Timestamp> {
    let mut wake_at = None;
    // Both are sorted by name, and each machine has one verdict.
    for (observed, (name, verdict)) in machines.iter().zip(&plan.verdicts) {
        let memory = &observed.machine.memory;
        if is_disabled_though_published(memory, observed.in_queue) {
            plan.disabled_though_published.insert(name.clone());
        } else if let Some(seen) = observed.in_queue
            && (!memory.was_in_queue_status || memory.disabled_though_published && seen.is_in_use())
        {
            plan.recognized.insert(name.clone());
        }
        if let Some(built) = observed.in_queue.and_then(|seen| seen.built) {
            plan.built.insert(name.clone(), built);
        }
        if let Some(progress) = observed.progress {
            plan.progress.insert(name.clone(), progress);
        }
        if let Some(unhealthy) = &observed.unhealthy {
            plan.unhealthy.insert(name.clone(), unhealthy.clone());
        }
        wake_at = earliest(wake_at, changes_at(observed, policy, &snapshot.queue));
        if may_get_builds(observed, verdict) {
            plan.publish.push(name.clone());
        }
        match verdict {
            Verdict::InUse => {
                list_start(&mut plan.start, observed, name);
                list_deploy(&mut plan.deploy, observed, name);
            }
            Verdict::Keep { .. } if is_maintained(observed, policy, snapshot) => {
                list_deploy(&mut plan.deploy, observed, name);
            }
            Verdict::Keep { .. } | Verdict::Ending { .. } => {}
            Verdict::Release { how, reason } => {
                plan.release.push(Release {
                    name: name.clone(),
                    how: *how,
                    reason: reason.clone(),
                    step: release_step(observed, snapshot),
                });
            }
        }
    }
    wake_at
}

/// A machine is published from the moment when it is ready until it may get no more builds. It must not be missing for longer
/// than a listing may lag, because another machine may have its address then. It must answer over ssh, unless its type has a
/// common cause (`common_cause.rs`): then our own network may be the cause.
fn may_get_builds(observed: &Observed<'_>, verdict: &Verdict) -> bool {
    let accepts = match verdict {
        Verdict::InUse => true,
        Verdict::Keep { accepts_jobs, .. } => *accepts_jobs == AcceptsJobs::Yes,
        Verdict::Release { .. } | Verdict::Ending { .. } => false,
    };
    let is_cut_off =
        observed.unhealthy == Some(Unhealthy::Unreachable) && !observed.has_common_cause;
    accepts
        && observed.machine.memory.ready_since.is_some()
        && observed.operation() != Some(Operation::Drain)
        && !observed.is_ending()
        && observed.vanished_for().is_none()
        && !is_cut_off
}

/// Whether a machine that is kept is deployed again when that is needed.
fn is_maintained(observed: &Observed<'_>, policy: &Policy, snapshot: &Snapshot) -> bool {
    policy.pools.contains_key(&observed.machine.machine_type)
        && !snapshot.unlistable.contains_key(&observed.machine.machine_type)
        && !observed.is_ending()
        && observed.machine.memory.leaving.is_none()
}

fn list_start(start: &mut Vec<MachineName>, observed: &Observed<'_>, name: &MachineName) {
    let is_off = matches!(observed.machine.state, MachineState::Stopped | MachineState::Stopping);
    if is_off && observed.may_be_operated() {
        start.push(name.clone());
    }
}

/// A machine that is up is deployed once, and again when it does not answer or its settings have changed. After a restart
/// of the provisioner, one that the queue runner does not know is deployed again: its builder may have been stopped.
fn list_deploy(deploy: &mut Vec<MachineName>, observed: &Observed<'_>, name: &MachineName) {
    let memory = &observed.machine.memory;
    let is_up = match observed.machine.state {
        MachineState::Up => observed.machine.address.is_some(),
        MachineState::Unreachable => true,
        _ => false,
    };
    let may_be_drained = memory.restored && observed.unhealthy == Some(Unhealthy::Unregistered);
    let is_due =
        memory.ready_since.is_none() || memory.unreachable_since.is_some() || may_be_drained;
    if is_up && is_due && memory.missing.is_none() && observed.may_be_operated() {
        deploy.push(name.clone());
    }
}

fn release_step(observed: &Observed<'_>, snapshot: &Snapshot) -> ReleaseStep {
    match &snapshot.queue {
        QueueStatus::Up(queue) if snapshot.storage_error.is_none() => {
            match next_step(observed, queue, snapshot) {
                // It is drained and stays drained.
                ReleaseStep::Release if is_to_stay_drained(observed) => {
                    ReleaseStep::Await(AwaitReason::Order)
                }
                step => step,
            }
        }
        // Our state cannot be recorded. (Without a queue status there is no release.)
        _ => ReleaseStep::Await(AwaitReason::NewerStatus),
    }
}

fn is_to_stay_drained(observed: &Observed<'_>) -> bool {
    observed.order.is_some_and(|order| matches!(order.kind, OrderKind::Drain(_)))
}

/// When the health of a machine changes without an event.
fn changes_at(observed: &Observed<'_>, policy: &Policy, queue: &QueueStatus) -> Option<Timestamp> {
    let memory = &observed.machine.memory;
    let pool = policy.pools.get(&observed.machine.machine_type);
    let failing = memory.failing.as_ref();
    let unregistered = match queue {
        QueueStatus::Up(queue) if observed.in_queue.is_none() => {
            unregistered_at(observed.machine, queue)
        }
        _ => None,
    };
    [
        failing.map(|failing| failing.retry_at),
        memory.awaits_ssh.map(|awaits_ssh| awaits_ssh.retry_at),
        pool.and_then(|pool| ages_at(observed, pool)),
        failing.zip(pool).map(|(failing, pool)| failing.since.after(pool.give_up_after)),
        failing.map(|failing| failing.since.after(REREGISTRATION_TIMEOUT)),
        memory.missing.map(|missing| missing.since.after(missing.patience)),
        unregistered,
        stalls_at(observed.machine, observed.progress, policy),
        observed.unhealthy.as_ref().and_then(|_| health_changes_at(observed, policy)),
        observed.in_queue.and_then(|seen| seen.disabled_until),
    ]
    .into_iter()
    .flatten()
    .filter(|at| *at > observed.now)
    .min()
}

/// When an unhealthy machine stops counting as capacity, or is replaced.
fn health_changes_at(observed: &Observed<'_>, policy: &Policy) -> Option<Timestamp> {
    let pool = policy.pools.get(&observed.machine.machine_type)?;
    let since = observed.machine.memory.unhealthy_since.unwrap_or(observed.now);
    let after = match observed.health {
        Health::Counts => pool.health_timeout,
        Health::DoesNotCount => pool.give_up_after.max(pool.health_timeout),
        Health::GivenUp { .. } => Seconds(0),
    };
    Some(since.after(after))
}

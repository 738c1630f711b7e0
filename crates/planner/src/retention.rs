//! What becomes of a machine that the queue does not want: the rules in order, the first that speaks
//! decides.

use crate::demand::PoolDemand;
use crate::plan::{AcceptsJobs, KeepReason, ReleaseHow, ReleaseReason, Verdict};
use crate::planner::{Naming, Observed};
use crate::policy::{IdleAction, PoolPolicy};
use crate::snapshot::{MachineKeys, MachineState, Queue, QueueStatus};
use crate::time::{Seconds, Timestamp};

/// With this much paid time left a machine stays and gets builds: the time costs nothing more.
const MUCH_PAID_TIME: Seconds = Seconds::from_minutes(30);
/// With this much paid time left an idle machine is not released yet, for load may rise again.
const SOME_PAID_TIME: Seconds = Seconds::from_minutes(10);
/// How long after its start a queue runner may still be reading its queue.
const QUEUE_RUNNER_WARM_UP: Seconds = Seconds::from_minutes(30);

/// What the rules look at besides the machine.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Timestamp,
    pub(crate) queue: &'a QueueStatus,
    /// `None` for a type that is no longer configured.
    pub(crate) pool: Option<&'a PoolPolicy>,
    pub(crate) demand: &'a PoolDemand,
    /// Whether `maxMachines` machines of the type are used or in reserve already.
    pub(crate) reserve: Reserve,
}

/// Whether one more stopped machine may be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserve {
    HasRoom,
    Full,
}

/// The verdict on a machine that was not selected.
pub(crate) fn verdict(observed: &Observed<'_>, around: &Surroundings<'_>) -> Verdict {
    match judge(observed, around) {
        Verdict::Keep { reason, .. }
            if observed.machine.state.is_live() && registers_itself(around) =>
        {
            keep(reason, AcceptsJobs::Yes)
        }
        verdict => verdict,
    }
}

/// A builder of the current queue runner takes what it is sent for as long as it runs, and stopping it would
/// abort what it builds: nothing else would be true to say of a machine that is kept.
fn registers_itself(around: &Surroundings<'_>) -> bool {
    matches!(around.queue, QueueStatus::Up(queue) if queue.keys == MachineKeys::HostName)
}

fn judge(observed: &Observed<'_>, around: &Surroundings<'_>) -> Verdict {
    let QueueStatus::Up(queue) = around.queue else {
        return keep(KeepReason::QueueUnavailable, AcceptsJobs::Yes);
    };
    if observed.naming == Naming::Shared {
        return keep(KeepReason::NameShared, AcceptsJobs::No);
    }
    if let Some(builder) = observed.may_be() {
        return keep(KeepReason::MayBeBuilder { builder: builder.clone() }, AcceptsJobs::Yes);
    }
    if let Some(verdict) = keep_if_busy_though_off(observed) {
        return verdict;
    }
    if let Some(failing_for) = around.pool.and_then(|pool| observed.given_up(pool)) {
        return destroy(ReleaseReason::NeverReady { failing_for });
    }
    match observed.machine.state {
        MachineState::Requested => destroy(ReleaseReason::RequestAbandoned),
        MachineState::Failed => destroy(ReleaseReason::Failed),
        MachineState::Stopping | MachineState::Stopped => off(around),
        MachineState::Creating
        | MachineState::Starting
        | MachineState::Up
        | MachineState::Unreachable => live(observed, queue, around),
    }
}

/// The queue runner knows better than the provider: what builds is never released, whatever its state.
fn keep_if_busy_though_off(observed: &Observed<'_>) -> Option<Verdict> {
    let jobs = observed.jobs();
    (jobs > 0 && !observed.machine.state.is_live())
        .then(|| keep(KeepReason::Busy { jobs }, AcceptsJobs::No))
}

/// A machine that is off. It costs only its disk.
fn off(around: &Surroundings<'_>) -> Verdict {
    match (around.pool.map(|pool| pool.idle_action), around.reserve) {
        (None, _) => destroy(ReleaseReason::TypeNotConfigured),
        (Some(IdleAction::Destroy), _) => destroy(ReleaseReason::StoppedUnwanted),
        (Some(IdleAction::Stop), Reserve::Full) => destroy(ReleaseReason::ReserveFull),
        (Some(IdleAction::Stop), Reserve::HasRoom) => {
            keep(KeepReason::StoppedInReserve, AcceptsJobs::No)
        }
    }
}

/// A machine that runs and costs money.
fn live(observed: &Observed<'_>, queue: &Queue, around: &Surroundings<'_>) -> Verdict {
    let left = observed.paid_time_left;
    let grace_period = around.pool.map_or(Seconds(0), |pool| pool.grace_period);
    // Nobody can say what a machine of an unknown type may build.
    let accepts_jobs = if around.pool.is_some() { AcceptsJobs::Yes } else { AcceptsJobs::No };

    if left >= MUCH_PAID_TIME {
        return keep(KeepReason::MuchPaidTimeLeft { left }, accepts_jobs);
    }
    if observed.jobs() > 0 {
        // Without a grace period it is to go as soon as it can: new builds would hold it for ever.
        let accepts_jobs = if grace_period > Seconds(0) { accepts_jobs } else { AcceptsJobs::No };
        return keep(KeepReason::Busy { jobs: observed.jobs() }, accepts_jobs);
    }
    let idle_for = match last_activity(observed, around) {
        Some(last) => {
            let idle_for = around.now.since(last);
            if idle_for < grace_period {
                return keep(KeepReason::RecentlyUsed { idle_for, grace_period }, accepts_jobs);
            }
            Some(idle_for)
        }
        None if queue.uptime < QUEUE_RUNNER_WARM_UP.plus(grace_period) => {
            let uptime = queue.uptime;
            return keep(KeepReason::QueueRunnerJustStarted { uptime }, accepts_jobs);
        }
        None => None,
    };
    if left >= SOME_PAID_TIME {
        return keep(KeepReason::SomePaidTimeLeft { left }, AcceptsJobs::No);
    }
    release_live(around, idle_for)
}

/// When the machine last built: by its own idle time, else by its type's last activity.
fn last_activity(observed: &Observed<'_>, around: &Surroundings<'_>) -> Option<Timestamp> {
    let type_last_active =
        if around.demand.running > 0 { Some(around.now) } else { around.demand.last_active };
    observed.in_queue.and_then(|seen| seen.idle_since).or(type_last_active)
}

fn release_live(around: &Surroundings<'_>, idle_for: Option<Seconds>) -> Verdict {
    match around.pool.map(|pool| pool.idle_action) {
        None => destroy(ReleaseReason::TypeNotConfigured),
        Some(IdleAction::Destroy) => destroy(ReleaseReason::Idle { idle_for }),
        Some(IdleAction::Stop) if around.reserve == Reserve::Full => {
            destroy(ReleaseReason::ReserveFull)
        }
        Some(IdleAction::Stop) => {
            Verdict::Release { how: ReleaseHow::Stop, reason: ReleaseReason::Idle { idle_for } }
        }
    }
}

fn keep(reason: KeepReason, accepts_jobs: AcceptsJobs) -> Verdict {
    Verdict::Keep { reason, accepts_jobs }
}

fn destroy(reason: ReleaseReason) -> Verdict {
    Verdict::Release { how: ReleaseHow::Destroy, reason }
}

/// The verdict on a machine whose provider could not be asked.
pub(crate) fn keep_unlisted() -> Verdict {
    keep(KeepReason::ProviderUnavailable, AcceptsJobs::Yes)
}

/// The verdict on a machine that is wanted, but would not fit beside those that run.
pub(crate) fn keep_for_room() -> Verdict {
    keep(KeepReason::NoRoom, AcceptsJobs::No)
}

/// Whether the machine is still there, on or off, once the verdict is carried out.
pub(crate) fn stays_in_existence(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::InUse | Verdict::Keep { .. } => true,
        Verdict::Release { how, .. } => *how == ReleaseHow::Stop,
    }
}

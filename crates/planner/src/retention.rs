//! Decides about a machine that was not selected: the first rule that applies decides. The rules in words: ARCHITECTURE.md,
//! "Planner rules".

use crate::demand::PoolDemand;
use crate::health::Health;
use crate::observed::{NameIs, Observed};
use crate::orders::Order;
use crate::plan::{KeepReason, ReleaseHow, ReleaseReason, Verdict};
use crate::policy::{IdleAction, PoolPolicy, defaults};
use crate::sizing::{LimitReached, Outdated};
use crate::snapshot::{AcceptsJobs, MachineKeys, MachineState, Queue, QueueStatus};
use crate::time::{Seconds, Timestamp};

/// Machines that are charged by the second have no paid time left, and no setting may count that as enough.
const LEAST_PAID_TIME: Seconds = Seconds(1);
/// How long after its start a queue runner may still be reading its queue.
const QUEUE_RUNNER_WARM_UP: Seconds = Seconds::from_minutes(30);
/// If a provider still lists a destroyed machine after this long, the destruction is repeated: a listing lags by seconds,
/// and a destruction that did not find its machine yet had no effect.
pub(crate) const DESTRUCTION_TIMEOUT: Seconds = Seconds::from_minutes(2);

/// The input of the rules besides the machine.
pub(crate) struct Context<'a> {
    pub(crate) queue: &'a QueueStatus,
    /// `None` for a type that is no longer configured.
    pub(crate) pool: Option<&'a PoolPolicy>,
    pub(crate) demand: &'a PoolDemand,
    /// Why the machine is replaced now, if it is.
    pub(crate) outdated: Option<Outdated>,
    /// Whether it may get new builds while it stays: not if it is surplus and its type is packed (`surplus.rs`).
    pub(crate) accepts_jobs: AcceptsJobs,
    /// Whether `maxMachines` machines of the type are already used or in reserve.
    pub(crate) reserve: Reserve,
    /// How long an idle machine is kept for possible later steps.
    pub(crate) idle_timeout: Seconds,
}

/// Whether one more stopped machine may be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserve {
    HasRoom,
    Full,
}

/// A verdict, and when it changes without an event.
pub(crate) struct Judgment {
    pub(crate) verdict: Verdict,
    pub(crate) until: Option<Timestamp>,
}

/// The verdict on a machine that was not selected.
pub(crate) fn judge(observed: &Observed<'_>, context: &Context<'_>) -> Judgment {
    let mut judgment = first_rule(observed, context);
    if let Verdict::Keep { accepts_jobs, .. } = &mut judgment.verdict
        && observed.machine.state.is_live()
        && !observed.is_ending()
        && registers_itself(context)
    {
        *accepts_jobs = AcceptsJobs::Yes;
    }
    judgment
}

/// A builder of the REST queue runner gets builds as long as it runs, and stopping it would abort them. So a kept machine
/// always accepts jobs.
fn registers_itself(context: &Context<'_>) -> bool {
    matches!(context.queue, QueueStatus::Up(queue) if queue.keys == MachineKeys::HostName)
}

fn first_rule(observed: &Observed<'_>, context: &Context<'_>) -> Judgment {
    if let Some(judgment) = ending(observed) {
        return judgment;
    }
    let QueueStatus::Up(queue) = context.queue else {
        return keep(KeepReason::QueueUnavailable, unless_held_back(observed));
    };
    if observed.name_is == NameIs::Duplicate {
        return keep(KeepReason::DuplicateName, AcceptsJobs::No);
    }
    if let Some(builder) = observed.may_be_builder {
        // REST: with a host name that the machine has not confirmed, its entry may be that of another, idle builder.
        let builder = builder.clone();
        let reason = match observed.in_queue {
            None => KeepReason::MayBeBuilder { builder },
            Some(_) if queue.keys == MachineKeys::Address => KeepReason::MayBeRenamed { builder },
            Some(_) => KeepReason::UnconfirmedName { builder },
        };
        return keep(reason, unless_held_back(observed));
    }
    if observed.jobs() > 0 && !observed.machine.state.is_live() {
        // The queue runner's report overrides the provider's: a building machine is never released.
        return keep(KeepReason::Busy { jobs: observed.jobs() }, AcceptsJobs::No);
    }
    if let Some(judgment) = ordered(observed) {
        return judgment;
    }
    if let Some(judgment) = interrupted(observed) {
        return judgment;
    }
    if let Some(judgment) = not_working(observed, context) {
        return judgment;
    }
    if let Some(why) = context.outdated {
        return match observed.jobs() {
            0 => destroy(ReleaseReason::Outdated(why)),
            jobs => keep(KeepReason::Outdated { jobs, why }, AcceptsJobs::No),
        };
    }
    match observed.machine.state {
        MachineState::Requested => destroy(ReleaseReason::RequestAbandoned),
        MachineState::Failed => destroy(ReleaseReason::Failed),
        MachineState::Stopping | MachineState::Stopped => off(context),
        MachineState::Creating
        | MachineState::Starting
        | MachineState::Up
        | MachineState::Unreachable => live(observed, queue, context),
    }
}

/// A machine that is being destroyed or stopped, or was destroyed recently.
fn ending(observed: &Observed<'_>) -> Option<Judgment> {
    let memory = &observed.machine.memory;
    if let Some(under_way) = memory.under_way.filter(|it| it.operation.ends_the_machine()) {
        let verdict = Verdict::Ending { operation: under_way.operation, since: under_way.since };
        return Some(Judgment { verdict, until: None });
    }
    let destroyed_at = memory.destroyed_at?;
    let again_at = destroyed_at.after(DESTRUCTION_TIMEOUT);
    (observed.now < again_at)
        .then(|| keep(KeepReason::Destroyed { at: destroyed_at }, AcceptsJobs::No).until(again_at))
}

/// The operator's order for the machine, or else for its type. With `Drain`, `phases.rs` replaces the last step of the release
/// by waiting for the next order: nothing is destroyed.
fn ordered(observed: &Observed<'_>) -> Option<Judgment> {
    if let Some(order) = observed.ordered_to_leave() {
        if observed.jobs() > 0 {
            return Some(keep(KeepReason::Busy { jobs: observed.jobs() }, AcceptsJobs::No));
        }
        return Some(destroy(ReleaseReason::Ordered(order.clone())));
    }
    let (order, reason): (_, fn(Order) -> KeepReason) = match observed.ordered_to_stay() {
        Some(order) => (order, KeepReason::Ordered),
        None => (observed.paused?, KeepReason::Paused),
    };
    let accepts_jobs =
        if observed.machine.state.is_live() { unless_held_back(observed) } else { AcceptsJobs::No };
    Some(keep(reason(order.clone()), accepts_jobs))
}

/// A machine that its provider is about to interrupt: its running builds may finish in time, and no new ones start.
fn interrupted(observed: &Observed<'_>) -> Option<Judgment> {
    let at = observed.machine.memory.interrupted_at?;
    Some(match observed.jobs() {
        0 => destroy(ReleaseReason::Interrupted { at }),
        jobs => keep(KeepReason::Interrupted { jobs }, AcceptsJobs::No),
    })
}

/// A machine that is gone, or has failed or been unhealthy for too long. A building machine is kept.
fn not_working(observed: &Observed<'_>, context: &Context<'_>) -> Option<Judgment> {
    if observed.jobs() > 0 {
        return None;
    }
    if let Some(since) = observed.machine.memory.destroyed_at {
        return Some(destroy(ReleaseReason::StillListed { since }));
    }
    if let Some(missing_for) = observed.vanished_for() {
        return Some(destroy(ReleaseReason::Vanished { missing_for }));
    }
    if let Some(failing_for) = context.pool.and_then(|pool| observed.failing_too_long(pool)) {
        return Some(destroy(ReleaseReason::NeverReady { failing_for }));
    }
    match (observed.health, &observed.unhealthy) {
        (Health::GivenUp { unhealthy_for }, Some(unhealthy)) => {
            Some(destroy(ReleaseReason::Unhealthy { what: unhealthy.clone(), unhealthy_for }))
        }
        _ => None,
    }
}

/// A machine that is off. It costs only its disk.
fn off(context: &Context<'_>) -> Judgment {
    match (context.pool.map(|pool| pool.idle_action), context.reserve) {
        (None, _) => destroy(ReleaseReason::TypeNotConfigured),
        (Some(IdleAction::Destroy), _) => destroy(ReleaseReason::StoppedUnwanted),
        (Some(IdleAction::Stop), Reserve::Full) => destroy(ReleaseReason::ReserveFull),
        (Some(IdleAction::Stop), Reserve::HasRoom) => {
            keep(KeepReason::StoppedInReserve, AcceptsJobs::No)
        }
    }
}

/// A machine that runs and costs money. Once it is being released, only new demand brings it back (REST: also a build that
/// starts). Otherwise the rules that keep an idle machine a little longer would apply again in each paid hour, forever.
fn live(observed: &Observed<'_>, queue: &Queue, context: &Context<'_>) -> Judgment {
    let left = observed.paid_time_left;
    let leaves = observed.machine.memory.leaving.is_some();
    // What a machine of an unknown type can build is not known.
    let accepts_jobs =
        if context.pool.is_some() && !leaves { AcceptsJobs::Yes } else { AcceptsJobs::No };

    // With much paid time left it stays and gets builds: they cost nothing more.
    let setting = context.pool.map_or_else(defaults::use_while_paid, |pool| pool.use_while_paid);
    let enough = setting.max(LEAST_PAID_TIME);
    if left >= enough && !leaves {
        return keep(KeepReason::MuchPaidTimeLeft { left, enough }, accepts_jobs)
            .until(observed.less_paid_time_at(enough));
    }
    let accepts_jobs = match context.accepts_jobs {
        AcceptsJobs::Yes => accepts_jobs,
        AcceptsJobs::No => AcceptsJobs::No,
    };
    if observed.jobs() > 0 {
        // Without an idle timeout it is released as soon as possible: new builds would hold it forever.
        let accepts_jobs =
            if context.idle_timeout > Seconds(0) { accepts_jobs } else { AcceptsJobs::No };
        return keep(KeepReason::Busy { jobs: observed.jobs() }, accepts_jobs);
    }
    if leaves {
        return release_live(
            context,
            idle_since(observed, context).map(|at| observed.now.since(at)),
        );
    }
    idle(observed, queue, context, accepts_jobs)
}

/// An idle machine that is not being released yet.
fn idle(
    observed: &Observed<'_>,
    queue: &Queue,
    context: &Context<'_>,
    accepts_jobs: AcceptsJobs,
) -> Judgment {
    let idle_timeout = context.idle_timeout;
    let warm_up = QUEUE_RUNNER_WARM_UP.plus(idle_timeout);
    if last_build(observed, context).is_none() && queue.uptime < warm_up {
        let uptime = queue.uptime;
        let until = observed.now.after(Seconds(warm_up.0 - uptime.0));
        return keep(KeepReason::QueueRunnerJustStarted { uptime }, accepts_jobs).until(until);
    }
    let since = idle_since(observed, context);
    let idle_for = since.map(|since| observed.now.since(since));
    if let (Some(since), Some(idle_for)) = (since, idle_for)
        && idle_for < idle_timeout
    {
        return keep(KeepReason::RecentlyUsed { idle_for, idle_timeout }, accepts_jobs)
            .until(since.after(idle_timeout));
    }
    let left = observed.paid_time_left;
    // With some paid time left it is not released yet: demand may rise again.
    let setting = context.pool.map_or_else(defaults::keep_while_paid, |pool| pool.keep_while_paid);
    let enough = setting.max(LEAST_PAID_TIME);
    if left >= enough {
        return keep(KeepReason::SomePaidTimeLeft { left, enough }, AcceptsJobs::No)
            .until(observed.less_paid_time_at(enough));
    }
    release_live(context, idle_for)
}

/// When the machine last built: by its own idle time or else, if the queue runner does not report that, by its type's last
/// activity.
fn last_build(observed: &Observed<'_>, context: &Context<'_>) -> Option<Timestamp> {
    if let Some(idle_since) = observed.in_queue.and_then(|seen| seen.idle_since) {
        return Some(idle_since);
    }
    if context.demand.running > 0 { Some(observed.now) } else { context.demand.last_active }
}

/// Since when the machine has been idle: the latest of its last build (as the queue runner reports for this machine), when
/// it became ready (not ready: its start), and when we first knew it. The type's last activity counts only if none of these
/// is known. A start is by the provider's clock, which may be wrong: it never counts as later than now.
fn idle_since(observed: &Observed<'_>, context: &Context<'_>) -> Option<Timestamp> {
    let memory = &observed.machine.memory;
    let begin = memory.ready_since.or(observed.machine.started_at).max(memory.known_since);
    let own = observed.in_queue.and_then(|seen| seen.idle_since);
    match begin {
        Some(_) => begin.max(own),
        None => own.or_else(|| last_build(observed, context)),
    }
    .map(|since| since.min(observed.now))
}

fn release_live(context: &Context<'_>, idle_for: Option<Seconds>) -> Judgment {
    match context.pool.map(|pool| pool.idle_action) {
        None => destroy(ReleaseReason::TypeNotConfigured),
        Some(IdleAction::Destroy) => destroy(ReleaseReason::Idle { idle_for }),
        Some(IdleAction::Stop) if context.reserve == Reserve::Full => {
            destroy(ReleaseReason::ReserveFull)
        }
        Some(IdleAction::Stop) => release(ReleaseHow::Stop, ReleaseReason::Idle { idle_for }),
    }
}

impl Observed<'_> {
    /// When less than `left` of its paid time remains.
    fn less_paid_time_at(&self, left: Seconds) -> Timestamp {
        self.now.after(Seconds(self.paid_time_left.0.saturating_sub(left.0).saturating_add(1)))
    }
}

/// While no decision is possible, a machine that got builds still does, unless it is ordered to leave or about to be
/// interrupted: that needs no answer.
fn unless_held_back(observed: &Observed<'_>) -> AcceptsJobs {
    let memory = &observed.machine.memory;
    let got_none = memory.leaving.is_some() || memory.without_builds;
    let must_get_none = observed.ordered_to_leave().is_some() || memory.interrupted_at.is_some();
    if got_none || must_get_none { AcceptsJobs::No } else { AcceptsJobs::Yes }
}

impl Judgment {
    fn until(self, until: Timestamp) -> Self {
        Self { until: Some(until), ..self }
    }
}

fn keep(reason: KeepReason, accepts_jobs: AcceptsJobs) -> Judgment {
    Judgment { verdict: Verdict::Keep { reason, accepts_jobs }, until: None }
}

fn destroy(reason: ReleaseReason) -> Judgment {
    release(ReleaseHow::Destroy, reason)
}

fn release(how: ReleaseHow, reason: ReleaseReason) -> Judgment {
    Judgment { verdict: Verdict::Release { how, reason }, until: None }
}

/// The verdict on a machine of a provider that could not be listed.
pub(crate) fn keep_of_unlistable(observed: &Observed<'_>) -> Verdict {
    match ending(observed) {
        Some(Judgment { verdict: verdict @ Verdict::Ending { .. }, .. }) => verdict,
        _ if observed.machine.memory.destroyed_at.is_some() => {
            keep(KeepReason::ProviderUnavailable, AcceptsJobs::No).verdict
        }
        _ => keep(KeepReason::ProviderUnavailable, unless_held_back(observed)).verdict,
    }
}

/// The verdict on a machine that is needed, but would exceed a shared resource.
pub(crate) fn keep_for_room() -> Verdict {
    keep(KeepReason::NoRoom, AcceptsJobs::No).verdict
}

/// The verdict on a machine that is needed, but would exceed a limit.
pub(crate) fn keep_for_limit(reached: LimitReached) -> Verdict {
    keep(KeepReason::Limit(reached), AcceptsJobs::No).verdict
}

/// Whether the machine still exists, on or off, after the verdict was carried out.
pub(crate) fn stays_in_existence(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::InUse | Verdict::Keep { .. } => true,
        Verdict::Release { how, .. } => *how == ReleaseHow::Stop,
        Verdict::Ending { operation, .. } => *operation == crate::memory::Operation::Stop,
    }
}

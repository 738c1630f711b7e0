//! The plan as text. All fields are destructured, so that a new one cannot be forgotten.

use std::fmt::{self, Display, Formatter};

use crate::endpoint::Host;
use crate::escape::escape;
use crate::memory::{BackOff, BackOffKind};
use crate::orders::{Attribution, Order};
use crate::plan::{
    Attempt, KeepReason, Plan, Provision, Release, ReleaseHow, ReleaseReason, Verdict, Warning,
};
use crate::release::{AwaitReason, ReleaseStep};
use crate::sizing::{
    AllowedBy, Deferral, Deferred, LimitName, LimitReached, NoRoom, Sizing, SlotsBound, SlotsWanted,
};
use crate::snapshot::AcceptsJobs;
use crate::wording::counted;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            sizing,
            verdicts,
            provision,
            start,
            deploy,
            publish: _,
            release,
            recognized: _,
            disabled_though_published: _,
            built: _,
            // The warnings include it.
            progress: _,
            unhealthy: _,
            orders,
            warnings,
            wake_at: _,
        } = self;
        section(f, "machine types", "none", sizing.iter().map(|(t, s)| format!("{t}: {s}")))?;
        section(f, "machines", "none", verdicts.iter().map(|(n, v)| format!("{n}: {v}")))?;
        let actions = provision
            .iter()
            .map(Provision::to_string)
            .chain(start.iter().map(|name| format!("start {name}")))
            .chain(deploy.iter().map(|name| format!("deploy {name}")))
            .chain(release.iter().map(Release::to_string));
        section(f, "actions", "nothing to do", actions)?;
        if !orders.is_empty() {
            section(f, "orders", "", orders.iter().map(Order::to_string))?;
        }
        if !warnings.is_empty() {
            section(f, "warnings", "", warnings.iter().map(Warning::to_string))?;
        }
        Ok(())
    }
}

fn section(
    f: &mut Formatter<'_>,
    title: &str,
    empty: &str,
    lines: impl Iterator<Item = String>,
) -> fmt::Result {
    writeln!(f, "{title}")?;
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        writeln!(f, "  {empty}")?;
    }
    lines.try_for_each(|line| writeln!(f, "  {line}"))
}

impl Display for Sizing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            runnable,
            ignored,
            wanted,
            slots,
            allowed,
            allowed_by,
            present,
            deferred,
            replacing,
            hands_over,
            takes_over,
            no_room,
        } = self;
        match runnable {
            Some(runnable) => write!(f, "{runnable} runnable")?,
            None => f.write_str("runnable unknown")?,
        }
        for (other, steps) in takes_over {
            write!(f, " ({steps} of {other}, which has no capacity)")?;
        }
        if *ignored > 0 {
            write!(f, ", {ignored} ignored")?;
        }
        match slots {
            Some(slots) if *wanted > 0 => {
                write!(f, ", {slots} -> {}", counted(*wanted, "machine"))?;
            }
            _ => write!(f, ", {wanted} wanted")?,
        }
        write!(f, ", {allowed} allowed")?;
        match allowed_by {
            AllowedBy::Demand => {}
            AllowedBy::MinMachines => f.write_str(" (minMachines)")?,
            AllowedBy::MaxMachines => f.write_str(" (maxMachines)")?,
            AllowedBy::CostLimits => f.write_str(" (cost limits)")?,
            AllowedBy::FarmMaxMachines => f.write_str(" (maxMachines of the farm)")?,
        }
        write!(f, ", {present} present")?;
        if let Some(deferred) = deferred {
            write!(f, ", {deferred}")?;
        }
        for (name, why) in replacing {
            write!(f, "; {name} is in use until it is replaced: {why}")?;
        }
        for (other, steps) in hands_over {
            write!(f, "; {steps} runnable handed over to {other}")?;
        }
        if let Some(NoRoom { machines, resource, free, needs }) = no_room {
            write!(f, ", no room for {machines} (each needs {needs}, free: {free} {resource})")?;
        }
        Ok(())
    }
}

impl Display for SlotsWanted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { waiting, running, step_time, target, tenths, bound } = self;
        match bound {
            SlotsBound::Target | SlotsBound::Steps => {
                write!(f, "{waiting} waiting x {} s / {} s", step_time.0, target.0)?;
            }
            SlotsBound::Late { mean_wait, stuck: _ } => write!(
                f,
                "{waiting} waiting for {} s on average, longer than {} s",
                mean_wait.0, target.0
            )?,
        }
        match bound {
            SlotsBound::Target => {}
            SlotsBound::Steps => write!(f, ", at most {waiting} + {running} running")?,
            SlotsBound::Late { mean_wait, stuck } => {
                let (others, step_time) = (running.saturating_sub(*stuck), step_time.0);
                if *stuck > 0 {
                    write!(f, ": {stuck} on machines that finish none +")?;
                } else {
                    f.write_str(":")?;
                }
                write!(
                    f,
                    " {others} running x {step_time} s / {} s + {waiting} waiting x {step_time} s / {} s, at most {waiting}",
                    step_time.saturating_add(target.0),
                    mean_wait.0
                )?;
            }
        }
        write!(f, " = {}.{} slots", tenths / 10, tenths % 10)
    }
}

impl Display for Deferred {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { machines, reason } = self;
        write!(f, "{machines} more ")?;
        match reason {
            Deferral::MaxCreating { at_once } => {
                write!(f, "later (maxCreating allows {at_once} at once)")
            }
            Deferral::CreationRate { per_window, next } => {
                write!(f, "from {next} on (maxCreatesPerCycle allows {per_window} in 5 minutes)")
            }
            Deferral::BackOff(back_off) => write!(f, "from {} on: {back_off}", back_off.until),
            Deferral::Paused(order) => write!(f, "later: paused {}", Attribution(order)),
            Deferral::Limit(reached @ LimitReached { until: Some(until), .. }) => {
                write!(f, "from {until} on: {reached}")
            }
            Deferral::Limit(reached) => write!(f, "after another is released: {reached}"),
            Deferral::NoStorage => f.write_str("when our state can be recorded"),
        }
    }
}

impl Display for LimitReached {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { limit, by_type, until: _ } = self;
        let owner = if *by_type { "this type" } else { "the farm" };
        match limit {
            LimitName::MaxMachines => write!(f, "maxMachines of {owner} is reached"),
            LimitName::MaxHourlyCost { limit } => {
                write!(f, "maxHourlyCost of {owner} is {limit}")
            }
            LimitName::MaxDailyCost { limit, spent } => {
                write!(f, "maxDailyCost of {owner} is {limit}, {spent} spent")
            }
            LimitName::MaxMonthlyCost { limit, spent } => {
                write!(f, "maxMonthlyCost of {owner} is {limit}, {spent} spent")
            }
        }
    }
}

impl Display for BackOff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, failures, until: _, error, ends_when: _ } = self;
        match kind {
            BackOffKind::Capacity => f.write_str("no capacity")?,
            BackOffKind::Failure => f.write_str("creation failed")?,
        }
        if *failures > 1 {
            write!(f, " {failures} times")?;
        }
        write!(f, ": {error}")
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("in use"),
            Self::Keep { reason, accepts_jobs } => {
                write!(f, "keep: {reason}")?;
                match accepts_jobs {
                    AcceptsJobs::Yes => Ok(()),
                    AcceptsJobs::No => f.write_str("; no new builds"),
                }
            }
            Self::Release { how, reason } => write!(f, "{}: {reason}", reason.verb(*how)),
            Self::Ending { operation, since } => write!(f, "{operation}, under way since {since}"),
        }
    }
}

impl Display for KeepReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProviderUnavailable => f.write_str("its provider cannot list it"),
            Self::QueueUnavailable => f.write_str("the queue status is unavailable"),
            Self::DuplicateName => f.write_str("another machine has the same name"),
            Self::MayBeBuilder { builder } => {
                write!(f, "the queue runner does not list it, and {}", MayBe(builder))
            }
            Self::UnconfirmedName { builder } => {
                write!(f, "the machine has not confirmed its host name yet, and {}", MayBe(builder))
            }
            Self::MayBeRenamed { builder } => {
                write!(
                    f,
                    "the queue runner lists it as disabled although the machines file named it, and {}",
                    MayBe(builder)
                )
            }
            Self::Destroyed { at } => {
                write!(f, "destroyed at {at}, but its provider still lists it")
            }
            Self::MuchPaidTimeLeft { left, enough } => {
                write!(f, "{left} are paid for ({enough} or more)")
            }
            Self::Busy { jobs } => match jobs {
                1 => f.write_str("1 build running"),
                jobs => write!(f, "{jobs} builds running"),
            },
            Self::Interrupted { jobs } => {
                write!(f, "{}, its provider interrupts it", Self::Busy { jobs: *jobs })
            }
            Self::Outdated { jobs, why } => {
                write!(f, "{}, {why}", Self::Busy { jobs: *jobs })
            }
            Self::RecentlyUsed { idle_for, idle_timeout } => {
                write!(f, "used {idle_for} ago, idle timeout {idle_timeout}")
            }
            Self::QueueRunnerJustStarted { uptime } => {
                write!(
                    f,
                    "the queue runner has been up for only {uptime} and may not know all steps yet"
                )
            }
            Self::SomePaidTimeLeft { left, enough } => {
                write!(f, "idle, but {left} are paid for ({enough} or more)")
            }
            Self::StoppedInReserve => f.write_str("stopped, in reserve (stopOnIdle)"),
            Self::Ordered(order) => write!(f, "ordered {}", Attribution(order)),
            Self::Paused(order) => write!(f, "paused {}", Attribution(order)),
            Self::Limit(reached) => write!(f, "wanted, but {reached}"),
            Self::NoRoom => f.write_str("wanted, but there is no room for it"),
        }
    }
}

/// The builder that a machine may be under another name.
struct MayBe<'a>(&'a Host);

impl Display for MayBe<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let builder = self.0.to_string();
        write!(
            f,
            "it may be {}, a builder that is unknown here (if it is yours, add it to otherMachines)",
            escape(&builder)
        )
    }
}

impl Display for ReleaseHow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Destroy => "destroy",
        })
    }
}

impl Display for ReleaseReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { idle_for: Some(idle_for) } => write!(f, "not needed, idle for {idle_for}"),
            Self::Idle { idle_for: None } => f.write_str("not needed, idle"),
            Self::StoppedUnwanted => f.write_str("not needed, stopped"),
            Self::ReserveFull => f.write_str("not needed, maxMachines others exist"),
            Self::TypeNotConfigured => f.write_str("its type is not configured any more"),
            Self::Failed => f.write_str("its provider reports that it has failed"),
            Self::NeverReady { failing_for } => {
                write!(f, "its deployment has failed for {failing_for}")
            }
            Self::Unhealthy { what, unhealthy_for } => {
                write!(f, "unhealthy for {unhealthy_for}: {what}")
            }
            Self::Vanished { missing_for } => {
                write!(f, "its provider has not listed it for {missing_for}")
            }
            Self::StillListed { since } => {
                write!(f, "destroyed at {since}, but its provider still lists it")
            }
            Self::Interrupted { at } => {
                write!(f, "its provider interrupts it (notice at {at})")
            }
            Self::Outdated(why) => write!(f, "{why}"),
            Self::Ordered(order) => write!(f, "ordered {}", Attribution(order)),
            Self::RequestAbandoned => f.write_str("requested but never listed, no longer needed"),
        }
    }
}

impl Display for Provision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, machine_type, attempt } = self;
        write!(f, "create {name} ({machine_type})")?;
        match attempt {
            Attempt::First => Ok(()),
            Attempt::Again => f.write_str(", again: requested earlier but not listed"),
        }
    }
}

impl Display for Release {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, how, reason, step } = self;
        let leave = match reason.verb(*how) {
            "drain" => "drain".to_owned(),
            how => format!("drain and {how}"),
        };
        match step {
            // Only just decided, or waiting for a confirmation.
            ReleaseStep::Unpublish
            | ReleaseStep::EndDeployment
            | ReleaseStep::Drain
            | ReleaseStep::Await(AwaitReason::NewerStatus) => {
                write!(f, "{leave} {name}: {reason}")
            }
            ReleaseStep::Await(wait) => {
                write!(f, "{leave} {name}: {reason}; waits: {wait}")
            }
            ReleaseStep::Release => write!(f, "{how} {name}: {reason}"),
        }
    }
}

impl Display for Warning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPoolFor { kind, runnable } => {
                let text = kind.to_string();
                // Another spelling than the queue runner's own is not hidden by the sentence around it.
                let is_plain = kind.system.as_str() != "" && !text.contains(char::is_whitespace);
                let text = if is_plain { text } else { format!("\"{text}\"") };
                write!(
                    f,
                    "cannot provision machines for {text}: no type in systemTypes builds its {}",
                    counted(*runnable, "runnable step")
                )
            }
            Self::Missing { name, missing_for } => {
                write!(f, "{name} is not in its provider's listing (for {missing_for})")
            }
            Self::Unhealthy { name, what } => write!(f, "{name} is unhealthy: {what}"),
            Self::CommonCause { machine_type } => write!(
                f,
                "most machines of type {machine_type} are unhealthy in the same way: check the queue runner and \
                 the network first; none is replaced"
            ),
            Self::Failing { name, operation, error, retry_at } => {
                write!(f, "cannot {operation} {name}, next try at {retry_at}: {error}")
            }
            Self::NotOurs { name } => {
                write!(f, "{name} is not ours (its name or tag is different); it is ignored")
            }
            Self::NoStorage { reason } => {
                write!(f, "state cannot be written; nothing is created or released: {reason}")
            }
            Self::DuplicateMachine { name } => {
                write!(
                    f,
                    "two machines are called {name}; only the first is used and neither is released"
                )
            }
            Self::Machine { name, problem } => write!(f, "{name}: {}", escape(problem)),
            Self::MinAboveMax { machine_type } => {
                write!(
                    f,
                    "systemTypes.{machine_type}: minMachines is above maxMachines; maxMachines is used"
                )
            }
            Self::Unlistable { machine_type, reason } => {
                write!(
                    f,
                    "machines of type {machine_type} could not be listed; none is created or released: {}",
                    escape(reason)
                )
            }
            Self::QueueUnavailable { reason } => {
                write!(f, "queue status unavailable; nothing is released: {}", escape(reason))
            }
            Self::Queue { message } => f.write_str(&escape(message)),
        }
    }
}

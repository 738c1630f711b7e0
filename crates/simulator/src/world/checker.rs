//! What the provisioner must never do (ARCHITECTURE.md, "Order of effects"), and what led to a violation.

use std::collections::VecDeque;
use std::fmt;

use planner::{MachineName, Operation};

use crate::cloud::Lifecycle;
use crate::engine::Millis;
use crate::queue_runner::Host;

/// Number of earlier events that a violation shows.
const HISTORY: usize = 60;
/// One planner bug violates a rule in every cycle; more violations than this add nothing.
const MOST_VIOLATIONS: usize = 100;

/// A rule that the provisioner violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A machine is released only on a status that was requested after it left the machines file.
    PublishBeforeRelease,
    /// A machine drains before it is released.
    DrainBeforeRelease,
    /// A busy machine is never released.
    NeverReleaseBusy,
    /// Nothing is released while the queue status is unavailable.
    NeverReleaseBlindly,
    /// The intent is recorded before the provider is asked to create.
    IntentBeforeCreate,
    /// `maxMachines`.
    MaxMachines,
    /// `maxCreating`.
    MaxCreating,
    /// After a failed creation, nothing of its type is created during the back-off.
    BackOff,
    /// No machine is created or started for which its host has no room, as far as listings can show it.
    HostRoom,
    /// `maxMachines` of the farm; `maxHourlyCost`, `maxDailyCost` and `maxMonthlyCost` of the farm and of a type.
    Limits,
    /// `minMachines` exist, whatever the limits.
    MinMachines,
    /// A machine is published only once it is ready.
    PublishOnlyReady,
    /// At most one operation per machine.
    OneOperationAtATime,
    /// The machines file lists only machines that exist.
    PublishOnlyKnown,
    /// Machines of others are left alone.
    OnlyOurs,
    /// An idle machine that nothing keeps is released within some polls.
    ReleaseIdle,
    /// The farm comes to rest when the work is done and faults have ended.
    Converge,
}

/// A violation and its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Millis,
    /// Which rule.
    pub rule: Rule,
    /// What was done.
    pub what: String,
    /// Earlier events, one line each.
    pub history: Vec<String>,
}

/// A clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockOf {
    Provisioner,
    QueueRunner,
}

/// An event.
#[derive(Clone, Debug)]
pub(super) enum LogEntry {
    ProvisionerStarts(u64),
    ProvisionerKilled(u64),
    NotListed(String),
    ListedEmpty(String),
    NoQueueStatus,
    ClockSet(ClockOf, i64),
    StaleStatus,
    Reconfigured,
    TransactionsLost,
    Published(usize),
    NotPublished,
    FileRead(usize),
    Operation(MachineName, Operation),
    OperationEnds(MachineName, Operation, Result<(), String>),
    Lifecycle(MachineName, Lifecycle),
    SpotNotice(MachineName, Millis),
    QueueRunner(&'static str),
    Build(u64, Host),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Checker {
    history: VecDeque<(Millis, LogEntry)>,
    violations: Vec<Violation>,
    muted: bool,
}

impl Checker {
    /// From now on no rule is checked.
    pub(super) fn mute(&mut self) {
        self.muted = true;
    }

    pub(super) fn log(&mut self, at: Millis, entry: LogEntry) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((at, entry));
    }

    pub(super) fn expect(
        &mut self,
        at: Millis,
        holds: bool,
        rule: Rule,
        what: impl FnOnce() -> String,
    ) {
        if !holds {
            self.violated(at, rule, what());
        }
    }

    pub(super) fn violated(&mut self, at: Millis, rule: Rule, what: String) {
        if !self.muted && self.violations.len() < MOST_VIOLATIONS {
            let history = self.history.iter().map(|(at, note)| format!("{at} {note}")).collect();
            self.violations.push(Violation { at, rule, what, history });
        }
    }

    pub(super) fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PublishBeforeRelease => "release on a newer status than the publication",
            Self::DrainBeforeRelease => "drain before release",
            Self::NeverReleaseBusy => "never release a busy machine",
            Self::NeverReleaseBlindly => "never release without a queue status",
            Self::IntentBeforeCreate => "record the intent before creating",
            Self::MaxMachines => "maxMachines",
            Self::MaxCreating => "maxCreating",
            Self::BackOff => "wait after a creation that failed",
            Self::HostRoom => "keep to the room of hosts",
            Self::Limits => "limits",
            Self::MinMachines => "minMachines",
            Self::PublishOnlyReady => "publish only ready machines",
            Self::OneOperationAtATime => "one operation at a time",
            Self::PublishOnlyKnown => "publish only machines that exist",
            Self::OnlyOurs => "leave machines of others alone",
            Self::ReleaseIdle => "release idle machines",
            Self::Converge => "come to rest",
        })
    }
}

/// The rule, what was done, and the earlier events, indented.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} broken at {}: {}", self.rule, self.at, self.what)?;
        for line in &self.history {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProvisionerStarts(run) => write!(f, "provisioner starts, run {run}"),
            Self::ProvisionerKilled(run) => write!(f, "provisioner killed, run {run}"),
            Self::NotListed(kind) => write!(f, "machines of {kind} cannot be listed"),
            Self::ListedEmpty(kind) => write!(f, "no machine of {kind} is listed, wrongly"),
            Self::ClockSet(clock_of, seconds) => {
                write!(f, "clock set by {seconds} s: {clock_of:?}")
            }
            Self::StaleStatus => f.write_str("the queue runner's answer is an old one"),
            Self::Reconfigured => f.write_str("another configuration is loaded"),
            Self::TransactionsLost => f.write_str("the last transactions are lost"),
            Self::NoQueueStatus => f.write_str("the queue runner does not answer"),
            Self::Published(lines) => write!(f, "machines file published, {lines} machines"),
            Self::NotPublished => f.write_str("machines file not published"),
            Self::FileRead(lines) => write!(f, "queue runner reads {lines} machines"),
            Self::Operation(name, operation) => write!(f, "{name}: {operation} begins"),
            Self::OperationEnds(name, operation, Ok(())) => write!(f, "{name}: {operation} done"),
            Self::OperationEnds(name, operation, Err(error)) => {
                write!(f, "{name}: {operation} failed: {error}")
            }
            Self::Lifecycle(name, lifecycle) => write!(f, "{name} is {lifecycle:?}"),
            Self::SpotNotice(name, left) => {
                write!(f, "{name} gets an interruption notice: {left} left")
            }
            Self::QueueRunner(what) => write!(f, "queue runner {what}"),
            Self::Build(id, host) => write!(f, "step {id} begins on {}", host.address()),
        }
    }
}

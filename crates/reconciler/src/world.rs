//! What the loop needs of the world.

use std::collections::BTreeMap;
use std::fmt;

use planner::{
    Machine, MachineName, MachineType, MachinesFile, QueueStatus, ReleaseHow, Resource, Timestamp,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Tells the time. It is read once a cycle, before anything else.
pub trait Clock {
    /// Now.
    fn now(&mut self) -> Timestamp;
}

/// Asks the queue runner.
pub trait QueueSource {
    /// The queue's state now. A queue runner that is down, silent or makes no sense is
    /// [`QueueStatus::Unavailable`] with the reason; there is no other way to fail.
    fn queue_status(&mut self) -> QueueStatus;
}

/// Lists and changes the machines.
pub trait MachineProvider {
    /// The machines of our tag. A machine that [`Step::Create`] answered for is among them from then on:
    /// providers whose listings are eventually consistent have to see to that.
    fn list(&mut self) -> Inventory;

    /// Carries out `tasks`, each on another machine, all at the same time as far as the world's limits
    /// allow, and returns when the last has ended: one outcome each, in the same order. Every step is
    /// idempotent and ends within its time limit; one task's failure leaves the others alone.
    fn perform(&mut self, tasks: &[Task]) -> Vec<Outcome>;
}

/// Tells the queue runner which machines may get builds.
pub trait MachinesFileSink {
    /// Replaces the machines file, whole or not at all.
    ///
    /// # Errors
    /// With what went wrong, where; the queue runner then still reads the earlier file.
    fn publish(&mut self, file: &MachinesFile) -> Result<Published, PublishError>;
}

/// Remembers what is about to be created, so that a crash between asking and hearing the answer loses
/// nothing.
pub trait IntentLog {
    /// The intents that no machine has been seen for yet.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn intents(&mut self) -> Result<Vec<Intent>, LogError>;

    /// Records intents durably before it returns.
    ///
    /// # Errors
    /// When they may not outlive a crash; nothing is to be created then.
    fn record(&mut self, intents: &[Intent]) -> Result<(), LogError>;

    /// Forgets intents: their machines have been seen, or are known to be gone. Unknown names are fine.
    ///
    /// # Errors
    /// When the log cannot be written; the intents will be resolved again, which does no harm.
    fn forget(&mut self, names: &[MachineName]) -> Result<(), LogError>;
}

/// All of the world.
pub trait World: Clock + QueueSource + MachineProvider + MachinesFileSink + IntentLog {}

impl<W: Clock + QueueSource + MachineProvider + MachinesFileSink + IntentLog> World for W {}

/// What the providers list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The machines; for types in `unlisted` the ones last seen.
    pub machines: Vec<Machine>,
    /// Types whose provider could not list its machines, with the reason.
    pub unlisted: BTreeMap<MachineType, String>,
    /// What the machines share and may not use up.
    pub resources: Vec<Resource>,
}

/// A recorded intent to create a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// The name: with `requested_at` the idempotency key.
    pub name: MachineName,
    /// The type.
    #[serde(rename = "type")]
    pub machine_type: MachineType,
    /// When the intent was first recorded.
    pub requested_at: Timestamp,
}

/// What is to be done with one machine, step by step; the first failure ends the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The machine as it was last seen.
    pub machine: Machine,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// One thing that is done with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Create it; a machine of that name that is there already is the answer.
    Create,
    /// Start it again.
    Start,
    /// Wait until it is up, bring it up to date, touch `/run/keep-alive`.
    Deploy,
    /// See to it that it gets no new builds, beyond leaving the machines file (REST: stop its builder).
    Drain,
    /// Stop it; its disk is kept.
    Stop,
    /// Destroy it; one that is gone is a success.
    Destroy,
}

impl From<ReleaseHow> for Step {
    fn from(how: ReleaseHow) -> Self {
        match how {
            ReleaseHow::Stop => Self::Stop,
            ReleaseHow::Destroy => Self::Destroy,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Deploy => "deploy",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Destroy => "destroy",
        })
    }
}

/// How a task ended: the machine as it is now, or the step that failed.
pub type Outcome = Result<Done, StepError>;

/// A task that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The machine as it is now (after a stop or destroy: as it was).
    pub machine: Machine,
    /// What did not matter enough to fail: `/run/keep-alive` could not be touched.
    pub warnings: Vec<String>,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("cannot {step} it: {}", planner::escape(message))]
#[serde(rename_all = "camelCase")]
pub struct StepError {
    /// Which.
    pub step: Step,
    /// What a caller branches on.
    pub kind: StepErrorKind,
    /// What happened and what to do about it.
    pub message: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepErrorKind {
    /// The provider has no capacity now; it may have later.
    Capacity,
    /// It took longer than its time limit.
    TimedOut,
    /// Anything else.
    Failed,
}

/// Whether the file's content changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    /// A new content was written.
    Changed,
    /// It was as it is to be already.
    Unchanged,
    /// No machines file is wanted: builders register themselves.
    NotWanted,
}

/// Publishing failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", planner::escape(.0))]
pub struct PublishError(pub String);

/// The intent log failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", planner::escape(.0))]
pub struct LogError(pub String);

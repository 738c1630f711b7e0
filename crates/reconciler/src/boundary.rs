//! What comes in and what goes out.

use std::collections::BTreeMap;
use std::fmt;

use planner::{
    Machine, MachineName, MachineType, MachinesFile, Operation, Order, Policy, QueueStatus,
    Resource, Seconds,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;
use crate::record::Change;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one.
            pub(crate) fn advance(&mut self) -> Self {
                self.0 += 1;
                *self
            }
        }
    };
}

id! {
    /// A question to the queue runner.
    QuestionId
}
id! {
    /// A question to a provider for its machines.
    ListingId
}
id! {
    /// An operation on a machine.
    OperationId
}
id! {
    /// A publication of the machines file.
    PublicationId
}
id! {
    /// Changes of the state that are written down together.
    BatchId
}

/// A provider with its settings, as far as they say which machines it lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderId(pub String);

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The configuration was read, at the start or again.
    Configured(Box<Configuration>),
    /// The queue runner answered, or could not be asked.
    Queue {
        /// The question.
        question: QuestionId,
        /// The answer.
        status: QueueStatus,
    },
    /// A provider answered, or could not be asked.
    Listed {
        /// The question.
        listing: ListingId,
        /// The provider.
        provider: ProviderId,
        /// Its machines, or why they could not be listed.
        result: Result<Listing, String>,
    },
    /// An operation ended: it succeeded, failed, took too long or was abandoned.
    Ended {
        /// The operation.
        operation: OperationId,
        /// How it ended.
        result: Result<Done, OperationError>,
    },
    /// A publication ended.
    Published {
        /// The publication.
        publication: PublicationId,
        /// Whether the queue runner can read the file now; else it still reads the earlier one.
        result: Result<Published, String>,
    },
    /// Changes were written down durably, or could not be.
    Recorded {
        /// The changes.
        batch: BatchId,
        /// Why they may not outlive a crash.
        result: Result<(), String>,
    },
    /// The operator said something, or took it back: all that stands now.
    Ordered(Vec<Order>),
    /// The system's clock was set, by this many seconds (negative: back).
    ClockStepped {
        /// By how much.
        seconds: i64,
    },
}

/// What is to be done. Effects are carried out in the order in which they are handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the queue runner. Ends with [`Event::Queue`].
    AskQueue(QuestionId),
    /// List a provider's machines. Ends with [`Event::Listed`].
    List {
        /// The question.
        listing: ListingId,
        /// The provider.
        provider: ProviderId,
    },
    /// Begin an operation on a machine. Ends with [`Event::Ended`].
    Begin {
        /// The operation.
        operation: OperationId,
        /// What is to be done.
        task: Box<Task>,
    },
    /// End an operation that takes too long, with all its processes. It still ends with [`Event::Ended`].
    Abandon(OperationId),
    /// Replace the machines file, whole or not at all. Ends with [`Event::Published`].
    Publish {
        /// The publication.
        publication: PublicationId,
        /// What the file is to say.
        file: Box<MachinesFile>,
    },
    /// Write changes of the state down durably. Ends with [`Event::Recorded`].
    Record {
        /// The changes' number.
        batch: BatchId,
        /// The changes, all or none.
        changes: Vec<Change>,
    },
}

/// An operation on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What is to be done.
    pub operation: Operation,
    /// The machine as it was last seen.
    pub machine: Machine,
    /// The provider that made it or is to make it.
    pub provider: ProviderId,
    /// With a creation: the same token asks for the same machine. Another attempt after a definite failure has
    /// another token.
    pub token: String,
    /// How long it may take.
    pub limit: Seconds,
}

/// What a provider lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The machines of our tag, and whatever else it may list.
    pub machines: Vec<Machine>,
    /// What they share and may not use up.
    pub resources: Vec<Resource>,
    /// Names of machines that carry another tag by the provider's own word, or cannot be ours.
    pub not_ours: Vec<MachineName>,
}

/// An operation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The machine as it is now (after a stop or destroy: as it was).
    pub machine: Box<Machine>,
    /// What did not matter enough to fail.
    pub warnings: Vec<String>,
}

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{}", planner::escape(message))]
#[serde(rename_all = "camelCase")]
pub struct OperationError {
    /// What a caller branches on.
    pub kind: OperationErrorKind,
    /// What happened and what to do about it.
    pub message: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OperationErrorKind {
    /// The provider has no capacity now; it may have later.
    Capacity,
    /// It took longer than its time limit: whether it had its effect is not known.
    TimedOut,
    /// The machine does not answer to ssh.
    Unreachable,
    /// Anything else.
    #[default]
    Failed,
}

impl fmt::Display for OperationErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Capacity => "capacity",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        })
    }
}

/// What became of a machines file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Published {
    /// New content was written.
    Changed,
    /// It was as it is to be already.
    Unchanged,
    /// No machines file is wanted: builders register themselves.
    NotWanted,
}

/// What the operator wants, and by which means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What the planner needs.
    pub policy: Policy,
    /// The provider of each type; the same keys as `policy.pools`.
    pub providers: BTreeMap<MachineType, ProviderId>,
    /// A digest of what a deployment brings onto the machines of a type. When it changes they are deployed
    /// again. Types that are not here have nothing of the kind.
    pub settings: BTreeMap<MachineType, String>,
    /// When things are done and how long they may take.
    pub timing: Timing,
}

/// When things are done and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `pollInterval`: from one question to the queue runner to the next.
    pub poll_interval: Seconds,
    /// `listInterval`: from one listing of a provider to the next, while nothing is under way there.
    pub list_interval: Seconds,
    /// `keepAliveInterval`: from one touch of `/run/keep-alive` to the next. `None`: it is not touched.
    pub keep_alive_interval: Option<Seconds>,
    /// `maxStatusAge`: how old a queue status may be.
    pub max_status_age: Seconds,
    /// `createTimeout`: for a creation or a start.
    pub create_timeout: Seconds,
    /// `deployTimeout`: for a boot, and for a deployment.
    pub deploy_timeout: Seconds,
    /// `releaseTimeout`: for a drain, stop or destruction.
    pub release_timeout: Seconds,
    /// `parallelism`: operations of one provider at the same time; at least 1.
    pub parallelism: usize,
}

impl Timing {
    /// How long an operation may take.
    pub fn limit(&self, operation: Operation) -> Seconds {
        match operation {
            Operation::Create | Operation::Start => self.create_timeout,
            Operation::Deploy => self.deploy_timeout,
            Operation::KeepAlive | Operation::Drain | Operation::Stop | Operation::Destroy => {
                self.release_timeout
            }
        }
    }
}

/// The defaults of `conf.nix`.
impl Default for Timing {
    fn default() -> Self {
        Self {
            poll_interval: Seconds(10),
            list_interval: Seconds(60),
            keep_alive_interval: Some(Seconds(300)),
            max_status_age: Seconds(120),
            create_timeout: Seconds(limits::CREATE_TIMEOUT.as_secs()),
            deploy_timeout: Seconds(limits::DEPLOY_TIMEOUT.as_secs()),
            release_timeout: Seconds(limits::RELEASE_TIMEOUT.as_secs()),
            parallelism: limits::PARALLELISM,
        }
    }
}

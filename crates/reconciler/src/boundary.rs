//! Events (what happened) and effects (what the driver must do).

use std::collections::BTreeMap;

use planner::{
    Machine, MachineName, MachineType, MachinesFile, Money, Operation, Order, Policy, QueueStatus,
    Resource, Seconds,
};
use serde::{Deserialize, Serialize};

use crate::ids::{BatchId, ListingId, OperationId, ProviderId, PublicationId, QuestionId};
use crate::limits;
use crate::operation_error::OperationError;
use crate::record::Change;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The configuration was read, at the start or again.
    Configured(Box<Configuration>),
    /// The queue runner answered, or could not be asked.
    Queue {
        /// The question.
        question: QuestionId,
        /// Its answer.
        status: QueueStatus,
    },
    /// A provider answered, or could not be asked.
    Listed {
        /// The question.
        listing: ListingId,
        /// The provider.
        provider: ProviderId,
        /// Its machines, or why they cannot be listed.
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
        /// Whether the queue runner can read the new file. On an error it still reads the previous file.
        result: Result<Published, String>,
    },
    /// State changes were recorded durably, or could not be.
    Recorded {
        /// The changes. With an error, an unknown number means that all that was recorded may be lost.
        batch: BatchId,
        /// Why the changes may be lost in a crash.
        result: Result<(), String>,
    },
    /// A provider announced an interruption of a machine.
    Interrupted {
        /// The provider.
        provider: ProviderId,
        /// The machine.
        machine: MachineName,
    },
    /// The operator's orders changed: all orders now in force.
    Ordered(Vec<Order>),
    /// The system clock was set.
    ClockStepped {
        /// By how many seconds; negative: back.
        seconds: i64,
    },
}

/// What the driver must do. The driver begins effects in the order in which it gets them. Before an operation or a
/// publication it waits until all earlier [`Effect::Record`]s are on disk.
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
        /// The operation and its target.
        task: Box<Task>,
    },
    /// End an operation that exceeds its time limit, with all its processes. [`Event::Ended`] still follows.
    Abandon(OperationId),
    /// Replace the machines file as a whole or not at all. Ends with [`Event::Published`].
    Publish {
        /// The publication.
        publication: PublicationId,
        /// The new content of the file.
        file: Box<MachinesFile>,
    },
    /// Record state changes durably. Ends with [`Event::Recorded`].
    Record {
        /// The number of the batch.
        batch: BatchId,
        /// The changes, all or none.
        changes: Vec<Change>,
    },
}

/// An operation on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which operation.
    pub operation: Operation,
    /// The machine as it was last seen.
    pub machine: Machine,
    /// The provider that created the machine or is to create it.
    pub provider: ProviderId,
    /// For a creation, the idempotency key: the same token returns the same machine. A new attempt after a
    /// definite failure uses a new token.
    pub token: String,
    /// The time limit.
    pub limit: Seconds,
}

/// What a provider lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The machines with our tag; the provider may list others as well.
    pub machines: Vec<Machine>,
    /// Resources that the machines share, such as a host's memory.
    pub resources: Vec<Resource>,
    /// The most that a new machine of a type may cost per hour, where known.
    pub prices: BTreeMap<MachineType, Money>,
    /// Names of machines that have another tag according to the provider, or cannot be ours.
    pub not_ours: Vec<MachineName>,
}

/// An operation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The machine as it is now; after a stop or destroy, as it was before.
    pub machine: Box<Machine>,
    /// Problems that did not make the operation fail.
    pub warnings: Vec<String>,
    /// REST: whether the host name is only the provider's word, because the machine could not be asked.
    pub name_is_unconfirmed: bool,
}

/// The result of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Published {
    /// New content was written.
    Changed,
    /// The file already had this content.
    Unchanged,
    /// No machines file is configured: builders register themselves.
    NotWanted,
}

/// What the operator wants, with the settings to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What the planner needs.
    pub policy: Policy,
    /// The provider of each type; the same keys as `policy.pools`.
    pub providers: BTreeMap<MachineType, ProviderId>,
    /// A digest of the settings that a deployment installs on the machines of a type. When it changes, they
    /// are deployed again. Types without such settings are absent.
    pub deployment_digests: BTreeMap<MachineType, String>,
    /// Intervals and time limits.
    pub timing: Timing,
}

/// Intervals and time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `pollInterval`: between two questions to the queue runner.
    pub poll_interval: Seconds,
    /// `listInterval`: between two listings of a provider, while nothing is under way there.
    pub list_interval: Seconds,
    /// `keepAliveInterval`: between two touches of `/run/keep-alive`. `None`: it is not touched.
    pub keep_alive_interval: Option<Seconds>,
    /// `maxStatusAge`: how old a queue status may be, unless its clock is wrong (`questions.rs`).
    pub max_status_age: Seconds,
    /// How often the machines file is compared with what it should be, so that one that was deleted or changed by hand is
    /// noticed. `None`: never; an `updateCommand` runs only for changes.
    pub verify_interval: Option<Seconds>,
    /// `createTimeout`: limit of a creation or start.
    pub create_timeout: Seconds,
    /// `deployTimeout`: limit of a boot, and of a deployment.
    pub deploy_timeout: Seconds,
    /// `releaseTimeout`: limit of a drain, stop or destruction.
    pub release_timeout: Seconds,
    /// `parallelism`: concurrent operations per provider; at least 1.
    pub parallelism: usize,
}

impl Timing {
    /// The time limit of an operation.
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
            verify_interval: None,
            create_timeout: Seconds(limits::CREATE_TIMEOUT.as_secs()),
            deploy_timeout: Seconds(limits::DEPLOY_TIMEOUT.as_secs()),
            release_timeout: Seconds(limits::RELEASE_TIMEOUT.as_secs()),
            parallelism: limits::PARALLELISM,
        }
    }
}

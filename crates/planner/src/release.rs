//! The progress of a release, and the next step.
//!
//! A machine is stopped or destroyed only after a queue status that was requested after the machine could get no more
//! builds (rule 5 of "Order of effects" in ARCHITECTURE.md). Every step here checks one status and the moment of its request.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::memory::{InMachinesFile, Operation, Sequence};
use crate::observed::Observed;
use crate::snapshot::{AcceptsJobs, MachineKeys, Queue, Snapshot};
use crate::time::Seconds;

/// A builder is stopped only after an answer that was requested at most this long ago, because stopping it aborts the builds
/// that it has started since. The usual time of an answer is added: a queue runner may always be slow.
const MAX_ANSWER_AGE: Seconds = Seconds(3);
/// The most that is added.
const MAX_LATENCY: Seconds = Seconds(60);

/// The next step of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseStep {
    /// Take it out of the machines file.
    #[serde(alias = "unlist")]
    Unpublish,
    /// Wait for a newer queue status.
    Await(AwaitReason),
    /// End its deployment, which may wait long for a machine that does not answer.
    EndDeployment,
    /// Stop its builder (REST).
    Drain,
    /// Stop or destroy it.
    Release,
}

/// What a release waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AwaitReason {
    /// A queue status that was requested after the machine left the machines file (classic), or after the decision and after its
    /// builder was stopped (REST).
    NewerStatus,
    /// A queue status that was requested at most 3 s ago, plus the usual time of an answer.
    FreshStatus,
    /// The end of the operation under way, or of a back-off.
    Operation,
    /// The queue runner must read the machines file without it, or lose its builder.
    StillAcceptsJobs,
    /// The operator's next order.
    Order,
}

/// The next step for `observed`, which is being released.
pub(crate) fn next_step(
    observed: &Observed<'_>,
    queue: &Queue,
    snapshot: &Snapshot,
) -> ReleaseStep {
    let asked = snapshot.queue_asked;
    let step = match queue.keys {
        MachineKeys::Address => classic(observed, asked),
        MachineKeys::HostName => rest(observed, asked),
    };
    let is_operation = matches!(step, ReleaseStep::Drain | ReleaseStep::Release);
    if is_operation && observed.operation() == Some(Operation::Deploy) {
        ReleaseStep::EndDeployment
    } else if is_operation && !observed.may_be_released() {
        ReleaseStep::Await(AwaitReason::Operation)
    } else if queue.keys == MachineKeys::HostName
        && may_have_changed(&step, observed)
        && !is_fresh(snapshot)
    {
        ReleaseStep::Await(AwaitReason::FreshStatus)
    } else {
        step
    }
}

/// REST: whether builds may have started since the answer that `step` depends on. After a failed operation on the machine,
/// its builder may run and have registered again.
fn may_have_changed(step: &ReleaseStep, observed: &Observed<'_>) -> bool {
    match step {
        ReleaseStep::Drain => true,
        ReleaseStep::Release => observed.machine.memory.failing.is_some(),
        ReleaseStep::Unpublish | ReleaseStep::EndDeployment | ReleaseStep::Await(_) => false,
    }
}

fn is_fresh(snapshot: &Snapshot) -> bool {
    let longest = MAX_ANSWER_AGE.plus(snapshot.queue_latency.min(MAX_LATENCY));
    snapshot.queue_asked_at.is_none_or(|asked_at| snapshot.taken_at.since(asked_at) <= longest)
}

/// First remove the machine from the machines file, then wait for a status which shows that the queue runner has read the file.
fn classic(observed: &Observed<'_>, asked: Sequence) -> ReleaseStep {
    let memory = &observed.machine.memory;
    let taken_out = match memory.in_machines_file {
        InMachinesFile::Now => return ReleaseStep::Unpublish,
        InMachinesFile::NoMore(at) => Some(at),
        InMachinesFile::Never => memory.leaving.map(|leaving| leaving.decided),
    };
    confirmed(observed, asked, taken_out)
}

/// Stopping a builder aborts its builds, so a status newer than the decision comes first. Then the builder is
/// stopped. Then a status must show that it is gone.
fn rest(observed: &Observed<'_>, asked: Sequence) -> ReleaseStep {
    let leaving = observed.machine.memory.leaving;
    if leaving.is_none_or(|leaving| asked <= leaving.decided) {
        return ReleaseStep::Await(AwaitReason::NewerStatus);
    }
    let drained = leaving.and_then(|leaving| leaving.drained);
    let has_builder = observed.machine.state.is_live() && observed.machine.address.is_some();
    match drained {
        None if has_builder => ReleaseStep::Drain,
        None => confirmed(observed, asked, leaving.map(|leaving| leaving.decided)),
        Some(drained) if asked > drained && observed.accepts_jobs() => {
            // It continued although it was asked to stop, or it could not be reached.
            ReleaseStep::Drain
        }
        drained => confirmed(observed, asked, drained),
    }
}

/// Whether a status that was requested after `taken_out` shows that the queue runner cannot use the machine.
/// Whether it is idle was decided before (`retention.rs`).
fn confirmed(observed: &Observed<'_>, asked: Sequence, taken_out: Option<Sequence>) -> ReleaseStep {
    if taken_out.is_none_or(|taken_out| asked <= taken_out) {
        ReleaseStep::Await(AwaitReason::NewerStatus)
    } else if observed.accepts_jobs() {
        ReleaseStep::Await(AwaitReason::StillAcceptsJobs)
    } else {
        ReleaseStep::Release
    }
}

impl Observed<'_> {
    /// Whether the queue runner may give it builds.
    fn accepts_jobs(&self) -> bool {
        self.in_queue.is_some_and(|seen| seen.accepts_jobs == AcceptsJobs::Yes)
    }
}

impl fmt::Display for AwaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewerStatus => "a newer queue status must confirm that it is idle",
            Self::FreshStatus => "a queue status of the last 3 s must show its builder idle",
            Self::Operation => "an earlier operation or its back-off must end first",
            Self::Order => "it stays drained until the operator's next order (resume, release)",
            Self::StillAcceptsJobs => "the queue runner may still give it builds",
        })
    }
}

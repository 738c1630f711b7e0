//! How far a machine that is to be released has come, and what may be done next.
//!
//! A machine is released only on the evidence of a queue status that was asked for after it could get no more
//! builds (order rule 3). Every step here looks at one status and at when it was asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::memory::{Listed, Sequence};
use crate::observed::Observed;
use crate::plan::AcceptsJobs;
use crate::snapshot::{MachineKeys, Queue, Snapshot};
use crate::time::Seconds;

/// A builder is stopped only on an answer that was asked for at most this long ago: stopping it ends what it has
/// begun to build since.
const FRESH: Seconds = Seconds(3);

/// The next step on a machine's way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseStep {
    /// Take it out of the machines file.
    Unlist,
    /// Wait for a queue status that says more.
    Await(AwaitReason),
    /// Stop its builder (REST).
    Drain,
    /// Stop or destroy it.
    Release,
}

/// What a release waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AwaitReason {
    /// A queue status that was asked for after the machine was taken from the queue runner.
    NewerStatus,
    /// A queue status that was asked for only just now.
    FreshStatus,
    /// What is under way with the machine, or the time to try again.
    Operation,
    /// The queue runner to read the machines file without it, or to lose its builder.
    StillAcceptsJobs,
    /// The operator to say what becomes of it.
    Order,
}

/// The next step for `observed`, which is to be released.
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
    if is_operation && !observed.may_be_released() {
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

/// Whether builds may have begun since the answer that `step` rests on: a builder that could not be stopped, or whose
/// machine was to be stopped or destroyed and was not, may have come back.
fn may_have_changed(step: &ReleaseStep, observed: &Observed<'_>) -> bool {
    match step {
        ReleaseStep::Drain => true,
        ReleaseStep::Release => observed.machine.memory.failing.is_some(),
        ReleaseStep::Unlist | ReleaseStep::Await(_) => false,
    }
}

fn is_fresh(snapshot: &Snapshot) -> bool {
    snapshot.queue_asked_at.is_none_or(|asked_at| snapshot.taken_at.since(asked_at) <= FRESH)
}

/// The machines file comes first, then the queue runner's word that it has read it.
fn classic(observed: &Observed<'_>, asked: Sequence) -> ReleaseStep {
    let memory = &observed.machine.memory;
    let taken_out = match memory.listed {
        Listed::Now => return ReleaseStep::Unlist,
        Listed::NoMore(at) => Some(at),
        Listed::Never => memory.leaving.map(|leaving| leaving.decided),
    };
    confirmed(observed, asked, taken_out)
}

/// A look that is newer than the decision comes first, since stopping a builder ends its builds; then the
/// builder is stopped, and the queue runner has to have seen it go.
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
            // It went on although it was told to stop, or could not be told.
            ReleaseStep::Drain
        }
        drained => confirmed(observed, asked, drained),
    }
}

/// Whether a status that was asked for after `taken_out` shows the machine out of the queue runner's reach.
/// That it is idle was judged before.
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
            Self::NewerStatus => "a newer queue status has to confirm that it is idle",
            Self::FreshStatus => "a queue status of the last 3 s has to show its builder idle",
            Self::Operation => "an earlier operation has to end, or its back-off",
            Self::Order => "it stays drained until the operator says more (resume, release)",
            Self::StillAcceptsJobs => "the queue runner may still give it builds",
        })
    }
}

//! What happens by itself, sooner or later.

use reconciler::OperationId;

use crate::cloud::MachineId;
use crate::engine::Millis;
use crate::queue_runner::Start;
use crate::workload::StepIndex;

/// Something that happens at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The next builds enter the queue.
    Submit,
    /// The next builds are cancelled.
    Cancel,
    /// A step is done, if its machine still builds it and is not slower or faster than was thought.
    Finish(Start),
    /// The outputs of a step that was built are copied.
    Copied(Start),
    /// A machine that a step was given to did not answer.
    ConnectFails(Start),
    /// The delay of a step that failed is over.
    Retry(StepIndex),
    /// A machine that was disabled may be tried again, or the REST dispatcher has slept.
    Dispatch,
    /// The classic queue runner reads the machines file again.
    ReadFile,
    /// The REST queue runner's `dispatchTriggerTimerInS`.
    DispatchTimer,
    /// The queue runner stops, and comes up again after this long.
    QueueRunnerDown(Millis),
    /// The queue runner is there again.
    QueueRunnerUp,
    /// A machine moves on in its lifecycle, if it is still in the state that this was scheduled for.
    Machine {
        /// Which.
        id: MachineId,
        /// [`crate::cloud::SimMachine::generation`] when it was scheduled.
        generation: u32,
        /// What happens to it.
        transition: Transition,
    },
    /// An operation goes on.
    Task {
        /// Which.
        task: OperationId,
        /// Counts what operations wait for, so that what was scheduled for an earlier wait is stale.
        serial: u32,
    },
    /// The provisioner is started.
    ProvisionerStarts,
    /// The next cycle of the original provisioner begins, if it is the original.
    OriginalCycle,
    /// Chance may kill the provisioner.
    MayKill {
        /// In this run of it.
        run: u64,
    },
    /// An answer that was late arrives.
    Answer {
        /// Its number.
        number: u64,
    },
    /// An incident begins.
    IncidentBegins(u32),
    /// It ends.
    IncidentEnds(u32),
}

/// A transition of a machine's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// It was made and boots.
    Boots,
    /// It is up.
    Up,
    /// It does not boot and never will.
    BootFails,
    /// It is off.
    Off,
    /// It is gone.
    Gone,
    /// It stops answering, for this long.
    Breaks(Millis),
    /// It answers again.
    Heals,
    /// It takes another host name.
    Renamed,
    /// Its provider says that it takes it away, this long before.
    Notice(Millis),
    /// Its provider takes it away, or it breaks for good.
    Lost,
}

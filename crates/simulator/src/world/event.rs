//! Scheduled events.

use reconciler::OperationId;

use crate::cloud::MachineId;
use crate::engine::Millis;
use crate::queue_runner::Start;
use crate::workload::StepIndex;

/// An event that happens at its scheduled time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The next builds enter the queue.
    Submit,
    /// The next builds are canceled.
    Cancel,
    /// A step is done, if its machine still builds it and its end time has not changed.
    Finish(Start),
    /// The outputs of a built step are copied.
    Copied(Start),
    /// A machine that got a step did not answer.
    ConnectFails(Start),
    /// The retry delay of a failed step is over.
    Retry(StepIndex),
    /// A disabled machine may be tried again, or the REST dispatcher has slept.
    Dispatch,
    /// The classic queue runner reads the machines file again.
    ReadFile,
    /// The REST queue runner's `dispatchTriggerTimerInS`.
    DispatchTimer,
    /// The queue runner stops, and starts again after this time.
    QueueRunnerDown(Millis),
    /// The queue runner is up again.
    QueueRunnerUp,
    /// The state of a machine changes, if it is still in the state for which this was scheduled.
    Machine {
        /// The machine.
        id: MachineId,
        /// [`crate::cloud::SimMachine::generation`] when it was scheduled.
        generation: u32,
        /// The transition.
        transition: Transition,
    },
    /// An operation continues.
    Task {
        /// The operation.
        task: OperationId,
        /// Counts waits of the operation, so that events scheduled for an earlier wait are recognized as stale.
        serial: u32,
    },
    /// The provisioner is started.
    ProvisionerStarts,
    /// The next cycle of the original provisioner begins, if it is simulated.
    OriginalCycle,
    /// The provisioner may be killed.
    MayKill {
        /// The run of the provisioner.
        run: u64,
    },
    /// Another configuration is loaded.
    Reconfigured,
    /// A clock may be set at random.
    MaySetClock,
    /// A delayed answer arrives.
    Answer {
        /// Its number.
        number: u64,
    },
    /// An incident begins.
    IncidentBegins(u32),
    /// An incident ends.
    IncidentEnds(u32),
}

/// A transition of a machine's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// It exists and boots.
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
    /// Its host name changes.
    Renamed,
    /// Its provider announces an interruption, this long before it.
    Notice(Millis),
    /// Its provider interrupts it, or it breaks permanently.
    Lost,
}

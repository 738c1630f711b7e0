//! The simulated provider, tested against the contract of the real ones.

use planner::{Machine, Operation, Seconds};
use reconciler::conformance::Provider;
use reconciler::{Event as LoopEvent, OperationError, OperationErrorKind, OperationId, Task};

use super::SimWorld;
use super::provisioner::provider_of;
use crate::engine::Millis;

/// Far above the numbers that a reconciler uses.
const FIRST_OPERATION: u64 = 1 << 32;
/// Time limit of an operation.
const LIMIT: Seconds = Seconds(3600);

/// No provisioner runs: results of operations are read here.
impl Provider for SimWorld {
    fn list(&mut self) -> Result<Vec<Machine>, String> {
        let kinds: Vec<_> = self.policy.pools.keys().cloned().collect();
        let mut machines = Vec::new();
        for kind in kinds {
            machines.extend(SimWorld::list(self, &provider_of(&kind))?.machines);
        }
        Ok(machines)
    }

    fn perform(
        &mut self,
        operation: Operation,
        machine: &Machine,
    ) -> Result<Machine, OperationError> {
        let id = OperationId(FIRST_OPERATION + u64::from(self.serial));
        let task = Task {
            operation,
            machine: machine.clone(),
            provider: provider_of(&machine.machine_type),
            token: machine.name.to_string(),
            limit: LIMIT,
        };
        self.begin_task(id, task);
        while self.tasks.contains_key(&id) {
            let Some(event) = self.engine.next_event() else { break };
            self.handle(event);
        }
        match self.take_event() {
            Some(LoopEvent::Ended { result, .. }) => result.map(|done| *done.machine),
            _ => Err(OperationError {
                kind: OperationErrorKind::TimedOut,
                message: "the operation never ended".to_owned(),
            }),
        }
    }

    fn wait(&mut self) {
        self.advance_to(self.now() + Millis::from_seconds(1));
    }
}

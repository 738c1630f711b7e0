//! The contract of machine providers, as one test suite for the real providers and the simulated one.

use std::fmt::Write as _;

use planner::{Machine, MachineName, MachineState, MachineType, Operation};

use crate::operation_error::OperationError;

/// How often the suite checks whether a machine has booted before it counts as failed.
const MAX_CHECKS: usize = 300;

/// A provider, as the suite uses it.
pub trait Provider {
    /// The machines with our tag.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn list(&mut self) -> Result<Vec<Machine>, String>;

    /// Carries out `operation` and returns the machine as it is after it. The token of a creation is the
    /// machine's name.
    ///
    /// # Errors
    /// When it fails.
    fn perform(
        &mut self,
        operation: Operation,
        machine: &Machine,
    ) -> Result<Machine, OperationError>;

    /// Waits for about a second.
    fn wait(&mut self);
}

/// Takes machines of `machine_type` through their whole lifecycle on `provider`, twice where the contract
/// requires idempotence. `provider` must not have machines with the names used here (`PREFIX-9001` to
/// `PREFIX-9003`).
///
/// # Errors
/// With every broken rule, one per line.
pub fn check(
    provider: &mut impl Provider,
    name_prefix: &str,
    machine_type: &MachineType,
) -> Result<(), String> {
    let mut suite = Suite { provider, broken: String::new() };
    let names = [9001, 9002].map(|n| MachineName::new(format!("{name_prefix}-{n}")));
    let requested = names.clone().map(|name| Machine::requested(name, machine_type.clone()));

    for round in ["creating", "creating again"] {
        for machine in &requested {
            if let Some(created) = suite.perform(round, Operation::Create, machine) {
                suite
                    .expect(created.name == machine.name, "creating returns the requested machine");
                suite.expect(created.machine_type == *machine_type, "it has the requested type");
            }
        }
        let listed = suite.list(&names).len();
        suite.expect(listed == 2, &format!("after {round} two machines are listed"));
    }
    suite.boot_and_deploy(&names);

    for round in ["stopping", "stopping what is stopped"] {
        for machine in suite.list(&names) {
            suite.perform(round, Operation::Stop, &machine);
        }
        let off = suite.list(&names);
        let is_off =
            |m: &Machine| matches!(m.state, MachineState::Stopped | MachineState::Stopping);
        suite.expect(
            off.len() == 2 && off.iter().all(is_off),
            &format!("after {round} machines are there and off"),
        );
    }
    for machine in suite.list(&names) {
        suite.perform("starting", Operation::Start, &machine);
    }
    suite.boot_and_deploy(&names);

    let machines = suite.list(&names);
    for round in ["destroying", "destroying what is gone"] {
        for machine in &machines {
            suite.perform(round, Operation::Destroy, machine);
        }
        let left = suite.list(&names);
        suite.expect(left.is_empty(), &format!("after {round} no machine is listed"));
    }
    let never = MachineName::new(format!("{name_prefix}-9003"));
    let never = Machine::requested(never, machine_type.clone());
    suite.perform("destroying a machine that never existed", Operation::Destroy, &never);

    if suite.broken.is_empty() { Ok(()) } else { Err(suite.broken) }
}

struct Suite<'a, P> {
    provider: &'a mut P,
    broken: String,
}

impl<P: Provider> Suite<'_, P> {
    fn expect(&mut self, holds: bool, promise: &str) {
        if !holds {
            // Writing to a string cannot fail.
            let _ = writeln!(self.broken, "broken: {promise}");
        }
    }

    fn perform(&mut self, what: &str, operation: Operation, machine: &Machine) -> Option<Machine> {
        match self.provider.perform(operation, machine) {
            Ok(machine) => Some(machine),
            Err(error) => {
                self.expect(false, &format!("{what} succeeds: {}: {error}", machine.name));
                None
            }
        }
    }

    fn list(&mut self, names: &[MachineName]) -> Vec<Machine> {
        match self.provider.list() {
            Ok(mut machines) => {
                machines.retain(|machine| names.contains(&machine.name));
                machines
            }
            Err(error) => {
                self.expect(false, &format!("listing succeeds: {error}"));
                Vec::new()
            }
        }
    }

    /// Waits until all of them are up, and deploys them.
    fn boot_and_deploy(&mut self, names: &[MachineName]) {
        for _ in 0..MAX_CHECKS {
            let machines = self.list(names);
            let is_up = |machine: &Machine| match machine.state {
                MachineState::Up => machine.address.is_some(),
                // A deployment may repair it.
                MachineState::Unreachable => true,
                _ => false,
            };
            if machines.len() == names.len() && machines.iter().all(is_up) {
                for machine in machines {
                    if let Some(deployed) = self.perform("deploying", Operation::Deploy, &machine) {
                        self.expect(deployed.state == MachineState::Up, "a deployed machine is up");
                        let has_address = deployed.address.is_some();
                        self.expect(has_address, "a deployed machine has an address");
                    }
                }
                return;
            }
            self.provider.wait();
        }
        self.expect(false, "machines that were created or started come up");
    }
}

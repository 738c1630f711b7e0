//! The suite that every provider must pass finds a provider that breaks one rule, whichever it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;

use planner::{Host, Machine, MachineName, MachineState, MachineType, Operation};
use reconciler::conformance::{Provider, check};
use reconciler::{OperationError, OperationErrorKind};

/// How a provider breaks the contract. The first two do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    UnreachableUntilDeployed,
    CannotList,
    CreatesUnderAnotherName,
    CreatesAnotherType,
    RefusesToCreate,
    RefusesToCreateAgain,
    ForgetsOneOfTwo,
    NeverUp,
    OneNeverUp,
    UpWithoutAddress,
    RefusesToDeploy,
    DeployedIsNotUp,
    DeployedHasNoAddress,
    KeepsRunning,
    LosesOneThatIsOff,
    RefusesToStopAgain,
    RefusesToStart,
    KeepsTheDestroyed,
    RefusesToDestroyWhatIsGone,
}

struct Fake {
    fault: Fault,
    machines: BTreeMap<MachineName, Machine>,
    performed: BTreeMap<Operation, usize>,
}

fn refused(why: &str) -> OperationError {
    OperationError { kind: OperationErrorKind::Failed, message: why.to_owned() }
}

impl Fake {
    fn with(fault: Fault) -> Self {
        Self { fault, machines: BTreeMap::new(), performed: BTreeMap::new() }
    }

    fn is_second(name: &MachineName) -> bool {
        name.as_str().ends_with('2')
    }

    fn create(&mut self, machine: &Machine) -> Result<Machine, OperationError> {
        let is_known = self.machines.contains_key(&machine.name);
        if self.fault == Fault::RefusesToCreate
            || self.fault == Fault::RefusesToCreateAgain && is_known
        {
            return Err(refused("it exists"));
        }
        let created = Machine { state: MachineState::Creating, ..machine.clone() };
        self.machines.entry(machine.name.clone()).or_insert_with(|| created.clone());
        Ok(match self.fault {
            Fault::CreatesUnderAnotherName => {
                Machine { name: MachineName::new("other-1"), ..created }
            }
            Fault::CreatesAnotherType => {
                Machine { machine_type: MachineType::new("other"), ..created }
            }
            _ => created,
        })
    }

    fn deploy(&mut self, name: &MachineName) -> Result<Machine, OperationError> {
        let fault = self.fault;
        let machine = self.machines.get_mut(name).ok_or_else(|| refused("there is none"))?;
        let answers = matches!(machine.state, MachineState::Up | MachineState::Unreachable);
        if !answers || fault == Fault::RefusesToDeploy {
            return Err(refused("it does not answer"));
        }
        machine.state = MachineState::Up;
        let deployed = machine.clone();
        Ok(match fault {
            Fault::DeployedIsNotUp => Machine { state: MachineState::Starting, ..deployed },
            Fault::DeployedHasNoAddress => Machine { address: None, ..deployed },
            _ => deployed,
        })
    }

    fn stop(&mut self, name: &MachineName) -> Result<Machine, OperationError> {
        let machine = self.machines.get_mut(name).ok_or_else(|| refused("there is none"))?;
        if self.fault == Fault::RefusesToStopAgain && machine.state == MachineState::Stopped {
            return Err(refused("it is off"));
        }
        if self.fault != Fault::KeepsRunning {
            machine.state = MachineState::Stopped;
        }
        Ok(machine.clone())
    }

    fn start(&mut self, name: &MachineName) -> Result<Machine, OperationError> {
        let machine = self.machines.get_mut(name).ok_or_else(|| refused("there is none"))?;
        if self.fault == Fault::RefusesToStart {
            return Err(refused("no room"));
        }
        machine.state = MachineState::Starting;
        Ok(machine.clone())
    }

    fn destroy(&mut self, machine: &Machine) -> Result<Machine, OperationError> {
        let is_gone = !self.machines.contains_key(&machine.name);
        if self.fault == Fault::RefusesToDestroyWhatIsGone && is_gone {
            return Err(refused("there is none"));
        }
        if self.fault != Fault::KeepsTheDestroyed {
            self.machines.remove(&machine.name);
        }
        Ok(machine.clone())
    }
}

impl Provider for Fake {
    fn list(&mut self) -> Result<Vec<Machine>, String> {
        if self.fault == Fault::CannotList {
            return Err("no answer".to_owned());
        }
        let is_hidden = |machine: &Machine| {
            Self::is_second(&machine.name)
                && match self.fault {
                    Fault::ForgetsOneOfTwo => true,
                    Fault::LosesOneThatIsOff => machine.state == MachineState::Stopped,
                    _ => false,
                }
        };
        let mut machines: Vec<_> =
            self.machines.values().filter(|machine| !is_hidden(machine)).cloned().collect();
        // Machines of others may be listed too.
        machines.push(Machine::requested(MachineName::new("pet"), MachineType::new("pets")));
        Ok(machines)
    }

    fn perform(
        &mut self,
        operation: Operation,
        machine: &Machine,
    ) -> Result<Machine, OperationError> {
        *self.performed.entry(operation).or_default() += 1;
        match operation {
            Operation::Create => self.create(machine),
            Operation::Deploy => self.deploy(&machine.name),
            Operation::Stop => self.stop(&machine.name),
            Operation::Start => self.start(&machine.name),
            Operation::Destroy => self.destroy(machine),
            Operation::KeepAlive | Operation::Drain => panic!("the suite does not use {operation}"),
        }
    }

    fn wait(&mut self) {
        for machine in self.machines.values_mut() {
            let boots = matches!(machine.state, MachineState::Creating | MachineState::Starting);
            let stays = match self.fault {
                Fault::NeverUp => true,
                Fault::OneNeverUp => Self::is_second(&machine.name),
                _ => false,
            };
            if boots && !stays {
                let needs_deployment = self.fault == Fault::UnreachableUntilDeployed;
                machine.state =
                    if needs_deployment { MachineState::Unreachable } else { MachineState::Up };
                let has_address = self.fault != Fault::UpWithoutAddress;
                machine.address = has_address.then(|| Host::new("10.0.0.1"));
            }
        }
    }
}

/// What the suite says about a provider with this fault.
fn verdict(fault: Fault) -> (Result<(), String>, Fake) {
    let mut fake = Fake::with(fault);
    let result = check(&mut fake, "farm", &MachineType::new("small"));
    (result, fake)
}

#[test]
fn a_good_provider_passes_and_is_asked_for_everything_twice() {
    for harmless in [Fault::None, Fault::UnreachableUntilDeployed] {
        let (result, fake) = verdict(harmless);
        assert_eq!(result, Ok(()), "{harmless:?}");
        let performed: Vec<_> = fake.performed.into_iter().collect();
        let mut expected = vec![
            (Operation::Create, 4),
            (Operation::Start, 2),
            (Operation::Deploy, 4),
            (Operation::Stop, 4),
            (Operation::Destroy, 5),
        ];
        expected.sort();
        assert_eq!(performed, expected, "{harmless:?}");
        assert!(fake.machines.is_empty(), "the suite destroys what it created");
    }
}

#[test]
fn each_broken_rule_is_named() {
    let broken = [
        (Fault::CannotList, "listing succeeds: no answer"),
        (Fault::CreatesUnderAnotherName, "creating returns the requested machine"),
        (Fault::CreatesAnotherType, "it has the requested type"),
        (Fault::RefusesToCreate, "creating succeeds: farm-9001: it exists"),
        (Fault::RefusesToCreateAgain, "creating again succeeds: farm-9001: it exists"),
        (Fault::ForgetsOneOfTwo, "after creating two machines are listed"),
        (Fault::NeverUp, "machines that were created or started come up"),
        (Fault::OneNeverUp, "machines that were created or started come up"),
        (Fault::UpWithoutAddress, "machines that were created or started come up"),
        (Fault::RefusesToDeploy, "deploying succeeds: farm-9001: it does not answer"),
        (Fault::DeployedIsNotUp, "a deployed machine is up"),
        (Fault::DeployedHasNoAddress, "a deployed machine has an address"),
        (Fault::KeepsRunning, "after stopping machines are there and off"),
        (Fault::LosesOneThatIsOff, "after stopping machines are there and off"),
        (Fault::RefusesToStopAgain, "stopping what is stopped succeeds: farm-9001: it is off"),
        (Fault::RefusesToStart, "starting succeeds: farm-9001: no room"),
        (Fault::KeepsTheDestroyed, "after destroying no machine is listed"),
        (
            Fault::RefusesToDestroyWhatIsGone,
            "destroying what is gone succeeds: farm-9001: there is none",
        ),
    ];
    for (fault, promise) in broken {
        let said = verdict(fault).0.unwrap_err();
        let first = said.lines().next().unwrap_or_default();
        assert_eq!(first, format!("broken: {promise}"), "{fault:?} breaks:\n{said}");
    }
}

#[test]
fn every_broken_rule_is_named_not_only_the_first() {
    let said = verdict(Fault::RefusesToDestroyWhatIsGone).0.unwrap_err();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "two that are gone and one that never existed: {said}");
    assert!(lines[2].contains("destroying a machine that never existed succeeds: farm-9003"));
}

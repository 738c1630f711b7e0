//! The conformance suite itself: a faithful provider passes, and each way of breaking a promise is found.

use std::collections::BTreeMap;

use planner::{Host, Machine, MachineName, MachineState, MachineType};
use reconciler::conformance;
use reconciler::world::{
    Done, Inventory, MachineProvider, Outcome, Step, StepError, StepErrorKind, Task,
};

/// A provider in memory, faithful but for one flaw.
struct Flawed {
    flaw: Flaw,
    machines: BTreeMap<MachineName, Machine>,
    created: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    CreatesTwice,
    LosesOutcomes,
    SwapsOutcomes,
    StopDestroys,
    StopTwiceFails,
    StartDoesNothing,
    DestroyTwiceFails,
    DestroyKeeps,
    ForgetsTheType,
    HasNoAddress,
}

impl Flawed {
    fn step(&mut self, machine: &Machine, step: Step) -> Result<Machine, String> {
        let known = self.machines.get(&machine.name).cloned();
        match step {
            Step::Create => self.create(machine),
            Step::Start if self.flaw == Flaw::StartDoesNothing => {}
            Step::Start => self.set(&machine.name, MachineState::Up),
            Step::Stop if self.flaw == Flaw::StopDestroys => {
                self.machines.remove(&machine.name);
            }
            Step::Stop => {
                let off = known.as_ref().is_some_and(|m| m.state == MachineState::Stopped);
                if off && self.flaw == Flaw::StopTwiceFails {
                    return Err("it is off".to_owned());
                }
                self.set(&machine.name, MachineState::Stopped);
            }
            Step::Destroy if known.is_none() && self.flaw == Flaw::DestroyTwiceFails => {
                return Err("no such machine".to_owned());
            }
            Step::Destroy if self.flaw == Flaw::DestroyKeeps => {}
            Step::Destroy => {
                self.machines.remove(&machine.name);
            }
            Step::Deploy | Step::Drain => {}
        }
        Ok(self.machines.get(&machine.name).or(known.as_ref()).unwrap_or(machine).clone())
    }

    fn create(&mut self, machine: &Machine) {
        if self.machines.contains_key(&machine.name) && self.flaw != Flaw::CreatesTwice {
            return;
        }
        self.created += 1;
        let listed_as = match self.flaw {
            Flaw::CreatesTwice if self.machines.contains_key(&machine.name) => {
                MachineName::new(format!("{}#{}", machine.name, self.created))
            }
            _ => machine.name.clone(),
        };
        let made = Machine {
            state: MachineState::Up,
            address: (self.flaw != Flaw::HasNoAddress).then(|| Host::new("10.0.0.1")),
            machine_type: match self.flaw {
                Flaw::ForgetsTheType => MachineType::new("other"),
                _ => machine.machine_type.clone(),
            },
            ..machine.clone()
        };
        self.machines.insert(listed_as, made);
    }

    fn set(&mut self, name: &MachineName, state: MachineState) {
        if let Some(machine) = self.machines.get_mut(name) {
            machine.state = state;
        }
    }
}

impl MachineProvider for Flawed {
    fn list(&mut self) -> Inventory {
        Inventory { machines: self.machines.values().cloned().collect(), ..Inventory::default() }
    }

    fn perform(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for task in tasks {
            let mut outcome = Ok(Done { machine: task.machine.clone(), warnings: Vec::new() });
            for step in &task.steps {
                outcome = match self.step(&task.machine, *step) {
                    Ok(machine) => Ok(Done { machine, warnings: Vec::new() }),
                    Err(message) => {
                        Err(StepError { step: *step, kind: StepErrorKind::Failed, message })
                    }
                };
                if outcome.is_err() {
                    break;
                }
            }
            outcomes.push(outcome);
        }
        match self.flaw {
            Flaw::LosesOutcomes => {
                outcomes.pop();
            }
            Flaw::SwapsOutcomes => outcomes.reverse(),
            _ => {}
        }
        outcomes
    }
}

fn verdict_on(flaw: Flaw) -> Result<(), String> {
    let mut provider = Flawed { flaw, machines: BTreeMap::new(), created: 0 };
    conformance::check(&mut provider, "t", &MachineType::new("x86_64-linux"))
}

#[test]
fn a_faithful_provider_passes() {
    assert_eq!(verdict_on(Flaw::None), Ok(()));
}

#[test]
fn every_broken_promise_is_named() {
    let cases = [
        (Flaw::CreatesTwice, "creating twice gives one machine"),
        (Flaw::LosesOutcomes, "one outcome for each task"),
        (Flaw::SwapsOutcomes, "outcomes come in the order of the tasks"),
        (Flaw::StopDestroys, "after stopping machines are there and off"),
        (Flaw::StopTwiceFails, "stopping what is stopped is a success"),
        (Flaw::StartDoesNothing, "a started and deployed machine is up"),
        (Flaw::DestroyTwiceFails, "destroying what is gone is a success"),
        (Flaw::DestroyKeeps, "after destroying no machine is listed"),
        (Flaw::ForgetsTheType, "a machine has the type asked for"),
        (Flaw::HasNoAddress, "a deployed machine has an address"),
    ];
    for (flaw, promise) in cases {
        let broken = verdict_on(flaw).unwrap_err();
        assert!(broken.contains(promise), "{flaw:?}: {promise:?} is not in\n{broken}");
    }
}

//! What every machine provider must do, as one suite: the real providers and the simulated one pass it.

use std::fmt::Write as _;

use planner::{Machine, MachineName, MachineState, MachineType};

use crate::world::{MachineProvider, Step, Task};

/// Takes machines of `machine_type` through their whole life on `provider`, which must have none of the
/// names used here (`PREFIX-9001` to `PREFIX-9003`), and twice where the contract asks for idempotence.
///
/// # Errors
/// With every broken promise, one a line.
pub fn check(
    provider: &mut impl MachineProvider,
    name_prefix: &str,
    machine_type: &MachineType,
) -> Result<(), String> {
    let mut broken = String::new();
    let mut expect = |holds: bool, promise: &str| {
        if !holds {
            let _ = writeln!(broken, "broken: {promise}");
        }
    };
    let names: Vec<_> = [9001, 9002].map(|n| MachineName::new(format!("{name_prefix}-{n}"))).into();
    let requested: Vec<_> =
        names.iter().map(|n| Machine::requested(n.clone(), machine_type.clone())).collect();

    let bring_up = [Step::Create, Step::Deploy];
    let outcomes = provider.perform(&tasks(&requested, &bring_up));
    expect(outcomes.len() == 2, "one outcome for each task");
    for (name, outcome) in names.iter().zip(&outcomes) {
        match outcome {
            Ok(done) => {
                expect(done.machine.name == *name, "outcomes come in the order of the tasks");
                expect(
                    done.machine.machine_type == *machine_type,
                    "a machine has the type asked for",
                );
                expect(done.machine.state == MachineState::Up, "a deployed machine is up");
                expect(done.machine.address.is_some(), "a deployed machine has an address");
            }
            Err(error) => expect(false, &format!("{name} can be created and deployed: {error}")),
        }
    }
    let listed = find(provider, &names);
    expect(listed.len() == 2, "created machines are listed");

    let again = provider.perform(&tasks(&requested, &bring_up));
    expect(again.iter().all(Result::is_ok), "creating twice is a success");
    expect(find(provider, &names).len() == 2, "creating twice gives one machine");

    for round in ["stopping", "stopping what is stopped"] {
        let outcomes = provider.perform(&tasks(&listed, &[Step::Drain, Step::Stop]));
        expect(outcomes.iter().all(Result::is_ok), &format!("{round} is a success"));
        let off = find(provider, &names);
        let all_off = off.len() == 2
            && off
                .iter()
                .all(|m| matches!(m.state, MachineState::Stopped | MachineState::Stopping));
        expect(all_off, &format!("after {round} machines are there and off"));
    }
    let outcomes = provider.perform(&tasks(&listed, &[Step::Start, Step::Deploy]));
    expect(outcomes.iter().all(Result::is_ok), "a stopped machine can be started again");
    let up = find(provider, &names);
    expect(
        up.len() == 2 && up.iter().all(|m| m.state == MachineState::Up),
        "a started and deployed machine is up",
    );

    for round in ["destroying", "destroying what is gone"] {
        let outcomes = provider.perform(&tasks(&listed, &[Step::Destroy]));
        expect(outcomes.iter().all(Result::is_ok), &format!("{round} is a success"));
        expect(find(provider, &names).is_empty(), &format!("after {round} no machine is listed"));
    }
    let never =
        Machine::requested(MachineName::new(format!("{name_prefix}-9003")), machine_type.clone());
    let outcomes = provider.perform(&tasks(&[never], &[Step::Destroy]));
    expect(outcomes.iter().all(Result::is_ok), "destroying what never was is a success");

    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

fn tasks(machines: &[Machine], steps: &[Step]) -> Vec<Task> {
    machines.iter().map(|m| Task { machine: m.clone(), steps: steps.to_vec() }).collect()
}

fn find(provider: &mut impl MachineProvider, names: &[MachineName]) -> Vec<Machine> {
    let mut machines = provider.list().machines;
    machines.retain(|machine| names.contains(&machine.name));
    machines
}

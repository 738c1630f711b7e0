//! Steps that need no particular system.

use std::env::consts::ARCH;

use planner::System;

/// The system whose machines build steps of `platform`.
///
/// `builtin` steps (fetchurl) go to machines of the queue runner's own system in classic Hydra
/// (`Machine::supportsStep` in `state.hh`) and to any builder in the current one
/// (`Machines::get_machine_for_system` in `state/machine.rs`); neither builds them without a machine. We run
/// beside the queue runner, so our system is its system.
pub(super) fn system_for(platform: &str) -> System {
    if platform == "builtin" { System::new(format!("{ARCH}-linux")) } else { System::new(platform) }
}

//! Steps that need no particular system.

use std::env::consts::ARCH;

use planner::System;

/// The system of the machines that build steps of `platform`.
///
/// Classic Hydra gives `builtin` steps (fetchurl) to machines of the queue runner's own system
/// (`Machine::supportsStep` in `state.hh`), the REST one to any builder
/// (`Machines::get_machine_for_system` in `state/machine.rs`). Neither builds them without a machine. The
/// provisioner's system is used: that of the queue runner is not known, and is the same if they share a host.
pub(super) fn system_for(platform: &str) -> System {
    if platform == "builtin" { System::new(format!("{ARCH}-linux")) } else { System::new(platform) }
}

//! The default time limits and `parallelism` of `conf.nix` and of the simulator.

use std::time::Duration;

/// `parallelism`: concurrent operations per provider.
pub const PARALLELISM: usize = 32;
/// `createTimeout`: creation or start of one machine.
pub const CREATE_TIMEOUT: Duration = Duration::from_secs(900);
/// `deployTimeout`: the boot of one machine, and once more its deployment.
pub const DEPLOY_TIMEOUT: Duration = Duration::from_secs(1800);
/// `releaseTimeout`: drain, stop or destruction of one machine.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(600);
/// `statusTimeout`: one question to the queue runner, one listing of machines, one `updateCommand`.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(60);

//! How long things may take unless the operator says otherwise: one source for `conf.nix` and the simulator.

use std::time::Duration;

/// `parallelism`: machines worked on at the same time.
pub const PARALLELISM: usize = 32;
/// `createTimeout`: one machine's creation or start.
pub const CREATE_TIMEOUT: Duration = Duration::from_secs(900);
/// `deployTimeout`: one machine's deployment, its waiting to be up included.
pub const DEPLOY_TIMEOUT: Duration = Duration::from_secs(1800);
/// `releaseTimeout`: one machine's drain, stop or destruction.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(600);
/// `statusTimeout`: one look at the queue, one listing of machines, one `updateCommand`.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(60);

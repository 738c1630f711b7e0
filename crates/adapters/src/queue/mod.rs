//! The queue runner's status: classic (`hydra-queue-runner --status`) and current (REST).

mod builtin;
pub mod classic;
mod clock;
pub mod derivations;
mod drv_path;
mod features;
mod lenient;
pub mod rest;

use std::path::Path;
use std::time::Duration;

use planner::QueueStatus;

use self::builtin::system_for;
pub use self::clock::Asked;
use self::features::FeatureCache;
pub(crate) use self::rest::without_login;
use crate::config::QueueSettings;
use crate::lock::Access;

/// Asks the queue runner.
pub trait QueueSource {
    /// The queue status now. If the queue runner is down, does not answer or its answer makes no sense, it is
    /// [`QueueStatus::Unavailable`] with the reason; there is no other failure.
    fn queue_status(&mut self) -> QueueStatus;
}

/// The queue runner of `settings`. `limit` applies to one whole question; `state_dir` stores the features of
/// derivations (the file may be deleted).
pub fn source(
    settings: &QueueSettings,
    limit: Duration,
    state_dir: &Path,
    access: Access,
) -> Box<dyn QueueSource + Send> {
    match settings {
        QueueSettings::Classic { command } => {
            Box::new(classic::Source::new(command.clone(), limit))
        }
        QueueSettings::Rest { url, nix_command } => {
            let features = FeatureCache::open(state_dir, nix_command.clone(), access);
            Box::new(rest::Source::new(url, limit, features))
        }
    }
}

//! The REST server of the Rust queue runner
//! (`subprojects/hydra-queue-runner/src/server/http.rs` and `io/`, read at 14332fbf of August 2026).
//!
//! - A step goes to a builder that has all features that the step requires, if its `mandatoryFeatures`
//!   are all required by it (`Machines::get_machine_for_system` in `state/machine.rs`), as in classic Hydra.
//! - `builtin` is a system with its own queue, but any builder may get its steps (same place). The queue
//!   runner itself builds nothing: such a step counts as one of the system of our own host, so that a farm without
//!   machines gets one.
//! - Each system has its own queue: an `i686-linux` step waits in its queue, which a builder serves if it names that
//!   system.

mod demand;
mod server;
mod status;
mod steps;

use std::time::{Duration, Instant};

use crate::queue::QueueSource;
use planner::{Queue, QueueStatus};

use self::server::Server;
pub(crate) use self::server::without_login;
use super::clock::Asked;
use super::derivations::{DrvPath, Features};
use super::features::FeatureCache;

/// Asks a REST server, and Nix for the features of the listed steps.
#[derive(Debug)]
pub struct Source {
    server: Server,
    limit: Duration,
    features: FeatureCache,
}

impl Source {
    /// `url` has no trailing slash. `limit` applies to one question: all requests and all calls of Nix
    /// together.
    pub(super) fn new(url: &str, limit: Duration, features: FeatureCache) -> Self {
        Self { server: Server::new(url), limit, features }
    }

    fn look(&mut self) -> Result<Queue, String> {
        let deadline = Instant::now() + self.limit;
        // The machines first: a build that starts between the two answers is then counted as waiting in one
        // of them, or both.
        let asked_at = crate::clock::now();
        let status = self.server.get("/status", deadline)?;
        let status = status::parse(&status, Asked::until_now(asked_at))?;
        let steps =
            self.server.get("/status/queues", deadline).and_then(|body| steps::parse(&body));
        let problem = match &steps {
            Ok(steps) => self.features.learn(&steps.derivations(), asked_at, deadline),
            Err(_) => None,
        };
        let features_of = |derivation: &DrvPath| self.features.get(derivation).cloned();
        demand::queue(status, steps, features_of, problem.as_deref())
    }
}

impl QueueSource for Source {
    fn queue_status(&mut self) -> QueueStatus {
        match self.look() {
            Ok(queue) => QueueStatus::Up(queue),
            Err(reason) => QueueStatus::Unavailable(format!("queue.url: {reason}")),
        }
    }
}

/// Parses the bodies of `/status` and `/status/queues` (or why the latter is missing). `features_of` is what
/// is known of derivations. The requests ran during `asked`.
pub fn read(
    status: &[u8],
    queues: Result<&[u8], String>,
    asked: Asked,
    features_of: impl Fn(&DrvPath) -> Option<Features>,
) -> QueueStatus {
    let queue = status::parse(status, asked)
        .and_then(|status| demand::queue(status, queues.and_then(steps::parse), features_of, None));
    match queue {
        Ok(queue) => QueueStatus::Up(queue),
        Err(reason) => QueueStatus::Unavailable(reason),
    }
}

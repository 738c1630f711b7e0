//! Current Hydra: the REST server of the Rust queue runner
//! (`subprojects/hydra-queue-runner/src/server/http.rs` and `io/`, read at 14332fbf of August 2026).
//!
//! - A step goes to a builder that has all features it requires and whose `mandatoryFeatures` it all
//!   requires (`Machines::get_machine_for_system` in `state/machine.rs`), as with classic Hydra.
//! - `builtin` is a system with a queue like the others, but any builder may take its steps (same
//!   place). The queue runner builds nothing itself: such a step counts as one of our own system, so that a
//!   farm without machines gets one.
//! - Systems are queued apart: an `i686-linux` step waits in its own queue, which a builder serves if it
//!   names that system.

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

/// Asks a REST server, and Nix for the features of the steps it tells of.
#[derive(Debug)]
pub struct Source {
    server: Server,
    limit: Duration,
    features: FeatureCache,
}

impl Source {
    /// `url` has no slash at its end. `limit` is for one look: all requests and all of Nix together.
    pub(super) fn new(url: &str, limit: Duration, features: FeatureCache) -> Self {
        Self { server: Server::new(url), limit, features }
    }

    fn look(&mut self) -> Result<Queue, String> {
        let deadline = Instant::now() + self.limit;
        // The machines first: what begins between the two answers is then waiting in one, or both.
        let asked_at = crate::clock::now();
        let status = self.server.get("/status", deadline)?;
        let status = status::parse(&status, Asked::until_now(asked_at))?;
        let steps =
            self.server.get("/status/queues", deadline).and_then(|body| steps::parse(&body));
        let trouble = match &steps {
            Ok(steps) => self.features.learn(&steps.derivations(), asked_at, deadline),
            Err(_) => None,
        };
        let features_of = |derivation: &DrvPath| self.features.get(derivation).cloned();
        demand::queue(status, steps, features_of, trouble.as_deref())
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

/// Reads the bodies of `/status` and `/status/queues` (or why that is not to be had), with
/// `features_of` what is known of derivations. They were `asked` for then.
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

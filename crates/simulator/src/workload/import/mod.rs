//! Workloads from external sources.

mod aterm;
mod derivations;
mod hydra;
mod recording;
mod swf;

use thiserror::Error;

pub use derivations::{derivation_files, derivations};
pub use hydra::{HydraStep, HydraSteps, Order, Own};
pub use recording::recording;
pub use swf::{Processors, swf};

use super::{Workload, WorkloadError};

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The steps.
    pub workload: Workload,
    /// What was left out: the reason and how often.
    pub left_out: Vec<String>,
}

/// The names of what needs itself in a circle, for a message: the first ones of a long circle, and the first again.
fn circle(mut names: Vec<String>) -> String {
    const SHOWN: usize = 12;
    let (more, first) = (names.len().saturating_sub(SHOWN), names.first().cloned());
    names.truncate(SHOWN);
    names.extend((more > 0).then(|| format!("{more} more")));
    names.extend(first);
    names.join(" -> ")
}

/// An invalid file.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A problem in one line, counted from 1.
    #[error("line {line}: {message}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The file is not a JSON object.
    #[error("no JSON object: {source}")]
    Json {
        /// Where and why.
        source: serde_json::Error,
    },
    /// A derivation cannot be used.
    #[error("{path}: {message}")]
    Derivation {
        /// Which.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The steps are not a valid workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

//! Work of others as workloads.

mod aterm;
mod derivations;
mod hydra;
mod swf;

use thiserror::Error;

pub use derivations::{derivation_files, derivations};
pub use hydra::{HydraStep, HydraSteps, Order, Own};
pub use swf::{Processors, swf};

use super::{Workload, WorkloadError};

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The steps.
    pub workload: Workload,
    /// What was left out, with the reason and how often.
    pub left_out: Vec<String>,
}

/// Text that is no such file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// At one line, counted from 1.
    #[error("line {line}: {message}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// At the file as a whole or at an attribute of it.
    #[error("{0}")]
    Content(String),
    /// The steps make no workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

//! Traces: JSON lines under one versioned header line. Times are in milliseconds from the start.
//!
//! Everything is read from a `BufRead` and written to a `Write`: files and their compression are not known
//! here, only the name that goes into messages.

mod lines;
pub mod recording;
mod workload;

use thiserror::Error;

use crate::workload::WorkloadError;
pub use workload::{WorkloadTrace, read_workload, write_workload};

/// What is wrong with a trace, and where. Shown as `FILE:LINE: what; what to do`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {problem}")]
pub struct TraceError {
    /// The name of the file, as it was told.
    pub file: String,
    /// Which line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: TraceProblem,
}

/// What can be wrong with a line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TraceProblem {
    /// The file or its compression is broken.
    #[error("cannot be read: {0}; copy the file again")]
    Unreadable(String),
    /// Not a single line.
    #[error("the file is empty; the first line must be a header with \"format\": \"{format}\"")]
    Empty {
        /// The format that was expected.
        format: &'static str,
    },
    /// Another kind of file.
    #[error("\"format\" is {found}, must be \"{expected}\"; give a file of that format")]
    Format {
        /// What the header says, as JSON.
        found: String,
        /// The format that was expected.
        expected: &'static str,
    },
    /// A version of the format that is not known here.
    #[error(
        "\"version\" is {found}, only {known} is known; make the trace again, or use the version of \
         hydra-provisioner that wrote it"
    )]
    Version {
        /// What the header says, as JSON.
        found: String,
        /// The version that is known.
        known: u32,
    },
    /// A line that stops in the middle.
    #[error("the line stops in the middle: the file is truncated; copy or record it again")]
    CutOff,
    /// A line that is longer than any sensible one.
    #[error("the line is longer than {limit} bytes; is this a trace?")]
    TooLong {
        /// How long it may be, in bytes.
        limit: u64,
    },
    /// A line without anything.
    #[error("the line is empty; delete it")]
    Blank,
    /// No JSON, a key that is unknown or missing, a value of another type.
    #[error("column {column}: {message}; correct the line or make the trace again")]
    Content {
        /// In which column, counted from 1; 0 where it is about the line as a whole.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A time before the start, or a negative length of time.
    #[error("\"{key}\" is {value}; it must be 0 or more milliseconds")]
    NegativeTime {
        /// Of what.
        key: &'static str,
        /// The value, in milliseconds.
        value: i64,
    },
    /// Fewer lines than the header says.
    #[error("the file ends after {found} of {expected} steps: it is truncated; copy it again")]
    Missing {
        /// How many there are.
        found: u64,
        /// How many the header says.
        expected: u64,
    },
    /// More lines than the header says.
    #[error(
        "the header says {expected} steps, here is one more; correct \"steps\" or delete the line"
    )]
    Surplus {
        /// How many the header says.
        expected: u64,
    },
    /// Steps that make no workload.
    #[error("{0}; correct \"id\" and \"dependencies\"")]
    Workload(#[from] WorkloadError),
}

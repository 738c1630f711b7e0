//! Files of work and of observations: JSON lines after a header with kind and version.

mod recording;
mod workload;

use std::io::{BufRead, Read as _};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::json::Mistake;

pub use recording::{Observation, RecordingReader, append_observation, recording_header};
pub use workload::{read_workload, write_workload};

/// The version that this program writes and reads.
pub const VERSION: u32 = 1;

/// Maximum length of a line, in bytes: a snapshot of many thousand machines. A longer line is not a trace, and would
/// fill the memory.
const LINE_LIMIT: u64 = 64 << 20;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Build steps.
    #[serde(rename = "hydra-provisioner-workload")]
    Workload,
    /// Snapshots and decisions, cycle by cycle.
    #[serde(rename = "hydra-provisioner-recording")]
    Recording,
}

/// An invalid file: where and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {message}")]
pub struct TraceError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what it should be.
    pub message: String,
}

/// The lines of a file with their numbers.
struct Lines<R> {
    file: String,
    line: usize,
    text: R,
    buffer: String,
}

impl<R: BufRead> Lines<R> {
    fn new(file: &str, text: R) -> Self {
        Self { file: file.to_owned(), line: 0, text, buffer: String::new() }
    }

    fn error(&self, message: impl Into<String>) -> TraceError {
        self.error_at(self.line, message)
    }

    fn error_at(&self, line: usize, message: impl Into<String>) -> TraceError {
        TraceError { file: self.file.clone(), line, message: message.into() }
    }

    /// The next line as a `T`; `None` at the end.
    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, TraceError> {
        self.line += 1;
        self.buffer.clear();
        let length = self.text.by_ref().take(LINE_LIMIT + 1).read_line(&mut self.buffer);
        match length.map_err(|error| self.error(format!("cannot be read: {error}")))? {
            0 => Ok(None),
            length if length as u64 > LINE_LIMIT => {
                Err(self.error(format!("is longer than {LINE_LIMIT} bytes; is this a trace?")))
            }
            _ if self.buffer.trim().is_empty() => Err(self.error("the line is empty; remove it")),
            _ => serde_json::from_str(&self.buffer).map(Some).map_err(|error| {
                let ends = if error.is_eof() { "; is the file cut off here?" } else { "" };
                // The header is always the first line.
                let Mistake { line: _, column, message } = error.into();
                self.error(format!("column {column}: {message}{ends}"))
            }),
        }
    }

    /// The first line, which must be a header of `format` in a known version.
    fn header<H: for<'de> Deserialize<'de>>(&mut self, format: Format) -> Result<H, TraceError> {
        let value: serde_json::Value = self
            .next()?
            .ok_or_else(|| self.error("the file is empty, its first line must be a header"))?;
        let reported: Format = serde_json::from_value(value["format"].clone()).map_err(|_| {
            self.error(format!(
                "the first line must be a header with \"format\": {}",
                serde_json::to_string(&format).unwrap_or_default()
            ))
        })?;
        if reported != format {
            return Err(self.error(format!("this is a {reported:?}, a {format:?} is wanted")));
        }
        if value["version"] != VERSION {
            return Err(self.error(format!(
                "it has version {}, this program knows {VERSION}",
                value["version"]
            )));
        }
        serde_json::from_value(value).map_err(|error| self.error(Mistake::from(error).message))
    }
}

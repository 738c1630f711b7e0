//! Lines of JSON, each read into its type.

use std::io::{BufRead, Read as _};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{TraceError, TraceProblem};

/// A line may be this long, in bytes: some hundred thousand dependencies, or a farm of as many machines.
const LINE_LIMIT: u64 = 64 << 20;

/// Reads line by line and counts.
#[derive(Debug)]
pub(super) struct Lines<R> {
    file: String,
    input: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(file: &str, input: R) -> Self {
        Self { file: file.to_owned(), input, line: 0, buffer: Vec::new() }
    }

    /// The error for the line that was read last.
    pub(super) fn wrong(&self, problem: TraceProblem) -> TraceError {
        self.wrong_at(self.line, problem)
    }

    /// The error for a line, counted from 1.
    pub(super) fn wrong_at(&self, line: u64, problem: TraceProblem) -> TraceError {
        TraceError { file: self.file.clone(), line: line.max(1), problem }
    }

    /// Reads the header: `format` and `version` first, for a file of another kind has other keys too.
    pub(super) fn header<T: DeserializeOwned>(
        &mut self,
        format: &'static str,
        version: u32,
    ) -> Result<T, TraceError> {
        let header: Value =
            self.next()?.ok_or_else(|| self.wrong(TraceProblem::Empty { format }))?;
        let key = |name| header.get(name).cloned().unwrap_or_default();
        if key("format") != format {
            let found = key("format").to_string();
            return Err(self.wrong(TraceProblem::Format { found, expected: format }));
        }
        if key("version") != version {
            let found = key("version").to_string();
            return Err(self.wrong(TraceProblem::Version { found, known: version }));
        }
        serde_json::from_slice(&self.buffer).map_err(|error| self.wrong(content(&error)))
    }

    /// Reads the next line, `None` at the end of the file.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, TraceError> {
        self.buffer.clear();
        let read = self.input.by_ref().take(LINE_LIMIT + 1).read_until(b'\n', &mut self.buffer);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => self.line += 1,
            Err(error) => {
                let problem = TraceProblem::Unreadable(error.to_string());
                return Err(self.wrong_at(self.line + 1, problem));
            }
        }
        if self.buffer.len() as u64 > LINE_LIMIT {
            return Err(self.wrong(TraceProblem::TooLong { limit: LINE_LIMIT }));
        }
        if self.buffer.trim_ascii().is_empty() {
            return Err(self.wrong(TraceProblem::Blank));
        }
        serde_json::from_slice(&self.buffer).map(Some).map_err(|error| self.wrong(content(&error)))
    }
}

/// What serde says, without its line, which is always the first.
fn content(error: &serde_json::Error) -> TraceProblem {
    if error.is_eof() {
        return TraceProblem::CutOff;
    }
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    TraceProblem::Content { column: error.column(), message }
}

//! Snapshots and decisions, one line per cycle: written by `run --record`.

use std::io::{BufRead, Write};

use planner::{Plan, Snapshot};
use serde::{Deserialize, Serialize};

use super::workload::write_line;
use super::{Format, Lines, TraceError, VERSION};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: Format,
    version: u32,
}

/// One cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observation {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The plan.
    pub plan: Plan,
}

/// Writes the first line of a recording.
///
/// # Errors
/// Errors of `out`.
pub fn recording_header(mut out: impl Write) -> std::io::Result<()> {
    write_line(&mut out, &Header { format: Format::Recording, version: VERSION })
}

/// Writes one cycle's line.
///
/// # Errors
/// Errors of `out`.
pub fn append_observation(observation: &Observation, mut out: impl Write) -> std::io::Result<()> {
    write_line(&mut out, observation)
}

/// Reads a recording, cycle by cycle.
///
/// Nothing follows an error.
pub struct RecordingReader<R> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: BufRead> RecordingReader<R> {
    /// Reads the header of `text`; errors call it `file`.
    ///
    /// # Errors
    /// If it is not a recording, or of another version.
    pub fn new(file: &str, text: R) -> Result<Self, TraceError> {
        let mut lines = Lines::new(file, text);
        let Header { .. } = lines.header(Format::Recording)?;
        Ok(Self { lines, ended: false })
    }
}

impl<R: BufRead> Iterator for RecordingReader<R> {
    type Item = Result<Observation, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let observation = self.lines.next().transpose();
        self.ended = !matches!(observation, Some(Ok(_)));
        observation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::{QueueStatus, Timestamp};

    #[test]
    fn what_is_written_is_read_and_what_is_cut_off_is_found_out() {
        let observation = |second| Observation {
            snapshot: Snapshot::new(Timestamp(second), QueueStatus::Unavailable("down".to_owned())),
            plan: Plan::default(),
        };
        let mut file = Vec::new();
        recording_header(&mut file).unwrap();
        for second in [1, 2] {
            append_observation(&observation(second), &mut file).unwrap();
        }
        let read: Result<Vec<_>, _> = RecordingReader::new("r", file.as_slice()).unwrap().collect();
        assert_eq!(read.unwrap(), [observation(1), observation(2)]);
        let cut = &file[..file.len() - 9];
        let read: Result<Vec<_>, _> = RecordingReader::new("r", cut).unwrap().collect();
        let error = read.unwrap_err().to_string();
        assert!(
            error.starts_with("r:3: ") && error.ends_with("is the file cut off here?"),
            "{error}"
        );
        let broken =
            String::from_utf8(file).unwrap().replacen("\"takenAt\":1", "\"takenAt\":-1", 1);
        let read: Vec<_> = RecordingReader::new("r", broken.as_bytes()).unwrap().collect();
        assert_eq!(read.len(), 1, "nothing after an error");
        let error = read[0].as_ref().unwrap_err().to_string();
        assert!(error.starts_with("r:2: column 25: invalid value: integer `-1`"), "{error}");
    }
}

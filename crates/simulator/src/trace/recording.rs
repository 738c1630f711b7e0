//! Traces of a provisioner at work: what it observed and what it decided, one cycle a line.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use planner::{Plan, Policy, Snapshot};
use serde::{Deserialize, Serialize};

use super::TraceError;
use super::lines::Lines;

const FORMAT: &str = "hydra-provisioner-recording";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    #[serde(default)]
    description: String,
}

/// One cycle; its time is the snapshot's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordedCycle {
    /// What was observed.
    pub snapshot: Snapshot,
    /// What was decided.
    pub plan: Plan,
}

/// The first line of a recording, for a file that is still empty.
///
/// # Errors
/// When `out` fails.
pub fn write_header(description: &str, mut out: impl Write) -> io::Result<()> {
    let header =
        Header { format: FORMAT.to_owned(), version: VERSION, description: description.to_owned() };
    write_line(&header, &mut out)
}

/// Adds a cycle: one line, written at once, so that a recording that was interrupted stays readable up
/// to there.
///
/// # Errors
/// When `out` fails.
pub fn write_cycle(snapshot: &Snapshot, plan: &Plan, mut out: impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        snapshot: &'a Snapshot,
        plan: &'a Plan,
    }
    write_line(&Line { snapshot, plan }, &mut out)
}

fn write_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// A recording that is read cycle by cycle. After an error there is nothing more.
#[derive(Debug)]
pub struct Recording<R> {
    /// What it is and where it comes from.
    pub description: String,
    lines: Lines<R>,
    ended: bool,
}

impl<R: BufRead> Recording<R> {
    /// Reads the header; `file` is the name for messages.
    ///
    /// # Errors
    /// When it is no header of a recording.
    pub fn open(file: &str, input: R) -> Result<Self, TraceError> {
        let mut lines = Lines::new(file, input);
        let header: Header = lines.header(FORMAT, VERSION)?;
        Ok(Self { description: header.description, lines, ended: false })
    }
}

impl<R: BufRead> Iterator for Recording<R> {
    type Item = Result<RecordedCycle, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let cycle = self.lines.next().transpose();
        self.ended = !matches!(cycle, Some(Ok(_)));
        cycle
    }
}

/// A recorded cycle next to what `policy` decides for the same snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedCycle {
    /// What was observed and decided then.
    pub recorded: RecordedCycle,
    /// What is decided now.
    pub plan: Plan,
}

impl ReplayedCycle {
    /// Plans for what was observed then.
    pub fn new(recorded: RecordedCycle, policy: &Policy) -> Self {
        let plan = planner::plan(policy, &recorded.snapshot);
        Self { recorded, plan }
    }

    /// The lines in which both plans differ, as a diff: `-` was decided then, `+` is decided now. Empty
    /// when they are the same.
    pub fn differences(&self) -> Vec<String> {
        if self.recorded.plan == self.plan {
            return Vec::new();
        }
        difference(&self.recorded.plan.to_string(), &self.plan.to_string())
    }
}

/// Replays a recording with `policy`, cycle by cycle, as it is read.
pub fn replay(
    recording: impl Iterator<Item = Result<RecordedCycle, TraceError>>,
    policy: &Policy,
) -> impl Iterator<Item = Result<ReplayedCycle, TraceError>> {
    recording.map(|cycle| cycle.map(|recorded| ReplayedCycle::new(recorded, policy)))
}

/// Lines that only one text has. A plan's lines are in a fixed order and name what they are about, so
/// their sets say it all.
fn difference(then: &str, now: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for line in then.lines() {
        *counts.entry(line).or_default() += 1;
    }
    for line in now.lines() {
        *counts.entry(line).or_default() -= 1;
    }
    let then =
        then.lines().filter(|line| counts[line] > 0).map(|line| format!("- {}", line.trim()));
    let now = now.lines().filter(|line| counts[line] < 0).map(|line| format!("+ {}", line.trim()));
    then.chain(now).collect()
}

#[cfg(test)]
mod tests {
    use planner::{
        Demand, DemandKey, MachineType, PoolPolicy, Queue, QueueStatus, Seconds, System, Tag,
        Timestamp,
    };
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn policy(max_machines: u32) -> Policy {
        let system = System::new("x86_64-linux");
        let pool =
            PoolPolicy { max_machines, max_creates_per_cycle: 9, ..PoolPolicy::new(vec![system]) };
        let pools = BTreeMap::from([(MachineType::new("x86_64-linux"), pool)]);
        Policy { tag: Tag::new("t"), pools }
    }

    fn snapshot(taken_at: u64, runnable: u64) -> Snapshot {
        let kind = DemandKey { system: System::new("x86_64-linux"), features: [].into() };
        let demand = vec![Demand { kind, runnable, running: 0, last_active: None }];
        Snapshot {
            taken_at: Timestamp(taken_at),
            machines: Vec::new(),
            unlisted: BTreeMap::new(),
            resources: Vec::new(),
            queue: QueueStatus::Up(Queue { uptime: Seconds(9999), demand, ..Queue::default() }),
        }
    }

    fn recording() -> Vec<u8> {
        let mut out = Vec::new();
        write_header("two cycles", &mut out).unwrap();
        for (at, runnable) in [(1000, 0), (1300, 20)] {
            let snapshot = snapshot(at, runnable);
            write_cycle(&snapshot, &planner::plan(&policy(1), &snapshot), &mut out).unwrap();
        }
        out
    }

    fn replayed(policy: &Policy) -> Vec<(u64, Vec<String>)> {
        let bytes = recording();
        let recording = Recording::open("r.jsonl", bytes.as_slice()).unwrap();
        assert_eq!(recording.description, "two cycles");
        replay(recording, policy)
            .map(|cycle| cycle.unwrap())
            .map(|cycle| (cycle.recorded.snapshot.taken_at.0, cycle.differences()))
            .collect()
    }

    #[test]
    fn the_same_policy_decides_the_same() {
        assert_eq!(replayed(&policy(1)), [(1000, vec![]), (1300, vec![])]);
    }

    #[test]
    fn another_policy_is_shown_by_the_lines_that_differ() {
        let replayed = replayed(&policy(2));
        assert_eq!(replayed[0], (1000, vec![]));
        assert_eq!(
            replayed[1].1,
            [
                "- x86_64-linux: 20 runnable, wants 2, may have 1 (maxMachines), has 0",
                "+ x86_64-linux: 20 runnable, wants 2, may have 2, has 0",
                "+ create t-1 (x86_64-linux)",
                "+ deploy t-1",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let good = String::from_utf8(recording()).unwrap();
        for (from, to, message) in [
            (
                "\"version\":1",
                "\"version\":\"1\"",
                "r.jsonl:1: \"version\" is \"1\", only 1 is known; make the trace again, or use the version of hydra-provisioner that wrote it",
            ),
            (
                "\"takenAt\":1300",
                "\"takenAt\":-1",
                "r.jsonl:3: column 25: invalid value: integer `-1`, expected u64; correct the line or make the trace again",
            ),
            (
                "\"warnings\":[]}}\n{\"snap",
                "\n{\"snap",
                "r.jsonl:2: the line stops in the middle: the file is truncated; copy or record it again",
            ),
        ] {
            let wrong = good.replacen(from, to, 1);
            assert_ne!(wrong, good, "{from} is not there");
            let read: Result<Vec<_>, _> =
                Recording::open("r.jsonl", wrong.as_bytes()).and_then(Iterator::collect);
            assert_eq!(read.unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn mutations_never_panic(changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4)) {
            let mut bytes = recording();
            for (place, byte) in changes {
                let at = place.index(bytes.len());
                if byte < 32 { bytes.truncate(at + 1) } else { bytes[at] = byte }
            }
            if let Ok(recording) = Recording::open("r.jsonl", bytes.as_slice()) {
                prop_assert!(replay(recording, &policy(2)).count() <= 2);
            }
        }
    }
}

//! Traces of work: one build step a line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use planner::{DemandKey, Feature, System};
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{TraceError, TraceProblem};
use crate::engine::Millis;
use crate::workload::{NewStep, StepSpec, Workload, WorkloadBuilder, WorkloadError};

const FORMAT: &str = "hydra-provisioner-workload";
const VERSION: u32 = 1;
/// Where steps belong that name no jobset.
const DEFAULT_JOBSET: &str = "trace:default";

/// A workload as it was recorded or generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadTrace {
    /// What it is and where it comes from.
    pub description: String,
    /// The steps.
    pub workload: Workload,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    /// How many lines follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    #[serde(default)]
    description: String,
    /// Scheduling shares.
    #[serde(default)]
    jobsets: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    id: u64,
    submit: i64,
    duration: i64,
    system: System,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    features: BTreeSet<Feature>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    build: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jobset: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    global_priority: i32,
    #[serde(default, skip_serializing_if = "is_zero")]
    local_priority: i32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

/// Reads a workload; `file` is the name for messages.
///
/// # Errors
/// With the line and what is wrong with it; a circle of dependencies with the steps on it.
pub fn read_workload(file: &str, input: impl BufRead) -> Result<WorkloadTrace, TraceError> {
    let mut lines = Lines::new(file, input);
    let header: Header = lines.header(FORMAT, VERSION)?;
    let mut builder = WorkloadBuilder::new();
    for (jobset, shares) in &header.jobsets {
        let set = builder.set_shares(jobset, *shares);
        set.map_err(|error| lines.wrong(error.into()))?;
    }
    let mut found = 0;
    while let Some(line) = lines.next::<Line>()? {
        if let Some(expected) = header.steps.filter(|expected| found == *expected) {
            return Err(lines.wrong(TraceProblem::Surplus { expected }));
        }
        let step = step(line).map_err(|problem| lines.wrong(problem))?;
        builder.add(step).map_err(|error| lines.wrong(error.into()))?;
        found += 1;
    }
    if let Some(expected) = header.steps.filter(|expected| found < *expected) {
        return Err(lines.wrong(TraceProblem::Missing { found, expected }));
    }
    let workload = builder
        .finish()
        .map_err(|error| lines.wrong_at(line_of(&error), TraceProblem::Workload(error)))?;
    Ok(WorkloadTrace { description: header.description, workload })
}

/// The first step is on the second line, and no line is empty.
fn line_of(error: &WorkloadError) -> u64 {
    error.index() as u64 + 2
}

fn step(line: Line) -> Result<NewStep, TraceProblem> {
    Ok(NewStep {
        id: line.id,
        submit: time("submit", line.submit)?,
        duration: time("duration", line.duration)?,
        kind: DemandKey { system: line.system, features: line.features },
        jobset: line.jobset.unwrap_or_else(|| DEFAULT_JOBSET.to_owned()),
        build: line.build.unwrap_or(line.id),
        global_priority: line.global_priority,
        local_priority: line.local_priority,
        dependencies: line.dependencies,
    })
}

fn time(key: &'static str, value: i64) -> Result<Millis, TraceProblem> {
    u64::try_from(value).map(Millis).map_err(|_| TraceProblem::NegativeTime { key, value })
}

/// Writes a workload, its steps in the order of their submission. The same workload gives the same bytes.
///
/// # Errors
/// When `out` fails.
pub fn write_workload(
    workload: &Workload,
    description: &str,
    mut out: impl Write,
) -> io::Result<()> {
    let jobsets = workload.jobsets();
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        steps: Some(workload.steps().len() as u64),
        description: description.to_owned(),
        jobsets: jobsets.iter().map(|jobset| (jobset.name.clone(), jobset.shares)).collect(),
    };
    write_line(&header, &mut out)?;
    let dependencies = dependencies(workload);
    for (step, dependencies) in workload.steps().iter().zip(dependencies) {
        write_line(&line(workload, step, dependencies), &mut out)?;
    }
    out.flush()
}

fn write_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn line(workload: &Workload, step: &StepSpec, dependencies: Vec<u64>) -> Line {
    let kind = workload.kind_of(step);
    let jobset = &workload.jobset_of(step).name;
    Line {
        id: step.id,
        submit: written(step.submit),
        duration: written(step.duration),
        system: kind.system.clone(),
        features: kind.features.clone(),
        dependencies,
        build: Some(step.build).filter(|build| *build != step.id),
        jobset: Some(jobset.clone()).filter(|jobset| jobset != DEFAULT_JOBSET),
        global_priority: step.global_priority,
        local_priority: step.local_priority,
    }
}

/// 292 million years are enough.
fn written(time: Millis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// By step: the ids of what it needs, in the order of their submission.
fn dependencies(workload: &Workload) -> Vec<Vec<u64>> {
    let mut dependencies = vec![Vec::new(); workload.steps().len()];
    for (at, step) in workload.steps().iter().enumerate() {
        for dependent in workload.dependents_at(at) {
            dependencies[dependent.at()].push(step.id);
        }
    }
    dependencies
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const HEADER: &str = r#"{"format":"hydra-provisioner-workload","version":1,"steps":3,"description":"three","jobsets":{"nixpkgs:trunk":100}}"#;
    const STEPS: [&str; 3] = [
        r#"{"id":7,"submit":0,"duration":1000,"system":"x86_64-linux","features":["kvm"],"jobset":"nixpkgs:trunk","localPriority":5}"#,
        r#"{"id":8,"submit":0,"duration":250,"system":"x86_64-linux","dependencies":[7],"build":9,"jobset":"nixpkgs:trunk"}"#,
        r#"{"id":9,"submit":60000,"duration":0,"system":"aarch64-linux","dependencies":[7,8],"globalPriority":-1}"#,
    ];

    fn trace(lines: &[&str]) -> String {
        lines.join("\n") + "\n"
    }

    fn good() -> String {
        trace(&[HEADER, STEPS[0], STEPS[1], STEPS[2]])
    }

    fn written(trace: &WorkloadTrace) -> String {
        let mut out = Vec::new();
        write_workload(&trace.workload, &trace.description, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn error(text: &str) -> String {
        read_workload("t.jsonl", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let read = read_workload("t.jsonl", good().as_bytes()).unwrap();
        assert_eq!(read.description, "three");
        assert_eq!(read.workload.steps().len(), 3);
        assert_eq!(read.workload.dependents_of(0).collect::<Vec<_>>(), [8, 9]);
        let default = r#""jobsets":{"nixpkgs:trunk":100,"trace:default":1}"#;
        assert_eq!(written(&read), good().replace(r#""jobsets":{"nixpkgs:trunk":100}"#, default));
    }

    /// Each a good trace with `from` replaced by `to`.
    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            (
                r#""version":1"#,
                r#""version":2"#,
                "t.jsonl:1: \"version\" is 2, only 1 is known; make the trace again, or use the version of hydra-provisioner that wrote it",
            ),
            (
                "provisioner-workload",
                "provisioner-recording",
                "t.jsonl:1: \"format\" is \"hydra-provisioner-recording\", must be \"hydra-provisioner-workload\"; give a file of that format",
            ),
            (
                r#""steps":3"#,
                r#""steps":4"#,
                "t.jsonl:4: the file ends after 3 of 4 steps: it is truncated; copy it again",
            ),
            (
                r#""steps":3"#,
                r#""steps":2"#,
                "t.jsonl:4: the header says 2 steps, here is one more; correct \"steps\" or delete the line",
            ),
            (
                r#""id":9"#,
                r#""id":7"#,
                "t.jsonl:4: step 7 is there twice; correct \"id\" and \"dependencies\"",
            ),
            (
                "[7,8]",
                "[7,80]",
                "t.jsonl:4: step 9 depends on 80, which is unknown; correct \"id\" and \"dependencies\"",
            ),
            (
                r#""features":["kvm"]"#,
                r#""dependencies":[9]"#,
                "t.jsonl:2: steps need each other in a circle: 7 -> 9 -> 8 -> 7; correct \"id\" and \"dependencies\"",
            ),
            (
                r#""duration":250"#,
                r#""duration":-250"#,
                "t.jsonl:3: \"duration\" is -250; it must be 0 or more milliseconds",
            ),
            (
                r#""submit":60000"#,
                r#""submit":-1"#,
                "t.jsonl:4: \"submit\" is -1; it must be 0 or more milliseconds",
            ),
            (
                r#""submit":60000"#,
                r#""submit":"noon""#,
                "t.jsonl:4: column 23: invalid type: string \"noon\", expected i64; correct the line or make the trace again",
            ),
            (
                r#""build":9"#,
                r#""builds":9"#,
                "t.jsonl:3: column 85: unknown field `builds`, expected one of `id`, `submit`, `duration`, `system`, `features`, `dependencies`, `build`, `jobset`, `globalPriority`, `localPriority`; correct the line or make the trace again",
            ),
            (
                r#","globalPriority":-1}"#,
                "",
                "t.jsonl:4: the line stops in the middle: the file is truncated; copy or record it again",
            ),
            ("\n{\"id\":9", "\n\n{\"id\":9", "t.jsonl:4: the line is empty; delete it"),
        ];
        for (from, to, message) in cases {
            let wrong = good().replacen(from, to, 1);
            assert_ne!(wrong, good(), "{from} is not there");
            assert_eq!(error(&wrong), message);
        }
        assert_eq!(
            error(""),
            "t.jsonl:1: the file is empty; the first line must be a header with \"format\": \"hydra-provisioner-workload\""
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Bytes changed, taken out, doubled: an error with its line, or a workload that can be written.
        #[test]
        fn mutations_never_panic(
            changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6),
        ) {
            let mut bytes = good().into_bytes();
            for (place, byte, how) in changes {
                let at = place.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.truncate(at + 1),
                    2 => { bytes.remove(at); bytes.push(b'\n'); }
                    _ => bytes.insert(at, b"0123456789[]{},:\"-e.\n"[usize::from(byte) % 21]),
                }
            }
            match read_workload("t.jsonl", bytes.as_slice()) {
                Err(error) => prop_assert!(error.line >= 1 && error.to_string().starts_with("t.jsonl:")),
                Ok(read) => {
                    let once = written(&read);
                    let again = read_workload("t.jsonl", once.as_bytes()).unwrap();
                    prop_assert_eq!(written(&again), once);
                }
            }
        }
    }
}

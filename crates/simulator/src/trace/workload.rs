//! Recorded or synthetic work: one step per line.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use planner::{DemandKey, Feature, System, counted};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Format, Lines, TraceError, VERSION};
use crate::engine::Millis;
use crate::workload::{NewStep, Workload, WorkloadBuilder};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: Format,
    version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    /// Number of steps, which detects a truncated file.
    #[serde(default)]
    steps: Option<u64>,
    /// Scheduling shares by jobset; 1 for others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    jobsets: BTreeMap<String, u32>,
}

/// Times in milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Step {
    id: u64,
    #[serde(deserialize_with = "time")]
    submit: Millis,
    system: System,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<Feature>,
    #[serde(deserialize_with = "time")]
    duration: Millis,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<u64>,
    /// Default: its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    build: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jobset: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    global_priority: i32,
    #[serde(default, skip_serializing_if = "is_zero")]
    local_priority: i32,
    /// Number of cores that it uses. Default: one, or all of the machine with `big-parallel`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "cores")]
    cores: Option<u16>,
    /// When its build is canceled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel: Option<Millis>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn time<'de, D: Deserializer<'de>>(value: D) -> Result<Millis, D::Error> {
    let time = i64::deserialize(value)?;
    u64::try_from(time).map(Millis).map_err(|_| {
        serde::de::Error::custom(format!("times are milliseconds from 0 on, this is {time}"))
    })
}

fn cores<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u16>, D::Error> {
    match Option::deserialize(value)? {
        Some(0) => Err(serde::de::Error::custom("cores must be at least 1")),
        cores => Ok(cores),
    }
}

/// Reads a workload from `text`; errors call it `file`.
///
/// # Errors
/// The first line that is truncated, not a step, or of another version; that repeats an id or depends on an unknown
/// one; or a step that depends on itself.
pub fn read_workload(file: &str, text: impl BufRead) -> Result<Workload, TraceError> {
    let mut lines = Lines::new(file, text);
    let header: Header = lines.header(Format::Workload)?;
    let mut builder = WorkloadBuilder::new();
    for (jobset, shares) in &header.jobsets {
        builder.set_shares(jobset, *shares).map_err(|error| lines.error(error.to_string()))?;
    }
    let mut steps = 0;
    while let Some(step) = lines.next::<Step>()? {
        if let Some(reported) = header.steps.filter(|reported| *reported == steps) {
            let message =
                format!("the header says {}, here is one more", counted(reported, "step"));
            return Err(lines.error(format!("{message}; correct \"steps\", or leave it out")));
        }
        if step.system.as_str().is_empty() {
            return Err(lines.error("its system is empty"));
        }
        builder.add(step.into()).map_err(|error| lines.error(error.to_string()))?;
        steps += 1;
    }
    if let Some(reported) = header.steps.filter(|reported| *reported != steps) {
        return Err(lines.error(format!(
            "the file ends after {}, its header says {reported}; is it cut off?",
            counted(steps, "step")
        )));
    }
    // The header is line 1, so step 0 is on line 2.
    builder.finish().map_err(|error| lines.error_at(error.index() + 2, error.to_string()))
}

impl From<Step> for NewStep {
    fn from(step: Step) -> Self {
        Self {
            id: step.id,
            submit: step.submit,
            duration: step.duration,
            kind: DemandKey { system: step.system, features: step.features.into_iter().collect() },
            jobset: step.jobset.unwrap_or_else(|| "project:jobset".to_owned()),
            build: step.build.unwrap_or(step.id),
            global_priority: step.global_priority,
            local_priority: step.local_priority,
            dependencies: step.dependencies,
            cores: step.cores,
            cancel: step.cancel,
        }
    }
}

/// Writes `workload`, so that [`read_workload`] returns the same.
///
/// # Errors
/// Errors of `out`.
pub fn write_workload(
    workload: &Workload,
    description: &str,
    mut out: impl Write,
) -> std::io::Result<()> {
    let jobsets = workload.jobsets().iter();
    let header = Header {
        format: Format::Workload,
        version: VERSION,
        description: description.to_owned(),
        steps: Some(workload.steps().len() as u64),
        jobsets: jobsets.map(|jobset| (jobset.name.clone(), jobset.shares)).collect(),
    };
    write_line(&mut out, &header)?;
    let mut dependencies = vec![Vec::new(); workload.steps().len()];
    for index in workload.indices() {
        let id = workload.steps()[index.position()].id();
        for dependent in workload.dependents_at(index.position()) {
            dependencies[dependent.position()].push(id);
        }
    }
    let canceled: BTreeMap<_, _> =
        workload.cancellations().iter().map(|(at, step)| (step.position(), *at)).collect();
    for (at, (spec, dependencies)) in workload.steps().iter().zip(dependencies).enumerate() {
        let (kind, class) = (workload.kind_of(spec), workload.class_of(spec));
        let step = Step {
            id: spec.id(),
            submit: spec.submit(),
            system: kind.system.clone(),
            features: kind.features.iter().cloned().collect(),
            duration: spec.duration(),
            dependencies,
            build: Some(spec.build()),
            jobset: Some(workload.jobset_of(spec).name.clone()),
            global_priority: class.global_priority,
            local_priority: class.local_priority,
            cores: class.cores,
            cancel: canceled.get(&at).copied(),
        };
        write_line(&mut out, &step)?;
    }
    out.flush()
}

pub(super) fn write_line(out: &mut impl Write, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const HEADER: &str = r#"{"format":"hydra-provisioner-workload","version":1}"#;

    fn step(id: u64, dependencies: &str) -> String {
        format!(
            r#"{{"id":{id},"submit":0,"system":"a","duration":1000,"dependencies":{dependencies}}}"#
        )
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let one = step(1, "[]");
        for (text, message) in [
            (String::new(), "t:1: the file is empty, its first line must be a header"),
            (
                "{\"steps\":1}\n".to_owned(),
                "t:1: the first line must be a header with \"format\": \"hydra-provisioner-workload\"",
            ),
            (
                r#"{"format":"hydra-provisioner-workload","version":2}"#.to_owned(),
                "t:1: it has version 2, this program knows 1",
            ),
            (
                r#"{"format":"hydra-provisioner-recording","version":1}"#.to_owned(),
                "t:1: this is a Recording, a Workload is wanted",
            ),
            (
                r#"{"format":"hydra-provisioner-workload","version":1,"setps":1}"#.to_owned(),
                "t:1: unknown field `setps`, expected one of `format`, `version`, `description`, `steps`, `jobsets`; did you mean `steps`?",
            ),
            (
                format!("{HEADER}\n{one}\n{}", &one[..30]),
                "t:3: column 30: EOF while parsing a string; is the file cut off here?",
            ),
            (
                format!("{}\n{one}\n", HEADER.replace('}', ",\"steps\":2}")),
                "t:3: the file ends after 1 step, its header says 2; is it cut off?",
            ),
            (
                format!("{}\n{one}\n{one}\n", HEADER.replace('}', ",\"steps\":1}")),
                "t:3: the header says 1 step, here is one more; correct \"steps\", or leave it out",
            ),
            (
                format!("{HEADER}\n{}\n", one.replace("id", "no at line 7")),
                "t:2: column 15: unknown field `no at line 7`, expected one of `id`, `submit`, `system`, `features`, `duration`, `dependencies`, `build`, `jobset`, `globalPriority`, `localPriority`, `cores`, `cancel`",
            ),
            (
                format!("{HEADER}\n{}\n", one.replace(":1000", ":-5")),
                "t:2: column 45: times are milliseconds from 0 on, this is -5",
            ),
            (
                format!("{HEADER}\n{}\n", one.replace("1000", "0.5")),
                "t:2: column 46: invalid type: floating point `0.5`, expected a whole number",
            ),
            (
                format!("{HEADER}\n{}\n", one.replace("1000", "1000,\"cores\":0")),
                "t:2: column 57: cores must be at least 1",
            ),
            (format!("{HEADER}\n{one}\n\n{one}\n"), "t:3: the line is empty; remove it"),
            (format!("{HEADER}\n{}\n", one.replace("\"a\"", "\"\"")), "t:2: its system is empty"),
            (format!("{HEADER}\n{one}\n{one}\n"), "t:3: step 1 is there twice"),
            (
                format!("{HEADER}\n{one}\n{}\n", step(2, "[7]")),
                "t:3: step 2 depends on 7, which is unknown",
            ),
            (
                format!("{HEADER}\n{one}\n{}\n{}\n", step(2, "[3]"), step(3, "[1,2]")),
                "t:4: steps need each other in a circle: 3 -> 2 -> 3",
            ),
            (
                format!("{HEADER}\n[]\n"),
                "t:2: column 2: invalid length 0, expected struct Step with 12 elements",
            ),
        ] {
            let error = read_workload("t", text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = format!(
            "{}\n{}\n{}\n",
            HEADER.replace('}', r#","jobsets":{"p:j":7}}"#),
            step(1, "[]").replace(
                '}',
                r#","features":["kvm"],"jobset":"p:j","build":5,"localPriority":-3}"#
            ),
            step(2, "[1]")
        );
        let workload = read_workload("t", text.as_bytes()).unwrap();
        assert_eq!(workload.jobsets()[0].shares, 7);
        assert_eq!(workload.class_of(&workload.steps()[0]).local_priority, -3);
        assert_eq!(workload.dependents_of(0).collect::<Vec<_>>(), [2]);
        let mut written = Vec::new();
        write_workload(&workload, "two steps", &mut written).unwrap();
        assert_eq!(read_workload("t", written.as_slice()).unwrap(), workload);
        // A truncated file is always detected, except if only the last line break is missing.
        for length in 0..written.len() - 1 {
            assert!(read_workload("t", &written[..length]).is_err(), "{length}");
        }
    }
    fn written(workload: &Workload) -> Vec<u8> {
        let mut written = Vec::new();
        write_workload(workload, "", &mut written).unwrap();
        written
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

        /// Bytes changed, truncated, removed, inserted: an error with its line, or work that is written as it was read.
        #[test]
        fn a_damaged_trace_never_panics(
            damage in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6),
        ) {
            let steps = [step(1, "[]"), step(2, "[1]"), step(3, "[1,2]")].join("\n");
            let mut bytes = format!("{HEADER}\n{steps}\n").into_bytes();
            for (place, byte, how) in damage {
                let at = place.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.truncate(at + 1),
                    2 => bytes[at] = b"0123456789[]{},:\"-e.\n"[usize::from(byte) % 21],
                    _ => bytes.insert(at, b"0123456789[]{},:\"-e.\n"[usize::from(byte) % 21]),
                }
            }
            match read_workload("t", bytes.as_slice()) {
                Err(error) => prop_assert!((1..=9).contains(&error.line), "{}", error),
                Ok(workload) => {
                    let once = written(&workload);
                    let again = read_workload("t", once.as_slice()).unwrap();
                    prop_assert_eq!(written(&again), once);
                }
            }
        }
    }
}

//! The Standard Workload Format of the Parallel Workloads Archive (Chapin et al. 1999, "Benchmarks and
//! standards for the evaluation of parallel job schedulers"): a job a line, 18 numbers, -1 for unknown.

use std::collections::BTreeSet;
use std::io::BufRead;

use planner::DemandKey;

use super::{ImportError, Imported};
use crate::engine::Millis;
use crate::workload::{NewStep, WorkloadBuilder};

const FIELDS: usize = 18;
/// Places of the fields that are used, counted from 0 (the format counts from 1).
const JOB: usize = 0;
const SUBMIT: usize = 1;
const RUN_TIME: usize = 3;
const USER: usize = 11;
const PRECEDING_JOB: usize = 16;

/// Reads jobs as steps of `kind`, one a job whatever its number of processors: users are jobsets, a
/// preceding job is a dependency.
///
/// Jobs without a run time (they never ran) are left out, and so are dependencies on what is left out.
///
/// # Errors
/// With the line that is not 18 numbers, or has a time before the start.
pub fn swf(text: impl BufRead, kind: &DemandKey) -> Result<Imported, ImportError> {
    let mut jobs = Vec::new();
    let mut never_ran = 0_u64;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let wrong = |message: String| ImportError::Line { line: number, message };
        let line = line.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        match job(line, kind).map_err(wrong)? {
            Some(job) => jobs.push(job),
            None => never_ran += 1,
        }
    }
    let known: BTreeSet<u64> = jobs.iter().map(|job| job.id).collect();
    let mut builder = WorkloadBuilder::new();
    for mut job in jobs {
        job.dependencies.retain(|dependency| known.contains(dependency));
        builder.add(job)?;
    }
    let left_out = match never_ran {
        0 => Vec::new(),
        count => vec![format!("{count} jobs that never ran")],
    };
    Ok(Imported { workload: builder.finish()?, left_out })
}

/// `None` for a job that never ran.
fn job(line: &str, kind: &DemandKey) -> Result<Option<NewStep>, String> {
    let fields: Vec<i64> = line
        .split_ascii_whitespace()
        .enumerate()
        .map(|(at, field)| number(field).ok_or(format!("field {} is {field:?}, no number", at + 1)))
        .collect::<Result<_, _>>()?;
    if fields.len() != FIELDS {
        return Err(format!("has {} fields, must have {FIELDS}", fields.len()));
    }
    let id =
        u64::try_from(fields[JOB]).map_err(|_| format!("its job number is {}", fields[JOB]))?;
    let submit = u64::try_from(fields[SUBMIT])
        .map_err(|_| format!("job {id} is submitted at {} s, before the start", fields[SUBMIT]))?;
    let Ok(run_time) = u64::try_from(fields[RUN_TIME]) else { return Ok(None) };
    let user = fields[USER];
    Ok(Some(NewStep {
        id,
        submit: Millis::from_seconds(submit),
        duration: Millis::from_seconds(run_time),
        kind: kind.clone(),
        jobset: if user < 0 { "swf:unknown".to_owned() } else { format!("swf:user-{user}") },
        build: id,
        global_priority: 0,
        local_priority: 0,
        dependencies: u64::try_from(fields[PRECEDING_JOB])
            .ok()
            .filter(|job| *job > 0)
            .into_iter()
            .collect(),
    }))
}

/// Some traces of the archive write whole numbers with decimals.
fn number(field: &str) -> Option<i64> {
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    fraction.chars().all(|c| c.is_ascii_digit()).then(|| whole.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::System;

    fn kind() -> DemandKey {
        DemandKey { system: System::new("x86_64-linux"), features: [].into() }
    }

    /// The head and three jobs of a trace as the archive has them, and one with a predecessor.
    const TRACE: &str = "\
; Version: 2.2
; Computer: Intel iPSC/860

1 0 -1 1451 128 -1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1
2 1460 -1 3726 128 -1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1
3 5198 -1 -1 128 -1 -1 -1 -1 -1 0 -1 1 2 -1 -1 -1 -1
4 6000.00 -1 7 1 -1 -1 -1 -1 -1 1 2 1 2 -1 -1 2 10
5 6001 -1 7 1 -1 -1 -1 -1 -1 1 2 1 2 -1 -1 3 10
";

    #[test]
    fn jobs_become_steps() {
        let imported = swf(TRACE.as_bytes(), &kind()).unwrap();
        let workload = &imported.workload;
        let steps: Vec<_> = workload
            .steps()
            .iter()
            .map(|step| (step.id, step.submit.whole_seconds(), step.duration.whole_seconds()))
            .collect();
        assert_eq!(steps, [(1, 0, 1451), (2, 1460, 3726), (4, 6000, 7), (5, 6001, 7)]);
        assert_eq!(workload.dependents_of(1).collect::<Vec<_>>(), [4], "5 waits for one left out");
        let jobsets: Vec<_> =
            workload.jobsets().iter().map(|jobset| jobset.name.as_str()).collect();
        assert_eq!(jobsets, ["swf:user-1", "swf:user-2"]);
        assert_eq!(imported.left_out, ["1 jobs that never ran"]);
    }

    #[test]
    fn what_is_no_such_trace_is_refused_with_its_line() {
        for (text, message) in [
            ("; fine\n1 2 3\n", "line 2: has 3 fields, must have 18"),
            ("a b\n", "line 1: field 1 is \"a\", no number"),
            (
                "1 -5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "line 1: job 1 is submitted at -5 s, before the start",
            ),
            ("-1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", "line 1: its job number is -1"),
            ("1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 1 0\n", "steps need each other in a circle: 1 -> 1"),
            (
                "1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "step 1 is there twice",
            ),
        ] {
            assert_eq!(swf(text.as_bytes(), &kind()).unwrap_err().to_string(), message);
        }
        let error = swf(&b"1 2\xff"[..], &kind()).unwrap_err().to_string();
        assert!(error.starts_with("line 1: cannot be read"), "{error}");
    }
}

//! The Standard Workload Format of the Parallel Workloads Archive (Chapin et al. 1999, "Benchmarks and standards for
//! the evaluation of parallel job schedulers"): one job per line, 18 numbers, -1 for unknown.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::ops::Range;

use planner::DemandKey;

use super::{ImportError, Imported};
use crate::engine::Millis;
use crate::workload::{NewStep, WorkloadBuilder};

const FIELDS: usize = 18;
/// Indices of the used fields, from 0 (the format counts from 1).
const JOB: usize = 0;
const SUBMIT: usize = 1;
const RUN_TIME: usize = 3;
const PROCESSORS_USED: usize = 4;
const PROCESSORS_ASKED: usize = 7;
const USER: usize = 11;
const PRECEDING_JOB: usize = 16;
/// The largest machines of the archive have some hundred thousand processors; a million is a mistake.
const MOST_PROCESSORS: u64 = 1_000_000;

/// How a job of several processors is converted: Hydra gives a step one slot of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processors {
    /// One step per processor, each as long as the job: the same work.
    Steps,
    /// One step: the work of the other processors is dropped.
    Ignore,
}

/// A job that ran. Times in seconds.
#[derive(Clone, Copy, Debug)]
struct Job {
    id: u64,
    submit: u64,
    run_time: u64,
    processors: u64,
    user: i64,
    preceding: Option<u64>,
}

/// Reads jobs as steps of `kind`: users become jobsets, jobs become builds, a preceding job becomes a dependency.
///
/// Jobs without a run time (they never ran) are left out, and so are dependencies on them.
///
/// # Errors
/// The line that does not have 18 numbers, or has a time before the start, or repeats a job.
pub fn swf(
    text: impl BufRead,
    kind: &DemandKey,
    processors: Processors,
) -> Result<Imported, ImportError> {
    let (jobs, never_ran) = read(text)?;
    let width = |job: &Job| match processors {
        Processors::Steps => job.processors,
        Processors::Ignore => 1,
    };
    let mut steps_of: BTreeMap<u64, Range<u64>> = BTreeMap::new();
    let mut next = 1;
    for job in &jobs {
        let last = next + width(job);
        if steps_of.insert(job.id, next..last).is_some() {
            return Err(ImportError::Twice(job.id));
        }
        next = last;
    }
    let mut builder = WorkloadBuilder::new();
    for job in &jobs {
        let before = job.preceding.and_then(|id| steps_of.get(&id));
        for id in steps_of[&job.id].clone() {
            builder.add(job.step(id, kind, before))?;
        }
    }
    Ok(Imported { workload: builder.finish()?, left_out: left_out(&jobs, never_ran, processors) })
}

fn left_out(jobs: &[Job], never_ran: u64, processors: Processors) -> Vec<String> {
    let mut left_out = Vec::new();
    if never_ran > 0 {
        left_out.push(format!("{never_ran} jobs that never ran"));
    }
    let wide = jobs.iter().filter(|job| job.processors > 1).count();
    match processors {
        _ if wide == 0 => {}
        Processors::Steps => left_out.push(format!(
            "that {wide} jobs had their processors at the same time: each processor is a step of its own"
        )),
        Processors::Ignore => {
            left_out.push(format!("all processors but the first of {wide} jobs, with their work"));
        }
    }
    left_out
}

/// The jobs that ran, and the number of others.
fn read(text: impl BufRead) -> Result<(Vec<Job>, u64), ImportError> {
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
        match job(line).map_err(wrong)? {
            Some(job) => jobs.push(job),
            None => never_ran += 1,
        }
    }
    Ok((jobs, never_ran))
}

/// `None` for a job that never ran.
fn job(line: &str) -> Result<Option<Job>, String> {
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
    // If the number of used processors is unknown, that of requested ones; a job has at least one.
    let known = [PROCESSORS_USED, PROCESSORS_ASKED].map(|place| fields[place]);
    let processors = known.into_iter().find(|number| *number > 0).unwrap_or(1);
    let processors = u64::try_from(processors).unwrap_or(1);
    if processors > MOST_PROCESSORS {
        return Err(format!("job {id} has {processors} processors, more than {MOST_PROCESSORS}"));
    }
    let preceding = u64::try_from(fields[PRECEDING_JOB]).ok().filter(|job| *job > 0);
    Ok(Some(Job { id, submit, run_time, processors, user: fields[USER], preceding }))
}

impl Job {
    /// One of its steps, which waits for the steps `before`.
    fn step(&self, id: u64, kind: &DemandKey, before: Option<&Range<u64>>) -> NewStep {
        let user = self.user;
        NewStep {
            id,
            submit: Millis::from_seconds(self.submit),
            duration: Millis::from_seconds(self.run_time),
            kind: kind.clone(),
            jobset: if user < 0 { "swf:unknown".to_owned() } else { format!("swf:user-{user}") },
            build: self.id,
            global_priority: 0,
            local_priority: 0,
            dependencies: before.cloned().into_iter().flatten().collect(),
            cores: None,
            cancel: None,
        }
    }
}

/// Some traces of the archive write whole numbers with decimals.
fn number(field: &str) -> Option<i64> {
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    fraction.chars().all(|c| c.is_ascii_digit()).then(|| whole.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;
    use planner::System;

    fn kind() -> DemandKey {
        DemandKey { system: System::new("x86_64-linux"), features: [].into() }
    }

    /// The header and three jobs of a trace from the archive, and one with a predecessor.
    const TRACE: &str = "\
; Version: 2.2
; Computer: Intel iPSC/860

1 0 -1 1451 128 -1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1
2 1460 -1 3726 128 -1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1
3 5198 -1 -1 128 -1 -1 -1 -1 -1 0 -1 1 2 -1 -1 -1 -1
4 6000.00 -1 7 1 -1 -1 -1 -1 -1 1 2 1 2 -1 -1 2 10
5 6001 -1 7 1 -1 -1 -1 -1 -1 1 2 1 2 -1 -1 3 10
";

    /// `id build submit+duration -> dependents`, times in seconds.
    fn summary(workload: &Workload) -> Vec<String> {
        let steps = workload.steps().iter().enumerate();
        steps
            .map(|(at, step)| {
                let dependents: Vec<_> = workload.dependents_of(at).collect();
                let (submit, length) =
                    (step.submit().whole_seconds(), step.duration().whole_seconds());
                format!("{} {} {submit}+{length} -> {dependents:?}", step.id(), step.build())
            })
            .collect()
    }

    #[test]
    fn jobs_become_steps() {
        let imported = swf(TRACE.as_bytes(), &kind(), Processors::Ignore).unwrap();
        let workload = &imported.workload;
        assert_eq!(
            summary(workload),
            ["1 1 0+1451 -> []", "2 2 1460+3726 -> [3]", "3 4 6000+7 -> []", "4 5 6001+7 -> []"],
            "5 waits for one left out"
        );
        let jobsets: Vec<_> =
            workload.jobsets().iter().map(|jobset| jobset.name.as_str()).collect();
        assert_eq!(jobsets, ["swf:user-1", "swf:user-2"]);
        assert_eq!(
            imported.left_out,
            ["1 jobs that never ran", "all processors but the first of 2 jobs, with their work"]
        );
    }

    /// The work of a trace is processors times run time, for either conversion.
    #[test]
    fn processors_are_work() {
        let imported = swf(TRACE.as_bytes(), &kind(), Processors::Steps).unwrap();
        let steps = imported.workload.steps();
        let seconds: u64 = steps.iter().map(|step| step.duration().whole_seconds()).sum();
        assert_eq!(seconds, 128 * 1451 + 128 * 3726 + 7 + 7);
        assert_eq!(steps.len(), 128 + 128 + 1 + 1);
        let dependents = |at| imported.workload.dependents_of(at).collect::<Vec<_>>();
        assert_eq!((dependents(127), dependents(128)), (vec![], vec![257]), "4 waits for all of 2");
        assert!(imported.left_out[1].starts_with("that 2 jobs had"), "{:?}", imported.left_out);

        // Only the number of requested processors is known; no number is known.
        let text = "1 0 -1 5 -1 -1 -1 3 -1 -1 -1 1 1 1 -1 -1 -1 -1\n2 0 -1 5 0 -1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1\n";
        let imported = swf(text.as_bytes(), &kind(), Processors::Steps).unwrap();
        assert_eq!(imported.workload.steps().len(), 4);
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
                "job 1 is there twice",
            ),
            (
                "1 5 0 7 2000000 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "line 1: job 1 has 2000000 processors, more than 1000000",
            ),
        ] {
            let swf = |text| swf(text, &kind(), Processors::Steps);
            assert_eq!(swf(text.as_bytes()).unwrap_err().to_string(), message);
        }
        let error = swf(&b"1 2\xff"[..], &kind(), Processors::Steps).unwrap_err().to_string();
        assert!(error.starts_with("line 1: cannot be read"), "{error}");
    }
}

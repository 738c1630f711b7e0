//! The Standard Workload Format of the Parallel Workloads Archive (Chapin et al. 1999, "Benchmarks and standards for
//! the evaluation of parallel job schedulers"): one job per line, 18 numbers, -1 for unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::ops::Range;

use planner::DemandKey;

use super::{ImportError, Imported, circle};
use crate::engine::Millis;
use crate::workload::{
    LATEST_SUBMISSION, LONGEST_STEP, MOST_DEPENDENCIES, MOST_STEPS, NewStep, WorkloadBuilder,
    WorkloadError,
};

const FIELDS: usize = 18;
/// Indices of the used fields, from 0 (the format counts from 1).
const JOB: usize = 0;
const SUBMIT: usize = 1;
const RUN_TIME: usize = 3;
const PROCESSORS_USED: usize = 4;
const PROCESSORS_ASKED: usize = 7;
const STATUS: usize = 10;
const USER: usize = 11;
const PRECEDING_JOB: usize = 16;
/// The largest machines of the archive have some hundred thousand processors; a million is a mistake.
const MOST_PROCESSORS: u64 = 1_000_000;
/// The status of a part of a job that was suspended or moved: to be continued, its last part, its last part that failed.
/// The job's own row before them has their sum.
const PARTS: std::ops::RangeInclusive<i64> = 2..=4;

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
    line: usize,
    id: u64,
    submit: u64,
    run_time: u64,
    processors: u64,
    user: i64,
    preceding: Option<u64>,
}

/// What a log contains.
#[derive(Debug, Default)]
struct Log {
    /// The jobs that ran.
    jobs: Vec<Job>,
    never_ran: u64,
    /// Rows of parts of jobs.
    parts: u64,
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
    let log = read(text)?;
    let width = |job: &Job| match processors {
        Processors::Steps => job.processors,
        Processors::Ignore => 1,
    };
    let mut steps_of: BTreeMap<u64, Range<u64>> = BTreeMap::new();
    let mut next = 1;
    for job in &log.jobs {
        let last = next + width(job);
        if steps_of.insert(job.id, next..last).is_some() {
            return Err(job.error(format!("job {} is there twice", job.id)));
        }
        next = last;
    }
    let before = |job: &Job| job.preceding.and_then(|id| steps_of.get(&id));
    check_size(&log.jobs, |job| {
        let before = before(job).map_or(0, |steps| steps.end - steps.start);
        (width(job), width(job).saturating_mul(before))
    })?;
    let mut builder = WorkloadBuilder::new();
    for job in &log.jobs {
        for id in steps_of[&job.id].clone() {
            builder.add(job.step(id, kind, before(job)))?;
        }
    }
    let workload = builder.finish().map_err(|error| match error {
        WorkloadError::Cycle { steps, .. } => of_circle(&steps, &log.jobs, &steps_of),
        other => other.into(),
    })?;
    Ok(Imported { workload, left_out: left_out(&log, processors) })
}

/// Steps have other numbers than their jobs.
fn of_circle(steps: &[u64], jobs: &[Job], steps_of: &BTreeMap<u64, Range<u64>>) -> ImportError {
    let job_of = |step: &u64| jobs.iter().find(|job| steps_of[&job.id].contains(step));
    let in_circle: Vec<_> = steps.iter().filter_map(job_of).collect();
    let line = in_circle.first().map_or(0, |job| job.line);
    let names = in_circle.iter().map(|job| job.id.to_string()).collect();
    let message = format!("jobs wait for each other in a circle: {}", circle(names));
    ImportError::Line { line, message }
}

/// Refuses what does not fit into memory. `size_of` is the number of steps and of dependencies of a job.
fn check_size(jobs: &[Job], size_of: impl Fn(&Job) -> (u64, u64)) -> Result<(), ImportError> {
    let (mut steps, mut dependencies) = (0_u64, 0_u64);
    for job in jobs {
        let (of_job, dependencies_of_job) = size_of(job);
        steps = steps.saturating_add(of_job);
        dependencies = dependencies.saturating_add(dependencies_of_job);
        let what = match (steps > MOST_STEPS, dependencies > MOST_DEPENDENCIES) {
            (true, _) => format!("more than {MOST_STEPS} steps"),
            (_, true) => format!("more than {MOST_DEPENDENCIES} dependencies between them"),
            (false, false) => continue,
        };
        return Err(job.error(format!(
            "with a step for each processor there are {what} up to job {}; --processors ignore makes one step per job",
            job.id
        )));
    }
    Ok(())
}

fn left_out(log: &Log, processors: Processors) -> Vec<String> {
    let mut left_out = Vec::new();
    if log.never_ran > 0 {
        left_out.push(format!("{} jobs that never ran", log.never_ran));
    }
    if log.parts > 0 {
        left_out.push(format!("{} rows of parts of jobs: a job counts once", log.parts));
    }
    let cut = log.jobs.iter().filter(|job| job.duration() > LONGEST_STEP).count();
    if cut > 0 {
        left_out.push(format!("what {cut} jobs ran beyond 49 days"));
    }
    let wide = log.jobs.iter().filter(|job| job.processors > 1).count();
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

/// A row.
enum Row {
    Job(Job),
    Part(Job),
    NeverRan,
}

fn read(text: impl BufRead) -> Result<Log, ImportError> {
    let mut log = Log::default();
    let mut parts: BTreeMap<u64, Job> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let wrong = |message: String| ImportError::Line { line: number, message };
        let line = line.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        match row(number, line).map_err(wrong)? {
            Row::Job(job) => log.jobs.push(job),
            Row::NeverRan => log.never_ran += 1,
            Row::Part(job) => {
                log.parts += 1;
                parts
                    .entry(job.id)
                    .and_modify(|whole| {
                        whole.run_time = whole.run_time.saturating_add(job.run_time);
                    })
                    .or_insert(job);
            }
        }
    }
    // A job with parts only is their sum.
    let with_row: BTreeSet<u64> = log.jobs.iter().map(|job| job.id).collect();
    log.jobs.extend(parts.into_values().filter(|job| !with_row.contains(&job.id)));
    Ok(log)
}

fn row(place: usize, line: &str) -> Result<Row, String> {
    let fields: Vec<i64> = line
        .split_ascii_whitespace()
        .enumerate()
        .map(|(at, field)| number(field).ok_or(format!("field {} is {field:?}, no number", at + 1)))
        .collect::<Result<_, _>>()?;
    if fields.len() != FIELDS {
        return Err(format!("has {} fields, must have {FIELDS}", fields.len()));
    }
    let id = u32::try_from(fields[JOB]).map_err(|_| {
        format!("its job number is {}, must be from 0 to {}", fields[JOB], u32::MAX)
    })?;
    let id = u64::from(id);
    let submit = u64::try_from(fields[SUBMIT])
        .map_err(|_| format!("job {id} is submitted at {} s, before the start", fields[SUBMIT]))?;
    let Ok(run_time) = u64::try_from(fields[RUN_TIME]) else { return Ok(Row::NeverRan) };
    if Millis::from_seconds(submit) > LATEST_SUBMISSION {
        const YEAR_SECONDS: u64 = 365 * 24 * 3600;
        let limit = LATEST_SUBMISSION.whole_seconds();
        return Err(format!(
            "job {id} is submitted at {submit} s, {} years after the start; at most {limit} s ({} years) are possible: \
             submit times count from the start of the log",
            submit / YEAR_SECONDS,
            limit / YEAR_SECONDS
        ));
    }
    // If the number of used processors is unknown, that of requested ones; a job has at least one.
    let known = [PROCESSORS_USED, PROCESSORS_ASKED].map(|place| fields[place]);
    let processors = known.into_iter().find(|number| *number > 0).unwrap_or(1);
    let processors = u64::try_from(processors).unwrap_or(1);
    if processors > MOST_PROCESSORS {
        return Err(format!("job {id} has {processors} processors, more than {MOST_PROCESSORS}"));
    }
    let preceding = u64::try_from(fields[PRECEDING_JOB]).ok().filter(|job| *job > 0);
    let user = fields[USER];
    let job = Job { line: place, id, submit, run_time, processors, user, preceding };
    Ok(if PARTS.contains(&fields[STATUS]) { Row::Part(job) } else { Row::Job(job) })
}

impl Job {
    fn error(&self, message: String) -> ImportError {
        ImportError::Line { line: self.line, message }
    }

    fn duration(&self) -> Millis {
        Millis::from_seconds(self.run_time)
    }

    /// One of its steps, which waits for the steps `before`.
    fn step(&self, id: u64, kind: &DemandKey, before: Option<&Range<u64>>) -> NewStep {
        let user = self.user;
        NewStep {
            id,
            submit: Millis::from_seconds(self.submit),
            duration: self.duration().min(LONGEST_STEP),
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
            (
                "; Unix times\n3 1700000000 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "line 2: job 3 is submitted at 1700000000 s, 53 years after the start; at most 1261440000 s (40 years) are \
                 possible: submit times count from the start of the log",
            ),
            (
                "-1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "line 1: its job number is -1, must be from 0 to 4294967295",
            ),
            (
                "1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 1 0\n",
                "line 1: jobs wait for each other in a circle: 1 -> 1",
            ),
            (
                "7 5 0 7 3 0 0 0 0 0 0 0 0 0 0 0 9 0\n9 5 0 7 2 0 0 0 0 0 0 0 0 0 0 0 7 0\n",
                "line 2: jobs wait for each other in a circle: 9 -> 7 -> 9",
            ),
            (
                "1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n1 5 0 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "line 2: job 1 is there twice",
            ),
            (
                "1 5 0 7 2000000 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                "line 1: job 1 has 2000000 processors, more than 1000000",
            ),
        ] {
            let swf = |text| swf(text, &kind(), Processors::Steps);
            assert_eq!(swf(text.as_bytes()).unwrap_err().to_string(), message);
        }
        // The memory for this would not suffice.
        let job =
            |id: u64, before: i64| format!("{id} 5 0 7 20000 0 0 0 0 0 0 0 0 0 0 0 {before} 0\n");
        let error =
            swf((job(1, -1) + &job(2, 1)).as_bytes(), &kind(), Processors::Steps).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: with a step for each processor there are more than 200000000 dependencies between them up to job \
             2; --processors ignore makes one step per job"
        );
        let many: String = (1..10_000).map(|id| job(id, -1)).collect();
        let error = swf(many.as_bytes(), &kind(), Processors::Steps).unwrap_err().to_string();
        assert!(error.starts_with(
            "line 2501: with a step for each processor there are more than 50000000 steps"
        ));
        let error = swf(&b"1 2\xff"[..], &kind(), Processors::Steps).unwrap_err().to_string();
        assert!(error.starts_with("line 1: cannot be read"), "{error}");
    }

    /// Jobs that were suspended have a row of their own and one for each part.
    #[test]
    fn parts_of_jobs_are_no_jobs_and_long_ones_are_cut() {
        let text = "\
1 0 -1 30 1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1 -1
1 0 -1 10 1 -1 -1 -1 -1 -1 2 1 1 -1 -1 -1 -1 -1
1 0 -1 20 1 -1 -1 -1 -1 -1 3 1 1 -1 -1 -1 -1 -1
2 5 -1 40 1 -1 -1 -1 -1 -1 2 1 1 -1 -1 -1 -1 -1
2 5 -1 50 1 -1 -1 -1 -1 -1 4 1 1 -1 -1 -1 -1 -1
3 9 -1 8640000 1 -1 -1 -1 -1 -1 1 1 1 -1 -1 -1 -1 -1
";
        let imported = swf(text.as_bytes(), &kind(), Processors::Steps).unwrap();
        assert_eq!(
            summary(&imported.workload),
            ["1 1 0+30 -> []", "3 2 5+90 -> []", "2 3 9+4294967 -> []"]
        );
        assert_eq!(
            imported.left_out,
            ["4 rows of parts of jobs: a job counts once", "what 1 jobs ran beyond 49 days"]
        );
    }
}

//! The history of a Hydra from its database: rows of `BuildSteps` with their build and jobset.
//!
//! Hydra does not record the dependencies of steps, nor their required features. It is only certain that a build's own
//! derivation needs the other steps of the build; [`Order`] chooses the rest.

use std::collections::{BTreeMap, BTreeSet};

use planner::{DemandKey, System};
use serde::{Deserialize, Serialize};

use super::{ImportError, Imported};
use crate::engine::Millis;
use crate::workload::{LONGEST_STEP, NewStep, WorkloadBuilder};

/// `BuildSteps.type` of a build; the other is a substitution.
const TYPE_BUILD: i32 = 0;
/// `BuildSteps.status` of steps that ended by themselves: succeeded, failed, failed with output, timed out, log too
/// long, output too large, not deterministic. Others were aborted (a retry has its own row) or never ran.
const RAN_TO_ITS_END: [i32; 7] = [0, 1, 6, 7, 10, 11, 12];

/// The assumed dependencies within a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Only the build's own step waits for the others: maximum parallelism, more than in reality.
    #[default]
    Certain,
    /// A step also waits for the one that ended last before it started: the observed order, with less parallelism than
    /// possible if there were few machines.
    Observed,
}

/// A row. Times are in seconds since 1970, as in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HydraStep {
    /// `Builds.id`.
    pub build: i32,
    /// `Builds.timestamp`: when it entered the queue.
    pub queued_at: i32,
    /// `Jobsets.project:Jobsets.name`.
    pub jobset: String,
    /// `Jobsets.schedulingShares`.
    pub shares: i32,
    /// `Builds.priority`.
    pub priority: i32,
    /// `Builds.globalPriority`.
    pub global_priority: i32,
    /// `BuildSteps.type`.
    pub step_type: i32,
    /// `BuildSteps.busy`; 0 if it does not run.
    pub busy: i32,
    /// `BuildSteps.status`.
    pub status: Option<i32>,
    /// `BuildSteps.propagatedFrom`: the build in which it failed.
    pub propagated_from: Option<i32>,
    /// `BuildSteps.startTime`.
    pub started_at: Option<i32>,
    /// `BuildSteps.stopTime`.
    pub stopped_at: Option<i32>,
    /// `BuildSteps.system`, otherwise that of the build.
    pub system: String,
    /// Whether its derivation is that of the build.
    pub is_own: Own,
}

/// Whether a step's derivation is that of the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The build's own step.
    Yes,
    /// A dependency of the build.
    No,
}

/// A step of the workload.
#[derive(Clone, Debug)]
struct Ran {
    id: u64,
    row: HydraStep,
    started_at: u64,
    stopped_at: u64,
}

/// Takes rows one by one, so that they need not fit in memory.
#[derive(Debug)]
pub struct HydraSteps {
    order: Order,
    builder: WorkloadBuilder,
    jobsets: BTreeSet<String>,
    /// The steps of the build that is being read.
    of_build: Vec<Ran>,
    last_id: u64,
    /// Time 0, in seconds since 1970.
    starts_at: Option<u64>,
    left_out: BTreeMap<&'static str, u64>,
}

impl HydraSteps {
    /// No rows yet.
    pub fn new(order: Order) -> Self {
        Self {
            order,
            builder: WorkloadBuilder::new(),
            jobsets: BTreeSet::new(),
            of_build: Vec::new(),
            last_id: 0,
            starts_at: None,
            left_out: BTreeMap::new(),
        }
    }

    /// When the first build entered the queue, in seconds since 1970: time 0 of the workload.
    pub fn starts_at(&self) -> Option<u64> {
        self.starts_at
    }

    /// Takes the next row. Rows are sorted by their build's timestamp, build and number.
    ///
    /// # Errors
    /// If there are too many steps or jobsets.
    pub fn add(&mut self, row: HydraStep) -> Result<(), ImportError> {
        let (queued_at, started_at, stopped_at) = match times(&row) {
            Ok(times) => times,
            Err(reason) => {
                *self.left_out.entry(reason).or_default() += 1;
                return Ok(());
            }
        };
        if self.of_build.first().is_some_and(|first| first.row.build != row.build) {
            self.end_build()?;
        }
        if self.jobsets.insert(row.jobset.clone()) {
            self.builder.set_shares(&row.jobset, u32::try_from(row.shares).unwrap_or(1))?;
        }
        self.starts_at.get_or_insert(queued_at);
        self.last_id += 1;
        self.of_build.push(Ran { id: self.last_id, row, started_at, stopped_at });
        Ok(())
    }

    /// The workload.
    ///
    /// # Errors
    /// If there are too many steps.
    pub fn finish(mut self) -> Result<Imported, ImportError> {
        self.end_build()?;
        let workload = self.builder.finish()?;
        let mut left_out: Vec<_> =
            self.left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        left_out.push("required features: Hydra's database does not tell them".to_owned());
        Ok(Imported { workload, left_out })
    }

    fn end_build(&mut self) -> Result<(), ImportError> {
        let of_build = std::mem::take(&mut self.of_build);
        let needed: Vec<u64> =
            of_build.iter().filter(|ran| ran.row.is_own == Own::No).map(|ran| ran.id).collect();
        let before = match self.order {
            Order::Certain => vec![None; of_build.len()],
            Order::Observed => ended_before(&of_build),
        };
        for (ran, before) in of_build.into_iter().zip(before) {
            let mut dependencies: Vec<u64> = before.into_iter().collect();
            if ran.row.is_own == Own::Yes {
                dependencies.extend(&needed);
            }
            let step = self.step(ran, dependencies);
            self.builder.add(step)?;
        }
        Ok(())
    }

    fn step(&self, ran: Ran, dependencies: Vec<u64>) -> NewStep {
        let Ran { id, row, started_at, stopped_at } = ran;
        let queued_at = u64::try_from(row.queued_at).unwrap_or_default();
        let since_start = queued_at.saturating_sub(self.starts_at.unwrap_or_default());
        NewStep {
            id,
            submit: Millis::from_seconds(since_start),
            duration: Millis::from_seconds(stopped_at.saturating_sub(started_at)),
            kind: DemandKey { system: System::new(row.system), features: BTreeSet::new() },
            jobset: row.jobset,
            build: u64::try_from(row.build).unwrap_or_default(),
            global_priority: row.global_priority,
            local_priority: row.priority,
            dependencies,
            cores: None,
            cancel: None,
        }
    }
}

/// When it entered the queue, started and ended; or why it is left out.
fn times(row: &HydraStep) -> Result<(u64, u64, u64), &'static str> {
    if row.step_type != TYPE_BUILD {
        return Err("substitutions, which need no build machine");
    }
    if row.propagated_from.is_some() {
        return Err("failures of another build's steps");
    }
    if row.busy != 0 {
        return Err("steps that still run");
    }
    if !row.status.is_some_and(|status| RAN_TO_ITS_END.contains(&status)) {
        return Err("steps that were aborted or never ran");
    }
    let time = |time: Option<i32>| time.and_then(|time| u64::try_from(time).ok());
    match (time(Some(row.queued_at)), time(row.started_at), time(row.stopped_at)) {
        (Some(queued), Some(started), Some(stopped)) if started <= stopped => {
            if stopped - started > LONGEST_STEP.whole_seconds() {
                return Err("steps of more than 49 days: a clock was wrong");
            }
            Ok((queued, started, stopped))
        }
        _ => Err("steps without a time of start and end, or with an end before the start"),
    }
}

/// By step: the other step that ended last before it started. No step waits for a build's own step, and of two steps of
/// zero duration the second does not wait for the first: so there is no cycle.
fn ended_before(of_build: &[Ran]) -> Vec<Option<u64>> {
    let mut ends: Vec<_> = of_build
        .iter()
        .filter(|ran| ran.row.is_own == Own::No && ran.started_at < ran.stopped_at)
        .map(|ran| (ran.stopped_at, ran.id))
        .collect();
    ends.sort_unstable();
    of_build
        .iter()
        .map(|ran| {
            let before = ends.partition_point(|(stopped_at, _)| *stopped_at <= ran.started_at);
            before.checked_sub(1).map(|at| ends[at].1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i32 = 1_700_000_000;

    /// A step of a build that entered the queue `queued` seconds after the start, and ran from `from` to `to`.
    fn row(build: i32, queued: i32, from: i32, to: i32, is_own: Own) -> HydraStep {
        HydraStep {
            build,
            queued_at: START + queued,
            jobset: format!("nixpkgs:{}", if build < 10 { "trunk" } else { "staging" }),
            shares: build * 10,
            priority: 100,
            global_priority: 0,
            step_type: 0,
            busy: 0,
            status: Some(0),
            propagated_from: None,
            started_at: Some(START + from),
            stopped_at: Some(START + to),
            system: "x86_64-linux".to_owned(),
            is_own,
        }
    }

    fn import(order: Order, rows: &[HydraStep]) -> Imported {
        let mut steps = HydraSteps::new(order);
        for row in rows {
            steps.add(row.clone()).unwrap();
        }
        steps.finish().unwrap()
    }

    /// `id build submit+duration -> dependents`, times in seconds.
    fn summary(imported: &Imported) -> Vec<String> {
        let workload = &imported.workload;
        let steps = workload.steps().iter().enumerate();
        steps
            .map(|(at, step)| {
                let (submit, length) =
                    (step.submit().whole_seconds(), step.duration().whole_seconds());
                let dependents: Vec<_> = workload.dependents_of(at).collect();
                format!("{} {} {submit}+{length} -> {dependents:?}", step.id(), step.build())
            })
            .collect()
    }

    fn two_builds() -> Vec<HydraStep> {
        vec![
            row(7, 0, 10, 20, Own::No),
            row(7, 0, 12, 50, Own::No),
            row(7, 0, 20, 60, Own::No),
            row(7, 0, 60, 90, Own::Yes),
            row(12, 30, 40, 45, Own::Yes),
        ]
    }

    #[test]
    fn a_build_needs_its_steps() {
        let imported = import(Order::Certain, &two_builds());
        assert_eq!(
            summary(&imported),
            [
                "1 7 0+10 -> [4]",
                "2 7 0+38 -> [4]",
                "3 7 0+40 -> [4]",
                "4 7 0+30 -> []",
                "5 12 30+5 -> []"
            ]
        );
        let jobsets: Vec<_> =
            imported.workload.jobsets().iter().map(|j| (j.name.as_str(), j.shares)).collect();
        assert_eq!(jobsets, [("nixpkgs:trunk", 70), ("nixpkgs:staging", 120)]);
    }

    #[test]
    fn steps_may_wait_as_they_were_seen_to() {
        let imported = import(Order::Observed, &two_builds());
        assert_eq!(
            summary(&imported)[..4],
            ["1 7 0+10 -> [3, 4]", "2 7 0+38 -> [4]", "3 7 0+40 -> [4]", "4 7 0+30 -> []"]
        );
        let at_once = vec![row(1, 0, 5, 5, Own::No); 3];
        assert_eq!(import(Order::Observed, &at_once).workload.steps().len(), 3, "no circle");
    }

    #[test]
    fn what_did_not_run_is_left_out_and_counted() {
        let good = row(1, 0, 0, 9, Own::Yes);
        let rows = [
            good.clone(),
            HydraStep { step_type: 1, ..good.clone() },
            HydraStep { busy: 1, status: None, stopped_at: None, ..good.clone() },
            HydraStep { status: Some(3), ..good.clone() },
            HydraStep { status: Some(9), ..good.clone() },
            HydraStep { propagated_from: Some(5), status: Some(1), ..good.clone() },
            HydraStep { stopped_at: Some(START - 1), ..good.clone() },
            HydraStep { queued_at: -1, ..good.clone() },
            HydraStep { started_at: Some(0), ..good },
        ];
        let imported = import(Order::Certain, &rows);
        assert_eq!(summary(&imported), ["1 1 0+9 -> []"]);
        assert_eq!(
            imported.left_out,
            [
                "1 failures of another build's steps",
                "1 steps of more than 49 days: a clock was wrong",
                "1 steps that still run",
                "2 steps that were aborted or never ran",
                "2 steps without a time of start and end, or with an end before the start",
                "1 substitutions, which need no build machine",
                "required features: Hydra's database does not tell them",
            ]
        );
    }
}

//! Builds a workload and checks it.

use std::collections::BTreeMap;

use planner::{DemandKey, System};
use thiserror::Error;

use super::{Jobset, LATEST_SUBMISSION, StepClass, StepIndex, StepSpec, Workload};
use crate::engine::Millis;

/// The system of steps that Nix builds by itself (`builtin:fetchurl`).
const BUILTIN: &str = "builtin";
/// They are built on machines of the queue runner's own system with classic Hydra (`Machine::supportsStep` in
/// `state.hh`), on any machine with the REST one. The simulated queue runner runs on this system.
const OWN_SYSTEM: &str = "x86_64-linux";

/// A step before its dependencies are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStep {
    /// Unique within the workload.
    pub id: u64,
    /// When its build enters the queue.
    pub submit: Millis,
    /// Duration on a machine of speed 1.
    pub duration: Millis,
    /// System and required features.
    pub kind: DemandKey,
    /// `project:jobset`.
    pub jobset: String,
    /// The build it belongs to.
    pub build: u64,
    /// Priority set by an administrator: before all others.
    pub global_priority: i32,
    /// `meta.schedulingPriority`.
    pub local_priority: i32,
    /// Steps that must be done before it.
    pub dependencies: Vec<u64>,
    /// Number of cores that it uses; `None`: one, or all of the machine if it requires `big-parallel`.
    pub cores: Option<u16>,
    /// When its build is canceled, unless it has ended before.
    pub cancel: Option<Millis>,
}

impl NewStep {
    /// Of a build of its own, with the usual priority, and without dependencies.
    pub fn new(
        id: u64,
        submit: Millis,
        duration: Millis,
        kind: DemandKey,
        jobset: impl Into<String>,
    ) -> Self {
        Self {
            id,
            submit,
            duration,
            kind,
            jobset: jobset.into(),
            build: id,
            global_priority: 0,
            local_priority: 0,
            dependencies: Vec::new(),
            cores: None,
            cancel: None,
        }
    }
}

/// Invalid steps. `index` counts them as they were added, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WorkloadError {
    /// Two steps with the same id.
    #[error("step {id} is there twice")]
    Duplicate {
        /// The second.
        index: usize,
        /// The id.
        id: u64,
    },
    /// A dependency that does not exist.
    #[error("step {id} depends on {dependency}, which is unknown")]
    UnknownDependency {
        /// The step.
        index: usize,
        /// Its id.
        id: u64,
        /// The id that does not exist.
        dependency: u64,
    },
    /// A dependency cycle.
    #[error("steps need each other in a circle: {}", circle(.steps))]
    Cycle {
        /// The first step of the cycle that was found.
        index: usize,
        /// The ids of the cycle; each needs the next, the last the first.
        steps: Vec<u64>,
    },
    /// A number that is too large.
    #[error("its {what} is {value}, at most {} is possible", u32::MAX)]
    TooLarge {
        /// The step.
        index: usize,
        /// Id, build, duration (in milliseconds).
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A submission long after the start.
    #[error(
        "step {id} is submitted {} years after the start, at most 40 are possible; times are milliseconds since the start",
        .submit.whole_seconds() / (365 * 24 * 3600)
    )]
    TooLate {
        /// The step.
        index: usize,
        /// Its id.
        id: u64,
        /// When it is submitted.
        submit: Millis,
    },
    /// More than there are numbers for.
    #[error("there are too many {what}, at most {limit} are possible")]
    TooMany {
        /// The first one beyond the limit.
        index: usize,
        /// Steps, kinds of steps, jobsets.
        what: &'static str,
        /// The maximum.
        limit: u64,
    },
}

impl WorkloadError {
    /// The step, counted from 0 as added.
    pub fn index(&self) -> usize {
        match self {
            Self::Duplicate { index, .. }
            | Self::UnknownDependency { index, .. }
            | Self::Cycle { index, .. }
            | Self::TooLarge { index, .. }
            | Self::TooLate { index, .. }
            | Self::TooMany { index, .. } => *index,
        }
    }
}

/// Collects steps.
#[derive(Clone, Debug, Default)]
pub struct WorkloadBuilder {
    kinds: Vec<DemandKey>,
    jobsets: Vec<Jobset>,
    classes: BTreeMap<StepClass, u16>,
    steps: Vec<StepSpec>,
    /// Dependencies of all steps, one step after the other.
    needs: Vec<u32>,
    /// Number of dependencies of each step.
    needs_of: Vec<u32>,
    /// When builds are canceled, by the index of the step as added.
    cancellations: Vec<(Millis, u32)>,
}

impl WorkloadBuilder {
    /// No steps yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the shares of `jobset` (default 1; 0 counts as 1).
    pub fn set_shares(&mut self, jobset: &str, shares: u32) -> Result<(), WorkloadError> {
        let at = self.jobset(jobset)?;
        self.jobsets[usize::from(at)].shares = shares.max(1);
        Ok(())
    }

    /// Adds a step.
    ///
    /// # Errors
    /// If there are too many steps, kinds or jobsets.
    pub fn add(&mut self, step: NewStep) -> Result<(), WorkloadError> {
        let index = self.steps.len();
        if u32::try_from(index + 1).is_err() {
            let limit = u64::from(u32::MAX) - 1;
            return Err(WorkloadError::TooMany { index, what: "steps", limit });
        }
        if step.submit > LATEST_SUBMISSION {
            return Err(WorkloadError::TooLate { index, id: step.id, submit: step.submit });
        }
        let class = StepClass {
            kind: self.kind(&step.kind)?,
            jobset: self.jobset(&step.jobset)?,
            global_priority: step.global_priority,
            local_priority: step.local_priority,
            cores: step.cores,
        };
        if let Some(at) = step.cancel {
            self.cancellations.push((at, count(index)));
        }
        let what = "combinations of kind, jobset, priorities and cores";
        let next = u16::try_from(self.classes.len()).map_err(|_| too_many(index, what))?;
        let class = *self.classes.entry(class).or_insert(next);
        let small = |what, value| {
            u32::try_from(value).map_err(|_| WorkloadError::TooLarge { index, what, value })
        };
        self.steps.push(StepSpec {
            submit: step.submit.into(),
            class,
            id: small("id", step.id)?,
            build: small("build", step.build)?,
            duration: small("duration", step.duration.0)?,
        });
        // A number that is too large is an unknown id.
        let id = step.id;
        let needs = step.dependencies.into_iter().map(|dependency| {
            u32::try_from(dependency).map_err(|_| WorkloadError::UnknownDependency {
                index,
                id,
                dependency,
            })
        });
        let mut needs = needs.collect::<Result<Vec<_>, _>>()?;
        needs.sort_unstable();
        needs.dedup();
        self.needs_of.push(count(needs.len()));
        self.needs.extend(needs);
        Ok(())
    }

    /// Checks the dependencies and orders the steps by submission, then as they were added.
    ///
    /// # Errors
    /// The first step that exists twice, or depends on an unknown step or on itself.
    pub fn finish(self) -> Result<Workload, WorkloadError> {
        let Self { kinds, jobsets, classes, mut steps, needs, needs_of, cancellations } = self;
        let by_id = index_by_id(&steps)?;
        let mut order: Vec<u32> = (0..count(steps.len())).collect();
        order.sort_by_key(|&added| steps[added as usize].submit());
        let mut place = vec![StepIndex(0); steps.len()];
        for (at, &added) in (0_u32..).zip(&order) {
            place[added as usize] = StepIndex(at);
        }
        let edges = edges(&steps, (&needs, &needs_of), &by_id, &place)?;
        let canceled = |(at, added): (Millis, u32)| (at, place[added as usize]);
        let mut cancellations: Vec<_> = cancellations.into_iter().map(canceled).collect();
        cancellations.sort_unstable();
        drop((by_id, needs, needs_of));

        let first_dependent = first_dependent(steps.len(), &edges);
        let dependents = edges.into_iter().map(|(_, dependent)| dependent).collect();
        // Like `order`, but in place: there may be many steps.
        steps.sort_by_key(StepSpec::submit);
        let mut by_number: Vec<_> =
            classes.into_iter().map(|(class, number)| (number, class)).collect();
        by_number.sort_unstable();
        let classes = by_number.into_iter().map(|(_, class)| class).collect();
        let workload =
            Workload { kinds, jobsets, classes, steps, first_dependent, dependents, cancellations };
        match a_circle(&workload) {
            None => Ok(workload),
            Some(circle) => Err(WorkloadError::Cycle {
                index: order[circle[0]] as usize,
                steps: circle.into_iter().map(|step| workload.steps[step].id()).collect(),
            }),
        }
    }

    fn kind(&mut self, kind: &DemandKey) -> Result<u16, WorkloadError> {
        let index = self.steps.len();
        let own;
        let kind = if kind.system.as_str() == BUILTIN {
            own = DemandKey { system: System::new(OWN_SYSTEM), features: kind.features.clone() };
            &own
        } else {
            kind
        };
        find_or_add(&mut self.kinds, |known| known == kind, || kind.clone())
            .ok_or(too_many(index, "kinds of steps"))
    }

    fn jobset(&mut self, name: &str) -> Result<u16, WorkloadError> {
        let index = self.steps.len();
        let new = || Jobset { name: name.to_owned(), shares: 1 };
        find_or_add(&mut self.jobsets, |known| known.name == name, new)
            .ok_or(too_many(index, "jobsets"))
    }
}

fn too_many(index: usize, what: &'static str) -> WorkloadError {
    WorkloadError::TooMany { index, what, limit: u64::from(u16::MAX) }
}

/// There are few kinds and jobsets, and recent ones occur again most often.
fn find_or_add<T>(
    known: &mut Vec<T>,
    is_it: impl Fn(&T) -> bool,
    new: impl FnOnce() -> T,
) -> Option<u16> {
    let at = known.iter().rposition(is_it).unwrap_or_else(|| {
        known.push(new());
        known.len() - 1
    });
    u16::try_from(at).ok().filter(|at| *at < u16::MAX)
}

/// (dependency, dependent), sorted.
fn edges(
    steps: &[StepSpec],
    (needs, needs_of): (&[u32], &[u32]),
    by_id: &[(u32, u32)],
    place: &[StepIndex],
) -> Result<Vec<(StepIndex, StepIndex)>, WorkloadError> {
    let mut edges = Vec::with_capacity(needs.len());
    let mut needs = needs.iter();
    for (index, (step, count)) in steps.iter().zip(needs_of).enumerate() {
        for &dependency in needs.by_ref().take(*count as usize) {
            let found = by_id.binary_search_by_key(&dependency, |&(id, _)| id).map_err(|_| {
                WorkloadError::UnknownDependency {
                    index,
                    id: step.id(),
                    dependency: dependency.into(),
                }
            })?;
            edges.push((place[by_id[found].1 as usize], place[index]));
        }
    }
    edges.sort_unstable();
    Ok(edges)
}

/// As [`Workload`] keeps it.
fn first_dependent(steps: usize, edges: &[(StepIndex, StepIndex)]) -> Vec<u32> {
    if edges.is_empty() {
        return Vec::new();
    }
    let mut first = vec![0_u32; steps + 1];
    for (dependency, _) in edges {
        first[dependency.at() + 1] += 1;
    }
    for at in 0..steps {
        first[at + 1] += first[at];
    }
    first
}

fn index_by_id(steps: &[StepSpec]) -> Result<Vec<(u32, u32)>, WorkloadError> {
    let mut by_id: Vec<_> = (0..).zip(steps).map(|(at, step)| (step.id, at)).collect();
    by_id.sort_unstable();
    match by_id.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(by_id),
        Some(pair) => {
            Err(WorkloadError::Duplicate { index: pair[1].1 as usize, id: pair[1].0.into() })
        }
    }
}

/// `add` ensures that there are not more.
fn count(steps: usize) -> u32 {
    u32::try_from(steps).unwrap_or(u32::MAX)
}

/// Removes steps without remaining dependencies (Kahn 1962); the rest depends on a cycle. Returns the indices of the
/// steps of one cycle, each before the one that it needs.
fn a_circle(workload: &Workload) -> Option<Vec<usize>> {
    let mut open = workload.dependency_counts();
    let mut free: Vec<_> = workload.indices().filter(|step| open[step.at()] == 0).collect();
    let mut done = 0;
    while let Some(step) = free.pop() {
        done += 1;
        for &dependent in workload.dependents_at(step.at()) {
            let left = &mut open[dependent.at()];
            *left -= 1;
            if *left == 0 {
                free.push(dependent);
            }
        }
    }
    if done == open.len() {
        return None;
    }
    // Every remaining step has a remaining dependency: following them for long enough reaches a cycle.
    let mut needs = vec![None; open.len()];
    for (step, _) in open.iter().enumerate().filter(|(_, left)| **left > 0) {
        for dependent in workload.dependents_at(step) {
            needs[dependent.at()] = Some(step);
        }
    }
    let mut step = open.iter().position(|left| *left > 0)?;
    for _ in 0..open.len() {
        step = needs[step]?;
    }
    let mut circle = vec![step];
    while let Some(next) = needs[step].filter(|next| *next != circle[0]) {
        circle.push(next);
        step = next;
    }
    Some(circle)
}

/// `1 -> 2 -> 1`; only the first steps of a long cycle.
fn circle(steps: &[u64]) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<_> = steps.iter().take(SHOWN).map(u64::to_string).collect();
    if steps.len() > SHOWN {
        names.push(format!("{} more", steps.len() - SHOWN));
    }
    names.extend(steps.first().map(u64::to_string));
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn step(id: u64, submit: u64, dependencies: &[u64]) -> NewStep {
        let kind = DemandKey { system: System::new("s"), features: BTreeSet::new() };
        let step = NewStep::new(id, Millis(submit), Millis(1), kind, "p:j");
        NewStep { dependencies: dependencies.to_vec(), ..step }
    }

    fn finish(steps: &[NewStep]) -> Result<Workload, String> {
        let mut builder = WorkloadBuilder::new();
        for step in steps {
            builder.add(step.clone()).unwrap();
        }
        builder.finish().map_err(|error| format!("{} at {}", error, error.index()))
    }

    #[test]
    fn steps_are_ordered_and_linked() {
        let workload =
            finish(&[step(7, 5, &[3, 3]), step(3, 9, &[]), step(1, 0, &[7, 3])]).unwrap();
        let ids: Vec<_> = workload.steps().iter().map(StepSpec::id).collect();
        assert_eq!(ids, [1, 7, 3]);
        assert_eq!(workload.dependents_of(2).collect::<Vec<_>>(), [1, 7]);
        assert_eq!(workload.dependents_of(1).collect::<Vec<_>>(), [1]);
        assert_eq!(workload.dependency_counts(), [2, 1, 0], "named twice, needed once");
    }

    /// No machine offers the system `builtin`, but the real queue runners build such steps.
    #[test]
    fn builtin_steps_are_of_the_queue_runners_own_system() {
        let kind = DemandKey { system: System::new("builtin"), features: BTreeSet::new() };
        let workload = finish(&[NewStep { kind, ..step(1, 0, &[]) }]).unwrap();
        assert_eq!(workload.kinds()[0].to_string(), "x86_64-linux");
    }

    /// 42 bytes per step, of which there may be tens of millions.
    #[test]
    fn steps_are_small() {
        assert_eq!(size_of::<StepSpec>(), 20);
        assert_eq!(size_of::<crate::queue_runner::StepRecord>(), 22);
        let long = NewStep { duration: Millis(1 << 32), ..step(1, 0, &[]) };
        let many = NewStep { build: 1 << 32, ..step(1, 0, &[]) };
        for (step, message) in [
            (step(1 << 32, 0, &[]), "its id is 4294967296, at most 4294967295 is possible"),
            (step(1, 0, &[1 << 32]), "step 1 depends on 4294967296, which is unknown"),
            (long, "its duration is 4294967296, at most 4294967295 is possible"),
            (
                step(1, 1_795_694_332_000, &[]),
                "step 1 is submitted 56 years after the start, at most 40 are possible; times are milliseconds since the \
                 start",
            ),
            (many, "its build is 4294967296, at most 4294967295 is possible"),
        ] {
            let error = WorkloadBuilder::new().add(step).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.index()), (message, 0));
        }
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        for (steps, message) in [
            (vec![step(1, 0, &[]), step(1, 0, &[])], "step 1 is there twice at 1"),
            (vec![step(1, 0, &[2])], "step 1 depends on 2, which is unknown at 0"),
            (vec![step(1, 0, &[1])], "steps need each other in a circle: 1 -> 1 at 0"),
            (
                vec![step(9, 0, &[]), step(1, 0, &[3]), step(2, 0, &[1]), step(3, 0, &[2, 9])],
                "steps need each other in a circle: 3 -> 2 -> 1 -> 3 at 3",
            ),
        ] {
            assert_eq!(finish(&steps).unwrap_err(), message);
        }
    }
}

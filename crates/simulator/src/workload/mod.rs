//! The work: build steps with their requirements, durations and dependencies.

mod builder;
pub mod import;
mod slice;

use planner::DemandKey;

use crate::engine::{Millis, U48};

pub use builder::{NewStep, WorkloadBuilder, WorkloadError};

/// Steps in the order of their submission, checked: every dependency exists, and there are no cycles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub(crate) kinds: Vec<DemandKey>,
    pub(crate) jobsets: Vec<Jobset>,
    pub(crate) classes: Vec<StepClass>,
    pub(crate) steps: Vec<StepSpec>,
    /// The dependents of step `i` are `dependents[first_dependent[i]..first_dependent[i + 1]]`. Empty if no step has dependents.
    pub(crate) first_dependent: Vec<u32>,
    pub(crate) dependents: Vec<StepIndex>,
    /// When builds are canceled, in order: few are.
    pub(crate) cancellations: Vec<(Millis, StepIndex)>,
}

/// No steps.
impl Default for Workload {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            jobsets: Vec::new(),
            classes: Vec::new(),
            steps: Vec::new(),
            first_dependent: Vec::new(),
            dependents: Vec::new(),
            cancellations: Vec::new(),
        }
    }
}

/// A step's index in [`Workload::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepIndex(pub(crate) u32);

impl StepIndex {
    /// The index, from 0.
    pub fn position(self) -> usize {
        self.at()
    }

    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Builds that share the farm according to their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobset {
    /// `project:jobset`.
    pub name: String,
    /// Scheduling shares, at least 1.
    pub shares: u32,
}

/// No step is longer than 49 days: its duration has 32 bits, like identifiers, because there may be tens of millions.
pub const LONGEST_STEP: Millis = Millis(u32::MAX as u64);

/// The provisioner asks several times a minute, also while nothing happens: more than these forty years are not
/// simulated in a reasonable time. Times since 1970 are later.
pub(crate) const LATEST_SUBMISSION: Millis = Millis::from_hours(40 * 365 * 24);

/// More steps than this are a mistake: Hydra's largest farms build about ten million per year.
pub(crate) const MOST_STEPS: u64 = 50_000_000;

/// More dependencies than this do not fit into the memory of most computers.
pub(crate) const MOST_DEPENDENCIES: u64 = 200_000_000;

/// One build step: 20 bytes, because there may be tens of millions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    pub(crate) submit: U48,
    /// Its index in [`Workload::classes`], of which there are few.
    pub(crate) class: u16,
    pub(crate) id: u32,
    pub(crate) build: u32,
    /// In milliseconds.
    pub(crate) duration: u32,
}

impl StepSpec {
    /// When its build enters the queue.
    pub fn submit(&self) -> Millis {
        self.submit.into()
    }

    /// Its number in the trace.
    pub fn id(&self) -> u64 {
        self.id.into()
    }

    /// Its build: of equal priority, lower numbers go first.
    pub fn build(&self) -> u64 {
        self.build.into()
    }

    /// Duration on a machine of speed 1.
    pub fn duration(&self) -> Millis {
        Millis(self.duration.into())
    }
}

/// Common attributes of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepClass {
    pub(crate) kind: u16,
    pub(crate) jobset: u16,
    /// Priority set by an administrator: before all others.
    pub global_priority: i32,
    /// `meta.schedulingPriority`.
    pub local_priority: i32,
    /// Number of cores that it uses; `None`: the default of its kind.
    pub cores: Option<u16>,
}

impl Workload {
    /// The steps in the order of their submission.
    pub fn steps(&self) -> &[StepSpec] {
        &self.steps
    }

    /// The indices of the steps, in the order of their submission.
    pub fn indices(&self) -> impl Iterator<Item = StepIndex> + use<> {
        self.indices_from(0)
    }

    /// Like [`Self::indices`], without the first `skip`.
    pub fn indices_from(&self, skip: usize) -> impl Iterator<Item = StepIndex> + use<> {
        // There are never more: `WorkloadBuilder::add` ensures it.
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (number(skip)..number(self.steps.len())).map(StepIndex)
    }

    /// The kinds of steps.
    pub fn kinds(&self) -> &[DemandKey] {
        &self.kinds
    }

    /// The jobsets.
    pub fn jobsets(&self) -> &[Jobset] {
        &self.jobsets
    }

    /// The class of a step.
    pub fn class_of(&self, step: &StepSpec) -> &StepClass {
        &self.classes[usize::from(step.class)]
    }

    /// How many cores a step uses; `None`: all of its machine. Unless the trace specifies it, steps that require
    /// `big-parallel` use all, others use one.
    pub(crate) fn cores_of_class(&self, class: &StepClass) -> Option<u32> {
        let mut features = self.kinds[usize::from(class.kind)].features.iter();
        let usual = || {
            let is_big = features.any(|feature| feature.as_str() == "big-parallel");
            if is_big { None } else { Some(1) }
        };
        class.cores.map(u32::from).or_else(usual)
    }

    /// The kind of a step.
    pub fn kind_of(&self, step: &StepSpec) -> &DemandKey {
        &self.kinds[usize::from(self.class_of(step).kind)]
    }

    /// The jobset of a step.
    pub fn jobset_of(&self, step: &StepSpec) -> &Jobset {
        &self.jobsets[usize::from(self.class_of(step).jobset)]
    }

    /// The ids of the steps that need `step`, in the order of their submission.
    pub fn dependents_of(&self, step: usize) -> impl Iterator<Item = u64> {
        self.dependents_at(step).iter().map(|dependent| self.steps[dependent.at()].id())
    }

    /// The steps of canceled builds, by time.
    pub fn cancellations(&self) -> &[(Millis, StepIndex)] {
        &self.cancellations
    }

    /// By step: number of its dependencies.
    pub(crate) fn dependency_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.steps.len()];
        for dependent in &self.dependents {
            counts[dependent.at()] += 1;
        }
        counts
    }

    /// When the last step is submitted.
    pub fn last_submission(&self) -> Millis {
        self.steps.last().map_or(Millis::ZERO, StepSpec::submit)
    }

    pub(crate) fn dependents_at(&self, step: usize) -> &[StepIndex] {
        match self.first_dependent.get(step..=step + 1) {
            Some(&[from, to]) => &self.dependents[from as usize..to as usize],
            _ => &[],
        }
    }
}

//! The steps as a bound sees them: their earliest start and their duration.

use super::{Kind, seconds};
use crate::queue_runner::Offer;
use crate::simulation::Setup;
use crate::workload::{StepSpec, Workload};

/// A step. Times in seconds, of a machine of speed 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Earliest start.
    pub(super) release: f64,
    pub(super) length: f64,
    /// It has no dependencies: it can start when it is submitted, and its wait counts from there.
    pub(super) is_root: Root,
    /// Duration of the longest chain of steps of its own group that ends with it.
    pub(super) chain: f64,
    /// Its index in the workload.
    pub(super) place: usize,
}

/// Whether a step has dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Yes,
    No,
}

/// Steps and the machine types that build them: no other type builds these steps, and these types build no others.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) kinds: Vec<Kind>,
    /// In the order of the workload.
    pub(super) steps: Vec<Step>,
}

/// The work of a setup.
pub(super) struct Work {
    pub(super) groups: Vec<Group>,
    /// By kind of step: indices of the types that build it.
    pub(super) builders: Vec<Vec<usize>>,
    /// By step: whether it counts. Left out are steps that may not be built.
    pub(super) counts: Vec<bool>,
    /// Number of steps that a type builds, also of those that are left out.
    pub(super) supported: usize,
    pub(super) left_out: u64,
}

impl Work {
    pub(super) fn new(setup: &Setup, types: &[Kind]) -> Self {
        let workload = &setup.workload;
        let builders = builders(setup);
        let group_of = components(&builders, types.len());
        // By kind of step: its group, and the shortest time per unit of its duration.
        let of_kinds: Vec<_> = builders
            .iter()
            .map(|own| {
                let fastest = own.iter().map(|at| types[*at].stretch).fold(f64::INFINITY, f64::min);
                own.first().map(|at| (group_of[*at], fastest))
            })
            .collect();
        let of = |spec: &StepSpec| of_kinds[usize::from(workload.class_of(spec).kind)];
        let supported = workload.steps().iter().filter(|spec| of(spec).is_some()).count();
        let counts = counted(workload, |spec| of(spec).is_some());
        let count = group_of.iter().max().map_or(0, |last| last + 1);
        let mut groups = vec![Group::default(); count];
        for (kind, group) in types.iter().zip(&group_of) {
            groups[*group].kinds.push(kind.clone());
        }
        for step in steps(setup, &of_kinds) {
            if let (true, Some((group, _))) =
                (counts[step.place], of(&workload.steps()[step.place]))
            {
                groups[group].steps.push(step);
            }
        }
        groups.retain(|group| !group.steps.is_empty());
        let left_out = counts.iter().filter(|counts| !**counts).count() as u64;
        Self { groups, builders, counts, supported, left_out }
    }
}

/// By step: whether it is built for certain. It is not canceled, a type builds it, and the same holds for the steps that
/// it needs.
fn counted(workload: &Workload, has_type: impl Fn(&StepSpec) -> bool) -> Vec<bool> {
    let mut counts: Vec<bool> = workload.steps().iter().map(has_type).collect();
    for (_, step) in workload.cancellations() {
        counts[step.position()] = false;
    }
    let mut left_out: Vec<usize> = (0..counts.len()).filter(|at| !counts[*at]).collect();
    while let Some(at) = left_out.pop() {
        for dependent in workload.dependents_at(at).iter().map(|step| step.position()) {
            if std::mem::replace(&mut counts[dependent], false) {
                left_out.push(dependent);
            }
        }
    }
    counts
}

/// By kind of step: indices of the types that build it.
fn builders(setup: &Setup) -> Vec<Vec<usize>> {
    let offers: Vec<_> = setup.policy.pools.values().map(Offer::from).collect();
    let kinds = setup.workload.kinds().iter();
    kinds
        .map(|kind| {
            let offers = offers.iter().enumerate();
            offers.filter(|(_, offer)| offer.supports(kind)).map(|(at, _)| at).collect()
        })
        .collect()
}

/// By type: its group. Types that build the same kind of step share a group.
fn components(builders: &[Vec<usize>], types: usize) -> Vec<usize> {
    let mut group: Vec<usize> = (0..types).collect();
    for together in builders {
        for pair in together.windows(2) {
            let (keep, gone) = (group[pair[0]], group[pair[1]]);
            for one in group.iter_mut().filter(|one| **one == gone) {
                *one = keep;
            }
        }
    }
    let mut names: Vec<usize> = group.clone();
    names.sort_unstable();
    names.dedup();
    group.iter().map(|one| names.iter().position(|name| name == one).unwrap_or(0)).collect()
}

/// Best case for dependencies: each starts immediately, on the fastest type that builds it.
fn steps(setup: &Setup, of_kinds: &[Option<(usize, f64)>]) -> Vec<Step> {
    let workload = &setup.workload;
    let of = |at: usize| of_kinds[usize::from(workload.class_of(&workload.steps()[at]).kind)];
    let mut open = workload.dependency_counts();
    let mut steps: Vec<Step> = workload
        .steps()
        .iter()
        .enumerate()
        .map(|(place, spec)| Step {
            release: seconds(spec.submit()),
            length: seconds(spec.duration()),
            is_root: if open[place] == 0 { Root::Yes } else { Root::No },
            chain: seconds(spec.duration()),
            place,
        })
        .collect();
    let mut free: Vec<usize> = (0..steps.len()).filter(|at| open[*at] == 0).collect();
    while let Some(at) = free.pop() {
        // A step that no type builds delays only steps that do not count.
        let stretch = of(at).map_or(0.0, |(_, stretch)| stretch);
        let done = steps[at].release + steps[at].length * stretch;
        let chain = steps[at].chain;
        for dependent in workload.dependents_at(at) {
            let is_same_group =
                of(dependent.position()).map(|own| own.0) == of(at).map(|own| own.0);
            let step = &mut steps[dependent.position()];
            step.release = step.release.max(done);
            if is_same_group {
                step.chain = step.chain.max(chain + step.length);
            }
            open[dependent.position()] -= 1;
            if open[dependent.position()] == 0 {
                free.push(dependent.position());
            }
        }
    }
    steps
}

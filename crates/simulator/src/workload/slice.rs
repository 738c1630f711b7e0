//! A part of the work, for quick comparisons.

use std::ops::Range;

use super::{StepIndex, Workload};

impl Workload {
    /// The steps at `positions`. Their dependencies on other steps count as built; jobsets and kinds stay the same.
    #[must_use]
    pub fn slice(&self, positions: Range<usize>) -> Self {
        let end = positions.end.min(self.steps.len());
        let begin = positions.start.min(end);
        let moved = |step: StepIndex| {
            let is_inside = (begin..end).contains(&step.at());
            let number = u32::try_from(step.at().checked_sub(begin)?).ok()?;
            is_inside.then_some(StepIndex(number))
        };
        let (mut first_dependent, mut dependents) = (vec![0], Vec::new());
        for at in begin..end {
            dependents.extend(self.dependents_at(at).iter().filter_map(|step| moved(*step)));
            // Not more than there are in the whole.
            first_dependent.push(u32::try_from(dependents.len()).unwrap_or(u32::MAX));
        }
        if dependents.is_empty() {
            first_dependent.clear();
        }
        let cancellations = self.cancellations.iter();
        let cancellations = cancellations.filter_map(|(at, step)| Some((*at, moved(*step)?)));
        Self {
            kinds: self.kinds.clone(),
            jobsets: self.jobsets.clone(),
            classes: self.classes.clone(),
            steps: self.steps.get(begin..end).unwrap_or_default().to_vec(),
            first_dependent,
            dependents,
            cancellations: cancellations.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use planner::{DemandKey, System};

    use super::super::{NewStep, StepSpec, WorkloadBuilder};
    use super::*;
    use crate::engine::Millis;

    fn chain(steps: u64) -> Workload {
        let mut builder = WorkloadBuilder::new();
        for id in 0..steps {
            let kind = DemandKey { system: System::new("s"), features: [].into() };
            let step = NewStep {
                dependencies: id.checked_sub(1).into_iter().collect(),
                cancel: (id % 2 == 0).then_some(Millis(id * 1000 + 5)),
                ..NewStep::new(id, Millis(id * 1000), Millis(1), kind, "p:j")
            };
            builder.add(step).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn a_slice_keeps_what_is_inside() {
        let whole = chain(10);
        let part = whole.slice(3..6);
        assert_eq!(part.steps().iter().map(StepSpec::id).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(part.dependency_counts(), [0, 1, 1]);
        assert_eq!(part.dependents_of(0).collect::<Vec<_>>(), [4]);
        assert_eq!(part.cancellations(), [(Millis(4005), StepIndex(1))]);
        assert_eq!(whole.slice(0..10), whole);
        assert_eq!(whole.slice(7..99).steps().len(), 3);
        assert_eq!(whole.slice(20..30).steps().len(), 0);
    }
}

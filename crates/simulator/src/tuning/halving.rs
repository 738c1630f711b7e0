//! Successive halving: all candidates run on a small slice of each trace, the best of them on a larger one, and only
//! the rest on whole traces. So a search costs as much as a few whole runs of each candidate that remains.
//!
//! Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", 2013; Jamieson and Talwalkar,
//! "Non-stochastic best arm identification and hyperparameter optimization", 2016. There are two goals, so "best" goes
//! by Pareto fronts (non-dominated sorting, as in Schmucker and others, "Multi-objective asynchronous successive
//! halving", 2021). Candidates compete in fixed groups of [`GROUP_SIZE`]: a search can be split into shards of whole
//! groups with the same result.

use std::ops::Range;

use super::front::front;
use super::race::Score;
use super::space::ANCHORS;

/// Candidates that compete with each other.
pub const GROUP_SIZE: u64 = 16;

/// A slice has at least this many steps: percentiles of fewer are mostly chance.
const LEAST_STEPS: usize = 1000;

/// A round of successive halving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The slice is one part of so many.
    parts: usize,
    /// One candidate of so many stays.
    pub stays_one_of: usize,
}

/// All levels, the smallest slices first.
pub const LEVELS: [Level; 3] = [
    Level { parts: 64, stays_one_of: 4 },
    Level { parts: 16, stays_one_of: 2 },
    Level { parts: 4, stays_one_of: 2 },
];

impl Level {
    /// The middle part of a trace of that many steps.
    pub fn slice(self, steps: usize) -> Range<usize> {
        let length = (steps / self.parts).max(LEAST_STEPS).min(steps);
        let begin = (steps - length) / 2;
        begin..begin + length
    }
}

/// The group of a candidate; `None` for the current configuration and the anchors, which stay in any case.
pub fn group(candidate: u64) -> Option<u64> {
    Some(candidate.checked_sub(ANCHORS.len() as u64 + 1)? / GROUP_SIZE)
}

/// The indices of the best `count`, in their order: front by front, and evenly spread over the last one.
pub fn best(scores: &[Score], count: usize) -> Vec<usize> {
    let mut left: Vec<_> = (0..scores.len()).collect();
    let mut kept = Vec::new();
    while kept.len() < count && !left.is_empty() {
        let of_left: Vec<_> = left.iter().map(|place| scores[*place]).collect();
        let layer: Vec<_> = front(&of_left).into_iter().map(|at| left[at]).collect();
        let room = count - kept.len();
        kept.extend(spread(&layer, room));
        left.retain(|place| !layer.contains(place));
    }
    kept.sort_unstable();
    kept
}

/// At most `room` of `layer`: the middle one of each of `room` equal parts.
fn spread(layer: &[usize], room: usize) -> impl Iterator<Item = usize> {
    let count = room.min(layer.len());
    (0..count).map(move |part| layer[(2 * part + 1) * layer.len() / (2 * count)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_grow_and_are_in_the_middle() {
        let slices = |steps| LEVELS.map(|level| level.slice(steps));
        assert_eq!(slices(100_000), [49_219..50_781, 46_875..53_125, 37_500..62_500]);
        assert_eq!(slices(7000), [3000..4000, 3000..4000, 2625..4375]);
        assert_eq!(slices(500), [0..500, 0..500, 0..500]);
        assert_eq!(slices(0), [0..0, 0..0, 0..0]);
    }

    #[test]
    fn groups_do_not_depend_on_the_number_of_candidates() {
        assert_eq!(
            [0, 5, 6, 21, 22, 37].map(group),
            [None, None, Some(0), Some(0), Some(1), Some(1)]
        );
    }

    #[test]
    fn the_best_are_those_that_few_others_beat() {
        let points = [(3.0, 3.0), (0.0, 2.0), (1.0, 1.0), (2.0, 0.0), (1.0, 1.5), (4.0, 4.0)];
        let scores = points.map(|(cost, p95)| Score { cost, p95 });
        assert_eq!(best(&scores, 1), [2], "the middle of the front");
        assert_eq!(best(&scores, 3), [1, 2, 3]);
        assert_eq!(best(&scores, 4), [1, 2, 3, 4], "the next front");
        assert_eq!(best(&scores, 9), [0, 1, 2, 3, 4, 5]);
        assert_eq!(best(&[], 3), [0; 0]);
    }
}

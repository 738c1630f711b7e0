//! The Pareto front: candidates for which no other has both a lower cost and a shorter wait.

use super::race::{Score, mean};

/// A difference on one trace up to this counts as equal.
const SLACK: f64 = 0.01;

/// The indices of the front, by increasing cost. Of equal candidates the first counts.
pub fn front(scores: &[Score]) -> Vec<usize> {
    let mut places: Vec<_> = (0..scores.len()).collect();
    let key = |place: &usize| (scores[*place].cost, scores[*place].p95);
    places.sort_by(|a, b| {
        let ((cost_a, p95_a), (cost_b, p95_b)) = (key(a), key(b));
        cost_a.total_cmp(&cost_b).then(p95_a.total_cmp(&p95_b)).then(a.cmp(b))
    });
    let mut best = f64::INFINITY;
    places.retain(|place| {
        let p95 = scores[*place].p95;
        let stays = p95 < best;
        best = best.min(p95);
        stays
    });
    places
}

/// Whether on every trace steps wait no longer than with the current configuration, on average over its seeds. `scores`
/// contains `seeds` values for each trace in turn.
pub fn is_no_worse_anywhere(scores: &[Score], seeds: usize) -> bool {
    scores.chunks(seeds.max(1)).all(|of_trace| mean(of_trace).p95 <= SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_on_the_front_is_beaten() {
        let points = [(0.0, 0.0), (-0.2, 0.5), (-0.1, 0.6), (0.3, -0.3), (0.3, -0.3), (-0.2, 0.4)];
        let scores: Vec<_> = points.map(|(cost, p95)| Score { cost, p95 }).into();
        assert_eq!(front(&scores), [5, 0, 3]);
        assert_eq!(front(&[]), [0; 0]);
    }

    #[test]
    fn one_trace_is_enough_to_be_worse() {
        let scores: Vec<_> = [-0.5, -0.5, 0.1, 0.1].map(|p95| Score { cost: 0.0, p95 }).into();
        assert!(is_no_worse_anywhere(&scores, 4));
        assert!(!is_no_worse_anywhere(&scores, 2));
    }
}

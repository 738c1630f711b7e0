//! Early elimination: a candidate is dropped if an anchor is significantly better in both cost and wait.
//!
//! All candidates run on the same traces with the same seeds (common random numbers), and are compared there with the
//! current configuration. The rule is that of racing (Maron and Moore, "Hoeffding races", 1994; Birattari and others,
//! "F-race", 2002) with a paired t test, and a fixed margin while there are too few pairs for a test.

use super::Outcome;
use crate::statistics::Estimate;

/// Logarithms of the ratios to the current configuration; below 0 is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Of the cost per step built.
    pub cost: f64,
    /// Of the 95th percentile of the wait, plus a second in both because it may be 0.
    pub p95: f64,
}

/// Minimum number of pairs for a test.
const PAIRS_FOR_A_TEST: usize = 3;
/// With fewer pairs, an anchor must be better by this much in both: about 5 %.
const MARGIN: f64 = 0.05;

/// Compares `outcome` with `reference`, on the same trace with the same seed.
#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn score(outcome: &Outcome, reference: &Outcome) -> Score {
    let by_step = |one: &Outcome| one.cost_micro_dollars.max(1) as f64 / one.built.max(1) as f64;
    let wait = |one: &Outcome| one.p95_ms as f64 + 1000.0;
    Score {
        cost: libm::log(by_step(outcome) / by_step(reference)),
        p95: libm::log(wait(outcome) / wait(reference)),
    }
}

/// The mean of several; of none: equal to the current configuration.
#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn mean(scores: &[Score]) -> Score {
    let count = scores.len().max(1) as f64;
    let sum = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>();
    Score { cost: sum(|one| one.cost) / count, p95: sum(|one| one.p95) / count }
}

/// Whether a candidate with `scores` continues, compared with the scores of `anchor` in the same order.
pub fn stays(scores: &[Score], anchor: &[Score]) -> bool {
    let is_worse = |of: fn(&Score) -> f64| {
        let differences: Vec<_> =
            scores.iter().zip(anchor).map(|(one, other)| of(one) - of(other)).collect();
        let Estimate { mean, half_width } = Estimate::of(&differences);
        let margin = half_width.filter(|_| differences.len() >= PAIRS_FOR_A_TEST);
        mean > margin.unwrap_or(MARGIN)
    };
    !(is_worse(|one| one.cost) && is_worse(|one| one.p95))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(pairs: &[(f64, f64)]) -> Vec<Score> {
        pairs.iter().map(|(cost, p95)| Score { cost: *cost, p95: *p95 }).collect()
    }

    #[test]
    fn scores_are_ratios() {
        let reference =
            Outcome { cost_micro_dollars: 100, built: 10, p95_ms: 9_000, at_rest: true };
        let better = Outcome { cost_micro_dollars: 50, p95_ms: 4_000, ..reference };
        let Score { cost, p95 } = score(&better, &reference);
        assert!((libm::exp(cost) - 0.5).abs() < 1e-9 && (libm::exp(p95) - 0.5).abs() < 1e-9);
        let lazy = Outcome { built: 5, ..better };
        assert!(score(&lazy, &reference).cost.abs() < 1e-9, "half the work for half the price");
    }

    #[test]
    fn only_who_is_worse_in_both_goes() {
        let anchor = scores(&[(0.0, 0.0)]);
        assert!(!stays(&scores(&[(0.1, 0.1)]), &anchor));
        assert!(stays(&scores(&[(0.1, -0.1)]), &anchor));
        assert!(stays(&scores(&[(0.04, 0.5)]), &anchor), "one pair tells little");
        let anchor = scores(&[(0.0, 0.0); 4]);
        assert!(!stays(&scores(&[(0.01, 0.02); 4]), &anchor), "always a little worse");
        let noisy = scores(&[(0.5, 0.5), (-0.4, -0.4), (0.5, 0.6), (-0.3, 0.1)]);
        assert!(stays(&noisy, &anchor), "this may be chance");
    }
}

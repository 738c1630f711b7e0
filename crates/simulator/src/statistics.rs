//! Statistics over several seeds: means and confidence intervals.

/// Quantiles of Student's t distribution for 95 %, two-sided, by degrees of freedom from 1 on (NIST/SEMATECH e-Handbook
/// of Statistical Methods, table 1.3.6.7.2).
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
/// The same for a normal distribution.
const Z: f64 = 1.959_963_985;

/// The quantile for `freedom` degrees, at least 1; beyond the table by the expansion of Cornish and Fisher (Abramowitz
/// and Stegun, 26.7.5), where its error is below 0.00001.
#[allow(clippy::cast_precision_loss, reason = "there are never 2^53 seeds")]
fn t(freedom: usize) -> f64 {
    T.get(freedom - 1).copied().unwrap_or_else(|| {
        let (v, square) = (freedom as f64, Z * Z);
        let first = (square + 1.0) / 4.0;
        let second = ((5.0 * square + 16.0) * square + 3.0) / 96.0;
        let third = (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) / 384.0;
        Z * (1.0 + first / v + second / (v * v) + third / (v * v * v))
    })
}

/// A mean with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean of the values.
    pub mean: f64,
    /// Half the width of the interval that contains the true mean with 95 % confidence; `None` for one value.
    pub half_width: Option<f64>,
}

impl Estimate {
    /// Of independent `values`; zero if there are none.
    #[allow(clippy::cast_precision_loss, reason = "there are never 2^53 seeds")]
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        // Exact if all are the same: then the interval has no width.
        let first = values.first().copied().unwrap_or_default();
        let mean =
            first + values.iter().map(|value| value - first).sum::<f64>() / count.max(1) as f64;
        let half_width = count.checked_sub(1).filter(|freedom| *freedom > 0).map(|freedom| {
            let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
            t(freedom) * libm::sqrt(squares / freedom as f64 / count as f64)
        });
        Self { mean, half_width }
    }

    /// Whether `value` lies within the interval.
    pub fn holds(&self, value: f64) -> bool {
        self.half_width.is_some_and(|half_width| (value - self.mean).abs() <= half_width)
    }
}

/// Number of values from the start on that belong to the warm-up, by MSER-5 (White, Cobb and Spratt 2000, "A comparison
/// of five steady-state truncation heuristics for simulation"): of all cuts in the first half, in batches of five, the
/// one after which the standard error of the mean is smallest.
#[allow(clippy::cast_precision_loss, reason = "there are never 2^53 steps")]
pub fn mser5(values: impl IntoIterator<Item = u64>) -> usize {
    let (mut batches, mut sum, mut count) = (Vec::new(), 0.0, 0_usize);
    for value in values {
        sum += value as f64;
        count += 1;
        if count.is_multiple_of(BATCH) {
            batches.push(sum / BATCH as f64);
            sum = 0.0;
        }
    }
    let (mut sum, mut squares, mut best) = (0.0, 0.0, (f64::INFINITY, 0));
    for (cut, batch) in batches.iter().enumerate().rev() {
        sum += batch;
        squares += batch * batch;
        let left = (batches.len() - cut) as f64;
        let error = (squares - sum * sum / left).max(0.0) / (left * left);
        if cut <= batches.len() / 2 && error <= best.0 {
            best = (error, cut);
        }
    }
    best.1 * BATCH
}

/// The batch size of MSER-5.
const BATCH: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// A farm that starts empty: the first hundred waits are long, the others vary around 10.
    #[test]
    fn a_warm_up_is_found() {
        let steady = (0..900_u64).map(|n| 8 + n * 7919 % 5);
        let values: Vec<u64> = (0..100).map(|n| 1000 - 9 * n).chain(steady.clone()).collect();
        let cut = mser5(values);
        assert!((95..=110).contains(&cut), "{cut}");
        assert!(mser5(steady) <= 450);
        assert_eq!(mser5([7; 100]), 0, "nothing is gained by a cut");
        assert_eq!(mser5([]), 0);
        assert_eq!(mser5([1, 2, 3]), 0);
    }

    /// From the NIST's table and from printed tables of five digits.
    #[test]
    fn quantiles_of_many_degrees_are_students_too() {
        for (freedom, quantile) in [
            (1, 12.706),
            (30, 2.042),
            (31, 2.039_51),
            (40, 2.021_08),
            (60, 2.000_30),
            (99, 1.984_22),
            (120, 1.979_93),
            (1000, 1.962_34),
        ] {
            assert!((t(freedom) - quantile).abs() < 1e-5, "{freedom}: {}", t(freedom));
        }
    }

    /// By hand: mean 3, variance 2.5, standard error sqrt(0.5), t for 4 degrees 2.776.
    #[test]
    fn intervals_are_students() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((estimate.mean - 3.0).abs() < 1e-12);
        assert!((estimate.half_width.unwrap() - 1.962_928).abs() < 1e-5);
        assert!(estimate.holds(4.9) && !estimate.holds(5.0));
        assert_eq!(Estimate::of(&[7.0]), Estimate { mean: 7.0, half_width: None });
        assert_eq!(Estimate::of(&[]), Estimate { mean: 0.0, half_width: None });
    }
}

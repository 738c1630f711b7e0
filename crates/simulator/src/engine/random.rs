//! Random numbers: a separate stream for every purpose and object, so that an additional draw in one place changes no
//! other stream.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The root of a simulation's random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

/// The purpose of a stream. The discriminants affect every result: add new ones at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// The knobs of a fault campaign.
    Knobs = 1,
    /// Arrivals of steps.
    Arrivals = 2,
    /// Durations of steps.
    Durations = 3,
    /// Systems, features, jobsets and dependencies of steps.
    Shapes = 4,
    /// One machine: delays, failures, interruption.
    Machine = 5,
    /// One cycle of the provisioner: listing, publishing, kills.
    Cycle = 6,
    /// The queue runner (retry delays).
    QueueRunner = 7,
    /// Whether one step fails.
    Step = 8,
    /// For tests and benches.
    Test = 9,
    /// Candidate settings of a search.
    Tuning = 10,
}

impl Seed {
    /// The stream for `purpose` and the object number `index` (its lower 56 bits count).
    pub fn stream(self, purpose: Purpose, index: u64) -> Random {
        let mut rng = ChaCha8Rng::seed_from_u64(self.0);
        rng.set_stream((purpose as u64) << 56 | (index & ((1 << 56) - 1)));
        Random { rng }
    }
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    rng: ChaCha8Rng,
}

impl Random {
    /// A whole number below `limit`, zero for a limit of zero. All are equally likely (to within 2^-64).
    pub fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.rng.next_u64()) * u128::from(limit);
        #[allow(clippy::cast_possible_truncation, reason = "the upper half of 128 bits")]
        let upper = (product >> 64) as u64;
        upper
    }

    /// A whole number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first).saturating_add(1))
    }

    /// True with a chance of `per_million` in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// One of `items`; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).ok()?)
    }

    /// A number above 0, at most 1, with 53 random bits.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn unit(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_for_ever() {
        let first = |purpose, index| Seed(42).stream(purpose, index).below(1_000_000);
        let seen = [
            first(Purpose::Machine, 0),
            first(Purpose::Machine, 1),
            first(Purpose::Step, 0),
            Seed(43).stream(Purpose::Machine, 0).below(1_000_000),
        ];
        assert_eq!(
            seen,
            [477_520, 64_852, 90_578, 172_026],
            "other numbers would change every published result"
        );
    }

    #[test]
    fn bounds_hold() {
        let mut random = Seed(1).stream(Purpose::Test, 0);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        assert_eq!(random.pick::<u8>(&[]), None);
        let mut seen = [false; 3];
        for _ in 0..100 {
            let number = random.between(4, 6);
            seen[usize::try_from(number - 4).unwrap()] = true;
            let unit = random.unit();
            assert!(unit > 0.0 && unit <= 1.0, "{unit}");
            assert!(!random.chance(0));
            assert!(random.chance(1_000_000));
        }
        assert_eq!(seen, [true; 3]);
    }
}

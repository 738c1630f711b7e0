//! Counts the cycles of the provisioner's loop, and notices a loop without end.

use crate::engine::Millis;

/// Cycles at one moment; more than this is an endless loop.
const MOST_TURNS: u64 = 10_000;

/// Cycles of the loop in which it could make a plan.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    total: u64,
    /// The moment of the latest one, and how many came before that moment.
    latest: (Millis, u64),
}

impl Turns {
    /// One more at `now`. Returns whether the loop turns without end: effects that take no time run it again at the same
    /// moment.
    pub(super) fn count(&mut self, now: Millis) -> bool {
        if self.latest.0 != now {
            self.latest = (now, self.total);
        }
        self.total += 1;
        self.total - self.latest.1 > MOST_TURNS
    }

    pub(super) fn total(self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_turns_at_one_moment_are_without_end() {
        let mut turns = Turns::default();
        for moment in 0..3 * MOST_TURNS {
            assert!(!turns.count(Millis(moment)));
        }
        let now = Millis(3 * MOST_TURNS);
        assert_eq!((0..MOST_TURNS).filter(|_| turns.count(now)).count(), 0);
        assert!(turns.count(now));
        assert_eq!(turns.total(), 4 * MOST_TURNS + 1);
    }
}

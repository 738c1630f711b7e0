//! Converts the queue runner's times to our clock, for the planner.

use planner::{Seconds, Timestamp};

use super::lenient::{Fields, Warnings};

/// A smaller difference between two clocks is ignored.
const MAX_OFFSET_SECONDS: u64 = 30;

/// The period, by our clock, in which an answer was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Just before the question.
    pub from: Timestamp,
    /// When the answer was received.
    pub to: Timestamp,
}

impl Asked {
    /// Answered within the second `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { from: now, to: now }
    }

    /// Asked at `from`, answered just now.
    pub(super) fn until_now(from: Timestamp) -> Self {
        Self { from, to: crate::clock::now() }
    }

    /// How many seconds `theirs`, read while the answer was created, is ahead of our clock; 0 if both may
    /// agree.
    fn offset_of(self, theirs: Timestamp) -> i64 {
        let ahead = theirs.since(self.to);
        let behind = self.from.since(theirs);
        let whole = |length: Seconds| i64::try_from(length.0).unwrap_or(i64::MAX);
        whole(ahead) - whole(behind)
    }
}

/// Converts the times of one answer to our clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// When the answer was created, by the queue runner's clock.
    pub(super) time: Option<Timestamp>,
    /// Seconds that it is ahead of ours; 0 if not known.
    pub(super) offset_seconds: i64,
    /// Something that has happened, by the queue runner's clock, happened before this.
    latest: Timestamp,
}

impl Clock {
    /// For an answer that was created at `time` according to itself.
    pub(super) fn new(time: Option<Timestamp>, asked: Asked, warnings: &mut Warnings) -> Self {
        let offset_seconds = time.map_or(0, |time| asked.offset_of(time));
        let difference = Seconds(offset_seconds.unsigned_abs());
        if difference.0 > MAX_OFFSET_SECONDS {
            let side = if offset_seconds > 0 { "ahead of" } else { "behind" };
            warnings.add(format!(
                "queue status: its time is {difference} {side} our clock: set both hosts' clocks (NTP), or, if \
                 statusCommand prints what was stored before, ask the queue runner itself; idle times are \
                 taken by its clock"
            ));
        }
        let latest = time.unwrap_or(asked.to).after(Seconds(MAX_OFFSET_SECONDS));
        Self { time, offset_seconds, latest }
    }

    /// Whether `theirs` is later than the answer itself.
    pub(super) fn is_ahead(self, theirs: Timestamp) -> bool {
        theirs > self.latest
    }

    /// A time of the answer by our clock; `None` for none, or before 1970.
    pub(super) fn ours(self, theirs: Option<Timestamp>) -> Option<Timestamp> {
        theirs?.0.checked_add_signed(self.offset_seconds.checked_neg()?).map(Timestamp)
    }
}

impl Fields<'_> {
    /// When something happened, by our clock. As [`Fields::time`]; a time later than the answer itself is also `None`, with
    /// a warning: a machine idle since next year would never be idle for long enough.
    pub(super) fn past(
        &self,
        key: &str,
        clock: Clock,
        warnings: &mut Warnings,
    ) -> Option<Timestamp> {
        let time = self.time(key, warnings)?;
        if clock.is_ahead(time) {
            let place = self.place;
            warnings.add(format!(
                "queue status: {place}{key} is {time}, later than the answer itself; it is ignored"
            ));
            return None;
        }
        clock.ours(Some(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_took_a_while_may_have_been_made_at_any_time_of_it() {
        let asked = Asked { from: Timestamp(1000), to: Timestamp(1005) };
        for (theirs, offset) in
            [(1000, 0), (1003, 0), (1005, 0), (1006, 1), (999, -1), (4600, 3595), (0, -1000)]
        {
            assert_eq!(asked.offset_of(Timestamp(theirs)), offset, "{theirs}");
        }
    }

    #[test]
    fn times_come_out_by_our_clock() {
        for (time, theirs, ours, warned) in [
            (Some(1_000_000), 999_940, Some(999_940), false),
            (Some(1_000_030), 1_000_000, Some(999_970), false),
            (Some(1_000_031), 1_000_000, Some(999_969), true),
            // An hour behind, idle for a minute: the result is one minute.
            (Some(996_400), 996_340, Some(999_940), true),
            (Some(1_003_600), 1_003_540, Some(999_940), true),
            (None, 999_940, Some(999_940), false),
            (Some(u64::MAX), 5, None, true),
        ] {
            let mut warnings = Warnings::default();
            let asked = Asked::at(Timestamp(1_000_000));
            let clock = Clock::new(time.map(Timestamp), asked, &mut warnings);
            assert_eq!(clock.ours(Some(Timestamp(theirs))), ours.map(Timestamp), "{time:?}");
            assert_eq!(!warnings.into_lines().is_empty(), warned, "{time:?}");
        }
        assert_eq!(Clock::default().ours(None), None);
    }
}

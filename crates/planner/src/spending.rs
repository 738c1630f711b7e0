//! The cost of machines: now, today and this month (UTC).

use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::time::{Seconds, Timestamp};

/// Since when a machine is billed, and its configured price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paid {
    /// From the request for its creation or start.
    pub since: Timestamp,
    /// The price of its type per hour at that time; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour: Option<Money>,
}

/// A charge that was seen: the start of a machine, or its provider's next charge changed from one listing to the next.
/// Provider and provisioner may disagree about the time, but not about a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Charged {
    /// By our clock, the charge was later than this.
    pub after: Timestamp,
    /// By our clock, the charge was earlier than this.
    pub by: Timestamp,
    /// How much time it pays for.
    pub period: Seconds,
}

impl Charged {
    /// `next_charge_at`, reported by the provider, by our clock. If the clocks disagree, the earliest possible time: too late
    /// a time could keep the machine for another period, again and again.
    pub(crate) fn correct(self, next_charge_at: Timestamp) -> Timestamp {
        let (first, last) = (self.after.after(self.period), self.by.after(self.period));
        if (first..=last).contains(&next_charge_at) { next_charge_at } else { first }
    }
}

/// The cost of machines that no longer cost anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Spent {
    /// The beginning of the day that `today` counts.
    pub day: Timestamp,
    /// Cost on that day.
    pub today: Money,
    /// The beginning of the month that `this_month` counts.
    pub month: Timestamp,
    /// Cost in that month.
    pub this_month: Money,
}

impl Spent {
    /// The cost at `now`, without earlier days and months.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        let (day, month) = (now.start_of_day(), now.start_of_month());
        let of = |is_same, money| if is_same { money } else { Money(0) };
        Self {
            day,
            today: of(self.day == day, self.today),
            month,
            this_month: of(self.month == month, self.this_month),
        }
    }

    /// The clock was set at `before` and showed `now` from then on: what was spent on the day and in the month of
    /// `before` counts on the day and in the month of `now`. Setting a clock makes no money available.
    #[must_use]
    pub fn clock_set(self, before: Timestamp, now: Timestamp) -> Self {
        Self { day: now.start_of_day(), month: now.start_of_month(), ..self.at(before) }
    }

    /// Adds a machine that cost `dollars_per_hour` from `from` to `until`, as of `now`.
    #[must_use]
    pub fn with(
        self,
        (from, until): (Timestamp, Timestamp),
        dollars_per_hour: Money,
        now: Timestamp,
    ) -> Self {
        let spent = self.at(now);
        let since = |start: Timestamp| dollars_per_hour.for_time(until.since(from.max(start)));
        Self {
            today: spent.today.plus(since(spent.day)),
            this_month: spent.this_month.plus(since(spent.month)),
            ..spent
        }
    }

    /// The sum of both, which must be of the same time.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            today: self.today.plus(other.today),
            this_month: self.this_month.plus(other.this_month),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-28 23:00.
    const EVENING: Timestamp = Timestamp(1_709_161_200);
    const HOUR: u64 = 3600;

    #[test]
    fn setting_the_clock_neither_forgets_nor_revives_what_was_spent() {
        let dollar = Money(1_000_000);
        let spent = Spent::default().with((Timestamp(EVENING.0 - HOUR), EVENING), dollar, EVENING);
        for hours in [2, 31 * 24, -48, -31 * 24] {
            let now = EVENING.shifted(hours * 3600);
            let set = spent.clock_set(EVENING, now);
            assert_eq!(set.at(now), set, "{hours}");
            assert_eq!((set.today, set.this_month), (dollar, dollar), "{hours}");
        }
        // It was of another day already.
        let next_day = Timestamp(EVENING.0 + 2 * HOUR);
        let set = spent.clock_set(next_day, EVENING);
        assert_eq!((set.today, set.this_month), (Money(0), dollar));
    }

    #[test]
    fn days_and_months_begin_at_zero() {
        let later = |hours: u64| Timestamp(EVENING.0 + hours * HOUR);
        let dollar = Money(1_000_000);
        let spent = Spent::default().with((later(0), later(3)), dollar, later(3));
        assert_eq!((spent.today, spent.this_month), (dollar.times(2), dollar.times(3)));
        let spent = spent.with((later(2), later(4)), dollar, later(4));
        assert_eq!((spent.today, spent.this_month), (dollar.times(4), dollar.times(5)));
        // The leap day is over.
        let spent = spent.at(later(25));
        assert_eq!((spent.today, spent.this_month), (Money(0), Money(0)));
        assert_eq!(spent.month, Timestamp(1_709_251_200));
    }
}

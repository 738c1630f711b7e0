//! What machines cost, and have cost today and this month (UTC).

use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::time::Timestamp;

/// The time that a machine costs, and its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paid {
    /// Since its creation or start was asked for.
    pub since: Timestamp,
    /// What its type cost per hour then; `None` where that was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour: Option<Money>,
}

/// What machines have cost that cost nothing any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Spent {
    /// When the day began that `today` is of.
    pub day: Timestamp,
    /// On that day.
    pub today: Money,
    /// When the month began that `this_month` is of.
    pub month: Timestamp,
    /// In that month.
    pub this_month: Money,
}

impl Spent {
    /// As it is at `now`: nothing of an earlier day or month.
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

    /// With a machine that cost `dollars_per_hour` from `from` to `until`, as it is at `now`.
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

    /// Together with what others have cost, both at the same time.
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
    fn days_and_months_begin_at_nothing() {
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

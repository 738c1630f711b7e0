//! `schedule`: settings of a type that apply at certain hours of certain days.

use std::collections::BTreeMap;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use planner::{IdleTimeout, MachineType, PoolPolicy, Seconds, Timestamp};

use super::quantities::LONGEST_SECONDS;
use super::reader::Attrs;

/// The warning where both rules for the number of machines are set.
pub(super) const TARGET_WAIT_IS_UNUSED: &str =
    "is not used, because runnablesPerMachine is set; remove one of them";

const MINUTES_OF_DAY: u16 = 24 * 60;
const WEEK: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// One entry of a schedule. Settings that it omits stay as the type has them.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleEntry {
    /// The days on which a window begins; not empty.
    days: Vec<Weekday>,
    hours: Hours,
    time_zone: TimeZone,
    min_machines: Option<u32>,
    max_machines: Option<u32>,
    target_wait: Option<Seconds>,
    idle_timeout: Option<IdleTimeout>,
}

/// Minutes since midnight, in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hours {
    start: u16,
    /// After `start`; more than 24:00 is on the next day.
    end: u16,
}

impl ScheduleEntry {
    /// Whether it applies at `now`.
    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        self.windows_around(now).any(|(start, end)| start <= now && now < end)
    }

    /// The next time after `now` at which it begins or stops to apply.
    pub(super) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.windows_around(now)
            .flat_map(|(start, end)| [start, end])
            .filter(|change| *change > now)
            .min()
    }

    /// Its own idle timeout.
    pub(super) fn idle_timeout(&self) -> Option<IdleTimeout> {
        self.idle_timeout
    }

    /// Replaces the type's settings by its own.
    pub(super) fn apply(&self, pool: &mut PoolPolicy) {
        pool.min_machines = self.min_machines.unwrap_or(pool.min_machines);
        pool.max_machines = self.max_machines.unwrap_or(pool.max_machines);
        pool.target_wait = self.target_wait.or(pool.target_wait);
        pool.idle_timeout = self.idle_timeout.unwrap_or(pool.idle_timeout);
    }

    /// Its windows from yesterday (they may extend beyond midnight) to a week from now.
    fn windows_around(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let seconds = i64::try_from(now.0).unwrap_or(i64::MAX);
        // After the end of the calendar (the year 9999) there are no windows.
        let today = jiff::Timestamp::from_second(seconds)
            .ok()
            .map(|now| self.time_zone.to_datetime(now).date());
        (-1..=8)
            .filter_map(move |days| today?.checked_add(i64::from(days).days()).ok())
            .filter(|date| self.days.contains(&date.weekday()))
            .filter_map(|date| {
                Some((self.moment(date, self.hours.start)?, self.moment(date, self.hours.end)?))
            })
    }

    /// The time when the local clock shows `minutes` after the beginning of `date`. If the clock skips that
    /// time, the same amount later; if it shows it twice, the first.
    fn moment(&self, date: Date, minutes: u16) -> Option<Timestamp> {
        let date = if minutes >= MINUTES_OF_DAY { date.tomorrow().ok()? } else { date };
        let minutes = minutes % MINUTES_OF_DAY;
        let hour = i8::try_from(minutes / 60).ok()?;
        let minute = i8::try_from(minutes % 60).ok()?;
        let moment = self.time_zone.to_timestamp(date.at(hour, minute, 0, 0)).ok()?;
        u64::try_from(moment.as_second()).ok().map(Timestamp)
    }
}

/// The maximum of a type's `setting` over all hours, at which one entry of its schedule or none applies.
pub(super) fn maximum(
    schedules: &BTreeMap<MachineType, Vec<ScheduleEntry>>,
    machine_type: &MachineType,
    pool: &PoolPolicy,
    setting: impl Fn(&PoolPolicy) -> u32,
) -> u32 {
    let schedule = schedules.get(machine_type).into_iter().flatten();
    schedule.fold(setting(pool), |most, entry| {
        let mut then = pool.clone();
        entry.apply(&mut then);
        most.max(setting(&then))
    })
}

/// Reads `schedule` of the type with the other settings `pool`.
pub(super) fn read(attrs: &Attrs<'_>, pool: &PoolPolicy) -> Vec<ScheduleEntry> {
    attrs.items("schedule").into_iter().map(|entry| read_entry(entry, pool)).collect()
}

fn read_entry(attrs: Attrs<'_>, pool: &PoolPolicy) -> ScheduleEntry {
    let days = parsed(&attrs, "days", days_of, "such as \"mon-fri\" or \"sat,sun\"");
    let hours = parsed(&attrs, "hours", hours_of, "such as \"07:00-19:00\" or \"22:00-06:00\"");
    let time_zone = parsed(
        &attrs,
        "timeZone",
        |name| TimeZone::get(name).ok(),
        "a name of the IANA time zone database such as \"Europe/Berlin\" or \"UTC\"",
    );
    let mut entry = ScheduleEntry {
        days: days.unwrap_or_else(|| WEEK.map(|(_, day)| day).to_vec()),
        hours: hours.unwrap_or(Hours { start: 0, end: MINUTES_OF_DAY }),
        time_zone: time_zone.unwrap_or(TimeZone::UTC),
        min_machines: attrs.count("minMachines", 0),
        max_machines: attrs.count("maxMachines", 0),
        target_wait: attrs.seconds("targetWait", 1..=LONGEST_SECONDS),
        idle_timeout: attrs.idle_timeout("idleTimeout"),
    };
    check(&attrs, &entry, pool);
    if pool.target_wait.is_none() && entry.target_wait.take().is_some() {
        attrs.warning("targetWait", TARGET_WAIT_IS_UNUSED);
    }
    attrs.finish();
    entry
}

/// Parses a text with `parse`; reports a problem if that fails.
fn parsed<T>(
    attrs: &Attrs<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Option<T> {
    let text = attrs.text(name)?;
    let value = parse(&text);
    if value.is_none() {
        attrs.problem(name, format!("must be {expected}, is {text:?}"));
    }
    value
}

fn check(attrs: &Attrs<'_>, entry: &ScheduleEntry, pool: &PoolPolicy) {
    let mut changed = pool.clone();
    entry.apply(&mut changed);
    if changed == *pool {
        attrs.own_problem(
            "changes nothing; set minMachines, maxMachines, targetWait or idleTimeout to something else than the type has",
        );
    }
    // If the type's own settings are wrong, that was reported before.
    if changed.min_machines > changed.max_machines && pool.min_machines <= pool.max_machines {
        attrs.own_problem(format!(
            "has minMachines {} above maxMachines {} at these hours",
            changed.min_machines, changed.max_machines
        ));
    }
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
fn days_of(text: &str) -> Option<Vec<Weekday>> {
    let position = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        WEEK.iter().position(|(short, _)| *short == name)
    };
    let mut days = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (position(first)?, position(last)?);
        let length = (last + WEEK.len() - first) % WEEK.len();
        days.extend((first..=first + length).map(|at| WEEK[at % WEEK.len()].1));
    }
    Some(days)
}

/// `07:00-19:00`; `22:00-06:00` ends on the next day.
fn hours_of(text: &str) -> Option<Hours> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (minutes_of(start)?, minutes_of(end)?);
    match end {
        _ if start == MINUTES_OF_DAY || start == end => None,
        end if end < start => Some(Hours { start, end: end + MINUTES_OF_DAY }),
        end => Some(Hours { start, end }),
    }
}

/// `07:00` as minutes; at most 24:00.
fn minutes_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let are_digits = text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        are_digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let minutes = number(hour)? * 60 + number(minute).filter(|minute| *minute < 60)?;
    (minutes <= MINUTES_OF_DAY).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(days: &str, hours: &str, zone: &str) -> ScheduleEntry {
        ScheduleEntry {
            days: days_of(days).unwrap(),
            hours: hours_of(hours).unwrap(),
            time_zone: TimeZone::get(zone).unwrap(),
            min_machines: None,
            max_machines: None,
            target_wait: None,
            idle_timeout: None,
        }
    }

    fn at(time: &str) -> Timestamp {
        let time: jiff::Timestamp = time.parse().unwrap();
        Timestamp(u64::try_from(time.as_second()).unwrap())
    }

    #[track_caller]
    fn check(entry: &ScheduleEntry, now: &str, active: bool, next: &str) {
        let next = Some(at(next));
        assert_eq!((entry.is_active(at(now)), entry.next_change(at(now))), (active, next), "{now}");
    }

    #[test]
    fn office_hours_follow_daylight_saving() {
        let office = entry("mon-fri", "07:00-19:00", "Europe/Berlin");
        // Friday in winter (UTC+1), then Monday after the change to summer time (UTC+2).
        check(&office, "2026-03-27T05:59:59Z", false, "2026-03-27T06:00:00Z");
        check(&office, "2026-03-27T06:00:00Z", true, "2026-03-27T18:00:00Z");
        check(&office, "2026-03-27T18:00:00Z", false, "2026-03-30T05:00:00Z");
        check(&office, "2026-03-30T05:00:00Z", true, "2026-03-30T17:00:00Z");
        // The change back in October.
        check(&office, "2026-10-23T17:00:00Z", false, "2026-10-26T06:00:00Z");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = entry("fri", "22:00-06:00", "UTC");
        check(&night, "2026-11-27T21:59:59Z", false, "2026-11-27T22:00:00Z");
        check(&night, "2026-11-28T05:59:59Z", true, "2026-11-28T06:00:00Z");
        check(&night, "2026-11-28T06:00:00Z", false, "2026-12-04T22:00:00Z");
    }

    #[test]
    fn hours_that_the_clock_jumps_over_or_shows_twice() {
        let early = entry("sun", "02:30-04:00", "Europe/Berlin");
        // On 29 March 02:30 does not exist: 03:30 summer time instead, half an hour before the end.
        check(&early, "2026-03-29T01:29:59Z", false, "2026-03-29T01:30:00Z");
        check(&early, "2026-03-29T01:30:00Z", true, "2026-03-29T02:00:00Z");
        // On 25 October 02:30 occurs twice, and the first one is used: two and a half hours.
        check(&early, "2026-10-25T00:30:00Z", true, "2026-10-25T03:00:00Z");
    }

    #[test]
    fn all_day_every_day() {
        let always = entry("mon-sun", "00:00-24:00", "America/St_Johns");
        check(&always, "2026-11-25T12:00:00Z", true, "2026-11-26T03:30:00Z");
        assert!(!always.is_active(Timestamp(u64::MAX)), "beyond the calendar");
        assert_eq!(always.next_change(Timestamp(u64::MAX)), None);
    }

    #[test]
    fn days_and_hours_are_read() {
        use Weekday::{Friday, Monday, Saturday, Sunday, Wednesday};
        assert_eq!(days_of("fri-mon"), Some(vec![Friday, Saturday, Sunday, Monday]));
        assert_eq!(days_of("Mon, wed"), Some(vec![Monday, Wednesday]));
        for text in ["", "mon-", "monday", "mon..fri", "1-5", "mon,,tue"] {
            assert_eq!(days_of(text), None, "{text}");
        }
        assert_eq!(hours_of("7:05 - 19:00"), Some(Hours { start: 425, end: 1140 }));
        for text in
            ["", "7-19", "07:00", "25:00-26:00", "07:60-08:00", "08:00-08:00", "24:00-01:00"]
        {
            assert_eq!(hours_of(text), None, "{text}");
        }
    }
}

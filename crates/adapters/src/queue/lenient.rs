//! Reads what others write: a wrongly typed detail is a warning, never the loss of the whole answer.

use planner::{Seconds, Timestamp};
use serde_json::{Map, Value};

/// Warnings that are told in full; a farm of odd entries must not drown a plan.
const MOST_WARNINGS: usize = 20;
/// Characters of a foreign name that stand in a message.
const MOST_NAME_CHARS: usize = 120;

/// What was odd in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Warnings {
    told: Vec<String>,
    untold: u64,
}

impl Warnings {
    pub(super) fn add(&mut self, text: String) {
        if self.told.len() < MOST_WARNINGS {
            self.told.push(text);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        let mut lines = self.told;
        if self.untold > 0 {
            lines.push(format!("queue status: and {} more such oddities", self.untold));
        }
        lines
    }
}

/// A foreign name for a message: quoted, so that control characters cannot reach a terminal, and cut.
pub(super) fn quoted(name: &str) -> String {
    let cut: String = name.chars().take(MOST_NAME_CHARS).collect();
    let dots = if cut.len() < name.len() { "..." } else { "" };
    format!("{cut:?}{dots}")
}

/// A count: a fraction is rounded up (half a job is a job), a negative one is zero. `None` where `value`
/// is no number.
pub(super) fn count(value: &Value) -> Option<u64> {
    whole(value, f64::ceil)
}

/// The count at `key`; zero where there is none, with a warning where it is no number.
pub(super) fn count_at(
    map: &Map<String, Value>,
    key: &str,
    place: &str,
    warnings: &mut Warnings,
) -> u64 {
    let Some(value) = map.get(key) else { return 0 };
    count(value).unwrap_or_else(|| {
        warnings.add(format!("queue status: {place}.{key} is not a number; it counts as 0"));
        0
    })
}

/// Seconds at `key`, fractions cut off; zero where there are none.
pub(super) fn seconds(map: &Map<String, Value>, key: &str) -> Seconds {
    Seconds(map.get(key).and_then(|value| whole(value, f64::floor)).unwrap_or(0))
}

/// A time at `key`; Hydra writes 0 for "never".
pub(super) fn timestamp(map: &Map<String, Value>, key: &str) -> Option<Timestamp> {
    let seconds = map.get(key).and_then(|value| whole(value, f64::floor))?;
    (seconds > 0).then_some(Timestamp(seconds))
}

fn whole(value: &Value, round: fn(f64) -> f64) -> Option<u64> {
    // The cast saturates: what is too large is the largest number, what is negative is zero.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    value.as_u64().or_else(|| value.as_f64().map(|number| round(number) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        for (json, as_count, as_seconds) in [
            ("3", Some(3), 3),
            ("3.0", Some(3), 3),
            ("0.5", Some(1), 0),
            ("-2", Some(0), 0),
            ("-0.5", Some(0), 0),
            ("1e300", Some(u64::MAX), u64::MAX),
            ("18446744073709551615", Some(u64::MAX), u64::MAX),
            ("\"3\"", None, 0),
            ("null", None, 0),
            ("true", None, 0),
            ("[1]", None, 0),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(count(&value), as_count, "{json}");
            let map = Map::from_iter([("n".to_owned(), value)]);
            assert_eq!(seconds(&map, "n"), Seconds(as_seconds), "{json}");
            let time = (as_seconds > 0).then_some(Timestamp(as_seconds));
            assert_eq!(timestamp(&map, "n"), time, "{json}");
        }
    }

    #[test]
    fn warnings_are_bounded_and_cannot_drive_a_terminal() {
        let mut warnings = Warnings::default();
        for i in 0..1000 {
            warnings.add(format!("{i}"));
        }
        let lines = warnings.into_lines();
        assert_eq!(lines.len(), MOST_WARNINGS + 1);
        assert_eq!(lines[MOST_WARNINGS], "queue status: and 980 more such oddities");
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert_eq!(quoted(&"x".repeat(9999)).len(), MOST_NAME_CHARS + 5);
    }
}

//! Reads what others write: a wrongly typed detail is a warning, never the loss of the whole answer, and never
//! a zero.

use planner::{Seconds, Timestamp};
use serde_json::{Map, Value};

/// Warnings that are told in full; a farm of odd entries must not drown a plan.
const MOST_WARNINGS: usize = 20;
/// Characters of a foreign name or value that stand in a message.
const MOST_QUOTED_CHARS: usize = 120;
/// A later time is not in seconds, or damaged: the year 2200.
const LATEST_TIME: Timestamp = Timestamp(7_258_118_400);

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

    pub(super) fn extend(&mut self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.add(text));
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
    let cut: String = name.chars().take(MOST_QUOTED_CHARS).collect();
    let dots = if cut.len() < name.len() { "..." } else { "" };
    format!("{cut:?}{dots}")
}

/// The object that `bytes` are, which are called `what` in messages.
///
/// # Errors
/// When they are none, with how they begin.
pub(super) fn object(bytes: &[u8], what: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST_QUOTED_CHARS)]);
        let start =
            if start.trim().is_empty() { "nothing".to_owned() } else { quoted(start.trim()) };
        format!("{what} is not a JSON object: {error}; it is {start}")
    })
}

/// A foreign value for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// An object of an answer, with its place there for messages.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Such as `machines."root@10.0.0.1".`; empty for the whole answer.
    place: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, place: &'a str) -> Self {
        Self { map, place }
    }

    /// The count at `key`; `None` where there is none.
    ///
    /// # Errors
    /// When what stands there is no count.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        match count(value) {
            Some(count) => Ok(Some(count)),
            None => Err(format!("{}{key} is {}, not a count", self.place, shown(value))),
        }
    }

    /// As [`Fields::count`]; what is no count is `None` too, with a warning.
    pub(super) fn count_if_told(&self, key: &str, warnings: &mut Warnings) -> Option<u64> {
        self.count(key).unwrap_or_else(|problem| {
            warnings.add(format!("queue status: {problem}; it is left out"));
            None
        })
    }

    /// A time in seconds since 1970, by the clock of whoever wrote it. Hydra writes 0 for "never", which is
    /// `None`, as is what makes no sense, with a warning.
    pub(super) fn time(&self, key: &str, warnings: &mut Warnings) -> Option<Timestamp> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        match whole(value, f64::floor) {
            Some(0) => None,
            Some(seconds) if seconds < LATEST_TIME.0 => Some(Timestamp(seconds)),
            _ => {
                let (place, value) = (self.place, shown(value));
                warnings.add(format!(
                    "queue status: {place}{key} is {value}, not a time in seconds; it is left out"
                ));
                None
            }
        }
    }

    /// A truth; `None` where there is none.
    ///
    /// # Errors
    /// When what stands there is no truth.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, String> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => {
                Err(format!("{}{key} is {}, neither true nor false", self.place, shown(other)))
            }
        }
    }

    /// A length of time in units of which `per_second` make one second; `None` where there is none.
    pub(super) fn seconds(&self, key: &str, per_second: u64) -> Option<Seconds> {
        let length = whole(self.map.get(key)?, f64::floor)?;
        Some(Seconds(length / per_second))
    }
}

/// A count: a fraction is rounded up (half a job is a job). `None` where `value` is no number, or negative.
pub(super) fn count(value: &Value) -> Option<u64> {
    whole(value, f64::ceil)
}

/// A number, or a text that is one.
fn whole(value: &Value, round: fn(f64) -> f64) -> Option<u64> {
    if let Some(text) = value.as_str() {
        let text = text.trim();
        let is_plain = text.starts_with(|first: char| first.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number = is_plain.then_some(text)?;
        return number.parse().ok().or_else(|| round_up_to(number.parse().ok()?, round));
    }
    value.as_u64().or_else(|| round_up_to(value.as_f64()?, round))
}

fn round_up_to(number: f64, round: fn(f64) -> f64) -> Option<u64> {
    // The cast saturates: what is too large is the largest number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (number >= 0.0).then(|| round(number) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        for (json, as_count, as_seconds) in [
            ("3", Some(3), Some(3)),
            ("3.0", Some(3), Some(3)),
            ("0.5", Some(1), Some(0)),
            ("-0.0", Some(0), Some(0)),
            ("\"7\"", Some(7), Some(7)),
            ("\" 7 \\n\"", Some(7), Some(7)),
            ("\"7.5\"", Some(8), Some(7)),
            ("\"18446744073709551615\"", Some(u64::MAX), Some(u64::MAX)),
            ("\"99999999999999999999\"", Some(u64::MAX), Some(u64::MAX)),
            ("1e300", Some(u64::MAX), Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX), Some(u64::MAX)),
            ("-2", None, None),
            ("-0.5", None, None),
            ("\"-1\"", None, None),
            ("\"\"", None, None),
            ("\".\"", None, None),
            ("\"1.2.3\"", None, None),
            ("\"inf\"", None, None),
            ("\"NaN\"", None, None),
            ("\"0x7\"", None, None),
            ("\"seven\"", None, None),
            ("null", None, None),
            ("true", None, None),
            ("[1]", None, None),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(count(&value), as_count, "{json}");
            let map = Map::from_iter([("n".to_owned(), value)]);
            let fields = Fields::new(&map, "");
            assert_eq!(fields.seconds("n", 1), as_seconds.map(Seconds), "{json}");
            assert_eq!(fields.count("n").ok().flatten(), as_count, "{json}");
        }
    }

    #[test]
    fn times_of_all_kinds() {
        for (json, time, is_odd) in [
            ("1795589428", Some(1_795_589_428), false),
            ("1795589428.9", Some(1_795_589_428), false),
            ("\"1795589428\"", Some(1_795_589_428), false),
            ("0", None, false),
            ("0.5", None, false),
            ("null", None, false),
            ("1795589428000", None, true),
            ("5", Some(5), false),
            ("-1", None, true),
            ("\"soon\"", None, true),
            ("[]", None, true),
        ] {
            let map = Map::from_iter([("t".to_owned(), serde_json::from_str(json).unwrap())]);
            let mut warnings = Warnings::default();
            let read = Fields::new(&map, "x.").time("t", &mut warnings);
            assert_eq!(read, time.map(Timestamp), "{json}");
            assert_eq!(!warnings.into_lines().is_empty(), is_odd, "{json}");
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
        assert_eq!(quoted(&"x".repeat(9999)).len(), MOST_QUOTED_CHARS + 5);
    }
}

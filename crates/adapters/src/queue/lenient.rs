//! Reads foreign JSON: a value of the wrong type is a warning; it never makes the whole answer unusable, and
//! never counts as zero.

use planner::{Seconds, Timestamp};
use serde_json::{Map, Value};

/// Warnings shown in full; the warnings of a faulty farm must not hide the plan.
const MAX_WARNINGS: usize = 20;
/// Maximum length of a foreign name or value in a message, in characters.
const MAX_QUOTED_CHARS: usize = 120;
/// A later time (the year 2200) is not in seconds, or damaged.
const LATEST_TIME: Timestamp = Timestamp(7_258_118_400);

/// Unexpected content of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Warnings {
    shown: Vec<String>,
    omitted: u64,
}

impl Warnings {
    pub(super) fn add(&mut self, text: String) {
        if self.shown.len() < MAX_WARNINGS {
            self.shown.push(text);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    pub(super) fn extend(&mut self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.add(text));
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        let mut lines = self.shown;
        if self.omitted > 0 {
            lines.push(format!("queue status: and {} more warnings", self.omitted));
        }
        lines
    }
}

/// A foreign name for a message: escaped, quoted and shortened.
pub(super) fn quoted(name: &str) -> String {
    let cut: String = name.chars().take(MAX_QUOTED_CHARS).collect();
    let dots = if cut.len() < name.len() { "..." } else { "" };
    format!("{cut:?}{dots}")
}

/// The error for an answer with a time that cannot be read.
pub(super) fn not_a_time(place: &str, key: &str, value: &Value) -> String {
    let value = shown(value);
    format!("{place}{key} is {value}, not a time: an old answer could be taken for a new one")
}

/// Parses `bytes` as a JSON object; messages call it `what`.
///
/// # Errors
/// When it is not an object, with its beginning.
pub(super) fn object(bytes: &[u8], what: &str) -> Result<Map<String, Value>, String> {
    crate::json::object(bytes).map_err(|error| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX_QUOTED_CHARS)]);
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

/// An object of an answer, with its place for messages.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Such as `machines."root@10.0.0.1".`; empty for the whole answer.
    pub(super) place: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, place: &'a str) -> Self {
        Self { map, place }
    }

    /// The count at `key`; `None` if absent.
    ///
    /// # Errors
    /// When the value is not a count.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        match count(value) {
            Some(count) => Ok(Some(count)),
            None => Err(format!("{}{key} is {}, not a count", self.place, shown(value))),
        }
    }

    /// As [`Fields::count`]; a value that is not a count is also `None`, with a warning.
    pub(super) fn count_or_warn(&self, key: &str, warnings: &mut Warnings) -> Option<u64> {
        self.count(key).unwrap_or_else(|problem| {
            warnings.add(format!("queue status: {problem}; it is ignored"));
            None
        })
    }

    /// A time in seconds since 1970, by the writer's clock. Hydra writes 0 for "never", which is `None`. An
    /// invalid value is also `None`, with a warning.
    pub(super) fn time(&self, key: &str, warnings: &mut Warnings) -> Option<Timestamp> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        match whole(value, f64::floor) {
            Some(0) => None,
            Some(seconds) if seconds < LATEST_TIME.0 => Some(Timestamp(seconds)),
            _ => {
                let (place, value) = (self.place, shown(value));
                warnings.add(format!(
                    "queue status: {place}{key} is {value}, not a time in seconds; it is ignored"
                ));
                None
            }
        }
    }

    /// When the answer was created, by the writer's clock; `None` if it has no such field.
    ///
    /// # Errors
    /// When there is a value that is not a time: the answer's age is not known then.
    pub(super) fn time_of_answer(&self, key: &str) -> Result<Option<Timestamp>, String> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        let time = self.time(key, &mut Warnings::default());
        time.map(Some).ok_or_else(|| not_a_time(self.place, key, value))
    }

    /// A boolean; `None` if absent.
    ///
    /// # Errors
    /// When the value is not a boolean.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, String> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(boolean)) => Ok(Some(*boolean)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => {
                Err(format!("{}{key} is {}, neither true nor false", self.place, shown(other)))
            }
        }
    }

    /// A duration in units of 1/`per_second` seconds; `None` if absent.
    pub(super) fn seconds(&self, key: &str, per_second: u64) -> Option<Seconds> {
        let length = whole(self.map.get(key)?, f64::floor)?;
        Some(Seconds(length / per_second))
    }
}

/// A count. A fraction is rounded up (half a job is a job). `None` if `value` is not a number, or negative.
pub(super) fn count(value: &Value) -> Option<u64> {
    whole(value, f64::ceil)
}

/// A number, or a string that contains one.
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
    // The cast saturates: a value that is too large becomes the largest number.
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
        assert_eq!(lines.len(), MAX_WARNINGS + 1);
        assert_eq!(lines[MAX_WARNINGS], "queue status: and 980 more warnings");
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert_eq!(quoted(&"x".repeat(9999)).len(), MAX_QUOTED_CHARS + 5);
    }
}

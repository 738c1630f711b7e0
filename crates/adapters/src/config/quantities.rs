//! Durations, sizes and amounts of money: one reader for each.

use std::ops::RangeInclusive;

use jiff::{Span, SpanRelativeTo};
use planner::{IdleTimeout, Money, Seconds};
use serde_json::Value;

use super::reader::Attrs;

/// Ten years: longer than any useful limit, and short enough that sums of times do not overflow.
pub const LONGEST_SECONDS: u64 = 10 * 365 * 86_400;

impl Attrs<'_> {
    /// A duration: a number of seconds, or a string such as `"90s"`, `"10m"`, `"1h30m"`, `"1d"`.
    pub(super) fn seconds(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Seconds> {
        const EXPECTED: &str =
            "a whole number of seconds, or a text such as \"90s\", \"10m\", \"2h\", \"1d\"";
        let value = self.get(name)?;
        let Some(text) = value.as_str() else {
            return match value {
                Value::Number(number) if !number.is_f64() => self.number(name, range).map(Seconds),
                _ => self.mismatch(name, EXPECTED, value),
            };
        };
        let Some(seconds) = seconds_of(text) else {
            return self.mismatch(name, EXPECTED, value);
        };
        if range.contains(&seconds) {
            return Some(Seconds(seconds));
        }
        self.out_of_range(name, " seconds", &range, &value.to_string())
    }

    /// `idleTimeout`: a duration or `"auto"`.
    pub(super) fn idle_timeout(&self, name: &'static str) -> Option<IdleTimeout> {
        if self.get(name)?.as_str() == Some("auto") {
            return Some(IdleTimeout::Auto);
        }
        self.seconds(name, 0..=u64::MAX).map(IdleTimeout::After)
    }

    /// Dollars: a number, or a string for a decimal that must be exact.
    pub(super) fn dollars(&self, name: &'static str) -> Option<Money> {
        let value = self.get(name)?;
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return self.mismatch(name, "a number of dollars", value),
        };
        let money = Money::from_dollars(&text);
        if money.is_none() {
            self.problem(
                name,
                format!("must be a number of dollars such as 0.96 or \"0.0116\", is {text:?}"),
            );
        }
        money
    }

    /// A size in MiB: a number of MiB, or a string such as `"512M"` or `"4G"`.
    pub(super) fn mebibytes(&self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        const EXPECTED: &str = "a whole number of MiB, or a text such as \"512M\" or \"4G\"";
        let value = self.get(name)?;
        let Some(text) = value.as_str() else {
            return match value {
                Value::Number(number) if !number.is_f64() => self.number(name, range),
                _ => self.mismatch(name, EXPECTED, value),
            };
        };
        let Some(size) = mebibytes_of(text) else {
            return self.mismatch(name, EXPECTED, value);
        };
        if range.contains(&size) {
            return Some(size);
        }
        self.out_of_range(name, " MiB", &range, &value.to_string())
    }
}

/// `None` if `text` is not a duration in whole seconds. Months and years have no fixed length.
fn seconds_of(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let span: Span = text.parse().ok()?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return None;
    }
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (duration.subsec_nanos() == 0).then(|| u64::try_from(duration.as_secs()).ok())?
}

fn mebibytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim_end().parse().ok()?;
    let factor = match &text[digits.len()..] {
        "" | "M" | "MiB" => 1,
        "G" | "GiB" => 1 << 10,
        "T" | "TiB" => 1 << 20,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("1h30m", Some(5400)),
            ("1w", Some(604_800)),
            ("1 day", Some(86_400)),
            ("1.5h", Some(5400)),
            ("0s", Some(0)),
            ("1mo", None),
            ("1y", None),
            ("0.5s", None),
            ("-5m", None),
            ("5 apples", None),
            ("", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(seconds_of(text), seconds, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("512", Some(512)),
            ("512M", Some(512)),
            ("4G", Some(4096)),
            ("4 GiB", Some(4096)),
            ("1T", Some(1 << 20)),
            ("4g", None),
            ("-4G", None),
            ("G", None),
            ("99999999999999999T", None),
        ] {
            assert_eq!(mebibytes_of(text), size, "{text}");
        }
    }
}

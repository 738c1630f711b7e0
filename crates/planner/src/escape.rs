//! Text from outside, in messages.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Replaces control characters, and characters that change the text direction, by escape sequences. So text
/// from a provider or queue runner cannot control a terminal or forge a log line.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_where(text, is_dangerous)
}

/// As [`escape`], but keeps line breaks: for whole outputs.
pub fn escape_within_lines(text: &str) -> Cow<'_, str> {
    escape_where(text, |c| is_dangerous(c) && !matches!(c, '\n' | '\t'))
}

fn escape_where(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "{}", c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn is_dangerous(c: char) -> bool {
    let turns = '\u{202a}'..='\u{202e}';
    let isolates = '\u{2066}'..='\u{2069}';
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || turns.contains(&c)
        || isolates.contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, expected) in [
            ("plain, größer", "plain, größer"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("line\nline\r\t", "line\\nline\\r\\t"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}exe.txt", "\\u{202e}exe.txt"),
        ] {
            assert_eq!(escape(text), expected);
        }
        assert_eq!(escape_within_lines("a\tb\nc\r\u{1b}"), "a\tb\nc\\r\\u{1b}");
    }
}

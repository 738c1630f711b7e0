//! Text that others wrote, made harmless for a terminal.

use std::borrow::Cow;

/// `text` with every control character but newline and tab written as Rust does (`\u{1b}`): no provider, queue
/// runner or machine moves the cursor, clears the screen or hides a line of ours.
pub(crate) fn without_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The controls of ASCII and Latin-1, and those that turn the direction of writing.
fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_shown_and_the_rest_is_left_alone() {
        assert_eq!(without_controls("a\tb\nc ä €"), "a\tb\nc ä €");
        assert_eq!(
            without_controls("\x1b[2Jx\r\0\u{7f}\u{9b}"),
            "\\u{1b}[2Jx\\r\\u{0}\\u{7f}\\u{9b}"
        );
        assert_eq!(without_controls("a\u{202e}b"), "a\\u{202e}b");
    }
}

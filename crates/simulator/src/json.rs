//! Errors in the user's JSON files, with their place.

use serde::Deserialize;
use thiserror::Error;

/// An invalid scenario or farm: every problem with its path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.join("\n"))]
pub struct ScenarioError(pub Vec<String>);

/// The place and kind of an error in a JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl From<serde_json::Error> for Mistake {
    fn from(error: serde_json::Error) -> Self {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string();
        let message = message.strip_suffix(&place).unwrap_or(&message);
        let message = &in_words(message);
        let hint =
            meant(message).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        Self { line: error.line(), column: error.column(), message: format!("{message}{hint}") }
    }
}

/// Reads a complete file; errors have line and column.
pub(crate) fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let Mistake { line, column, message } = error.into();
        format!("line {line}, column {column}: {message}")
    })
}

/// Replaces serde's names of number types.
fn in_words(message: &str) -> String {
    const WORDS: [(&str, &str); 6] = [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("i32", "a whole number from -2147483648 to 2147483647"),
        ("u64", "a whole number, 0 or more"),
        ("i64", "a whole number"),
    ];
    let words = WORDS.into_iter().find_map(|(name, words)| {
        let before = message.strip_suffix(name)?;
        before.ends_with(", expected ").then(|| format!("{before}{words}"))
    });
    words.unwrap_or_else(|| message.to_owned())
}

/// The name that was probably meant, from an error of serde: the unknown name is first in it, then the expected ones.
fn meant(message: &str) -> Option<&str> {
    let names =
        message.strip_prefix("unknown field ").or(message.strip_prefix("unknown variant "))?;
    let mut names = names.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    nearest(unknown, names)
}

/// The known name closest to `name`, if it was probably meant.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Farm;

    #[test]
    fn mistakes_are_told_with_their_place_and_what_was_meant() {
        for (text, message) in [
            (
                "{\n  \"cycel\": {} }",
                "line 2, column 9: unknown field `cycel`, expected one of `machines`, `queueRunner`, `cycle`, \
                 `incidents`, `notices`, `faults`; did you mean `cycle`?",
            ),
            (
                r#"{ "cycle": { "bananas": 1 } }"#,
                "line 1, column 22: unknown field `bananas`, expected one of `interval`, `poll`, `listInterval`, `first`",
            ),
            (
                r#"{ "machines": { "s": { "boot": { "uniforn": 1 } } } }"#,
                "line 1, column 42: unknown variant `uniforn`, expected one of `fixed`, `uniform`, `exponential`, \
                 `logNormal`, `pareto`, `recorded`, `inOrder`; did you mean `uniform`?",
            ),
            ("{", "line 1, column 1: EOF while parsing an object"),
            (
                r#"{ "machines": { "s": { "cores": -1 } } }"#,
                "line 1, column 34: invalid value: integer `-1`, expected a whole number from 0 to 4294967295",
            ),
            (
                r#"{ "machines": { "s": { "boot": { "fixed": 0.5 } } } }"#,
                "line 1, column 45: invalid type: floating point `0.5`, expected a whole number, 0 or more",
            ),
        ] {
            assert_eq!(parse::<Farm>(text).unwrap_err(), message);
        }
    }
}

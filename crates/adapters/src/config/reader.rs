//! Reads a JSON value and collects every problem, each with its attribute path.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// The most characters of a message. A value may be of any length.
const MOST_SHOWN: usize = 2000;

/// A problem at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The attribute path in Nix syntax.
    pub place: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Collects problems and warnings while a value is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
    options: RefCell<BTreeSet<String>>,
}

impl Findings {
    /// The attribute paths of all options that were read.
    pub(super) fn into_options(self) -> BTreeSet<String> {
        self.options.into_inner()
    }

    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort();
        (problems, self.warnings.into_inner())
    }
}

/// An attribute set being read. Every attribute that was not read before [`finish`](Self::finish) is an
/// unknown option.
pub(super) struct Attrs<'a> {
    findings: &'a Findings,
    path: String,
    map: &'a Map<String, Value>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Attrs<'a> {
    /// The whole configuration; `None` (and a problem) if it is not an attribute set.
    pub(super) fn root(findings: &'a Findings, value: &'a Value) -> Option<Self> {
        Self::at(findings, String::new(), value)
    }

    fn at(findings: &'a Findings, path: String, value: &'a Value) -> Option<Self> {
        if let Value::Object(map) = value {
            Some(Self { findings, path, map, asked: RefCell::default() })
        } else {
            let place = if path.is_empty() { "the configuration".to_owned() } else { path };
            let message = format!("must be an attribute set, is {}", kind(value));
            findings.problems.borrow_mut().push(Problem { place, message });
            None
        }
    }

    /// Reports a problem at the attribute `name` of this set.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>) {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MOST_SHOWN) {
            message.replace_range(end.., "...");
        }
        let problem = Problem { place: self.place(name), message };
        self.findings.problems.borrow_mut().push(problem);
    }

    /// Reports a problem at this set itself.
    pub(super) fn own_problem(&self, message: impl Into<String>) {
        let problem = Problem { place: self.path.clone(), message: message.into() };
        self.findings.problems.borrow_mut().push(problem);
    }

    pub(super) fn warning(&self, name: &str, message: &str) {
        self.findings.warnings.borrow_mut().push(format!("{}: {message}", self.place(name)));
    }

    fn place(&self, name: &str) -> String {
        let attribute = if is_identifier(name) { name.to_owned() } else { format!("{name:?}") };
        if self.path.is_empty() { attribute } else { format!("{}.{attribute}", self.path) }
    }

    /// The attribute `name`; `null` counts as absent (NixOS modules write it).
    pub(super) fn get(&self, name: &'static str) -> Option<&'a Value> {
        if self.asked.borrow_mut().insert(name) {
            self.findings.options.borrow_mut().insert(self.place(name));
        }
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The attributes of a set with names that the user chooses.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Option<Attrs<'a>>)> {
        self.map
            .iter()
            .map(|(name, value)| (name.as_str(), Self::at(self.findings, self.place(name), value)))
    }

    pub(super) fn attrs(&self, name: &'static str) -> Option<Attrs<'a>> {
        Self::at(self.findings, self.place(name), self.get(name)?)
    }

    /// The attribute sets of a list. Other items are problems.
    pub(super) fn items(&self, name: &'static str) -> Vec<Attrs<'a>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            return self.mismatch(name, "a list of attribute sets", value).unwrap_or_default();
        };
        let place = |index| format!("{}[{}]", self.place(name), index + 1);
        let read = |(index, item)| Self::at(self.findings, place(index), item);
        items.iter().enumerate().filter_map(read).collect()
    }

    pub(super) fn flag(&self, name: &'static str) -> Option<bool> {
        let value = self.get(name)?;
        value.as_bool().or_else(|| self.mismatch(name, "true or false", value))
    }

    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        let value = self.get(name)?;
        match value.as_str() {
            Some("") => {
                self.problem(name, "must not be empty");
                None
            }
            Some(text) => Some(text.to_owned()),
            None => self.mismatch(name, "a string", value),
        }
    }

    /// A path on this host that does not depend on the working directory.
    pub(super) fn absolute_path(&self, name: &'static str) -> Option<std::path::PathBuf> {
        let path = std::path::PathBuf::from(self.text(name)?);
        if path.is_absolute() {
            return Some(path);
        }
        self.problem(
            name,
            format!("must be an absolute path, is {:?}", path.display().to_string()),
        );
        None
    }

    /// The path of a file with a secret. A wrong value is not shown: it may be the secret itself.
    pub(super) fn secret_path(&self, name: &'static str) -> Option<std::path::PathBuf> {
        let value = self.get(name)?;
        let Some(text) = value.as_str() else { return self.mismatch(name, "a string", value) };
        let path = Some(std::path::PathBuf::from(text)).filter(|path| path.is_absolute());
        if path.is_none() {
            self.problem(
                name,
                "must be an absolute path of a file (the value is not shown: it may be a secret)",
            );
        }
        path
    }

    pub(super) fn texts(&self, name: &'static str) -> Option<Vec<String>> {
        let value = self.get(name)?;
        let Some(items) = value.as_array() else {
            return self.mismatch(name, "a list of strings", value);
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.problem(
                    name,
                    format!("must be a list of strings, item {} is {}", index + 1, kind(item)),
                ),
            }
        }
        (texts.len() == items.len()).then_some(texts)
    }

    /// A program and its arguments.
    pub(super) fn command(&self, name: &'static str) -> Option<Vec<String>> {
        let words = self.texts(name)?;
        if words.first().is_none_or(String::is_empty) {
            self.problem(name, "must start with a program");
            return None;
        }
        Some(words)
    }

    pub(super) fn number(&self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(name)?;
        if let Some(number) = value.as_u64() {
            if range.contains(&number) {
                return Some(number);
            }
        } else if value.as_i64().is_none() {
            return self.mismatch(name, "a whole number", value);
        }
        self.out_of_range(name, "", &range, &value.to_string())
    }

    /// Reports that a quantity in `unit`, which begins with a blank or is empty, is not in `range`.
    pub(super) fn out_of_range<T>(
        &self,
        name: &str,
        unit: &str,
        range: &RangeInclusive<u64>,
        shown: &str,
    ) -> Option<T> {
        let least = range.start();
        let message = match range.end() {
            &u64::MAX => format!("must be {least} or more{unit}, is {shown}"),
            most => format!("must be from {least} to {most}{unit}, is {shown}"),
        };
        self.problem(name, message);
        None
    }

    /// A 32-bit number, at least `least`.
    pub(super) fn count(&self, name: &'static str, least: u32) -> Option<u32> {
        let number = self.number(name, u64::from(least)..=u64::from(u32::MAX))?;
        u32::try_from(number).ok()
    }

    pub(super) fn mismatch<T>(&self, name: &str, expected: &str, value: &Value) -> Option<T> {
        self.problem(name, format!("must be {expected}, is {}", kind(value)));
        None
    }

    /// Reports every attribute that was not read, with the nearest known name.
    pub(super) fn finish(self) -> BTreeSet<&'static str> {
        let asked = self.asked.borrow().clone();
        for name in self.map.keys().filter(|name| !asked.contains(name.as_str())) {
            let hint = nearest(name, asked.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            self.problem(name, format!("unknown option{hint}"));
        }
        asked
    }
}

/// The known name that was probably meant by `name`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let shown: String = text.chars().take(40).collect();
            format!("the string {shown:?}{}", if shown.len() < text.len() { "..." } else { "" })
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an attribute set".to_owned(),
    }
}

/// Whether `name` needs no quotes in Nix.
fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\''))
}

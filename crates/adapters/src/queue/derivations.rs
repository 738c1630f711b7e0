//! The features that a build step requires of a machine: the `requiredSystemFeatures` of its derivation, read
//! through Nix.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::Feature;
use serde_json::{Map, Value};

pub use super::drv_path::DrvPath;
use crate::command::Invocation;
use crate::nix;

/// Bytes of paths per call. Linux allows 128 KiB per argument (for all paths together if `queue.nixCommand`
/// uses `ssh` and a shell).
const BATCH_BYTES: usize = 96 << 10;
/// Calls per status. Each path that is not in the store costs one call. A store without any of them (on a
/// host other than the queue runner's) must not take a minute.
const MAX_CALLS: u32 = 64;
/// After this many refusals, paths are requested in ever smaller parts until one can be shown. After as many
/// more, nothing in this store can be shown.
const REFUSALS_BEFORE_HALVING: u32 = 16;
/// Maximum length of Nix's error in a message, in characters.
const MAX_MESSAGE_CHARS: usize = 600;

/// The features that a derivation requires.
pub type Features = BTreeSet<Feature>;

/// A `nix` that can read derivations.
#[derive(Clone, Debug)]
pub(super) struct Nix {
    command: Vec<String>,
    verb: &'static [&'static str],
}

/// What Nix returned, and why it is incomplete.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) features: BTreeMap<DrvPath, Features>,
    /// Derivations that Nix cannot show.
    pub(super) refused: BTreeSet<DrvPath>,
    /// Derivations that Nix could not show even alone, without naming them as the cause.
    suspects: Vec<DrvPath>,
    /// The first error.
    pub(super) problem: Option<String>,
    /// Whether Nix can show nothing at all.
    pub(super) shows_nothing: bool,
}

/// How many refusals to tolerate while Nix shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalLimit {
    /// One.
    Low,
    High,
}

impl RefusalLimit {
    fn max_refusals(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::High => 2 * REFUSALS_BEFORE_HALVING,
        }
    }
}

impl Answer {
    /// Records which of `batch` Nix refused, as far as its `message` says. Returns the rest to request next
    /// (last first), in halves after `many` refusals.
    fn split_refused(
        &mut self,
        mut batch: Vec<DrvPath>,
        message: &str,
        many: bool,
    ) -> Vec<Vec<DrvPath>> {
        let before = self.refused.len();
        self.refused.extend(batch.extract_if(.., |path| message.contains(path.base_name())));
        let named_none = self.refused.len() == before;
        let mut left = Vec::new();
        if named_none && batch.len() == 1 {
            self.suspects.append(&mut batch);
        } else if named_none || many {
            left.push(batch.split_off(batch.len() / 2));
        }
        left.push(batch);
        left.retain(|batch| !batch.is_empty());
        left
    }

    /// If Nix shows nothing and names nothing, Nix itself has a problem, not a derivation.
    fn finished(mut self) -> Self {
        if !self.features.is_empty() {
            self.refused.extend(self.suspects.drain(..));
        } else if self.problem.is_some() && self.refused.is_empty() {
            self.shows_nothing = true;
        }
        self
    }
}

impl Nix {
    pub(super) fn new(command: Vec<String>) -> Self {
        Self { command, verb: &["derivation", "show"] }
    }

    pub(super) fn command(&self) -> &[String] {
        &self.command
    }

    /// The features of `derivations`, as far as Nix can show them before `deadline`.
    ///
    /// One path that Nix cannot show fails the whole call. Its message names that path, so the others are
    /// requested again without it. If it names none, or after many refusals, they are requested again in
    /// halves.
    pub(super) fn features(
        &mut self,
        derivations: &[DrvPath],
        refusal_limit: RefusalLimit,
        deadline: Instant,
    ) -> Answer {
        let mut answer = Answer::default();
        let mut batches: Vec<_> = in_batches(derivations).into_iter().map(<[_]>::to_vec).collect();
        batches.reverse();
        let mut refusals = 0;
        for _ in 0..MAX_CALLS {
            let Some(batch) = batches.pop() else { break };
            match self.show(&batch, deadline) {
                Ok(shown) => answer.features.extend(
                    shown.into_iter().filter(|(path, _)| batch.binary_search(path).is_ok()),
                ),
                Err(Refusal::ByNix(message)) => {
                    answer.problem.get_or_insert_with(|| shortened(&message));
                    refusals += 1;
                    let many = answer.features.is_empty() && refusals >= REFUSALS_BEFORE_HALVING;
                    batches.extend(answer.split_refused(batch, &message, many));
                    if answer.features.is_empty() && refusals >= refusal_limit.max_refusals() {
                        answer.shows_nothing = true;
                        break;
                    }
                }
                Err(Refusal::NotRun(message)) => {
                    answer.problem = Some(shortened(&message));
                    return answer;
                }
            }
        }
        if !batches.is_empty() {
            answer.problem.get_or_insert_with(|| "there are too many for one status".to_owned());
        }
        answer.finished()
    }

    /// `nix derivation show`, or `nix show-derivation` where that is not known yet (before Nix 2.14).
    fn show(
        &mut self,
        batch: &[DrvPath],
        deadline: Instant,
    ) -> Result<BTreeMap<DrvPath, Features>, Refusal> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::NotRun("no time was left to call nix".to_owned()));
        }
        let output = nix::run(&self.invocation(batch, left));
        let output = output.map_err(|error| Refusal::NotRun(error.to_string()))?;
        if output.succeeded() {
            return parse(&output.stdout).map_err(Refusal::ByNix);
        }
        let message = output.stderr_tail();
        if self.verb.len() == 2 && message.contains("is not a recognised command") {
            self.verb = &["show-derivation"];
            return self.show(batch, deadline);
        }
        Err(Refusal::ByNix(message))
    }

    fn invocation(&self, batch: &[DrvPath], limit: Duration) -> Invocation {
        Invocation::new(&self.command, limit)
            .args(["--extra-experimental-features", "nix-command"])
            .args(self.verb.iter().copied())
            // Do not ask binary caches for a derivation that is missing here.
            .arg("--offline")
            .args(batch.iter().map(DrvPath::full))
    }
}

/// A message that fits into a line: the error of a failed start contains all paths.
fn shortened(message: &str) -> String {
    let length = message.chars().count();
    if length <= MAX_MESSAGE_CHARS {
        return message.to_owned();
    }
    let start: String = message.chars().take(MAX_MESSAGE_CHARS / 2).collect();
    let end: String = message.chars().skip(length - MAX_MESSAGE_CHARS / 2).collect();
    format!("{start} ... {end}")
}

enum Refusal {
    /// Nix ran and failed.
    ByNix(String),
    /// The program does not exist or hangs: retrying is useless.
    NotRun(String),
}

/// Splits sorted `derivations` into parts that fit into one call each.
fn in_batches(derivations: &[DrvPath]) -> Vec<&[DrvPath]> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (i, derivation) in derivations.iter().enumerate() {
        let length = derivation.full().len() + 1;
        if bytes + length > BATCH_BYTES && i > start {
            batches.push(&derivations[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += length;
    }
    if start < derivations.len() {
        batches.push(&derivations[start..]);
    }
    batches
}

/// Parses the JSON of any Nix version: `{PATH: DERIVATION}`, keys with the store directory up to version 2 of
/// the format and without it since 3, or since Nix 2.34 `{"derivations": {BASE: DERIVATION}, "version": 4}`.
///
/// # Errors
/// When it is not a JSON object. Entries that are not derivations are skipped.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<DrvPath, Features>, String> {
    let shown: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| format!("nix did not print a JSON object: {error}"))?;
    let derivations = match shown.get("derivations") {
        Some(Value::Object(derivations)) => derivations,
        _ => &shown,
    };
    Ok(derivations
        .iter()
        .filter_map(|(path, derivation)| {
            Some((DrvPath::parse(path).ok()?, features_of(derivation.as_object()?)))
        })
        .collect())
}

/// As `required_features` in Hydra's `hydra-queue-runner/src/state/step.rs`: a list in the structured
/// attributes if there are any (`env.__json` in older Nix), otherwise words separated by blanks.
fn features_of(derivation: &Map<String, Value>) -> Features {
    const NAME: &str = "requiredSystemFeatures";
    let env = derivation.get("env").and_then(Value::as_object);
    let in_env = || {
        let json = env?.get("__json")?.as_str()?;
        serde_json::from_str::<Map<String, Value>>(json).ok()
    };
    let structured = derivation.get("structuredAttrs").and_then(Value::as_object).cloned();
    if let Some(attributes) = structured.or_else(in_env) {
        let list = attributes.get(NAME).and_then(Value::as_array);
        return list.into_iter().flatten().filter_map(Value::as_str).map(Feature::new).collect();
    }
    let words = env.and_then(|env| env.get(NAME)).and_then(Value::as_str).unwrap_or_default();
    words.split_whitespace().map(Feature::new).collect()
}

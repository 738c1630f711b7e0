//! What a build step requires of a machine: the `requiredSystemFeatures` of its derivation, told by Nix.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use planner::Feature;
use serde_json::{Map, Value};

pub use super::drv_path::DrvPath;
use crate::command::Invocation;
use crate::nix;

/// Bytes of paths in one call. Linux allows 128 KiB in one argument (all of them, once `queue.nixCommand`
/// goes through `ssh` and a shell).
const BATCH_BYTES: usize = 96 << 10;
/// Calls in one look. Each path that is not in the store costs one; a store that has none of them (on another
/// host than the queue runner's) must not take a minute of a cycle.
const MOST_CALLS: u32 = 64;
/// Refusals after which paths are asked for in ever smaller parts, until one is shown. After as many more nothing
/// of this store is shown at all.
const MOST_OF_ONE: u32 = 16;
/// Characters of Nix's words that stand in a message.
const MOST_MESSAGE_CHARS: usize = 600;

/// The features that a derivation requires.
pub type Features = BTreeSet<Feature>;

/// A `nix` that can read derivations.
#[derive(Clone, Debug)]
pub(super) struct Nix {
    command: Vec<String>,
    verb: &'static [&'static str],
}

/// What Nix told, and why it did not tell all.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) features: BTreeMap<DrvPath, Features>,
    /// Derivations that Nix cannot show.
    pub(super) refused: BTreeSet<DrvPath>,
    /// Those that it could not show on their own, without saying that it is because of them.
    suspects: Vec<DrvPath>,
    /// The first reason.
    pub(super) trouble: Option<String>,
    /// Whether Nix shows nothing at all.
    pub(super) in_vain: bool,
}

/// How long Nix is asked for smaller and smaller parts while it shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// After one refusal it is enough.
    Little,
    Much,
}

impl Patience {
    fn most_refusals(self) -> u32 {
        match self {
            Self::Little => 1,
            Self::Much => 2 * MOST_OF_ONE,
        }
    }
}

impl Answer {
    /// Notes what of `batch` Nix refused, as far as its `message` tells. What is left is to be asked for next, the
    /// last first, where `many` were refused in halves.
    fn tell_apart(
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

    /// A Nix that shows none and names none is in trouble itself: no derivation is to blame.
    fn finished(mut self) -> Self {
        if !self.features.is_empty() {
            self.refused.extend(self.suspects.drain(..));
        } else if self.trouble.is_some() && self.refused.is_empty() {
            self.in_vain = true;
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

    /// The features of `derivations`, as far as Nix can tell them before `deadline`.
    ///
    /// One path that Nix cannot show fails the whole call. Its message names that path, so that the others are
    /// asked for again without it, or, where it names none or many were refused, in halves.
    pub(super) fn features(
        &mut self,
        derivations: &[DrvPath],
        patience: Patience,
        deadline: Instant,
    ) -> Answer {
        let mut told = Answer::default();
        let mut batches: Vec<_> = in_batches(derivations).into_iter().map(<[_]>::to_vec).collect();
        batches.reverse();
        let mut refusals = 0;
        for _ in 0..MOST_CALLS {
            let Some(batch) = batches.pop() else { break };
            match self.show(&batch, deadline) {
                Ok(shown) => told.features.extend(
                    shown.into_iter().filter(|(path, _)| batch.binary_search(path).is_ok()),
                ),
                Err(Refusal::ByNix(message)) => {
                    told.trouble.get_or_insert_with(|| shortened(&message));
                    refusals += 1;
                    let many = told.features.is_empty() && refusals >= MOST_OF_ONE;
                    batches.extend(told.tell_apart(batch, &message, many));
                    if told.features.is_empty() && refusals >= patience.most_refusals() {
                        told.in_vain = true;
                        break;
                    }
                }
                Err(Refusal::NotRun(message)) => {
                    told.trouble = Some(shortened(&message));
                    return told;
                }
            }
        }
        if !batches.is_empty() {
            told.trouble.get_or_insert_with(|| "there are too many to ask for at once".to_owned());
        }
        told.finished()
    }

    /// `nix derivation show`, or `nix show-derivation` where that is not known yet (before Nix 2.14).
    fn show(
        &mut self,
        batch: &[DrvPath],
        deadline: Instant,
    ) -> Result<BTreeMap<DrvPath, Features>, Refusal> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::NotRun("no time was left to ask nix".to_owned()));
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
            // A derivation that is missing here is not worth asking binary caches for.
            .arg("--offline")
            .args(batch.iter().map(DrvPath::full))
    }
}

/// A message that fits into a line: what failed to run is told with all its paths.
fn shortened(message: &str) -> String {
    let length = message.chars().count();
    if length <= MOST_MESSAGE_CHARS {
        return message.to_owned();
    }
    let start: String = message.chars().take(MOST_MESSAGE_CHARS / 2).collect();
    let end: String = message.chars().skip(length - MOST_MESSAGE_CHARS / 2).collect();
    format!("{start} ... {end}")
}

enum Refusal {
    /// Nix ran and failed.
    ByNix(String),
    /// There is no such program, or it hangs: no use in trying again.
    NotRun(String),
}

/// Splits `derivations`, sorted, into what fits into one call each.
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

/// Reads the JSON of any Nix: `{PATH: DERIVATION}`, keys with the store directory up to version 2 of the
/// format and without it since 3, or since Nix 2.34 `{"derivations": {BASE: DERIVATION}, "version": 4}`.
///
/// # Errors
/// When it is not a JSON object. What is no derivation in it is left out.
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

/// As `required_features` in Hydra's `hydra-queue-runner/src/state/step.rs` has it: a list in the
/// structured attributes where there are such (`env.__json` in older Nix), else blank-separated words.
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

//! Where builds come from.

use std::collections::BTreeSet;

use planner::{DemandKey, Feature, System};
use serde::{Deserialize, Serialize};

use super::{Arrivals, Layer};
use crate::engine::{Distribution, Millis, Random};

/// A stream of builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// For whoever reads the file.
    #[serde(default)]
    pub name: String,
    /// When builds (of a graph: changes of packages) arrive.
    pub arrivals: Arrivals,
    /// What arrives.
    #[serde(default)]
    pub work: Work,
    /// How long steps take where neither their kind nor their layer says so.
    #[serde(default = "usual_durations")]
    pub durations: Distribution,
    /// The systems and features of the steps.
    #[serde(default = "usual_kinds")]
    pub kinds: Vec<Kind>,
    /// The jobsets of the builds.
    #[serde(default = "usual_jobsets")]
    pub jobsets: Vec<WeightedJobset>,
    /// An admin's bump to the front of the queue.
    #[serde(default)]
    pub global_priority: i32,
    /// `meta.schedulingPriority`.
    #[serde(default)]
    pub local_priority: i32,
}

/// What one arrival is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Work {
    /// A build of so many steps; the last of them needs the others.
    Steps(Range),
    /// A change of one package of a graph: that and all that needs it, near and far, is built anew. Every
    /// package that no other needs is a build; it has the steps of its closure that no earlier build has.
    Graph {
        /// From the bootstrap to the leaves.
        layers: Vec<Layer>,
    },
}

/// Every whole number from `min` to `max` is equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// Steps of one system and one set of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kind {
    /// The system.
    pub system: System,
    /// Required features.
    #[serde(default)]
    pub features: BTreeSet<Feature>,
    /// How often, compared with the others.
    #[serde(default = "one")]
    pub weight: u32,
    /// How long they take, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durations: Option<Distribution>,
}

/// A jobset and how often it is the one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedJobset {
    /// `project:jobset`.
    pub name: String,
    /// How often, compared with the others.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// Half are done in a minute, one in a hundred takes 33 minutes or more.
fn usual_durations() -> Distribution {
    Distribution::LogNormal { median: Millis::from_minutes(1), sigma: 1.5 }
}

fn usual_kinds() -> Vec<Kind> {
    vec![Kind::usual()]
}

fn usual_jobsets() -> Vec<WeightedJobset> {
    vec![WeightedJobset { name: "scenario:main".to_owned(), weight: 1 }]
}

impl Default for Work {
    fn default() -> Self {
        Self::Steps(Range { min: 1, max: 1 })
    }
}

impl Range {
    pub(super) fn draw(self, random: &mut Random) -> u32 {
        let drawn = random.between(u64::from(self.min), u64::from(self.max));
        u32::try_from(drawn).unwrap_or(self.max)
    }
}

impl Kind {
    /// Steps for `x86_64-linux` without features.
    pub(super) fn usual() -> Self {
        let system = System::new("x86_64-linux");
        Self { system, features: BTreeSet::new(), weight: 1, durations: None }
    }

    /// Its name for the queue.
    pub fn key(&self) -> DemandKey {
        DemandKey { system: self.system.clone(), features: self.features.clone() }
    }
}

/// Draws one of `items` by weight; `None` when all weigh nothing.
pub(super) fn weighted<'a, T>(
    items: &'a [T],
    weight: impl Fn(&T) -> u32,
    random: &mut Random,
) -> Option<&'a T> {
    let sum = items.iter().map(|item| u64::from(weight(item))).sum();
    let mut drawn = random.below(sum);
    items.iter().find(|item| {
        let weight = u64::from(weight(item));
        let is_it = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        is_it
    })
}

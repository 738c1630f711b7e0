//! Dependency graphs in layers, shaped like nixpkgs: a bootstrap chain at the bottom, a wide middle in
//! which few packages are needed by many, and leaves.

use serde::{Deserialize, Serialize};

use super::source::{Range, weighted};
use crate::engine::{Distribution, Millis, Random};

/// Packages of about the same distance from the bootstrap.
///
/// The packages of the first layer are a chain, as stages of a bootstrap are: each needs the one before.
/// A package of any other layer needs at least one of the layer below (of the first layer: its last) and
/// for the rest of its dependencies any of the layers below; the first of a layer are needed most often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Layer {
    /// How many.
    pub packages: u32,
    /// How many others each needs. Means nothing for the first layer.
    #[serde(default = "usual_dependencies")]
    pub dependencies: Range,
    /// How long each takes; drawn once, every rebuild takes as long.
    pub durations: Distribution,
    /// How often a change is one of this layer, compared with the others.
    #[serde(default)]
    pub changes: u32,
}

fn usual_dependencies() -> Range {
    Range { min: 2, max: 8 }
}

/// The packages, each after those that it needs.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    packages: Vec<Package>,
    layers: Vec<LayerPlace>,
}

#[derive(Clone, Debug)]
struct Package {
    duration: Millis,
    dependencies: Vec<usize>,
    dependents: Vec<usize>,
    /// The step that built it last; none before its first rebuild, when it counts as built.
    step: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct LayerPlace {
    first: usize,
    packages: usize,
    changes: u32,
}

/// A package that is built anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rebuild {
    pub(super) step: u64,
    pub(super) duration: Millis,
    /// Steps, of this rebuild or an earlier one.
    pub(super) dependencies: Vec<u64>,
    /// Which of the builds of this change it belongs to, from 0.
    pub(super) build: usize,
}

impl Graph {
    pub(super) fn draw(layers: &[Layer], shapes: &mut Random, durations: &mut Random) -> Self {
        let mut graph = Self { packages: Vec::new(), layers: Vec::new() };
        for layer in layers {
            let first = graph.packages.len();
            for _ in 0..layer.packages {
                let dependencies = graph.draw_dependencies(layer.dependencies, shapes);
                let at = graph.packages.len();
                for dependency in &dependencies {
                    graph.packages[*dependency].dependents.push(at);
                }
                let duration = durations.sample(&layer.durations);
                let dependents = Vec::new();
                graph.packages.push(Package { duration, dependencies, dependents, step: None });
            }
            let packages = graph.packages.len() - first;
            graph.layers.push(LayerPlace { first, packages, changes: layer.changes });
        }
        graph
    }

    /// For the next package; the layers so far are all below it.
    fn draw_dependencies(&self, count: Range, random: &mut Random) -> Vec<usize> {
        let Some(below) = self.layers.last() else {
            return self.packages.len().checked_sub(1).into_iter().collect();
        };
        let is_bootstrap = self.layers.len() == 1;
        let last = below.first + below.packages - 1;
        let nearest =
            if is_bootstrap { last } else { below.first + skewed(below.packages, random) };
        let mut dependencies = vec![nearest];
        for _ in 1..count.draw(random) {
            let layer = self.layers[index_below(self.layers.len(), random)];
            dependencies.push(layer.first + skewed(layer.packages, random));
        }
        dependencies.sort_unstable();
        dependencies.dedup();
        dependencies
    }

    /// Changes one package. The rebuilds are in an order in which each comes after what it needs; they get
    /// the steps from `first_step` on.
    pub(super) fn change(&mut self, first_step: u64, random: &mut Random) -> Vec<Rebuild> {
        let Some(layer) = weighted(&self.layers, |layer| layer.changes, random) else {
            return Vec::new();
        };
        let changed = layer.first + index_below(layer.packages, random);
        let affected = self.affected(changed);
        for (step, at) in (first_step..).zip(&affected) {
            self.packages[*at].step = Some(step);
        }
        let builds = self.builds(&affected);
        affected
            .iter()
            .zip(builds)
            .zip(first_step..)
            .map(|((at, build), step)| self.rebuild(*at, build, step))
            .collect()
    }

    fn rebuild(&self, at: usize, build: usize, step: u64) -> Rebuild {
        let Package { duration, dependencies, .. } = &self.packages[at];
        let dependencies =
            dependencies.iter().filter_map(|needed| self.packages[*needed].step).collect();
        Rebuild { step, duration: *duration, dependencies, build }
    }

    /// `changed` and all that needs it, near and far, in order.
    fn affected(&self, changed: usize) -> Vec<usize> {
        let mut is_affected = vec![false; self.packages.len()];
        let mut open = vec![changed];
        is_affected[changed] = true;
        while let Some(at) = open.pop() {
            for dependent in &self.packages[at].dependents {
                if !is_affected[*dependent] {
                    is_affected[*dependent] = true;
                    open.push(*dependent);
                }
            }
        }
        (0..self.packages.len()).filter(|at| is_affected[*at]).collect()
    }

    /// By affected package, to which build it belongs: the first whose closure it is in.
    fn builds(&self, affected: &[usize]) -> Vec<usize> {
        let mut build_of = vec![None; affected.len()];
        let mut build = 0;
        for (place, at) in affected.iter().enumerate() {
            if !self.packages[*at].dependents.is_empty() {
                continue;
            }
            let mut open = vec![place];
            while let Some(place) = open.pop() {
                if build_of[place].is_some() {
                    continue;
                }
                build_of[place] = Some(build);
                let needed = self.packages[affected[place]].dependencies.iter();
                let places = needed.filter_map(|needed| affected.binary_search(needed).ok());
                open.extend(places);
            }
            build += 1;
        }
        build_of.into_iter().map(Option::unwrap_or_default).collect()
    }
}

/// Below `count`, the lower the more often: of a hundred, the first ten are three in five draws.
fn skewed(count: usize, random: &mut Random) -> usize {
    let within = index_below(count, random) + 1;
    let within = index_below(within, random) + 1;
    index_below(within, random)
}

fn index_below(count: usize, random: &mut Random) -> usize {
    usize::try_from(random.below(count as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Purpose, Seed};

    fn layer(packages: u32, changes: u32) -> Layer {
        let durations = Distribution::fixed_seconds(u64::from(packages));
        Layer { packages, dependencies: Range { min: 2, max: 4 }, durations, changes }
    }

    fn graph(changes: [u32; 3]) -> (Graph, Random) {
        let layers = [layer(3, changes[0]), layer(20, changes[1]), layer(50, changes[2])];
        let mut random = Seed(5).stream(Purpose::Shapes, 0);
        let mut durations = Seed(5).stream(Purpose::Durations, 0);
        (Graph::draw(&layers, &mut random, &mut durations), random)
    }

    #[test]
    fn the_bootstrap_is_below_everything() {
        let (mut graph, mut random) = graph([1, 0, 0]);
        assert_eq!(graph.packages[2].dependencies, [1]);
        assert!(graph.packages[3..].iter().all(|package| !package.dependencies.is_empty()));
        let rebuilds = graph.change(100, &mut random);
        assert!(rebuilds.len() >= 71, "the last stage and all above: {}", rebuilds.len());
        for rebuild in &rebuilds {
            assert!(rebuild.dependencies.iter().all(|needed| *needed < rebuild.step));
        }
        let builds = rebuilds.iter().map(|rebuild| rebuild.build).max().unwrap() + 1;
        assert!((50..=70).contains(&builds), "the leaves, and what else nothing needs: {builds}");
    }

    #[test]
    fn a_changed_leaf_is_one_step_that_needs_what_was_rebuilt_before() {
        let (mut graph, mut random) = graph([0, 0, 1]);
        let alone = graph.change(1, &mut random);
        assert_eq!((alone.len(), alone[0].dependencies.len(), alone[0].build), (1, 0, 0));
        graph.layers[0].changes = u32::MAX;
        let all = graph.change(2, &mut random);
        let next = all.last().unwrap().step + 1;
        graph.layers[0].changes = 0;
        let leaf = graph.change(next, &mut random);
        assert_eq!(leaf.len(), 1);
        assert!(!leaf[0].dependencies.is_empty());
        assert!(leaf[0].dependencies.iter().all(|needed| *needed < next));
    }
}

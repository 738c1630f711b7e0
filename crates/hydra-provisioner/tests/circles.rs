//! No import circle between the files of a crate (ARCHITECTURE.md), read from the `use` lines.
//!
//! A submodule may use its parents: that is how Rust splits one module into files.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module's path in its crate; empty for `lib.rs` and `main.rs`.
type Module = Vec<String>;

const CRATES: [&str; 5] = ["planner", "reconciler", "adapters", "simulator", "hydra-provisioner"];

#[test]
fn files_do_not_import_each_other_in_circles() {
    for name in CRATES {
        let found = circles(&Crate::read(name));
        assert!(found.is_empty(), "import circles in crates/{name}/src: {found:?}");
    }
}

/// The modules of a crate, with what they import and what they export again.
struct Crate {
    imports: BTreeMap<Module, Vec<Module>>,
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Crate {
    fn read(name: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut of_crate = Self { imports: BTreeMap::new(), exports: BTreeMap::new() };
        of_crate.read_folder(&source, &Module::new());
        of_crate
    }

    fn read_folder(&mut self, folder: &Path, module: &Module) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_own = matches!(name.as_str(), "lib" | "main" | "mod");
            let child = if is_own { module.clone() } else { [&module[..], &[name]].concat() };
            if path.is_dir() {
                self.read_folder(&path, &child);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                self.read_file(&fs::read_to_string(&path).unwrap(), child);
            }
        }
    }

    fn read_file(&mut self, text: &str, module: Module) {
        let text = text.split("#[cfg(test)]").next().unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
        let (mut imports, mut exports) = (Vec::new(), BTreeMap::new());
        for statement in lines.join(" ").split(';') {
            let Some(at) = statement.rfind("use ") else { continue };
            let (before, tree) = statement.split_at(at);
            for path in expand(tree["use ".len()..].trim()) {
                if before.trim_end().ends_with("pub") || before.trim_end().ends_with(')') {
                    exports.insert(path.last().unwrap().clone(), path.clone());
                }
                imports.push(path);
            }
        }
        self.imports.insert(module.clone(), imports);
        self.exports.insert(module, exports);
    }

    /// The file that `path` leads to from `module`; `None` for other crates.
    fn resolve(&self, module: &Module, path: &[String], depth: u8) -> Option<Module> {
        let mut rest = path;
        let mut at = match rest.first()?.as_str() {
            "crate" => Module::new(),
            "super" | "self" => module.clone(),
            first if self.imports.contains_key(&[&module[..], &[first.to_owned()]].concat()) => {
                module.clone()
            }
            _ => return None,
        };
        while let Some(first) =
            rest.first().filter(|word| ["crate", "super", "self"].contains(&word.as_str()))
        {
            if first == "super" {
                at.pop();
            }
            rest = &rest[1..];
        }
        while let Some(first) = rest.first() {
            let child = [&at[..], std::slice::from_ref(first)].concat();
            if !self.imports.contains_key(&child) {
                break;
            }
            at = child;
            rest = &rest[1..];
        }
        let again = rest.first().and_then(|name| self.exports.get(&at)?.get(name));
        let again = again.filter(|_| depth > 0).and_then(|path| self.resolve(&at, path, depth - 1));
        Some(again.unwrap_or(at))
    }

    fn uses(&self, module: &Module) -> BTreeSet<Module> {
        let paths = self.imports.get(module).into_iter().flatten();
        paths
            .filter_map(|path| self.resolve(module, path, 5))
            .filter(|used| !module.starts_with(used) && self.imports.contains_key(used))
            .collect()
    }
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<Module> {
    let Some((prefix, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![path.split("::").map(|word| word.trim().to_owned()).collect()];
    };
    let inner = &inner[..inner.rfind('}').unwrap_or(inner.len())];
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in inner.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(letter);
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| expand(&format!("{}{part}", prefix.trim()))).collect()
}

/// The groups of modules that reach each other.
fn circles(of_crate: &Crate) -> Vec<Vec<String>> {
    let reached: BTreeMap<_, _> =
        of_crate.imports.keys().map(|module| (module, reachable(of_crate, module))).collect();
    let mut groups = BTreeSet::new();
    for (module, from_it) in &reached {
        let back = from_it.iter().filter(|other| reached[other].contains(*module));
        let group: Vec<_> = back.map(|module| module.join("/")).collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

fn reachable(of_crate: &Crate, from: &Module) -> BTreeSet<Module> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = next.pop() {
        for used in of_crate.uses(&module) {
            if found.insert(used.clone()) {
                next.push(used);
            }
        }
    }
    found
}

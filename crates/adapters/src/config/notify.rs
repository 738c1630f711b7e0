//! `notify`: which programs are notified of which events.

use std::collections::BTreeSet;

use super::reader::Attrs;

/// A program that is notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySettings {
    /// Of these events.
    pub on: BTreeSet<Occasion>,
    /// Program and arguments. It gets JSON on standard input. Never run through a shell.
    pub command: Vec<String>,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// An operation failed.
    Failed,
    /// A ready machine is unhealthy, or its provider does not list it.
    Unhealthy,
    /// A provider lists a machine with a name like ours that is not ours.
    Orphan,
}

impl Occasion {
    /// The name in `conf.nix`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unhealthy => "unhealthy",
            Self::Orphan => "orphan",
        }
    }
}

const OCCASIONS: [Occasion; 3] = [Occasion::Failed, Occasion::Unhealthy, Occasion::Orphan];

pub(super) fn read(root: &Attrs<'_>) -> Vec<NotifySettings> {
    let items = root.items("notify").into_iter();
    items
        .map(|item| {
            let on = occasions(&item);
            let command = item.command("command").unwrap_or_default();
            if command.is_empty() && item.get("command").is_none() {
                item.problem("command", "must be set: a program and its arguments");
            }
            item.finish();
            NotifySettings { on, command }
        })
        .collect()
}

/// All, if none is named.
fn occasions(item: &Attrs<'_>) -> BTreeSet<Occasion> {
    let Some(names) = item.texts("on") else { return OCCASIONS.into() };
    let mut on = BTreeSet::new();
    for name in names {
        match OCCASIONS.into_iter().find(|occasion| occasion.name() == name) {
            Some(occasion) => {
                on.insert(occasion);
            }
            None => {
                item.problem("on", format!("has {name:?}; valid are failed, unhealthy and orphan"));
            }
        }
    }
    on
}

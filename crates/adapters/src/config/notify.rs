//! `notify`: who is notified about which events.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::reader::Attrs;

/// A recipient and its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySettings {
    /// The events.
    pub on: BTreeSet<Occasion>,
    /// The recipient.
    pub to: Recipient,
}

/// A recipient of notifications.
#[derive(Clone, PartialEq, Eq)]
pub enum Recipient {
    /// `command`: program and arguments; JSON comes on its standard input. Never run through a shell.
    Command(Vec<String>),
    /// `webhook`: the URL that JSON is posted to.
    Webhook(String),
    /// `webhookFile`: the file that contains the URL; read each time.
    WebhookFile(PathBuf),
}

/// Anyone who knows the URL of a webhook can post to it, so it is not shown.
impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => write!(f, "Command({words:?})"),
            Self::Webhook(_) => f.write_str("Webhook"),
            Self::WebhookFile(path) => write!(f, "WebhookFile({path:?})"),
        }
    }
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
    /// A limit in dollars keeps machines from being created.
    Budget,
}

impl Occasion {
    /// The name in `conf.nix`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unhealthy => "unhealthy",
            Self::Orphan => "orphan",
            Self::Budget => "budget",
        }
    }
}

const OCCASIONS: [Occasion; 4] =
    [Occasion::Failed, Occasion::Unhealthy, Occasion::Orphan, Occasion::Budget];

pub(super) fn read(root: &Attrs<'_>) -> Vec<NotifySettings> {
    let items = root.items("notify").into_iter();
    items
        .filter_map(|item| {
            let on = occasions(&item);
            let to = recipient(&item);
            item.finish();
            Some(NotifySettings { on, to: to? })
        })
        .collect()
}

/// Exactly one of three.
fn recipient(item: &Attrs<'_>) -> Option<Recipient> {
    let command = item.command("command").map(Recipient::Command);
    let webhook = item.text("webhook");
    if webhook.as_ref().is_some_and(|url| !is_web(url)) {
        item.problem("webhook", "must start with http:// or https://");
    }
    let file = item.secret_path("webhookFile").map(Recipient::WebhookFile);
    let given = ["command", "webhook", "webhookFile"];
    match given.into_iter().filter(|name| item.get(name).is_some()).count() {
        0 => item.own_problem(
            "must have command (a program), webhook (a URL) or webhookFile (a file with a URL)",
        ),
        1 => {}
        _ => item.own_problem("must have only one of command, webhook and webhookFile"),
    }
    command.or(webhook.map(Recipient::Webhook)).or(file)
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// Default: all.
fn occasions(item: &Attrs<'_>) -> BTreeSet<Occasion> {
    let Some(names) = item.texts("on") else { return OCCASIONS.into() };
    let mut on = BTreeSet::new();
    for name in names {
        match OCCASIONS.into_iter().find(|occasion| occasion.name() == name) {
            Some(occasion) => {
                on.insert(occasion);
            }
            None => {
                item.problem(
                    "on",
                    format!("has {name:?}; valid are failed, unhealthy, orphan and budget"),
                );
            }
        }
    }
    on
}

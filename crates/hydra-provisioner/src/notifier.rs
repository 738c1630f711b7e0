//! Tells the operator's programs (`notify`) of what goes wrong, at most once a minute each, in a thread of its own: the
//! loop never waits for them, and one that hangs is ended.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adapters::command::Invocation;
use adapters::config::{NotifySettings, Occasion};
use planner::Warning;
use reconciler::{Happening, HistoryEntry, Reconciler, Severity};
use serde_json::{Value, json};

/// From one run of a program to its next.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a program may run.
const LIMIT: Duration = Duration::from_secs(30);
/// What comes close together is told together.
const GATHER: Duration = Duration::from_secs(2);
/// What waits to be told at the most; what is beyond is in the history all the same.
const MOST_WAITING: usize = 500;

/// Which programs there are, now and after a reload.
pub(crate) type Programs = Arc<Mutex<Vec<NotifySettings>>>;

struct News {
    occasion: Occasion,
    json: Value,
    text: String,
}

/// The loop's end of it.
pub(crate) struct Notifier {
    sender: SyncSender<News>,
    /// What was known to be wrong at the last look.
    wrong: BTreeSet<(Occasion, String)>,
}

impl Notifier {
    pub(crate) fn start(programs: Programs) -> Self {
        let (sender, news) = mpsc::sync_channel(MOST_WAITING);
        let spawned =
            thread::Builder::new().name("notify".to_owned()).spawn(move || serve(&news, &programs));
        if let Err(error) = spawned {
            tracing::error!("nobody is notified: no thread: {error}");
        }
        Self { sender, wrong: BTreeSet::new() }
    }

    /// Hands over what is new.
    pub(crate) fn update(&mut self, reconciler: &Reconciler, happened: &[HistoryEntry]) {
        for entry in happened {
            if let Some(occasion) = occasion(entry) {
                let text = entry.what.to_string();
                let about = entry.machine.as_ref().map(ToString::to_string);
                let about = about.or_else(|| entry.machine_type.as_ref().map(ToString::to_string));
                let text = about.map_or(text.clone(), |about| format!("{about}: {text}"));
                self.tell(occasion, json!(entry), &text);
            }
        }
        let wrong = wrong(reconciler);
        for (occasion, text) in wrong.difference(&self.wrong).cloned().collect::<Vec<_>>() {
            self.tell(occasion, json!({ "at": reconciler.now(), "what": text }), &text);
        }
        self.wrong = wrong;
    }

    /// When too much waits, this is left out.
    fn tell(&self, occasion: Occasion, json: Value, text: &str) {
        let text = planner::escape(text).into_owned();
        let _full = self.sender.try_send(News { occasion, json, text });
    }
}

fn occasion(entry: &HistoryEntry) -> Option<Occasion> {
    match entry.what {
        Happening::Unreachable { .. } | Happening::Missing => Some(Occasion::Unhealthy),
        _ => (entry.what.severity() == Severity::Error).then_some(Occasion::Failed),
    }
}

/// What the plan finds wrong, as text.
fn wrong(reconciler: &Reconciler) -> BTreeSet<(Occasion, String)> {
    let plan = reconciler.plan();
    let unhealthy = plan.unhealthy.iter();
    let unhealthy = unhealthy.map(|(name, what)| (Occasion::Unhealthy, format!("{name}: {what}")));
    let orphans = plan.warnings.iter().filter_map(|warning| match warning {
        Warning::NotOurs { .. } => Some((Occasion::Orphan, warning.to_string())),
        _ => None,
    });
    unhealthy.chain(orphans).collect()
}

/// Runs the programs, once the interval is over since they last ran and what comes close together is there.
fn serve(news: &Receiver<News>, programs: &Programs) {
    while let Ok(first) = news.recv() {
        thread::sleep(GATHER);
        let all: Vec<_> = std::iter::once(first).chain(news.try_iter()).collect();
        let began = Instant::now();
        let programs = programs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for program in &programs {
            run(program, &all);
        }
        thread::sleep(INTERVAL.saturating_sub(began.elapsed()));
    }
}

fn run(program: &NotifySettings, news: &[News]) {
    let news: Vec<_> = news.iter().filter(|news| program.on.contains(&news.occasion)).collect();
    if news.is_empty() {
        return;
    }
    let events = news.iter().map(|news| json!({ "on": news.occasion.name(), "event": news.json }));
    let texts: Vec<_> = news.iter().map(|news| news.text.as_str()).collect();
    // `text` is what chat systems show.
    let told = json!({
        "version": 1, "text": texts.join("\n"), "events": events.collect::<Vec<_>>(),
    });
    let invocation = Invocation::new(&program.command, LIMIT).stdin(told.to_string());
    let problem = match invocation.run() {
        Ok(output) if output.succeeded() => return,
        Ok(output) => format!("exit code {}: {}", output.code, output.stderr_tail()),
        Err(error) => error.to_string(),
    };
    tracing::warn!("notify: {}: {problem}", invocation.command_line());
}

//! Notifies the operator's programs and webhooks (`notify`) of problems, at most once a minute each, in its own thread:
//! the control loop never waits for them, and a program that hangs is killed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adapters::command::Invocation;
use adapters::config::{NotifySettings, Occasion, Recipient};
use adapters::webhook;
use planner::{Deferral, LimitName, LimitReached, Plan, Warning};
use reconciler::{Happening, HistoryEntry, Reconciler, Severity};
use serde_json::{Value, json};

/// Minimum time between two runs of a program.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a program may run.
const LIMIT: Duration = Duration::from_secs(30);
/// Events within this time are reported together.
const GATHER: Duration = Duration::from_secs(2);
/// Maximum number of pending events; more are dropped here, and remain in the history.
const MOST_WAITING: usize = 500;

/// Maximum length of a message in characters, for recipients with a limit.
const MOST_CONTENT: usize = 1900;

/// The recipients, updated by a reload.
pub(crate) type Programs = Arc<Mutex<Vec<NotifySettings>>>;

struct News {
    occasion: Occasion,
    json: Value,
    text: String,
}

/// The control loop's side.
pub(crate) struct Notifier {
    sender: SyncSender<News>,
    /// The problems at the last call.
    wrong: BTreeSet<(Occasion, String)>,
}

impl Notifier {
    pub(crate) fn start(programs: Programs) -> Self {
        let (sender, news) = mpsc::sync_channel(MOST_WAITING);
        let spawned =
            thread::Builder::new().name("notify".to_owned()).spawn(move || serve(&news, &programs));
        if let Err(error) = spawned {
            tracing::error!("notify does not work: cannot start a thread: {error}");
        }
        Self { sender, wrong: BTreeSet::new() }
    }

    /// Queues new events.
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

    /// Drops the event if too many are pending.
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

/// The plan's problems, as text.
fn wrong(reconciler: &Reconciler) -> BTreeSet<(Occasion, String)> {
    let plan = reconciler.plan();
    let unhealthy = plan.unhealthy.iter();
    let unhealthy = unhealthy.map(|(name, what)| (Occasion::Unhealthy, format!("{name}: {what}")));
    let orphans = plan.warnings.iter().filter_map(|warning| match warning {
        Warning::NotOurs { .. } => Some((Occasion::Orphan, warning.to_string())),
        _ => None,
    });
    unhealthy.chain(orphans).chain(budgets(plan)).collect()
}

/// Types that get no machines because of a limit in dollars. Without numbers that change by themselves.
fn budgets(plan: &Plan) -> impl Iterator<Item = (Occasion, String)> {
    plan.sizing.iter().filter_map(|(machine_type, sizing)| {
        let Some(Deferral::Limit(LimitReached { limit, by_type, until: _ })) =
            sizing.deferred.as_ref().map(|deferred| &deferred.reason)
        else {
            return None;
        };
        let (name, limit) = match limit {
            LimitName::MaxMachines => return None,
            LimitName::MaxHourlyCost { limit } => ("maxHourlyCost", limit),
            LimitName::MaxDailyCost { limit, .. } => ("maxDailyCost", limit),
            LimitName::MaxMonthlyCost { limit, .. } => ("maxMonthlyCost", limit),
        };
        let owner = if *by_type { "of the type" } else { "of the farm" };
        let text = format!("{machine_type}: no more machines, {name} {owner} is reached ({limit})");
        Some((Occasion::Budget, text))
    })
}

/// Runs each program when its interval has passed, with all events collected until then.
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
    let text = texts.join("\n");
    // `text` is what Slack, Mattermost, Teams and Matrix show; `content` is Discord's, which has this limit.
    let content: String = text.chars().take(MOST_CONTENT).collect();
    let payload = json!({
        "version": 1, "text": text, "content": content, "events": events.collect::<Vec<_>>(),
    });
    if let Err(problem) = hand_over(&program.to, payload.to_string()) {
        tracing::warn!("notify: {problem}");
    }
}

fn hand_over(to: &Recipient, payload: String) -> Result<(), String> {
    match to {
        Recipient::Command(words) => {
            let invocation = Invocation::new(words, LIMIT).stdin(payload);
            let problem = match invocation.run() {
                Ok(output) if output.succeeded() => return Ok(()),
                Ok(output) => format!("exit code {}: {}", output.code, output.stderr_tail()),
                Err(error) => error.to_string(),
            };
            Err(format!("{}: {problem}", invocation.command_line()))
        }
        Recipient::Webhook(url) => webhook::post(url, payload, LIMIT),
        Recipient::WebhookFile(path) => {
            let url = fs::read_to_string(path)
                .map_err(|error| format!("cannot read webhookFile {}: {error}", path.display()))?;
            webhook::post(url.trim(), payload, LIMIT)
        }
    }
}

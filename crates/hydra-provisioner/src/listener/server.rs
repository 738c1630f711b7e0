//! Answers requests from the board, a few at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adapters::state;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use planner::{MachineName, QueueStatus, Seconds, Timestamp};
use prometheus_client::registry::Registry;
use reconciler::HistoryEntry;

use super::board::{Board, View};
use super::counters::Counters;
use super::events;
use super::gauges::Gauges;
use super::page::{self, Refresh, Shown};
use super::process::ProcessCollector;
use super::text_format::TextFormat;
use crate::console::now;
use crate::cost::{self, Costs};
use crate::http::{self, Answer, Socket};

/// Maximum number of history entries on a page.
const MOST_ENTRIES: u32 = 25;
/// Maximum number of lines of `/history.jsonl`.
const MOST_LINES: u32 = 10_000;
/// Costs are calculated again after this time.
const COSTS_AGE: Duration = Duration::from_secs(60);
/// The loop wakes up every second: without progress for this long it is unhealthy.
const LONGEST_TURN: Seconds = Seconds(60);
/// No external resources, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
];
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const NOT_HERE: &str = "not here; there are /, /machine/NAME, /type/TYPE, /status.json, /history.jsonl, /metrics, /healthz, /readyz\n";

struct Pages {
    board: Arc<Board>,
    registry: Registry,
    costs: Mutex<Option<(Instant, Costs)>>,
}

/// Serves requests to `sockets`, in its own threads.
///
/// # Errors
/// If a thread or descriptor is not available.
pub(super) fn serve(
    sockets: Vec<(Socket, String)>,
    board: &Arc<Board>,
    counters: &Counters,
) -> Result<(), String> {
    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("hydra_provisioner");
    counters.register(ours);
    ours.register_collector(Box::new(Gauges(Arc::clone(board))));
    registry.register_collector(Box::new(ProcessCollector));
    let pages = Pages { board: Arc::clone(board), registry, costs: Mutex::new(None) };
    let (sockets, places): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
    if sockets.is_empty() {
        return Ok(());
    }
    http::serve(sockets, move |request| pages.respond(&request))
        .map_err(|error| format!("cannot serve: {error}"))?;
    for place in places {
        tracing::info!("{place}");
    }
    Ok(())
}

impl Pages {
    fn respond(&self, request: &Request<Bytes>) -> Answer {
        let url = request.uri().path_and_query().map_or("/", |url| url.as_str());
        let (path, query) = split(url);
        match *request.method() {
            Method::GET | Method::HEAD => self.answer(request, &path, &query),
            _ => with_status(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
        }
    }

    fn answer(&self, request: &Request<Bytes>, path: &str, query: &Query) -> Answer {
        let view = self.board.view();
        match path {
            "/" => self.overview(&view, query),
            "/events" => with_headers(events::stream(&self.board), "text/event-stream"),
            "/metrics" => self.metrics(request),
            "/status.json" => self.status_json(&view),
            "/history.jsonl" => self.history_lines(query),
            "/healthz" => self.health(),
            "/readyz" => readiness(&view),
            "/style.css" => answer(page::STYLE, "text/css; charset=utf-8"),
            "/live.js" => answer(page::SCRIPT, "text/javascript; charset=utf-8"),
            _ => match (path.strip_prefix("/machine/"), path.strip_prefix("/type/")) {
                (Some(name), _) => self.machine(&view, name, query),
                (_, Some(name)) => self.machine_type(&view, name, query),
                _ => with_status(StatusCode::NOT_FOUND, NOT_HERE),
            },
        }
    }

    fn overview(&self, view: &View, query: &Query) -> Answer {
        let status = view.status(self.board.refused().as_deref());
        let shown = Shown {
            status: &status,
            history: &self.history(query.before, MOST_ENTRIES, None),
            costs: &self.costs(view),
            limits: view.policy.cost_limits,
        };
        answer(page::overview(&shown, query.refresh).into_string(), HTML)
    }

    fn machine(&self, view: &View, name: &str, query: &Query) -> Answer {
        let status = view.status(None);
        let found = status.machines.iter().find(|machine| machine.name == name);
        let life = self.history(query.before, 4 * MOST_ENTRIES, Some(name));
        if found.is_none() && life.is_empty() {
            let text = format!("no machine is called {}\n", planner::escape(name));
            return with_status(StatusCode::NOT_FOUND, text);
        }
        answer(page::machine(name, found, &life, status.at, query.refresh).into_string(), HTML)
    }

    fn machine_type(&self, view: &View, name: &str, query: &Query) -> Answer {
        let status = view.status(None);
        let Some(kind) = status.types.iter().find(|kind| kind.name == name) else {
            let text = format!("no type is called {}\n", planner::escape(name));
            return with_status(StatusCode::NOT_FOUND, text);
        };
        let page = page::machine_type(kind, &status, &self.board.samples(), query.refresh);
        answer(page.into_string(), HTML)
    }

    fn status_json(&self, view: &View) -> Answer {
        match serde_json::to_string_pretty(&view.status(self.board.refused().as_deref())) {
            Ok(text) => answer(text, JSON),
            Err(error) => with_status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Oldest first.
    fn history_lines(&self, query: &Query) -> Answer {
        let entries = self.history(query.before, MOST_LINES, query.machine.as_deref());
        let entries = entries.iter().rev().map(|(_, entry)| entry);
        let wanted = entries.filter(|entry| entry.at >= query.since);
        let lines = wanted.filter_map(|entry| serde_json::to_string(entry).ok());
        answer(lines.map(|line| line + "\n").collect::<String>(), "application/jsonl")
    }

    fn history(
        &self,
        before: Option<i64>,
        most: u32,
        machine: Option<&str>,
    ) -> Vec<(i64, HistoryEntry)> {
        let Some(state_dir) = self.board.state_dir() else { return Vec::new() };
        state::recent(state_dir, before, most, machine).unwrap_or_else(|error| {
            tracing::warn!("the page has no history: {error}");
            Vec::new()
        })
    }

    fn costs(&self, view: &View) -> Costs {
        let mut last = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, costs)) = &*last
            && at.elapsed() < COSTS_AGE
        {
            return costs.clone();
        }
        let state_dir = self.board.state_dir();
        let costs = state_dir.and_then(|dir| cost::of_state(dir, &view.policy, now()).ok());
        let costs = costs.unwrap_or_default();
        *last = Some((Instant::now(), costs.clone()));
        costs
    }

    fn metrics(&self, request: &Request<Bytes>) -> Answer {
        let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        let format = TextFormat::accepted(accept.unwrap_or(""));
        let mut page = String::new();
        match prometheus_client::encoding::text::encode(&mut page, &self.registry) {
            Ok(()) => answer(format.write(page), format.content_type()),
            Err(error) => with_status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Whether the control loop makes progress.
    fn health(&self) -> Answer {
        let stands_for = now().since(self.board.turned_at());
        if stands_for < LONGEST_TURN {
            answer("ok\n", TEXT)
        } else {
            let text = format!("the control loop has not progressed for {stands_for}\n");
            with_status(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

/// Whether the queue status is available.
fn readiness(view: &View) -> Answer {
    match &view.snapshot.queue {
        QueueStatus::Up(_) => answer("ok\n", TEXT),
        QueueStatus::Unavailable(reason) => {
            let reason = planner::escape(reason);
            let text = format!("queue status unavailable: {reason}\n");
            with_status(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn answer(text: impl Into<Bytes>, content_type: &'static str) -> Answer {
    with_headers(http::answer(text), content_type)
}

fn with_status(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with_headers(http::answer_with(status, text), TEXT)
}

fn with_headers(mut answer: Answer, content_type: &'static str) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// Query parameters.
struct Query {
    refresh: Refresh,
    before: Option<i64>,
    since: Timestamp,
    machine: Option<String>,
}

/// The path and the query; invalid parameters are ignored.
fn split(url: &str) -> (String, Query) {
    let (path, rest) = url.split_once('?').unwrap_or((url, ""));
    let mut query =
        Query { refresh: Refresh::Live, before: None, since: Timestamp(0), machine: None };
    for part in rest.split('&') {
        match part.split_once('=').unwrap_or((part, "")) {
            ("stop", _) => query.refresh = Refresh::Stopped,
            ("before", number) => query.before = number.parse().ok(),
            ("since", number) => query.since = Timestamp(number.parse().unwrap_or(0)),
            ("machine", name) => query.machine = Some(MachineName::new(decode(name)).to_string()),
            _ => {}
        }
    }
    // Past history does not change.
    if query.before.is_some() {
        query.refresh = Refresh::Stopped;
    }
    (decode(path), query)
}

/// Decodes `%XX`.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let value = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = value {
            decoded.push(byte);
            decoded.extend(&part.as_bytes()[2..]);
        } else {
            decoded.push(b'%');
            decoded.extend(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

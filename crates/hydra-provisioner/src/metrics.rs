//! What goes on, in Prometheus' text format (version 0.0.4), over HTTP. The page is made by the loop and only handed out
//! here, so that no scrape waits for anything.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use planner::{Operation, Plan, QueueStatus, Sizing, Timestamp, Warning};
use reconciler::{Happening, HistoryEntry, Reconciler};

/// How old the gauges may be while nothing happens.
const RENDER_INTERVAL: Duration = Duration::from_secs(5);
/// All of them, so that no series begins only with its first failure.
const OPERATIONS: [Operation; 7] = [
    Operation::Create,
    Operation::Start,
    Operation::Deploy,
    Operation::KeepAlive,
    Operation::Drain,
    Operation::Stop,
    Operation::Destroy,
];

/// Counts since the start, and the page as it is now.
#[derive(Default)]
pub(crate) struct Metrics {
    failures: BTreeMap<Operation, u64>,
    released: BTreeMap<&'static str, u64>,
    created: u64,
    ready: u64,
    reloads: u64,
    rendered: Option<Instant>,
    page: Arc<Mutex<String>>,
}

impl Metrics {
    /// Serves them at `address` from now on, in a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) fn serve(&self, address: SocketAddr) -> Result<(), String> {
        let server = tiny_http::Server::http(address)
            .map_err(|error| format!("cannot serve metrics at {address}: {error}"))?;
        // With port 0 only this tells where they are.
        tracing::info!("metrics at http://{}/metrics", server.server_addr());
        let page = Arc::clone(&self.page);
        thread::spawn(move || {
            for request in server.incoming_requests() {
                let text = page.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let response = match request.url() {
                    "/metrics" => tiny_http::Response::from_string(text),
                    _ => tiny_http::Response::from_string("see /metrics\n").with_status_code(404),
                };
                // Whoever asked may have gone away.
                let _gone = request.respond(response);
            }
        });
        Ok(())
    }

    /// Counts what happened and takes over what is known now.
    pub(crate) fn update(&mut self, reconciler: &Reconciler, happened: &[HistoryEntry]) {
        for entry in happened {
            self.count(&entry.what);
        }
        let is_due = self.rendered.is_none_or(|at| at.elapsed() >= RENDER_INTERVAL);
        if happened.is_empty() && !is_due {
            return;
        }
        self.rendered = Some(Instant::now());
        let text = self.render(reconciler);
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn count(&mut self, what: &Happening) {
        match what {
            Happening::Failed { operation, .. } | Happening::Abandoned { operation } => {
                *self.failures.entry(*operation).or_default() += 1;
            }
            Happening::Stopped => *self.released.entry("stop").or_default() += 1,
            Happening::Destroyed => *self.released.entry("destroy").or_default() += 1,
            Happening::Ready { .. } => self.ready += 1,
            Happening::Created { .. } => self.created += 1,
            Happening::Configured => self.reloads += 1,
            _ => {}
        }
    }

    fn render(&self, reconciler: &Reconciler) -> String {
        let mut page = Page::default();
        page.family("operation_failures_total", "counter", "Failed operations on single machines.");
        for operation in OPERATIONS {
            let count = self.failures.get(&operation).copied().unwrap_or(0);
            let name = operation.to_string();
            page.sample("operation_failures_total", &[("operation", &name)], count);
        }
        page.family("releases_total", "counter", "Machines stopped or destroyed.");
        for how in ["stop", "destroy"] {
            let count = self.released.get(how).copied().unwrap_or(0);
            page.sample("releases_total", &[("how", how)], count);
        }
        page.family("creations_total", "counter", "Machines created.");
        page.sample("creations_total", &[], self.created);
        page.family("deployments_total", "counter", "Times that a machine was made ready.");
        page.sample("deployments_total", &[], self.ready);
        page.family("reloads_total", "counter", "Times that the configuration was read again.");
        page.sample("reloads_total", &[], self.reloads);
        gauges(&mut page, reconciler);
        page.text
    }
}

/// What is known now.
fn gauges(page: &mut Page, reconciler: &Reconciler) {
    let (snapshot, plan) = (reconciler.snapshot(), reconciler.plan());
    let Timestamp(now) = snapshot.taken_at;
    page.family("last_progress_timestamp_seconds", "gauge", "When the loop last turned.");
    page.sample("last_progress_timestamp_seconds", &[], now);
    queue(page, &snapshot.queue);
    page.family("provider_up", "gauge", "0 for types whose machines could not be listed.");
    for machine_type in plan.sizing.keys().chain(snapshot.unlisted.keys()) {
        let listed = !snapshot.unlisted.contains_key(machine_type);
        page.sample("provider_up", &[("type", machine_type.as_str())], u64::from(listed));
    }
    page.family("storage_up", "gauge", "Whether the state can be written down.");
    page.sample("storage_up", &[], u64::from(snapshot.storage_error.is_none()));
    page.family("machines", "gauge", "Machines by type and state.");
    let mut machines: BTreeMap<_, u64> = BTreeMap::new();
    for machine in &snapshot.machines {
        *machines.entry((&machine.machine_type, machine.state.to_string())).or_default() += 1;
    }
    for ((machine_type, state), count) in &machines {
        page.sample("machines", &[("type", machine_type.as_str()), ("state", state)], *count);
    }
    page.family("operations", "gauge", "Operations under way.");
    page.sample("operations", &[], reconciler.operations().count() as u64);
    page.family("unhealthy_machines", "gauge", "Ready machines that do not work.");
    page.sample("unhealthy_machines", &[], plan.unhealthy.len() as u64);
    by_type(page, plan);
    page.family(
        "backoff_until_timestamp_seconds",
        "gauge",
        "No machine of the type is created before.",
    );
    for (machine_type, back_off) in &snapshot.back_off {
        let labels = [("type", machine_type.as_str())];
        page.sample("backoff_until_timestamp_seconds", &labels, back_off.until.0);
    }
    page.family("unserved_steps", "gauge", "Runnable steps that no type builds.");
    for warning in &plan.warnings {
        if let Warning::NoPoolFor { kind, runnable } = warning {
            page.sample("unserved_steps", &[("kind", &kind.to_string())], *runnable);
        }
    }
    page.family("pending_releases", "gauge", "Machines on their way out.");
    page.sample("pending_releases", &[], plan.release.len() as u64);
}

fn queue(page: &mut Page, queue: &QueueStatus) {
    page.family("queue_up", "gauge", "Whether the queue status could be had.");
    page.sample("queue_up", &[], u64::from(matches!(queue, QueueStatus::Up(_))));
    page.family(
        "clock_offset_seconds",
        "gauge",
        "How far the queue runner's clock is ahead of ours.",
    );
    if let QueueStatus::Up(queue) = queue {
        page.sample("clock_offset_seconds", &[], queue.clock_offset_seconds);
    }
}

fn by_type(page: &mut Page, plan: &Plan) {
    page.by_type(plan, "runnable_steps", "Steps that wait for a machine of the type.", |sizing| {
        sizing.runnable
    });
    page.by_type(plan, "wanted_machines", "Machines wanted for the waiting steps.", |sizing| {
        Some(sizing.wanted)
    });
    page.by_type(plan, "allowed_machines", "Those within the type's limits.", |sizing| {
        Some(u64::from(sizing.allowed))
    });
    page.by_type(plan, "deferred_machines", "New machines that have to wait.", |sizing| {
        Some(sizing.deferred.as_ref().map_or(0, |deferred| u64::from(deferred.machines)))
    });
}

#[derive(Default)]
struct Page {
    text: String,
}

// Writing to a string cannot fail.
impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP hydra_provisioner_{name} {help}");
        let _ = writeln!(self.text, "# TYPE hydra_provisioner_{name} {kind}");
    }

    /// A gauge with a sample for each type that has one. All samples of a family have to stand together.
    fn by_type(
        &mut self,
        plan: &Plan,
        name: &str,
        help: &str,
        value_of: impl Fn(&Sizing) -> Option<u64>,
    ) {
        self.family(name, "gauge", help);
        for (machine_type, sizing) in &plan.sizing {
            if let Some(value) = value_of(sizing) {
                self.sample(name, &[("type", machine_type.as_str())], value);
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "hydra_provisioner_{name}");
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{open}{label}=\"{value}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

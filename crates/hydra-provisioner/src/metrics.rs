//! What the last cycles did, in Prometheus' text format (version 0.0.4), over HTTP.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use planner::{QueueStatus, ReleaseHow, Sizing, Timestamp};
use reconciler::Report;
use reconciler::world::Step;

use crate::exit::Exit;

/// Counts over all cycles, and the gauges of the last one.
#[derive(Default)]
pub(crate) struct Metrics {
    cycles: BTreeMap<&'static str, u64>,
    failures: BTreeMap<Step, u64>,
    released: BTreeMap<&'static str, u64>,
    ready: u64,
    last: String,
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

    /// Counts a cycle that ended as `exit`; `report` is there if it came that far.
    pub(crate) fn count(&mut self, exit: Exit, report: Option<&Report>, took: Duration) {
        *self.cycles.entry(exit.name()).or_default() += 1;
        if let Some(report) = report {
            for failure in &report.failures {
                *self.failures.entry(failure.error.step).or_default() += 1;
            }
            for release in &report.released {
                let how = match release.how {
                    ReleaseHow::Stop => "stop",
                    ReleaseHow::Destroy => "destroy",
                };
                *self.released.entry(how).or_default() += 1;
            }
            self.ready += u64::try_from(report.brought_up.len()).unwrap_or(u64::MAX);
            self.last = gauges(report, took);
        }
        let text = self.render();
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn render(&self) -> String {
        let mut page = Page::default();
        page.family("cycles_total", "counter", "Cycles by how they ended.");
        for (result, count) in &self.cycles {
            page.sample("cycles_total", &[("result", result)], *count);
        }
        page.family("step_failures_total", "counter", "Failed steps of single machines.");
        for (step, count) in &self.failures {
            page.sample("step_failures_total", &[("step", &step.to_string())], *count);
        }
        page.family("releases_total", "counter", "Machines stopped or destroyed.");
        for (how, count) in &self.released {
            page.sample("releases_total", &[("how", how)], *count);
        }
        page.family("deployments_total", "counter", "Times that a machine was made ready.");
        page.sample("deployments_total", &[], self.ready);
        page.text + &self.last
    }
}

/// What the last cycle saw and decided.
fn gauges(report: &Report, took: Duration) -> String {
    let mut page = Page::default();
    let Timestamp(taken_at) = report.snapshot.taken_at;
    page.family("last_cycle_timestamp_seconds", "gauge", "When the last cycle began.");
    page.sample("last_cycle_timestamp_seconds", &[], taken_at);
    page.family("last_cycle_duration_seconds", "gauge", "How long the last cycle took.");
    page.sample("last_cycle_duration_seconds", &[], took.as_secs());
    page.family("queue_up", "gauge", "Whether the queue status could be had.");
    let up = matches!(report.snapshot.queue, QueueStatus::Up(_));
    page.sample("queue_up", &[], u64::from(up));
    page.family("provider_up", "gauge", "0 for types whose machines could not be listed.");
    for machine_type in report.plan.sizing.keys().chain(report.snapshot.unlisted.keys()) {
        let listed = !report.snapshot.unlisted.contains_key(machine_type);
        page.sample("provider_up", &[("type", machine_type.as_str())], u64::from(listed));
    }
    page.family("machines", "gauge", "Machines by type and state.");
    let mut machines: BTreeMap<_, u64> = BTreeMap::new();
    for machine in &report.snapshot.machines {
        *machines.entry((&machine.machine_type, machine.state.to_string())).or_default() += 1;
    }
    for ((machine_type, state), count) in &machines {
        page.sample("machines", &[("type", machine_type.as_str()), ("state", state)], *count);
    }
    page.by_type(
        report,
        "runnable_steps",
        "Steps that wait for a machine of the type.",
        |sizing| sizing.runnable,
    );
    page.by_type(report, "wanted_machines", "Machines that they are worth.", |sizing| {
        Some(sizing.wanted)
    });
    page.by_type(report, "allowed_machines", "Those within the type's limits.", |sizing| {
        Some(u64::from(sizing.allowed))
    });
    page.family("postponed_releases", "gauge", "Releases put off to a later cycle.");
    page.sample("postponed_releases", &[], report.postponed.len() as u64);
    page.text
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
        report: &Report,
        name: &str,
        help: &str,
        value_of: impl Fn(&Sizing) -> Option<u64>,
    ) {
        self.family(name, "gauge", help);
        for (machine_type, sizing) in &report.plan.sizing {
            if let Some(value) = value_of(sizing) {
                self.sample(name, &[("type", machine_type.as_str())], value);
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
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

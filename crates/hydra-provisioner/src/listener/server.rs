//! Answers requests, a few at a time, from what is on the board.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use prometheus_client::registry::Registry;
use tiny_http::{Header, Method, Request, Response, Server};

use super::board::Board;
use super::counters::Counters;
use super::gauges::Gauges;
use super::process::ProcessCollector;
use super::text_format::TextFormat;

/// Requests that are answered at the same time. One that reads slowly holds up no other.
const THREADS: usize = 8;

struct Pages {
    registry: Registry,
}

type Answer = Response<std::io::Cursor<Vec<u8>>>;

/// Serves at `address`, in threads of its own.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) fn serve(
    address: SocketAddr,
    board: &Arc<Board>,
    counters: &Counters,
) -> Result<(), String> {
    let server = Server::http(address).map_err(|error| {
        format!("cannot listen on {address}: {error}; see --metrics, or metricsAddress")
    })?;
    // With port 0 only this tells where they are.
    tracing::info!("metrics at http://{}/metrics", server.server_addr());
    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("hydra_provisioner");
    counters.register(ours);
    ours.register_collector(Box::new(Gauges(Arc::clone(board))));
    registry.register_collector(Box::new(ProcessCollector));
    let (server, pages) = (Arc::new(server), Arc::new(Pages { registry }));
    for number in 0..THREADS {
        let (server, pages) = (Arc::clone(&server), Arc::clone(&pages));
        thread::Builder::new()
            .name(format!("http-{number}"))
            .spawn(move || {
                while let Ok(request) = server.recv() {
                    let answer = pages.answer(&request);
                    // Whoever asked may have gone away.
                    let _gone = request.respond(answer);
                }
            })
            .map_err(|error| format!("no thread to serve {address}: {error}"))?;
    }
    Ok(())
}

impl Pages {
    fn answer(&self, request: &Request) -> Answer {
        if !matches!(request.method(), Method::Get | Method::Head) {
            return text("only GET\n", "text/plain").with_status_code(405);
        }
        let path = request.url().split('?').next().unwrap_or_default();
        match path {
            "/metrics" => self.metrics(request),
            _ => text("see /metrics\n", "text/plain").with_status_code(404),
        }
    }

    fn metrics(&self, request: &Request) -> Answer {
        let accept = request.headers().iter().find(|header| header.field.equiv("Accept"));
        let format = TextFormat::accepted(accept.map_or("", |header| header.value.as_str()));
        let mut page = String::new();
        match prometheus_client::encoding::text::encode(&mut page, &self.registry) {
            Ok(()) => text(format.write(page), format.content_type()),
            Err(error) => text(format!("{error}\n"), "text/plain").with_status_code(500),
        }
    }
}

fn text(text: impl Into<String>, content_type: &str) -> Answer {
    let answer = Response::from_string(text);
    match Header::from_bytes("Content-Type", content_type) {
        Ok(header) => answer.with_header(header),
        Err(()) => answer,
    }
}

//! `/events`: server-sent events that say when the page would look otherwise. They carry nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tiny_http::Request;

use super::board::Board;

/// Each has a thread of its own.
const MOST_CLIENTS: usize = 100;
/// An event comes at least this often: clients notice that they are cut off, and ages on the page go on.
const PATIENCE: Duration = Duration::from_secs(15);
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                    X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\nretry: 5000\n\n";
const FULL: &str =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 60\r\n\r\n";

static CLIENTS: AtomicUsize = AtomicUsize::new(0);

/// Serves `request` from now on, in a thread of its own.
pub(super) fn stream(request: Request, board: &Arc<Board>) {
    let mut client = request.into_writer();
    if CLIENTS.fetch_add(1, Ordering::Relaxed) >= MOST_CLIENTS {
        CLIENTS.fetch_sub(1, Ordering::Relaxed);
        let _gone = client.write_all(FULL.as_bytes());
        return;
    }
    let board = Arc::clone(board);
    let spawned = thread::Builder::new().name("events".to_owned()).spawn(move || {
        // It ends when the client has gone away.
        let _gone = tell(&mut client, &board);
        CLIENTS.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_err() {
        CLIENTS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn tell(client: &mut impl Write, board: &Board) -> io::Result<()> {
    client.write_all(HEAD.as_bytes())?;
    client.flush()?;
    let mut version = board.view().version;
    loop {
        version = board.newer_than(version, PATIENCE);
        write!(client, "data: {version}\n\n")?;
        client.flush()?;
    }
}

//! `/events`: server-sent events, one whenever the page would look different, without other content.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use tokio::time::timeout;

use super::board::Board;
use crate::http::{Answer, answer_with};

/// Maximum number of clients.
const MOST_CLIENTS: usize = 100;
/// An event is sent at least this often: clients notice that they are disconnected, and the ages on the page are updated.
const PATIENCE: Duration = Duration::from_secs(15);

static CLIENTS: AtomicUsize = AtomicUsize::new(0);

/// Counts a client for as long as it exists.
struct Client;

impl Client {
    fn new() -> Option<Self> {
        let count = CLIENTS.fetch_add(1, Ordering::Relaxed);
        let client = Self;
        (count < MOST_CLIENTS).then_some(client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that never ends.
pub(super) fn stream(board: &Arc<Board>) -> Answer {
    let Some(client) = Client::new() else {
        return answer_with(StatusCode::SERVICE_UNAVAILABLE, "too many clients\n");
    };
    let (sender, body) = Channel::new(1);
    tokio::spawn(tell(sender, Arc::clone(board), client));
    Response::new(body.boxed())
}

/// Until the client has disconnected.
async fn tell(mut sender: Sender<Bytes>, board: Arc<Board>, _client: Client) {
    let mut versions = board.versions();
    let mut text = "retry: 5000\n\n".to_owned();
    while sender.send_data(text.into()).await.is_ok() {
        let _changed_or_late = timeout(PATIENCE, versions.changed()).await;
        text = format!("data: {}\n\n", *versions.borrow_and_update());
    }
}

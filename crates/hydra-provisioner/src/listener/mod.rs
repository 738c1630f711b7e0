//! What the service shows over HTTP: metrics and pages.
//!
//! The loop puts its view on the [`board`]; the listener's threads answer from there. Neither waits for the other.

mod board;
mod counters;
mod events;
mod gauges;
mod page;
mod process;
mod server;
mod sockets;
mod text_format;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reconciler::{HistoryEntry, Reconciler};

pub(crate) use board::Board;
use board::View;
use counters::Counters;
pub(crate) use sockets::{HandedOver, Listen};

/// Minimum time between two views.
const VIEW_INTERVAL: Duration = Duration::from_millis(200);

/// The control loop's side.
pub(crate) struct Listener {
    board: Arc<Board>,
    counters: Counters,
    last_view: Option<Instant>,
    handed_over: HandedOver,
}

impl Listener {
    /// Starts to serve on `listen` and on sockets passed by systemd.
    ///
    /// # Errors
    /// If a socket cannot be opened.
    pub(crate) fn start(listen: Option<&Listen>) -> Result<Self, String> {
        let board = Arc::new(Board::default());
        let counters = Counters::default();
        let mut handed_over = HandedOver::default();
        server::serve(sockets::open(listen, &mut handed_over)?, &board, &counters)?;
        Ok(Self { board, counters, last_view: None, handed_over })
    }

    /// Publishes the current view, and counts events.
    pub(crate) fn update(&mut self, reconciler: &Reconciler, happened: &[HistoryEntry]) {
        self.board.turned(reconciler.now());
        self.counters.count(happened);
        if self.last_view.is_some_and(|at| at.elapsed() < VIEW_INTERVAL) {
            return;
        }
        self.last_view = Some(Instant::now());
        let view = View::of(reconciler, &self.board.view());
        self.counters.follow(&view);
        self.board.put(view);
    }

    /// The sockets passed by systemd, for a program that replaces ours.
    pub(crate) fn handed_over(&self) -> &HandedOver {
        &self.handed_over
    }

    /// The board, for threads that report to it directly.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }
}

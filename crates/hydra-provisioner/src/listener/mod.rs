//! What the service shows of itself: metrics and pages over HTTP.
//!
//! The loop puts what it knows on the [`board`]; threads of our own answer from there. Neither waits for the other.

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
pub(crate) use sockets::Listen;

/// How soon after the last one another view is put on the board.
const VIEW_INTERVAL: Duration = Duration::from_millis(200);

/// The loop's end of it.
pub(crate) struct Listener {
    board: Arc<Board>,
    counters: Counters,
    last_view: Option<Instant>,
}

impl Listener {
    /// Serves from now on, where `listen` says and on what systemd hands over.
    ///
    /// # Errors
    /// When something cannot be listened on.
    pub(crate) fn start(listen: Option<&Listen>) -> Result<Self, String> {
        let board = Arc::new(Board::default());
        let counters = Counters::default();
        server::serve(sockets::open(listen)?, &board, &counters)?;
        Ok(Self { board, counters, last_view: None })
    }

    /// Takes over what is known now, and counts what happened.
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

    /// The board, for threads that have something to tell beside the loop.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }
}

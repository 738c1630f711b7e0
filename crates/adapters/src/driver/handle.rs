//! What a driver may do, and how other threads reach it.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use reconciler::{Event, HistoryEntry, Reconciler};

use crate::config::Config;

/// What a driver may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    Act,
    /// Only read: nothing is recorded, published, begun or changed.
    Look,
}

/// Why [`Driver::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`Handle::stop`] was called.
    Stopped,
    /// The deadline was reached.
    Deadline,
    /// The caller's function requested it, or the permission to act ended.
    Broke,
}

/// What the caller gets after each step of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The state of the loop.
    pub reconciler: &'a Reconciler,
    /// The history entries since the last step.
    pub happened: &'a [HistoryEntry],
    /// Why the latest configuration was rejected.
    pub refused: Option<&'a str>,
}

/// A message to the driver, from other threads.
pub(super) enum Message {
    Event(Event),
    Reload(Box<Config>, Sender<Result<(), String>>),
    Refuse(String),
    Stop,
}

/// Checked before every external effect: whether this process may still act.
pub type Permission = Arc<dyn Fn() -> bool + Send + Sync>;

/// Reaches a running driver from other threads.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) Sender<Message>);

impl Handle {
    /// Makes [`Driver::run`] return soon. Operations under way continue until the process ends its children.
    pub fn stop(&self) {
        // The driver may have ended already.
        let _gone = self.0.send(Message::Stop);
    }

    /// Gives the driver another configuration, and waits until it is in force.
    ///
    /// # Errors
    /// When it is rejected: the old one stays in force.
    pub fn reload(&self, config: Config) -> Result<(), String> {
        let (sender, answer) = mpsc::channel();
        let _gone = self.0.send(Message::Reload(Box::new(config), sender));
        // A driver that has ended rejects nothing.
        answer.recv().unwrap_or(Ok(()))
    }

    /// Reports to the driver why a new configuration cannot be used, so that it can be shown.
    pub fn refuse(&self, reason: String) {
        let _gone = self.0.send(Message::Refuse(reason));
    }
}

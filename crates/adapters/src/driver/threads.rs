//! Threads that always report. The reconciler waits for the result of each effect: one that never comes would count as
//! under way forever.

use std::sync::mpsc::Sender;
use std::thread;

use reconciler::{Event, OperationError, OperationErrorKind};

use super::handle::Message;
use crate::panics::caught;

/// Does `work` on a new thread and reports its result. If the thread cannot be started, or `work` panics, reports what
/// `failed` makes of the reason.
pub(super) fn report(
    thread: thread::Builder,
    sender: &Sender<Message>,
    failed: impl Fn(OperationError) -> Event + Clone + Send + 'static,
    work: impl FnOnce() -> Event + Send + 'static,
) {
    let (on_thread, panicked) = (sender.clone(), failed.clone());
    let started = thread.spawn(move || {
        let event = caught(work).unwrap_or_else(|message| {
            // Until then it may have had an effect.
            panicked(OperationError { kind: OperationErrorKind::TimedOut, message })
        });
        let _gone = on_thread.send(Message::Event(event));
    });
    if let Err(error) = started {
        let message = format!("cannot start a thread: {error}; see TasksMax of the unit");
        let error = OperationError { kind: OperationErrorKind::Failed, message };
        let _gone = sender.send(Message::Event(failed(error)));
    }
}

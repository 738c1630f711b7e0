//! Ends programs from another thread.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{EventfdFlags, eventfd};

/// Cancels what a thread does: the program that it runs is ended with its process group, and no other one is
/// started. Clones are the same token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_cancelled: bool,
    /// Of the programs that run now.
    wakers: Vec<Weak<OwnedFd>>,
}

thread_local! {
    static CURRENT: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends what runs in its [scope](Self::scope), from any thread. Again is the same as once.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        for waker in state.wakers.drain(..).filter_map(|waker| waker.upgrade()) {
            // It can only be full, and then wakes too.
            let _full = rustix::io::write(&waker, &1_u64.to_ne_bytes());
        }
    }

    /// Whether it was cancelled: for work that waits without running a program.
    pub fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }

    /// Does `work` on this thread so that this token cancels every program that it runs.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let _restored = Restored(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// The token of the innermost scope that this thread is in.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// A descriptor that becomes readable when the token is cancelled.
    pub(super) fn waker(&self) -> io::Result<Arc<OwnedFd>> {
        let mut state = self.lock();
        let waker = Arc::new(eventfd(state.is_cancelled.into(), EventfdFlags::CLOEXEC)?);
        state.wakers.retain(|waker| waker.strong_count() > 0);
        state.wakers.push(Arc::downgrade(&waker));
        Ok(waker)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the outer scope's token back, also when the work panics.
struct Restored(Option<CancelToken>);

impl Drop for Restored {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

//! Ends programs from another thread.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{EventfdFlags, eventfd};

/// Cancels the work of a thread: the program that it runs is ended with its process group, and no other one
/// is started. Clones are the same token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_canceled: bool,
    /// Of the running programs.
    wakers: Vec<Weak<OwnedFd>>,
}

thread_local! {
    static CURRENT: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
}

impl CancelToken {
    /// A token that is not canceled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends all work in its [scope](Self::scope). Callable from any thread, more than once.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.is_canceled = true;
        for waker in state.wakers.drain(..).filter_map(|waker| waker.upgrade()) {
            // It can only be full, which wakes the reader as well.
            let _full = rustix::io::write(&waker, &1_u64.to_ne_bytes());
        }
    }

    /// Whether it was canceled: for work that waits without running a program.
    pub fn is_canceled(&self) -> bool {
        self.lock().is_canceled
    }

    /// Runs `work` on this thread. This token then cancels every program that `work` runs.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let _restored = Restored(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// The token of this thread's innermost scope.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// A descriptor that becomes readable when the token is canceled.
    pub(super) fn waker(&self) -> io::Result<Arc<OwnedFd>> {
        let mut state = self.lock();
        let waker = Arc::new(eventfd(state.is_canceled.into(), EventfdFlags::CLOEXEC)?);
        state.wakers.retain(|waker| waker.strong_count() > 0);
        state.wakers.push(Arc::downgrade(&waker));
        Ok(waker)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Restores the outer scope's token, also after a panic.
struct Restored(Option<CancelToken>);

impl Drop for Restored {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

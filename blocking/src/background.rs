//! Code that may block, as a future: it runs in a thread of its own.

use everwire_core::driver::BoxFuture;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::{io, thread};

/// What `work` returns, once it has; the error if there is no thread for it. If nobody waits any more it goes on all the same, and what it returns
/// is dropped.
pub(crate) fn background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> BoxFuture<io::Result<T>> {
    let slot = Arc::new(Mutex::new(Slot { done: None, waker: None }));
    let theirs = Finish(slot.clone());
    let started = thread::Builder::new().name("everwire".to_owned()).spawn(move || {
        let finish = theirs;
        let done = work();
        lock(&finish.0).done = Some(Ok(done));
    });
    if let Err(error) = started {
        lock(&slot).done = Some(Err(error));
    }
    Box::pin(poll_fn(move |cx| {
        let mut slot = lock(&slot);
        if let Some(done) = slot.done.take() {
            return Poll::Ready(done);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }))
}

struct Slot<T> {
    done: Option<io::Result<T>>,
    waker: Option<Waker>,
}

/// Wakes whoever waits when the thread ends, in whatever way.
struct Finish<T>(Arc<Mutex<Slot<T>>>);

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        let mut slot = lock(&self.0);
        slot.done.get_or_insert_with(|| Err(io::Error::other("it panicked")));
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> std::sync::MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

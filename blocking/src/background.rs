//! Code that may block, as a future: it runs in a thread of its own.

use everwire_core::driver::BoxFuture;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The user's code that may block: one call after the other. While one has not returned the next waits, and has no thread yet, so that
/// code that hangs costs one thread, however often it is asked again.
pub(crate) struct Serial<F>(Arc<Mutex<Idle<F>>>);

struct Idle<F> {
    /// `None` while it runs.
    code: Option<F>,
    waker: Option<Waker>,
}

impl<F: Send + 'static> Serial<F> {
    pub(crate) fn new(code: F) -> Self {
        Self(Arc::new(Mutex::new(Idle { code: Some(code), waker: None })))
    }

    /// What `call` returns.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut F) -> T + Send + 'static,
    ) -> BoxFuture<io::Result<T>> {
        let home = self.0.clone();
        Box::pin(async move {
            let code = poll_fn(|cx| {
                let mut idle = lock(&home);
                if let Some(code) = idle.code.take() {
                    return Poll::Ready(code);
                }
                idle.waker = Some(cx.waker().clone());
                Poll::Pending
            });
            let mut lent = Lent { code: Some(code.await), home };
            background(move || call(lent.code.as_mut().expect("its drop alone takes it"))).await
        })
    }
}

/// Brings the code back when the call has returned, in whatever way.
struct Lent<F> {
    code: Option<F>,
    home: Arc<Mutex<Idle<F>>>,
}

impl<F> Drop for Lent<F> {
    fn drop(&mut self) {
        let mut idle = lock(&self.home);
        idle.code = self.code.take();
        let waker = idle.waker.take();
        drop(idle);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
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

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

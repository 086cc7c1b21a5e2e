//! Waiting for the session, in a task or in a thread: nobody who waits is forgotten, and who has given up is not kept.

use super::{Inner, Shared};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Those who wait for the same thing. A place is given up when its future is dropped, so that there are never more than that wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    last: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All of them, to be woken.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }
}

/// Waits until `ready` says what it waits for.
pub(super) struct Until<'a, T> {
    shared: &'a Shared,
    ready: fn(&Inner) -> Option<T>,
    waiters: fn(&mut Inner) -> &mut Waiters,
    place: Option<u64>,
}

impl<'a, T> Until<'a, T> {
    pub(super) fn new(
        shared: &'a Shared,
        ready: fn(&Inner) -> Option<T>,
        waiters: fn(&mut Inner) -> &mut Waiters,
    ) -> Self {
        Self { shared, ready, waiters, place: None }
    }
}

impl<T> Future for Until<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Cloned and dropped without the lock: it is the runtime's code.
        let (waker, mut before) = (cx.waker().clone(), None);
        let mut inner = self.shared.lock();
        let ready = (self.ready)(&inner);
        if ready.is_none() {
            let waiters = (self.waiters)(&mut inner);
            let place = self.place.unwrap_or(waiters.last + 1);
            waiters.last = waiters.last.max(place);
            before = waiters.waiting.insert(place, waker);
            drop(inner);
            self.place = Some(place);
        }
        drop(before);
        ready.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Until<'_, T> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut inner = self.shared.lock();
        let waker = (self.waiters)(&mut inner).waiting.remove(&place);
        drop(inner);
        drop(waker);
    }
}

/// Wakes a thread that waits.
#[derive(Debug, Default)]
struct Parker {
    woken: Mutex<bool>,
    wakes: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wakes.notify_one();
    }
}

impl Parker {
    /// Sleeps until it is woken, for this long at most.
    fn park(&self, time: Option<Duration>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken = match time {
            None => self.wakes.wait_while(woken, |woken| !*woken).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let waited = self.wakes.wait_timeout_while(woken, time, |woken| !*woken);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        *woken = false;
    }
}

/// Sleeps until the future is ready. `None`: it was not by then, on the driver's clock.
pub(super) fn block_until<T>(
    shared: &Shared,
    future: impl Future<Output = T>,
    deadline: Option<Instant>,
) -> Option<T> {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(parker.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(shared.now()));
        if left == Some(Duration::ZERO) {
            return None;
        }
        parker.park(left);
    }
}

/// Sleeps until the future is ready, which it is when the session has dealt with its deadlines. A driver that is stuck, or whose user does not
/// come back to it, does not: then this does it in its place.
pub(super) fn block_on<T>(
    shared: &Shared,
    future: impl Future<Output = T>,
    deadline: impl Fn(&Inner) -> Option<Instant>,
) -> T {
    let mut future = pin!(future);
    loop {
        // A while later, so that the driver goes first if it is there.
        let due = deadline(&shared.lock()).and_then(|at| at.checked_add(GRACE));
        if let Some(value) = block_until(shared, future.as_mut(), due) {
            return value;
        }
        let now = shared.now();
        let mut inner = shared.lock();
        inner.session.handle_timeout(now);
        inner.acted();
    }
}

/// Time that a driver has for a deadline before a waiting thread deals with it.
const GRACE: Duration = Duration::from_millis(50);

//! Handles that do not care which runtime drives the session.

mod client;
mod events;
mod queue;
mod wait;

pub use client::{Client, RequestError, ResponseFuture};
pub use events::{Blocking, EventSender, Events, IntoBlocking, Offered, TimedOut};

use crate::session::{Event, Lease, OwnedOutcome, RequestId, Session, State, Unanswered};
use client::Slot;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;
use wait::Waiters;

/// A session that a driver and any number of [`Client`]s share.
pub struct Shared {
    inner: Mutex<Inner>,
    /// Reads the driver's clock.
    now: fn() -> Instant,
}

/// What the lock protects.
#[derive(Debug)]
pub struct Inner {
    /// The session.
    pub session: Session,
    /// Requests whose answers somebody awaits.
    slots: BTreeMap<RequestId, Arc<Slot>>,
    /// The driver's task, while it sleeps.
    driver: Option<Waker>,
    /// Who waits for room in the send buffer.
    room: Waiters,
    /// Who waits for the end.
    over: Waiters,
    /// To be woken when the lock is let go: a waker is the runtime's code, and may come back here.
    woken: Vec<Waker>,
    /// To be dropped then, for the same reason.
    unused: Vec<Waker>,
}

/// The session, locked. When this is dropped, those are woken who have something to do.
#[derive(Debug)]
pub struct Locked<'a>(Option<MutexGuard<'a, Inner>>);

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        self.0.as_ref().expect("the guard is taken by drop alone")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        self.0.as_mut().expect("the guard is taken by drop alone")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        if inner.woken.is_empty() && inner.unused.is_empty() {
            return;
        }
        let (woken, unused) = (std::mem::take(&mut inner.woken), std::mem::take(&mut inner.unused));
        drop(inner);
        drop(unused);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    /// Shares a session. `now` reads the clock that the driver passes to it.
    pub fn new(session: Session, now: fn() -> Instant) -> Arc<Self> {
        let inner = Inner {
            session,
            slots: BTreeMap::new(),
            driver: None,
            room: Waiters::default(),
            over: Waiters::default(),
            woken: Vec::new(),
            unused: Vec::new(),
        };
        Arc::new(Self { inner: Mutex::new(inner), now })
    }

    /// The session, for as long as the guard lives. Nobody sleeps while holding it.
    pub fn lock(&self) -> Locked<'_> {
        // A panic under the lock leaves a session that is still sound: its calls leave nothing half done that another could trip on.
        Locked(Some(self.inner.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The driver's time.
    pub fn now(&self) -> Instant {
        (self.now)()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Inner {
    /// Has `waker` woken when a handle gives the session something to do.
    pub fn register(&mut self, waker: &Waker) {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.unused.extend(self.driver.replace(waker.clone()));
        }
    }

    /// Has `waker` woken when the lock is let go.
    pub(crate) fn wake(&mut self, waker: &Waker) {
        self.woken.push(waker.clone());
    }

    /// Takes the announced event out, unless it is an answer that a handle awaits: that goes straight there.
    pub fn take_event(&mut self) -> Option<Lease> {
        let lease = self.session.lease()?;
        if !self.slots.is_empty()
            && let Event::Response { id, outcome } = lease.event()
            && let Some(slot) = self.slots.remove(&id)
        {
            self.woken.extend(slot.fill(outcome.to_owned()));
            self.session.give_back(lease);
            return None;
        }
        Some(lease)
    }

    /// There is no driver any more: ends the session without a handshake, and every await on it.
    pub fn abandon(&mut self, now: Instant) {
        self.session.abort(now);
        self.settle();
        // It may keep a whole task alive, and handles may be kept for long.
        self.unused.extend(self.driver.take());
        for (_, slot) in std::mem::take(&mut self.slots) {
            // Only an answer that arrived and was not told can be left.
            self.woken.extend(slot.fill(OwnedOutcome::SentUnknown(Unanswered::Closed)));
        }
    }

    /// Tells those who wait what needs no event to be told: requests that failed, room in the send buffer, the end. For drivers, after they
    /// moved anything.
    pub fn settle(&mut self) {
        while let Some((id, outcome)) = self.session.take_failed() {
            if let Some(slot) = self.slots.remove(&id) {
                self.woken.extend(slot.fill(outcome));
            }
        }
        if !self.room.is_empty() && self.has_room().is_some() {
            self.woken.extend(self.room.take());
        }
        if !self.over.is_empty() && self.session.end().is_some() {
            self.woken.extend(self.over.take());
        }
    }

    /// Whether there is room in the send buffer, or nothing to be sent into it.
    fn has_room(&self) -> Option<()> {
        (self.session.has_room() || self.session.state() != State::Online).then_some(())
    }

    /// A handle gave the session something to do.
    fn acted(&mut self) {
        self.settle();
        // It registers again when it runs; until then it need not be told again.
        self.woken.extend(self.driver.take());
    }
}

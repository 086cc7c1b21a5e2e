//! What a thread waits on: its sockets, the time, and handles in other threads.

use polling::{AsSource, Event, Events, PollMode, Poller};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub(crate) struct Reactor {
    poller: Poller,
    next_key: AtomicUsize,
    /// When to wake even if nothing happens.
    deadline: Mutex<Option<Instant>>,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let poller = Poller::new()?;
        Ok(Arc::new(Self { poller, next_key: AtomicUsize::new(0), deadline: Mutex::new(None) }))
    }

    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// Each change of readiness is told once, where the system can do that: whoever waits has tried before. Elsewhere each wait is asked
    /// for.
    fn mode(&self) -> PollMode {
        if self.poller.supports_edge() { PollMode::Edge } else { PollMode::Oneshot }
    }
}

/// A thread that waits on the reactor.
pub(crate) struct Waiting {
    reactor: Arc<Reactor>,
    waker: Waker,
    events: Events,
}

impl Waiting {
    pub(crate) fn new(reactor: Arc<Reactor>) -> Self {
        Self { waker: Arc::new(Notify(reactor.clone())).into(), reactor, events: Events::new() }
    }

    /// Wakes the thread from wherever it is called.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sleeps until a socket is ready, somebody wakes this thread, or the earlier of the reactor's deadline and `until` has come.
    pub(crate) fn wait(&mut self, until: Option<Instant>) {
        let deadline = *self.reactor.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let first = deadline.into_iter().chain(until).min();
        let timeout = first.map(|at| at.saturating_duration_since(Instant::now()));
        self.events.clear();
        match self.reactor.poller.wait(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                // It fails only if it is misused, and then again and again: at least that must not take a whole processor.
                std::thread::sleep(timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(10)));
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

struct Notify(Arc<Reactor>);

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Like `wait`, it fails only if it is misused.
        let _ = self.0.poller.notify();
    }
}

/// Which way of a socket is waited for.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A non-blocking source that wakes the reactor's thread.
pub(crate) struct Registered<S: AsSource> {
    source: S,
    reactor: Arc<Reactor>,
    /// With the ways that are waited for, where each wait must be asked for.
    interest: Event,
}

impl<S: AsSource> Registered<S> {
    pub(crate) fn new(source: S, reactor: Arc<Reactor>) -> io::Result<Self> {
        let key = reactor.next_key.fetch_add(1, Ordering::Relaxed);
        let first = match reactor.mode() {
            PollMode::Edge => Event::all(key),
            _ => Event::none(key),
        };
        // SAFETY: the source must be deleted from the poller before it is closed. It is owned by what is returned here, whose drop
        // deletes it; nothing hands it out.
        #[allow(unsafe_code, reason = "the one way to register with polling")]
        unsafe {
            reactor.poller.add_with_mode(&source.source(), first, reactor.mode())?;
        }
        Ok(Self { source, reactor, interest: Event::none(key) })
    }

    /// Does what must not wait. If it would have to, the thread is woken when it is worth to try again.
    pub(crate) fn poll<T>(
        &mut self,
        direction: Direction,
        mut act: impl FnMut(&mut S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let done = loop {
            match act(&mut self.source) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                done => break Some(done),
            }
        };
        if let Some(done) = done {
            return Poll::Ready(done);
        }
        if self.reactor.mode() == PollMode::Oneshot
            && let Err(error) = self.ask(direction)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Asks for one wake. A driver tries to write before it reads: so each try to write begins anew, and what a try to read asks for holds for
    /// both. What nobody tries any more is not asked for, or a socket that is always writable would wake for ever.
    fn ask(&mut self, direction: Direction) -> io::Result<()> {
        match direction {
            Direction::Write => (self.interest.readable, self.interest.writable) = (false, true),
            Direction::Read => self.interest.readable = true,
        }
        self.reactor.poller.modify(&self.source, self.interest)?;
        self.interest.writable &= matches!(direction, Direction::Write);
        Ok(())
    }
}

impl<S: AsSource> Drop for Registered<S> {
    fn drop(&mut self) {
        // Not there any more is what is wanted.
        let _ = self.reactor.poller.delete(&self.source);
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

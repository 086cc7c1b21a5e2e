//! The inline driver, for a thread that may wait.

use crate::background::Serial;
use crate::reactor::Waiting;
use crate::runtime::{Duplex, Std};
use everwire_core::driver::Driver as Inner;
use everwire_core::ws::Target;
use everwire_core::{Client, Config, ConfigError, Endpoint, Event, OwnedEvent, ProviderError, TimedOut};
use std::io;
use std::task::Context;
use std::time::{Duration, Instant};

/// Runs a session within the thread that asks it for events: no hop between threads, no copy of a message.
///
/// Nothing happens while [`next`](Self::next) is not called: whoever does other things for long should [`connect`](crate::connect) instead.
#[derive(Debug)]
pub struct Driver {
    inner: Inner<Std>,
    waiting: Waiting,
}

impl Driver {
    /// A driver for a new session. It connects once [`next`](Self::next) is called.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let mut inner = Inner::<Std>::new(config)?;
        let waiting = Waiting::new(inner.runtime().reactor.clone());
        Ok(Self { inner, waiting })
    }

    /// Asks `provider` before each attempt where to connect, for a config made by [`Config::provided`]. It may take its time: it runs in
    /// a thread of its own, one call after the other: while one has not returned it is not called again, though the attempt that asked
    /// may have run out of time. Nothing ends a call that hangs.
    #[must_use]
    pub fn provider<F>(self, provider: F) -> Self
    where
        F: FnMut() -> Result<Endpoint, ProviderError> + Send + 'static,
    {
        let provider = Serial::new(provider);
        let inner = self.inner.provider(move || {
            let answer = provider.run(|provider| provider());
            async move {
                let failed = |error: io::Error| ProviderError::from(error);
                answer.await.map_err(failed)?
            }
        });
        Self { inner, ..self }
    }

    /// Asks `connector` for a stream to each target, for a config with another [`transport`](Config::transport) than TCP: a unix socket, TLS
    /// that is not rustls. It must be non-blocking when it is returned. The connector may take its time: it runs in a thread of its own, one
    /// call after the other.
    ///
    /// The stream is read and written while the session is locked: it must not use a handle of this session there.
    #[must_use]
    pub fn connector<F, S>(self, connector: F) -> Self
    where
        F: FnMut(Target) -> io::Result<S> + Send + 'static,
        S: Duplex + 'static,
    {
        let connector = Serial::new(connector);
        let inner = self.inner.connector(move |target| {
            let stream = connector.run(move |connector| connector(target));
            async move { stream.await? }
        });
        Self { inner, ..self }
    }

    /// A handle for other threads. What they do wakes the one that waits in [`next`](Self::next).
    pub fn client(&self) -> Client {
        self.inner.client()
    }

    /// The next event, if it comes within `timeout` (`None`: however long it takes); `Ok(None)` once the session is closed. The event
    /// borrows from the driver until the next call.
    ///
    /// # Errors
    /// [`TimedOut`]. Nothing is lost by that: call it again.
    pub fn next(&mut self, timeout: impl Into<Option<Duration>>) -> Result<Option<Event<'_>>, TimedOut> {
        let until = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        self.inner.release();
        let waker = self.waiting.waker();
        while self.inner.poll_ready(&mut Context::from_waker(&waker)).is_pending() {
            if until.is_some_and(|until| until <= Instant::now()) {
                return Err(TimedOut);
            }
            self.waiting.wait(until);
        }
        Ok(self.inner.event())
    }

    /// The events, each a copy, until the session is closed.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter(self)
    }

    pub(crate) fn into_parts(self) -> (Waiting, Inner<Std>) {
        (self.waiting, self.inner)
    }
}

impl<'a> IntoIterator for &'a mut Driver {
    type Item = OwnedEvent;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// What [`Driver::iter`] returns.
#[derive(Debug)]
pub struct Iter<'a>(&'a mut Driver);

impl Iterator for Iter<'_> {
    type Item = OwnedEvent;

    fn next(&mut self) -> Option<OwnedEvent> {
        // Without a timeout there is no error.
        self.0.next(None).ok().flatten().map(|event| event.to_owned())
    }
}

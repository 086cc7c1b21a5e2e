//! The driver that all runtimes share: a table of sockets, one timer, one loop. Still without I/O of its own: that is the [`Runtime`]'s.
//!
//! ```text
//!            ┌──────────── hooks: provider, connector (the user's code, without the lock) ◄──┐
//!            ▼                                                                                │ Provide, Open
//! poll ─► [lock] ─► drive: poll_output ─► do it ─► Wait ─► advance: names, sockets, timer ─► again, while anything moved
//!            │                                                                                │
//!            └── Event or Closed: ready ◄──────── nothing moved: pending ◄────────────────────┘
//! ```
//!
//! It holds three promises:
//!
//! - Nothing lives in a future: whatever is polled belongs to the driver, so that dropping what [`Driver::next`] returns loses nothing.
//! - The lock is never held while the user's code runs, nor while anybody sleeps. (Reads and writes of a stream of his own are the
//!   exception: see [`Driver::connector`].)
//! - A handle that gives the session something to do wakes the task that polled last, whatever that waits for.

mod hooks;
mod runtime;
mod socket;

pub use runtime::{BoxFuture, Carries, Runtime};

use crate::error::{ProviderError, ResolveError};
use crate::handle::{Client, EventSender, Events, Inner, Offered, Shared};
use crate::session::{
    AttemptId, Config, ConfigError, ConnId, Endpoint, Event, Lease, Output, OwnedEvent, Session,
};
use crate::ws::Target;
use hooks::{Answer, Hooks};
use socket::Socket;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// So many reads in a row are made before the lock is let go and other tasks have their turn, however fast more comes: a peer that
/// does nothing but ping must not keep anybody waiting.
const READS: u32 = 32;

/// So many events in a row are put in the line before other tasks have their turn.
const TURN: u32 = 256;

/// What a user in another task or thread is given to take what waits, before something is lost. A thread that sleeps is awake by then.
const PATIENCE: Duration = Duration::from_millis(1);

/// Runs a session within the task that asks it for events: no hop between tasks, no copy of a message.
///
/// Nothing happens while [`next`](Self::next) is not awaited: whoever does other things for long should `connect` instead.
pub struct Driver<R: Runtime> {
    shared: Arc<Shared>,
    runtime: R,
    sockets: Vec<(ConnId, Socket<R>)>,
    lookup: Option<(AttemptId, BoxFuture<io::Result<Vec<SocketAddr>>>)>,
    hooks: Hooks<R>,
    /// What is to be dropped when the lock is let go: it may be the user's, and what its drop does is unknown.
    dropped: Vec<Socket<R>>,
    /// Read again only after I/O: many messages come of one read.
    now: Instant,
    /// `now` is from before it slept.
    slept: bool,
    lease: Option<Lease>,
    /// Until when the user is waited for, in [`run`](Self::run).
    patience: Option<Instant>,
}

impl<R: Runtime> Driver<R> {
    /// A driver for a new session. It connects once [`next`](Self::next) is awaited.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let (runtime, clock, seed) = R::start().map_err(|error| ConfigError::System(error.to_string()))?;
        let now = clock.instant;
        let session = Session::new(config, clock, seed)?;
        Ok(Self {
            shared: Shared::new(session, R::now),
            runtime,
            sockets: Vec::new(),
            lookup: None,
            hooks: Hooks::default(),
            dropped: Vec::new(),
            now,
            slept: false,
            lease: None,
            patience: None,
        })
    }

    /// Asks `provider` before each attempt where to connect, for a config made by [`Config::provided`].
    #[must_use]
    pub fn provider<F, T>(mut self, mut provider: F) -> Self
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static,
    {
        self.hooks.provider = Some(Box::new(move || Box::pin(provider())));
        self
    }

    /// Asks `connector` for a byte stream to each target, for a config with another [`transport`](Config::transport) than TCP: a unix socket, a
    /// pair in memory, TLS that is not rustls.
    ///
    /// The stream is read and written while the session is locked: it must not use a handle of this session there.
    #[must_use]
    pub fn connector<F, T, S>(mut self, mut connector: F) -> Self
    where
        R: Carries<S>,
        F: FnMut(Target) -> T + Send + 'static,
        T: Future<Output = io::Result<S>> + Send + 'static,
    {
        let carry = self.runtime.carrier();
        self.hooks.connector = Some(Box::new(move |target| {
            let (stream, carry) = (connector(target), carry.clone());
            Box::pin(async move { carry(stream.await?) })
        }));
        self
    }

    /// A handle for other tasks.
    pub fn client(&self) -> Client {
        Client::of_driver(self.shared.clone())
    }

    /// The next event; `None` once the session is closed. The event borrows from the driver until the next call.
    ///
    /// Cancel-safe: nothing lives in the future, so that dropping it loses nothing.
    pub async fn next(&mut self) -> Option<Event<'_>> {
        self.release();
        poll_fn(|cx| self.poll_ready(cx)).await;
        self.event()
    }

    /// Runs the session until there is an event to tell, which [`event`](Self::event) then shows, or it is closed, and there is none. While the last
    /// event is not [released](Self::release) it is never ready, and keeps the connection going. For those who write a
    /// [`next`](Self::next) of their own. Now and then it is pending though there is more to do, and wakes its task at once, so that others have
    /// their turn.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let held = self.lease.is_some();
        let shared = self.shared.clone();
        if std::mem::take(&mut self.slept) {
            self.now = R::now();
        }
        let mut reads = READS;
        loop {
            let answers = self.hooks.poll(cx);
            if !answers.is_empty() {
                // They may have taken their time, and what follows is timed from here.
                self.now = R::now();
            }
            let mut inner = shared.lock();
            inner.register(cx.waker());
            for answer in answers {
                self.answered(answer, &mut inner.session);
            }
            let poll = self.drive(cx, &mut inner, held, &mut reads);
            inner.settle();
            drop(inner);
            self.dropped.clear();
            self.hooks.tidy();
            if let Some(poll) = poll {
                self.slept = poll.is_pending();
                return poll;
            }
        }
    }

    /// The event that [`poll_ready`](Self::poll_ready) found, until it is [released](Self::release).
    pub fn event(&self) -> Option<Event<'_>> {
        self.lease.as_ref().map(Lease::event)
    }

    /// Done with the last event.
    pub fn release(&mut self) {
        let lease = self.lease.take();
        // Messages come many of one read; anything else may have been looked at for long.
        if !lease.as_ref().is_some_and(|lease| matches!(lease.event(), Event::Message { .. })) {
            self.now = R::now();
        }
        if let Some(lease) = lease {
            self.shared.lock().session.give_back(lease);
        }
    }

    /// What the runtime keeps for this driver.
    pub fn runtime(&mut self) -> &mut R {
        &mut self.runtime
    }

    /// Splits it for a session that stays alive whatever its user does: handles, and a future that must be run in the background.
    pub fn background(self) -> (Client, Events, impl Future<Output = ()> + Send + use<R>) {
        let (client, events, sender) = Client::spawned(self.shared.clone());
        (client, events, self.run(sender))
    }

    async fn run(self, events: EventSender) {
        // Dropped in this order: who finds that no more events come finds the session ended.
        let (mut events, mut driver) = (events, self);
        let mut turn = 0;
        while let Some(event) = driver.next().await {
            if !events.is_closed() {
                let mut event = Some(event.to_owned());
                poll_fn(|cx| driver.poll_send(cx, &mut events, &mut event)).await;
            }
            turn += 1;
            if turn == TURN {
                turn = 0;
                others_first().await;
            }
        }
    }

    /// Puts an event in the line. The connection goes on while there is no room for it.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut EventSender,
        event: &mut Option<OwnedEvent>,
    ) -> Poll<()> {
        let over = self.patience.is_some_and(|until| until <= R::now());
        match events.offer(cx, event, over) {
            Offered::Taken => {
                self.patience = None;
                return Poll::Ready(());
            }
            Offered::Loses if self.patience.is_none() => self.patience = R::now().checked_add(PATIENCE),
            Offered::Loses => {}
            // Its subscription may have ended since then: then it must not be lost, and there is no time that it comes in.
            Offered::Full => self.patience = None,
        }
        let _never = self.poll_ready(cx);
        if self.patience.is_some_and(|until| until <= R::now()) {
            // That was this driver's own time, or another process's. The user has not had his yet.
            self.patience = R::now().checked_add(PATIENCE);
            let _never = self.poll_ready(cx);
            if self.patience.is_some_and(|until| until <= R::now()) {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn answered(&mut self, answer: Answer<R>, session: &mut Session) {
        match answer {
            Answer::Endpoint(id, result) => {
                session.handle_endpoint(id, result.map(|endpoint| *endpoint), self.now);
            }
            Answer::Stream(id, Ok(stream)) => {
                self.sockets.push((id, Socket::open(stream)));
                session.handle_connected(id, self.now);
            }
            Answer::Stream(id, Err(error)) => session.handle_disconnected(id, error.into(), self.now),
        }
    }

    /// `None`: the user's code is to be asked for something.
    fn drive(
        &mut self,
        cx: &mut Context<'_>,
        inner: &mut Inner,
        held: bool,
        reads: &mut u32,
    ) -> Option<Poll<()>> {
        loop {
            let session = &mut inner.session;
            let output = session.poll_output(self.now);
            match output {
                Output::Event if held => {
                    let timeout = session.timeout();
                    if !self.advance(cx, session, timeout) {
                        return Some(Poll::Pending);
                    }
                }
                Output::Event => {
                    // None: it was an answer that somebody awaits, and he has it.
                    if let Some(lease) = inner.take_event() {
                        self.lease = Some(lease);
                        return Some(Poll::Ready(()));
                    }
                }
                Output::Provide(id) => {
                    self.hooks.provide(id);
                    return None;
                }
                Output::Open(id) => {
                    if let Some(target) = session.target(id) {
                        self.hooks.open(id, target.clone());
                        return None;
                    }
                }
                Output::Resolve(id) => {
                    let host = session.host(id).map(|(host, port)| (host.to_owned(), port));
                    self.lookup = host.map(|(host, port)| (id, self.runtime.resolve(host, port)));
                }
                Output::Connect(id, addr) => {
                    let connecting = self.runtime.connect(addr, session.socket_options());
                    self.sockets.push((id, Socket::Connecting(connecting)));
                }
                Output::Disconnect(id) => self.disconnect(id),
                Output::Wait(deadline) => {
                    if !self.advance(cx, session, deadline) {
                        return Some(Poll::Pending);
                    }
                }
                Output::Closed => {
                    // What it was set to may be over, and would wake again and again.
                    self.arm(cx, None);
                    return Some(Poll::Ready(()));
                }
            }
            if matches!(output, Output::Wait(_)) || (held && matches!(output, Output::Event)) {
                *reads -= 1;
                if *reads == 0 {
                    inner.wake(cx.waker());
                    return Some(Poll::Pending);
                }
            }
        }
    }

    fn disconnect(&mut self, id: ConnId) {
        self.hooks.abandon(id);
        if let Some(index) = self.sockets.iter().position(|(socket, _)| *socket == id) {
            let (_, socket) = self.sockets.swap_remove(index);
            self.dropped.push(socket);
        }
    }

    /// Lets everything move that can; true if the session has something new to say.
    fn advance(&mut self, cx: &mut Context<'_>, session: &mut Session, deadline: Option<Instant>) -> bool {
        self.now = R::now();
        self.poll_io(cx, session) || self.poll_timer(cx, session, deadline)
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, session: &mut Session) -> bool {
        let mut progress = false;
        let now = self.now;
        if let Some((id, Poll::Ready(result))) =
            self.lookup.as_mut().map(|(id, lookup)| (*id, lookup.as_mut().poll(cx)))
        {
            self.lookup = None;
            let result = result.as_deref().map_err(|error| ResolveError { message: error.to_string() });
            session.handle_resolved(id, result, now);
            progress = true;
        }
        let mut index = 0;
        while let Some((id, socket)) = self.sockets.get_mut(index) {
            match socket.poll(cx, *id, session, now) {
                Ok(moved) => {
                    progress |= moved;
                    index += 1;
                }
                Err(cause) => {
                    session.handle_disconnected(*id, cause, now);
                    let (_, socket) = self.sockets.swap_remove(index);
                    self.dropped.push(socket);
                    progress = true;
                }
            }
        }
        progress
    }

    /// Arms the timer; true if it has run out.
    fn poll_timer(&mut self, cx: &mut Context<'_>, session: &mut Session, deadline: Option<Instant>) -> bool {
        let rang = self.arm(cx, deadline);
        let Some(deadline) = deadline else { return false };
        // The clock decides, not the timer: a runtime may hold back one that has run out.
        let due = rang || deadline <= self.now;
        if due {
            self.now = R::now().max(deadline);
            session.handle_timeout(self.now);
        }
        due
    }

    /// Has the task woken at the deadline, or when the user's time is over; true if it is the deadline's time already.
    fn arm(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(first) = deadline.into_iter().chain(self.patience).min() else {
            let _never = self.runtime.poll_timer(cx, None);
            return false;
        };
        let rang = self.runtime.poll_timer(cx, Some(first)).is_ready();
        if rang && self.patience == Some(first) {
            // The timer decides, so that nobody waits for one that has rung.
            self.patience = Some(R::now());
        }
        rang && deadline == Some(first)
    }
}

/// Pending once.
async fn others_first() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<R: Runtime> Drop for Driver<R> {
    fn drop(&mut self) {
        self.release();
        self.shared.lock().abandon(R::now());
    }
}

impl<R: Runtime> fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}

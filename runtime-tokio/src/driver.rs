//! The inline driver: a table of sockets, one timer, one loop.

use everwire_core::handle::{Inner, Shared};
use everwire_core::{
    AttemptId, Client, Clock, Config, ConfigError, ConnId, Disconnect, Endpoint, Event, Lease, Output,
    ProviderError, ResolveError, Session,
};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Addresses = Result<Vec<SocketAddr>, ResolveError>;
type Provider = Box<dyn FnMut() -> BoxFuture<Result<Endpoint, ProviderError>> + Send>;

/// Runs a session within the task that asks it for events: no hop between tasks, no copy of a message.
///
/// Nothing happens while [`next`](Self::next) is not awaited: whoever does other things for long should [`connect`](crate::connect) instead.
pub struct Driver {
    pub(crate) shared: Arc<Shared>,
    sockets: Vec<(ConnId, Socket)>,
    lookup: Option<(AttemptId, BoxFuture<Addresses>)>,
    provider: Option<Provider>,
    /// The attempt that the provider is still to be asked for.
    asked: Option<AttemptId>,
    endpoint: Option<(AttemptId, BoxFuture<Result<Endpoint, ProviderError>>)>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Read again only after I/O: many messages come of one read.
    now: Instant,
    lease: Option<Lease>,
}

enum Socket {
    Connecting(BoxFuture<io::Result<TcpStream>>),
    /// With the error of a write: what has arrived is read before it is told.
    Open(TcpStream, Option<Disconnect>),
}

impl Driver {
    /// A driver for a new session. It connects once [`next`](Self::next) is awaited.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let now = clock();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| ConfigError::Entropy(error.to_string()))?;
        let session = Session::new(config, Clock { instant: now, system: SystemTime::now() }, seed)?;
        Ok(Self {
            shared: Shared::new(session, clock),
            sockets: Vec::new(),
            lookup: None,
            provider: None,
            asked: None,
            endpoint: None,
            timer: None,
            now,
            lease: None,
        })
    }

    /// Asks `provider` before each attempt where to connect, for a config made by [`Config::provided`].
    pub fn provider<F, T>(mut self, mut provider: F) -> Self
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static,
    {
        self.provider = Some(Box::new(move || Box::pin(provider())));
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
        self.give_back();
        poll_fn(|cx| self.poll(cx, false)).await;
        self.lease.as_ref().map(Lease::event)
    }

    /// Keeps the connection going while the last event is still in use; never ends.
    pub(crate) async fn keep_going(&mut self) {
        poll_fn(|cx| {
            let _closed = self.poll(cx, true);
            Poll::<()>::Pending
        })
        .await;
    }

    fn give_back(&mut self) {
        let lease = self.lease.take();
        // Messages come many of one read; anything else may have been looked at for long.
        if !lease.as_ref().is_some_and(|lease| matches!(lease.event(), Event::Message { .. })) {
            self.now = clock();
        }
        if let Some(lease) = lease {
            self.shared.lock().session.give_back(lease);
        }
    }

    /// Runs until there is an event to tell, which then is in `lease`, or the end; if the last event is `held`, for as long as anything
    /// moves.
    fn poll(&mut self, cx: &mut Context<'_>, held: bool) -> Poll<()> {
        let shared = self.shared.clone();
        loop {
            // The provider is the user's code and may use a handle: it runs without the lock.
            let endpoint = self.poll_provider(cx);
            let mut inner = shared.lock();
            inner.register(cx.waker());
            if let Some((id, result)) = endpoint {
                inner.session.handle_endpoint(id, result, self.now);
            }
            let poll = self.drive(cx, &mut inner, held);
            inner.settle();
            if let Some(poll) = poll {
                return poll;
            }
        }
    }

    /// Asks the provider if it is to be asked; its answer, once there is one.
    fn poll_provider(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Option<(AttemptId, Result<Endpoint, ProviderError>)> {
        if let Some(id) = self.asked.take() {
            let Some(provider) = &mut self.provider else {
                let message = "the driver has no endpoint provider: set one with Driver::provider".to_owned();
                return Some((id, Err(ProviderError::new(message))));
            };
            self.endpoint = Some((id, provider()));
        }
        let (_, answer) = self.endpoint.as_mut()?;
        let Poll::Ready(result) = answer.as_mut().poll(cx) else { return None };
        self.endpoint.take().map(|(id, _)| (id, result))
    }

    /// `None`: the provider is to be asked.
    fn drive(&mut self, cx: &mut Context<'_>, inner: &mut Inner, held: bool) -> Option<Poll<()>> {
        loop {
            let session = &mut inner.session;
            match session.poll_output(self.now) {
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
                    self.asked = Some(id);
                    return None;
                }
                Output::Resolve(id) => {
                    let host = session.host(id).map(|(host, port)| (host.to_owned(), port));
                    self.lookup = host.map(|host| (id, Box::pin(lookup(host)) as _));
                }
                Output::Connect(id, addr) => {
                    self.sockets.push((id, Socket::Connecting(Box::pin(TcpStream::connect(addr)))));
                }
                Output::Disconnect(id) => self.sockets.retain(|(socket, _)| *socket != id),
                Output::Wait(deadline) => {
                    if !self.advance(cx, session, deadline) {
                        return Some(Poll::Pending);
                    }
                }
                Output::Closed => return Some(Poll::Ready(())),
            }
        }
    }

    /// Lets everything move that can; true if the session has something new to say.
    fn advance(&mut self, cx: &mut Context<'_>, session: &mut Session, deadline: Option<Instant>) -> bool {
        self.now = clock();
        self.poll_io(cx, session) || self.poll_timer(cx, session, deadline)
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, session: &mut Session) -> bool {
        let mut progress = false;
        let now = self.now;
        if let Some((id, Poll::Ready(result))) =
            self.lookup.as_mut().map(|(id, f)| (*id, f.as_mut().poll(cx)))
        {
            self.lookup = None;
            session.handle_resolved(id, result.as_deref().map_err(Clone::clone), now);
            progress = true;
        }
        self.sockets.retain_mut(|(id, socket)| match socket.poll(cx, *id, session, now) {
            Ok(moved) => {
                progress |= moved;
                true
            }
            Err(cause) => {
                session.handle_disconnected(*id, cause, now);
                progress = true;
                false
            }
        });
        progress
    }

    /// Arms the timer; true if it has run out.
    fn poll_timer(&mut self, cx: &mut Context<'_>, session: &mut Session, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        // The clock decides, not the timer: tokio may hold back one that has run out.
        let due = timer.as_mut().poll(cx).is_ready() || deadline.into_std() <= self.now;
        if due {
            self.now = clock().max(deadline.into_std());
            session.handle_timeout(self.now);
        }
        due
    }
}

impl Socket {
    /// True if anything moved; an error is the end of the connection.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        session: &mut Session,
        now: Instant,
    ) -> Result<bool, Disconnect> {
        let mut moved = false;
        if let Self::Connecting(connect) = self {
            let Poll::Ready(stream) = connect.as_mut().poll(cx) else { return Ok(false) };
            let stream = stream?;
            // Fails only on a connection that is gone already; reading it will say so better.
            let _ = stream.set_nodelay(true);
            *self = Self::Open(stream, None);
            session.handle_connected(id, now);
            moved = true;
        }
        let Self::Open(stream, broken) = self else { return Ok(moved) };
        let mut stream = Pin::new(stream);
        while broken.is_none() && !session.transmit(id).is_empty() {
            match stream.as_mut().poll_write(cx, session.transmit(id)) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => *broken = Some(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(len)) => session.handle_transmitted(id, len, now),
                Poll::Ready(Err(error)) => *broken = Some(error.into()),
            }
            moved = true;
        }
        let room = session.recv_buffer(id);
        if !room.is_empty() {
            let mut room = ReadBuf::new(room);
            if let Poll::Ready(read) = stream.poll_read(cx, &mut room) {
                match (read, room.filled().len()) {
                    (Ok(()), 0) => return Err(broken.take().unwrap_or(Disconnect::Eof)),
                    (Ok(()), len) => session.handle_received(id, len, now),
                    (Err(error), _) => return Err(broken.take().unwrap_or_else(|| error.into())),
                }
                moved = true;
            }
        }
        Ok(moved)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.give_back();
        self.shared.lock().abandon(clock());
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}

async fn lookup(host: (String, u16)) -> Addresses {
    Ok(tokio::net::lookup_host(host).await?.collect())
}

/// Tokio's clock, so that its tests can pause it.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

//! The thread of a [`Live`](super::Live): one task that accepts, one for the script's deadlines, and one for each connection.

use super::super::{Host, Script};
use crate::fault_stream::{FaultState, FaultStream};
use crate::pump::call_handler;
use crate::sim::{Accept, Action, Ended, Server};
use crate::tls::Tls;
use crate::transport::Transport;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Output that waits for a client, above which nothing is read from it, and above which it is reset.
const OUTPUT_HIGH: usize = 1 << 20;
const OUTPUT_MAX: usize = 64 << 20;
/// How long the last output and the FIN may take.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// Pause after a failed accept or bind.
const PAUSE: Duration = Duration::from_millis(20);
/// Steps after which other connections get their turn.
const STEPS: usize = 128;
/// Calls in a row that leave the script's deadline where it was, after which it is taken to do so forever.
const STANDSTILL: u32 = 10_000;

/// What the handle and its thread share.
pub(super) struct Inner<S> {
    pub(super) state: Mutex<State<S>>,
    pub(super) changed: Condvar,
    /// The port is to be opened or closed, or all is to end.
    pub(super) doors: Notify,
    /// The script's deadline may have changed.
    clock: Notify,
    start: Instant,
    pub(super) tls: Option<Tls>,
}

pub(super) struct State<S> {
    pub(super) host: Host<S>,
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) attempts: u64,
    /// Whether the port is to be closed, and whether it is.
    pub(super) refuse: bool,
    pub(super) refuses: bool,
    /// The script panicked, and said this.
    pub(super) panic: Option<String>,
    pub(super) stop: bool,
    pub(super) stopped: bool,
}

/// A connection, as the script's side sees it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    out: Vec<u8>,
    end: Option<End>,
    waker: Option<Waker>,
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
}

impl Wire {
    fn end(&mut self, how: End) {
        self.end.get_or_insert(how);
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl<S: Script> State<S> {
    /// Fails the test if the script has panicked.
    pub(super) fn check(&self) {
        if let Some(panic) = &self.panic {
            panic!("the script panicked before: {panic}");
        }
    }

    /// Ends a connection, which the script takes for the client's doing.
    pub(super) fn end(&mut self, conn: u64, how: End, now: Duration) {
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.end.is_none()) else { return };
        wire.end(how);
        self.host.closed(conn, if how == End::Fin { Ended::Fin } else { Ended::Reset }, now);
    }

    /// Gives the connections what the script did.
    fn dispatch(&mut self, now: Duration) {
        while let Some((id, action)) = self.host.output() {
            let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.end.is_none()) else { continue };
            match action {
                Action::Send(bytes) if wire.out.len() + bytes.len() > OUTPUT_MAX => {
                    wire.end(End::Reset);
                    self.host.closed(id, Ended::Reset, now);
                }
                Action::Send(bytes) => {
                    wire.out.extend_from_slice(&bytes);
                    wire.waker.take().into_iter().for_each(Waker::wake);
                }
                Action::Fin => wire.end(End::Fin),
                Action::Reset => wire.end(End::Reset),
            }
        }
    }
}

impl<S: Script> Inner<S> {
    pub(super) fn new(host: Host<S>, tls: Option<Tls>) -> Self {
        let state = State {
            host,
            wires: BTreeMap::new(),
            attempts: 0,
            refuse: false,
            refuses: false,
            panic: None,
            stop: false,
            stopped: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            doors: Notify::new(),
            clock: Notify::new(),
            start: Instant::now(),
            tls,
        }
    }

    /// Since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // A test's closure may have panicked; what the script's own panics do is told otherwise.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn peek<R>(&self, peek: impl FnOnce(&State<S>) -> R) -> R {
        peek(&self.lock())
    }

    /// Changes what has nothing to do with the script.
    pub(super) fn change(&self, change: impl FnOnce(&mut State<S>)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Does something with the script, for the test: a panic is the test's.
    pub(super) fn locked<R>(&self, act: impl FnOnce(&mut State<S>, Duration) -> R) -> R {
        let mut state = self.lock();
        let now = self.now();
        let result = act(&mut state, now);
        state.dispatch(now);
        drop(state);
        self.told();
        result
    }

    /// Does something with the script, on its thread.
    fn call(&self, call: impl FnOnce(&mut State<S>, Duration)) {
        let mut state = self.lock();
        if state.panic.is_none() {
            let now = self.now();
            let called = call_handler(|| {
                call(&mut state, now);
                state.dispatch(now);
            });
            state.panic = called.err();
        }
        if state.panic.is_some() {
            state.wires.values_mut().for_each(|wire| wire.end(End::Reset));
        }
        drop(state);
        self.told();
    }

    fn told(&self) {
        self.clock.notify_one();
        self.changed.notify_all();
    }
}

/// Serves until the handle says that it is enough.
pub(super) async fn serve<S: Script + 'static>(
    inner: Arc<Inner<S>>,
    listener: std::net::TcpListener,
    addr: SocketAddr,
) {
    tokio::spawn(run_clock(inner.clone()));
    let mut listener = TcpListener::from_std(listener).ok();
    loop {
        let (stop, refuse) = inner.peek(|state| (state.stop, state.refuse));
        if stop {
            return;
        }
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(addr).await.ok();
        }
        inner.change(|state| state.refuses = listener.is_none());
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None if refuse => std::future::pending().await,
                None => None,
            }
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Some((tcp, _)) => accept(&inner, tcp, addr),
                // Mostly no file descriptors are left, or the port is taken.
                None => tokio::time::sleep(PAUSE).await,
            },
            () = inner.doors.notified() => {}
        }
    }
}

fn accept<S: Script + 'static>(inner: &Arc<Inner<S>>, tcp: TcpStream, addr: SocketAddr) {
    // Only fails if the client is gone already, which the first read will tell.
    let _ = tcp.set_nodelay(true);
    let mut accepted = None;
    inner.call(|state, now| {
        state.attempts += 1;
        let id = state.attempts;
        state.wires.insert(id, Wire::default());
        accepted = (state.host.accept(id, addr, now) == Accept::Open).then_some(id);
    });
    let mut socket = FaultStream::new(tcp, Arc::new(FaultState::default()));
    let Some(id) = accepted else { return socket.cut() };
    let (inner, tls) = (inner.clone(), inner.tls.as_ref().map(Tls::next));
    tokio::spawn(async move {
        let transport = match tls {
            None => Ok(Transport::Plain(socket)),
            Some(mode) => mode.accept(socket).await,
        };
        match transport {
            Ok(transport) => {
                let pump = Pump { inner: &inner, id, transport, out: Vec::new(), at: 0, unflushed: false };
                pump.run().await;
            }
            // The client did not want to talk.
            Err(_) => inner.call(|state, now| state.host.closed(id, Ended::Reset, now)),
        }
        inner.change(|state| drop(state.wires.remove(&id)));
    });
}

/// Calls the script when its time comes.
async fn run_clock<S: Script>(inner: Arc<Inner<S>>) {
    let (mut last, mut standing) = (None, 0);
    loop {
        let due = inner.peek(|state| state.host.deadline().filter(|_| state.panic.is_none()));
        let left = due.map(|due| due.saturating_sub(inner.now()));
        if left == Some(Duration::ZERO) {
            standing = if last == due { standing + 1 } else { 0 };
            last = due;
            inner.call(|state, now| {
                assert!(standing < STANDSTILL, "Script::run does not move Script::deadline on: {due:?}");
                state.host.run(now);
            });
            tokio::task::yield_now().await;
            continue;
        }
        let sleep = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = inner.clock.notified() => {}
        }
    }
}

/// Moves the bytes of one connection.
struct Pump<'a, S> {
    inner: &'a Inner<S>,
    id: u64,
    transport: Transport,
    /// Being written, from here on.
    out: Vec<u8>,
    at: usize,
    /// The transport may hold bytes that it has not given to the socket.
    unflushed: bool,
}

impl<S: Script> Pump<'_, S> {
    async fn run(mut self) {
        if poll_fn(|cx| self.poll(cx)).await == End::Fin {
            let finished = tokio::time::timeout(FINISH_TIME, self.finish()).await;
            if matches!(finished, Ok(Ok(()))) {
                return self.transport.drain().await;
            }
        }
        self.transport.cut();
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.refill();
        poll_fn(|cx| self.poll_write(cx)).await?;
        self.refill();
        poll_fn(|cx| self.poll_write(cx)).await?;
        self.transport.finish().await
    }

    /// Takes what is to be written next, once all before it was.
    fn refill(&mut self) {
        if self.out.is_empty()
            && let Some(wire) = self.inner.lock().wires.get_mut(&self.id)
        {
            std::mem::swap(&mut self.out, &mut wire.out);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..STEPS {
            self.refill();
            let waiting = {
                let mut state = self.inner.lock();
                let Some(wire) = state.wires.get_mut(&self.id) else { return Poll::Ready(End::Reset) };
                if let Some(end) = wire.end {
                    return Poll::Ready(end);
                }
                wire.waker = Some(cx.waker().clone());
                wire.out.len()
            };
            let written = self.poll_write(cx);
            if let Poll::Ready(Err(_)) = written {
                return self.gone(Ended::Reset);
            }
            if written.is_ready() && waiting > 0 {
                continue;
            }
            // A client that does not read is not listened to either.
            if waiting > OUTPUT_HIGH {
                return Poll::Pending;
            }
            let mut buffer = [0; 16 << 10];
            let mut buffer = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.inner.call(|state, now| state.host.received(self.id, buffer.filled(), now));
                }
                Ok(()) => return self.gone(Ended::Fin),
                // TLS without close_notify.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return self.gone(Ended::Fin),
                Err(_) => return self.gone(Ended::Reset),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The client ended the connection.
    fn gone(&self, how: Ended) -> Poll<End> {
        self.inner.call(|state, now| state.host.closed(self.id, how, now));
        Poll::Ready(match how {
            Ended::Fin => End::Fin,
            Ended::Reset => End::Reset,
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.out.get(self.at..).filter(|left| !left.is_empty()) {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += written;
            self.unflushed = true;
        }
        self.out.clear();
        self.at = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

//! A script over real sockets.

mod serve;

use super::{Host, Punishment, Replies, Script};
use crate::tls::Tls;
use crate::{ConnectionEnd, Unblocked, WaitError, unblock};
use serve::{End, Inner, State};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// How long the handle waits for its thread to do as told.
const THREAD_TIME: Duration = Duration::from_secs(5);
/// The most of a script's `Debug` that an error shows, in bytes.
const SHOWN: usize = 2000;

/// A [`Script`] that listens on a loopback port, in a thread of its own, in real time. Dropping it ends it, with all its connections.
///
/// No method is async, and no runtime is needed. A script that panics resets all connections, and is reported by whatever is called next.
/// A client that does not read has up to 64 MiB waiting for it, and is reset beyond that; one to which 1 MiB waits is not read from.
///
/// ```
/// use everwire_testing::script::{Live, Replies, Script};
/// use everwire_testing::tungstenite;
/// use std::time::Duration;
///
/// /// Says everything twice.
/// #[derive(Debug, Default)]
/// struct Twice {
///     heard: usize,
/// }
///
/// impl Script for Twice {
///     fn text(&mut self, conn: u64, text: &str, _: Duration, out: &mut Replies) {
///         self.heard += 1;
///         out.text(conn, text);
///         out.text(conn, text);
///     }
/// }
///
/// let venue = Live::start(Twice::default());
/// let (mut client, _) = tungstenite::connect(venue.url("/ws"))?;
/// client.send("hi".into())?;
/// assert_eq!((client.read()?, client.read()?), ("hi".into(), "hi".into()));
/// venue.wait_for(Duration::from_secs(5), |script| script.heard == 1)?;
/// assert_eq!((venue.connections(), venue.punishments().len()), (1, 0));
/// venue.cut_all();
/// assert!(client.read().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Live<S: Script + 'static> {
    inner: Arc<Inner<S>>,
    addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// What a [`Live`] is to be; from [`Live::builder`].
#[derive(Debug)]
#[must_use = "nothing happens before `start`"]
pub struct LiveBuilder<S> {
    script: S,
    port: u16,
    tls: bool,
}

impl<S: Script + 'static> LiveBuilder<S> {
    /// Listens on this port of 127.0.0.1; 0, the default, is a free one that the system chooses.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Speaks TLS, with a certificate for `localhost`, `127.0.0.1` and `::1` made at start; a client must trust [`ca_pem`](Live::ca_pem).
    pub fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where [`try_start`](Self::try_start) has an error.
    pub fn start(self) -> Live<S> {
        match self.try_start() {
            Ok(live) => live,
            Err(error) => panic!("the scripted venue could not be started on 127.0.0.1: {error}"),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// The port is taken, or the operating system gives no socket, thread or randomness.
    pub fn try_start(self) -> io::Result<Live<S>> {
        let tls = self.tls.then(|| Tls::new(Default::default())).transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let host = Host::at(self.script, SystemTime::now());
        let inner = Arc::new(Inner::new(host, tls));
        let serving = inner.clone();
        let thread = thread::Builder::new().name("everwire-live".to_owned()).spawn(move || {
            runtime.block_on(serve::serve(serving.clone(), listener, addr));
            // With it go all connections.
            drop(runtime);
            serving.change(|state| state.stopped = true);
        })?;
        Ok(Live { inner, addr, thread: Some(thread) })
    }
}

impl<S: Script + 'static> Live<S> {
    /// Starts it on a free port, without TLS.
    ///
    /// # Panics
    /// If the operating system gives no socket or thread.
    pub fn start(script: S) -> Self {
        Self::builder(script).start()
    }

    /// For a port, or for TLS.
    pub fn builder(script: S) -> LiveBuilder<S> {
        LiveBuilder { script, port: 0, tls: false }
    }

    /// Where a client connects to: `ws://127.0.0.1:port`, with TLS `wss://localhost:port`, and this path (and query), such as `/ws/api?v=2`.
    pub fn url(&self, path: &str) -> String {
        self.url_of("ws", path)
    }

    /// The same with `http` and `https`.
    pub fn http_url(&self, path: &str) -> String {
        self.url_of("http", path)
    }

    fn url_of(&self, scheme: &str, path: &str) -> String {
        let (port, path) = (self.addr.port(), path.trim_start_matches('/'));
        match self.inner.tls {
            None => format!("{scheme}://127.0.0.1:{port}/{path}"),
            Some(_) => format!("{scheme}s://localhost:{port}/{path}"),
        }
    }

    /// The socket address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate, in PEM, that a client must trust; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        self.inner.tls.as_ref().map_or("", |tls| &tls.ca_pem)
    }

    /// Looks at the script, or changes it; it waits meanwhile. What it wants to do by then, by its [`deadline`](Script::deadline), is done.
    ///
    /// # Panics
    /// If the script has panicked before, and as `with` does.
    pub fn with<R>(&self, with: impl FnOnce(&mut S) -> R) -> R {
        self.act(|script, _, _| with(script))
    }

    /// Lets the script do something out of its turn, such as to say something. The time is since its start.
    ///
    /// # Panics
    /// If the script has panicked before, and as `act` does.
    pub fn act<R>(&self, act: impl FnOnce(&mut S, Duration, &mut Replies) -> R) -> R {
        self.inner.locked(|state, now| {
            state.check();
            state.host.act(now, |script, out| act(script, now, out))
        })
    }

    /// How many WebSockets there were so far.
    pub fn connections(&self) -> usize {
        self.inner.peek(|state| state.host.connections())
    }

    /// The WebSockets that are open now, oldest first.
    pub fn open(&self) -> Vec<u64> {
        self.inner.peek(|state| state.host.open().collect())
    }

    /// How many TCP connections came so far, whatever became of them.
    pub fn attempts(&self) -> u64 {
        self.inner.peek(|state| state.attempts)
    }

    /// What was punished, oldest first.
    ///
    /// # Panics
    /// If the script has panicked: then nothing was punished after that.
    pub fn punishments(&self) -> Vec<Punishment> {
        self.inner.peek(|state| {
            state.check();
            state.host.punishments().to_vec()
        })
    }

    /// The last messages both ways: see [`Host::transcript`].
    pub fn transcript(&self) -> String {
        self.inner.peek(|state| state.host.transcript())
    }

    /// Drops a connection with a TCP RST. Nothing happens if it is over.
    pub fn cut(&self, conn: u64) {
        self.inner.locked(|state, now| state.end(conn, End::Reset, now));
    }

    /// Drops all connections with a TCP RST.
    pub fn cut_all(&self) {
        self.end_all(End::Reset);
    }

    /// Ends a connection with a TCP FIN, without a close frame. Nothing happens if it is over.
    pub fn fin(&self, conn: u64) {
        self.inner.locked(|state, now| state.end(conn, End::Fin, now));
    }

    /// Ends all connections with a TCP FIN, without close frames.
    pub fn fin_all(&self) {
        self.end_all(End::Fin);
    }

    fn end_all(&self, how: End) {
        self.inner.locked(|state, now| {
            let all: Vec<u64> = state.wires.keys().copied().collect();
            all.into_iter().for_each(|conn| state.end(conn, how, now));
        });
    }

    /// Closes the port, so that clients find nobody there, or opens it again. Open connections stay. It has happened when this returns.
    ///
    /// # Panics
    /// If the port was taken by somebody else meanwhile.
    pub fn refuse(&self, refuse: bool) {
        self.inner.change(|state| state.refuse = refuse);
        self.inner.doors.notify_one();
        let done = |state: &State<S>| (state.refuses == refuse).then_some(());
        let done = self.inner.wait(THREAD_TIME, done);
        assert!(
            done.is_some(),
            "port {} was not opened or closed in time: it may be taken",
            self.addr.port()
        );
    }

    /// Waits until this is true of the script; it is asked whenever something happened. Blocks the thread: in a test whose client runs on the same one
    /// use [`until`](Self::until).
    ///
    /// # Errors
    /// It was not true within `timeout`, or the script panicked.
    pub fn wait_for(&self, timeout: Duration, ready: impl FnMut(&S) -> bool) -> Result<(), WaitError> {
        wait_for(&self.inner, timeout, ready)
    }

    /// The same as a future, for any runtime. It begins at once.
    pub fn until(
        &self,
        timeout: Duration,
        ready: impl FnMut(&S) -> bool + Send + 'static,
    ) -> Unblocked<Result<(), WaitError>> {
        let inner = self.inner.clone();
        unblock(move || wait_for(&inner, timeout, ready))
    }

    /// Waits until there were so many WebSockets in all.
    ///
    /// # Errors
    /// There were fewer within `timeout`, or the script panicked.
    pub fn wait_connections(&self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        let waited_for = || format!("{count} connections");
        wait(&self.inner, timeout, waited_for, |host| host.connections() >= count)
    }
}

fn wait_for<S: Script>(
    inner: &Inner<S>,
    timeout: Duration,
    mut ready: impl FnMut(&S) -> bool,
) -> Result<(), WaitError> {
    let waited_for = || "what the closure asks of the script".to_owned();
    wait(inner, timeout, waited_for, |host| ready(host.script()))
}

fn wait<S: Script>(
    inner: &Inner<S>,
    timeout: Duration,
    waited_for: impl FnOnce() -> String,
    mut ready: impl FnMut(&Host<S>) -> bool,
) -> Result<(), WaitError> {
    let waited = inner.wait(timeout, |state| match &state.panic {
        _ if ready(&state.host) => Some(Ok(())),
        Some(panic) => Some(Err(panic.clone())),
        None => None,
    });
    let arrived = |inner: &Inner<S>| {
        inner.peek(|state| {
            let mut script = format!("{:?}", state.host.script());
            script.truncate((0..=SHOWN).rev().find(|at| script.is_char_boundary(*at)).unwrap_or(0));
            let punished = state.host.punishments().first().map_or("nothing", |first| &first.why);
            format!("{} connections; punished: {punished}; {script}", state.host.connections())
        })
    };
    match waited {
        Some(Ok(())) => Ok(()),
        Some(Err(panic)) => Err(WaitError::Ended {
            waited_for: waited_for(),
            end: ConnectionEnd::HandlerPanicked(panic),
            arrived: arrived(inner),
        }),
        None => Err(WaitError::TimedOut { waited_for: waited_for(), timeout, arrived: arrived(inner) }),
    }
}

impl<S: Script> Inner<S> {
    /// Waits until `ready` gives something; `None` when the time is over.
    fn wait<T>(&self, timeout: Duration, mut ready: impl FnMut(&State<S>) -> Option<T>) -> Option<T> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(value) = ready(&state) {
                return Some(value);
            }
            let left =
                deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<S: Script + 'static> Drop for Live<S> {
    fn drop(&mut self) {
        self.inner.change(|state| state.stop = true);
        self.inner.doors.notify_one();
        // If it does not end in time it hangs in the script, and so would this.
        let stopped = self.inner.wait(THREAD_TIME, |state| state.stopped.then_some(()));
        if stopped.is_some()
            && let Some(thread) = self.thread.take()
        {
            // It has no result, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

impl<S: Script + 'static> fmt::Debug for Live<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("addr", &self.addr)
            .field("tls", &self.inner.tls.is_some())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

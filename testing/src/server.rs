//! The handle of the server.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tungstenite::handshake::server::Request;
use tungstenite::{Message, Utf8Bytes};

use crate::http::join;
use crate::listen::{Control, serve};
use crate::shared::Shared;
use crate::tls::{ClientIdentity, Tls};
use crate::{
    ConnHandle, Disconnect, HandshakeFault, HttpRequest, MockServerBuilder, Transcript, Unblocked, WaitError,
    unblock,
};

/// How long the end of the server thread, or an order to it, is waited for.
const THREAD_TIME: Duration = Duration::from_secs(5);

/// A WebSocket server on a loopback socket, for tests.
///
/// It runs on a thread of its own with a runtime of its own, so that every method works from any runtime and from none;
/// none is async. Those with a timeout block, see [`unblock`](Self::unblock) for async tests.
///
/// Clones are handles of the same server. Dropping the last one ends its connections, without closing handshake, and its
/// thread; a handler that hangs is waited for up to 5 seconds. A clone that is moved into a handler of the server itself
/// keeps it alive for ever.
///
/// It remembers the newest 1,024 connections, upgrade requests and failures.
#[derive(Clone)]
pub struct MockServer {
    running: Arc<Running>,
}

/// What ends with the last handle.
struct Running {
    shared: Arc<Shared>,
    addr: SocketAddr,
    /// `None` while the server is being dropped, which ends its thread.
    control: Option<UnboundedSender<Control>>,
    thread: Option<JoinHandle<()>>,
}

impl MockServer {
    /// Starts a server without TLS that accepts everything and answers nothing but pings and close frames.
    ///
    /// # Panics
    /// If the operating system gives no socket or thread; see [`MockServerBuilder::try_start`].
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Sets up another kind of server.
    pub fn builder() -> MockServerBuilder {
        MockServerBuilder::new()
    }

    /// Where a client connects to: `ws://127.0.0.1:port/`, with TLS `wss://localhost:port/`.
    pub fn url(&self) -> String {
        self.url_of("/")
    }

    /// The [`url`](Self::url) with another path (and query), such as `/ws/api?v=2`.
    pub fn url_of(&self, path: &str) -> String {
        join(&self.running.shared.base, path)
    }

    /// Where an HTTP client finds this path: as [`url_of`](Self::url_of), with `http` or `https`.
    pub fn http_url(&self, path: &str) -> String {
        // From "ws" and "wss".
        self.url_of(path).replacen("ws", "http", 1)
    }

    /// The socket address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.running.addr
    }

    /// The certificate, in PEM, that a client must trust; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        self.running.shared.tls.as_ref().map_or("", |tls| &tls.ca_pem)
    }

    /// What a client can show where the server wants a certificate
    /// ([`ClientCertificateRequired`](crate::TlsFault::ClientCertificateRequired)); `None` without TLS.
    pub fn client_identity(&self) -> Option<&ClientIdentity> {
        self.running.shared.tls.as_ref().map(|tls| &tls.client)
    }

    /// Number of TCP connections so far, whatever became of them.
    pub fn attempts(&self) -> usize {
        self.running.shared.state().attempts
    }

    /// Number of WebSocket connections accepted so far.
    pub fn connections(&self) -> usize {
        self.running.shared.state().accepted
    }

    /// Number of WebSocket connections that have not ended.
    pub fn live(&self) -> usize {
        self.running.shared.state().live
    }

    /// The connection that was accepted as number `index`, from 0; `None` if there is no such one yet or 1,024 came after
    /// it.
    pub fn connection(&self, index: usize) -> Option<ConnHandle> {
        self.running.shared.state().connection(index)
    }

    /// The connection that was accepted last.
    pub fn last(&self) -> Option<ConnHandle> {
        self.running.shared.state().connections.back().cloned()
    }

    /// The connections that have not ended, oldest first.
    pub fn live_connections(&self) -> Vec<ConnHandle> {
        // Outside the lock: looking at a connection takes its own.
        self.remembered().into_iter().filter(ConnHandle::is_open).collect()
    }

    /// The upgrade requests that came, also those that a fault refused, oldest first.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.running.shared.state().requests.iter().cloned().collect()
    }

    /// The HTTP requests that came to a server with [`http`](MockServerBuilder::http) handlers, upgrade requests not
    /// included, oldest first.
    pub fn http_requests(&self) -> Vec<Arc<HttpRequest>> {
        self.running.shared.state().http_requests.iter().cloned().collect()
    }

    /// Waits until `count` HTTP requests, upgrade requests not included, have come in all; gives those that are
    /// remembered.
    ///
    /// # Errors
    /// Fewer came within `timeout`, or this is a handler.
    pub fn wait_http_requests(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Arc<HttpRequest>>, WaitError> {
        let waited_for = || format!("{count} HTTP requests");
        self.running.shared.wait(waited_for, timeout, |state| {
            (state.http_total >= count).then(|| state.http_requests.iter().cloned().collect())
        })
    }

    /// What was said on all connections, in the order of time, with the attempts that came to none and the HTTP
    /// requests.
    pub fn transcript(&self) -> Transcript {
        self.running.shared.transcript()
    }

    /// Why TCP connections did not become WebSocket connections, oldest first. For reading, not for comparing.
    pub fn failures(&self) -> Vec<String> {
        self.running.shared.state().failures.iter().cloned().collect()
    }

    /// Waits until `count` TCP connections have failed to become WebSocket connections in all; gives the
    /// [`failures`](Self::failures).
    ///
    /// # Errors
    /// Fewer did within `timeout`, or this is a handler.
    pub fn wait_failures(&self, count: usize, timeout: Duration) -> Result<Vec<String>, WaitError> {
        let waited_for = || format!("{count} failed attempts");
        self.running.shared.wait(waited_for, timeout, |state| {
            (state.failed >= count).then(|| state.failures.iter().cloned().collect())
        })
    }

    /// Waits until `count` TCP connections have come in all.
    ///
    /// # Errors
    /// Fewer came within `timeout`, or this is a handler.
    pub fn wait_attempts(&self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        let waited_for = || format!("{count} TCP connections");
        self.running.shared.wait(waited_for, timeout, |state| (state.attempts >= count).then_some(()))
    }

    /// Waits until `count` WebSocket connections have been accepted in all.
    ///
    /// # Errors
    /// Fewer came within `timeout`, or this is a handler.
    pub fn wait_connections(&self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        let waited_for = || format!("{count} WebSocket connections");
        self.running.shared.wait(waited_for, timeout, |state| (state.accepted >= count).then_some(()))
    }

    /// Waits for the connection number `index`, from 0.
    ///
    /// # Errors
    /// It did not come within `timeout`, or this is a handler, or 1,024 came after it.
    pub fn wait_connection(&self, index: usize, timeout: Duration) -> Result<ConnHandle, WaitError> {
        let waited_for = || format!("WebSocket connection number {index}, counted from 0");
        self.running.shared.wait(waited_for, timeout, |state| state.connection(index))
    }

    /// Waits for a connection to this path, its query not counted: the first that is remembered.
    ///
    /// # Errors
    /// None came within `timeout`, or this is a handler.
    pub fn wait_connection_to(&self, path: &str, timeout: Duration) -> Result<ConnHandle, WaitError> {
        let waited_for = || format!("a WebSocket connection to {path}");
        self.running.shared.wait(waited_for, timeout, |state| {
            state.connections.iter().find(|conn| conn.request().uri().path() == path).cloned()
        })
    }

    /// Waits until exactly `count` WebSocket connections are open.
    ///
    /// # Errors
    /// It did not come to that within `timeout`, or this is a handler.
    pub fn wait_live(&self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        let waited_for = || format!("{count} live WebSocket connections");
        self.running.shared.wait(waited_for, timeout, |state| (state.live == count).then_some(()))
    }

    /// Sends a message on every open connection.
    pub fn send_all(&self, message: &Message) {
        for conn in self.live_connections() {
            conn.send(message.clone());
        }
    }

    /// Sends a text message on every open connection.
    pub fn send_text_all(&self, text: impl Into<Utf8Bytes>) {
        self.send_all(&Message::Text(text.into()));
    }

    /// Starts the closing handshake on every open connection, see [`ConnHandle::close`].
    pub fn close_all(&self, code: u16, reason: &str) {
        for conn in self.live_connections() {
            conn.close(code, reason);
        }
    }

    /// Ends every open connection with a TCP RST, see [`ConnHandle::kill`].
    pub fn kill_all(&self) {
        for conn in self.live_connections() {
            conn.kill();
        }
    }

    /// Loses every open connection in this way, see [`ConnHandle::disconnect`].
    pub fn disconnect_all(&self, how: Disconnect) {
        for conn in self.live_connections() {
            conn.disconnect(how);
        }
    }

    /// Runs a blocking wait on this server on a thread of its own, for async tests; see [`unblock`](crate::unblock()).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use everwire_testing::{MockServer, WaitError};
    /// # async fn example() -> Result<(), WaitError> {
    /// let server = MockServer::start();
    /// // ... start the client with `server.url()` ...
    /// let conn = server.unblock(|server| server.wait_connection(0, Duration::from_secs(5))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unblock<T: Send + 'static>(&self, wait: impl FnOnce(&Self) -> T + Send + 'static) -> Unblocked<T> {
        let server = self.clone();
        unblock(move || wait(&server))
    }

    /// From now on fails the opening handshake of every TCP connection, or of none with `None`. What was set before, here
    /// or in the builder, is forgotten.
    pub fn set_handshake(&self, fault: Option<HandshakeFault>) {
        let mut schedule = self.running.shared.handshake();
        schedule.clear();
        schedule.set_rest(fault);
    }

    /// Fails the opening handshake of the next `count` TCP connections, after those already set; see
    /// [`MockServerBuilder::handshake_for`].
    pub fn handshake_for(&self, count: usize, fault: HandshakeFault) {
        self.running.shared.handshake().push(count, fault);
    }

    /// Closes the listening socket, so that clients find the port closed, or opens it again on the same port. Open
    /// connections stay. Has happened when this returns, except in a handler, where nothing happens before it returns.
    ///
    /// # Errors
    /// The port has been taken by somebody else meanwhile.
    pub fn refuse_connections(&self, refuse: bool) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel();
        let stopped = || io::Error::other("the server thread has ended or hangs in a handler");
        let control = self.running.control.as_ref().ok_or_else(stopped)?;
        control.send(Control::Refuse(refuse, sender)).map_err(|_| stopped())?;
        if self.running.shared.on_server_thread() {
            return Ok(());
        }
        receiver.recv_timeout(THREAD_TIME).map_err(|_| stopped())?
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.running.shared
    }

    /// All connections that are remembered, oldest first.
    pub(crate) fn remembered(&self) -> Vec<ConnHandle> {
        self.running.shared.remembered()
    }

    pub(crate) fn launch(builder: MockServerBuilder) -> io::Result<Self> {
        let tls = builder.tls.then(|| Tls::new(builder.tls_faults)).transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, builder.port))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let shared =
            Arc::new(Shared::new(addr.port(), builder.config, builder.handshake, tls, builder.handlers));
        let (control, orders) = unbounded_channel();
        let thread = thread::Builder::new().name("everwire-mock".to_owned()).spawn({
            let stopped = Stopped(shared.clone());
            let shared = shared.clone();
            move || {
                // Set once, here.
                let _ = shared.thread.set(thread::current().id());
                runtime.block_on(serve(shared, listener, addr, orders));
                // With it go all connections.
                drop(runtime);
                drop(stopped);
            }
        })?;
        Ok(Self { running: Arc::new(Running { shared, addr, control: Some(control), thread: Some(thread) }) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control = None;
        if self.shared.on_server_thread() {
            return;
        }
        let stopped = self.shared.wait(
            || "the server thread to end".to_owned(),
            THREAD_TIME,
            |state| state.stopped.then_some(()),
        );
        // Otherwise it hangs in a handler, and so would this.
        if stopped.is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It has no result, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for MockServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared().state();
        f.debug_struct("MockServer")
            .field("addr", &self.addr())
            .field("tls", &self.shared().tls.is_some())
            .field("attempts", &state.attempts)
            .field("accepted", &state.accepted)
            .field("live", &state.live)
            .finish_non_exhaustive()
    }
}

/// Tells the handle that the server thread is done, also after a panic.
struct Stopped(Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.change(|state| state.stopped = true);
    }
}

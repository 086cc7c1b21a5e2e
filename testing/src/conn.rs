//! The handle of one accepted connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tungstenite::handshake::server::Request;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Bytes, Message, Utf8Bytes};

use crate::conn_state::{Command, ConnState};
use crate::disconnect::Disconnect;
use crate::frame::{RawFrame, Violation};
use crate::matchers::{describe, that};
use crate::throttle::Throttle;
use crate::transcript::Transcript;
use crate::{Unblocked, WaitError, unblock};

/// How long `kill`, `kill_after` and `stall` wait for the server thread to have done it.
const COMMAND_TIME: Duration = Duration::from_secs(5);

/// One connection that the server accepted: send on it, see what came, break it.
///
/// Clones are handles of the same connection. A handle stays useful after the connection and the server have ended:
/// the log can be read, sending does nothing.
///
/// Commands (`send*`, `ping`, `close`, `hang_up`, `kill`, `kill_after`, `stall` and what is made of them) are carried out
/// in the order in which they were called. Up to 64 MiB of them may wait for the client to read; beyond that, and after
/// the end of the connection, messages are [discarded](Self::discarded).
///
/// Waits block, see [`unblock`](Self::unblock) for async tests; in a handler they fail at once with
/// [`WaitError::OnServerThread`].
#[derive(Clone)]
pub struct ConnHandle {
    state: Arc<ConnState>,
}

impl ConnHandle {
    pub(crate) fn new(state: Arc<ConnState>) -> Self {
        Self { state }
    }

    /// Number of this connection among all that were accepted by servers of this process, unique.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// Number of this connection among those its server accepted, from 0: `server.connection(index)` is this one.
    pub fn index(&self) -> usize {
        self.state.index
    }

    /// The client's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.state.peer
    }

    /// The upgrade request: its target in `uri()`, its headers in `headers()`.
    pub fn request(&self) -> &Request {
        &self.state.request
    }

    /// Path and query of the upgrade request, such as `/ws/api?v=2`.
    pub fn path(&self) -> &str {
        self.request().uri().path_and_query().map_or("/", |path| path.as_str())
    }

    /// The first value of a header of the upgrade request; `None` also if it is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request().headers().get(name)?.to_str().ok()
    }

    /// Sends a message.
    ///
    /// A `Message::Frame` is written as it is, which makes fragmented messages. A ping of more than 125 bytes is invalid
    /// (RFC 6455 section 5.5) and sent all the same.
    pub fn send(&self, message: Message) {
        self.state.push(Command::Send(message));
    }

    /// Sends a text message.
    pub fn send_text(&self, text: impl Into<Utf8Bytes>) {
        self.send(Message::Text(text.into()));
    }

    /// Sends a binary message.
    pub fn send_binary(&self, data: impl Into<Bytes>) {
        self.send(Message::Binary(data.into()));
    }

    /// Sends a ping (RFC 6455 section 5.5.2).
    pub fn ping(&self, payload: impl Into<Bytes>) {
        self.send(Message::Ping(payload.into()));
    }

    /// Writes bytes to the stream beneath the framing (above TLS): frames made by hand, compressed or invalid ones.
    ///
    /// The server does not look at them. It does not notice, for example, that they are a close frame.
    pub fn send_raw(&self, bytes: impl Into<Vec<u8>>) {
        self.state.push(Command::Raw(bytes.into()));
    }

    /// Writes frames made by hand, one right after the other, invalid ones too.
    ///
    /// As with [`send_raw`](Self::send_raw) the server does not look at them. They are in the
    /// [`transcript`](Self::transcript) as what they are.
    pub fn send_frames(&self, frames: impl IntoIterator<Item = RawFrame>) {
        self.state.push(Command::Frames(frames.into_iter().collect()));
    }

    /// Sends a text or binary message in fragments of `size` bytes, see [`RawFrame::fragments`]. For control frames
    /// between them use [`send_frames`](Self::send_frames).
    pub fn send_fragmented(&self, message: &Message, size: usize) {
        self.send_frames(RawFrame::fragments(message, size));
    }

    /// Breaks the protocol in this way. The server goes on as if nothing had been; it is for the client to object.
    pub fn violate(&self, violation: Violation) {
        self.send_frames(violation.frames());
    }

    /// Starts the closing handshake (RFC 6455 section 7.1.2) with any code, allowed or not; a reason of more than 123
    /// bytes makes the frame invalid. The server ends the connection when the client has answered, or never.
    pub fn close(&self, code: u16, reason: &str) {
        self.state.push(Command::Close(Some(CloseFrame { code: code.into(), reason: reason.into() })));
    }

    /// Starts the closing handshake with an empty close frame, which a client reports as code 1005.
    pub fn close_without_code(&self) {
        self.state.push(Command::Close(None));
    }

    /// Ends the TCP connection with a FIN and without a close frame, once everything before is written. Under TLS a
    /// close_notify goes before it, unless the server has [`TlsFault::NoCloseNotify`](crate::TlsFault::NoCloseNotify).
    /// Lifts a stall that has nothing left to write.
    pub fn hang_up(&self) {
        self.state.push(Command::HangUp);
    }

    /// Ends the TCP connection with a RST.
    ///
    /// What was sent before is written first, as far as the socket takes it without waiting: after a
    /// [`stall`](Self::stall), or if the client does not read, it is lost. The client still reads it on Linux; Windows
    /// throws away what its application has not read when a RST comes. Except in a handler, it has happened when this
    /// returns.
    pub fn kill(&self) {
        self.run(Command::Kill);
    }

    /// Lets `bytes` more bytes of the TCP stream through (below TLS), then ends it with a RST: in the middle of a frame.
    ///
    /// The count starts behind everything sent before, once that has been written. Pongs and close frames that the
    /// server answers with count too. Except in a handler, the count has started when this returns.
    pub fn kill_after(&self, bytes: u64) {
        self.run(if bytes == 0 { Command::Kill } else { Command::KillAfter(bytes) });
    }

    /// Stops reading and writing, or goes on again. The TCP connection stays up, as if half-open: the operating system
    /// still acknowledges what the client sends until its buffers are full.
    ///
    /// What was sent before is written first, as far as the socket takes it without waiting. Except in a handler, it has
    /// happened when this returns.
    pub fn stall(&self, stalled: bool) {
        if stalled {
            self.run(Command::Stall);
        } else {
            self.state.log.note("not stalled any more");
            self.state.lift_stall();
        }
    }

    /// Limits the speed from now on, also for what is waiting to be written already; [`Throttle::NONE`] lifts it.
    pub fn throttle(&self, throttle: Throttle) {
        self.state.log.note(format!("throttled: {throttle}"));
        self.state.fault.set_throttle(throttle);
    }

    /// Loses the connection in this way, behind everything sent before.
    pub fn disconnect(&self, how: Disconnect) {
        match how {
            Disconnect::Normal => self.close(1000, ""),
            Disconnect::GoingAway => self.close(1001, ""),
            Disconnect::Code(code) => self.close(code, ""),
            Disconnect::Fin => self.hang_up(),
            Disconnect::Reset => self.kill(),
            Disconnect::MidFrame => {
                let frame = RawFrame::text("cut in the middle").bytes();
                self.send_raw(&frame[..frame.len() / 2]);
                self.kill();
            }
            Disconnect::HalfOpen => self.stall(true),
        }
    }

    /// Calls `action` after `delay` on the server thread; not at all if the server has stopped by then.
    pub fn after(&self, delay: Duration, action: impl FnOnce(&Self) + Send + 'static) {
        let conn = self.clone();
        self.state.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            action(&conn);
        });
    }

    /// Waits until everything sent so far has been handed to the operating system.
    ///
    /// # Errors
    /// Not within `timeout`, or the connection ended before.
    pub fn flush(&self, timeout: Duration) -> Result<(), WaitError> {
        let waited_for = || "the writing of everything sent".to_owned();
        self.check_thread(waited_for)?;
        let result = self.state.wait_flushed(timeout);
        let open = self.is_open();
        let hint = if open { "the client may not be reading" } else { "what was left is discarded" };
        self.settle(result, timeout, waited_for, || format!("{hint}{}", self.story()))
    }

    /// `true` until the connection has ended.
    pub fn is_open(&self) -> bool {
        self.ended().is_none()
    }

    /// How the connection ended; `None` while it lives.
    pub fn ended(&self) -> Option<ConnectionEnd> {
        self.state.end()
    }

    /// Waits for the end of the connection.
    ///
    /// # Errors
    /// It did not end within `timeout`.
    pub fn wait_end(&self, timeout: Duration) -> Result<ConnectionEnd, WaitError> {
        let waited_for = || "the end of the connection".to_owned();
        self.check_thread(waited_for)?;
        let result = self.state.wait_end(timeout).map(Ok);
        let mut any = that("", |_| false);
        let arrived = || self.arrivals(self.state.cursor(), &mut any);
        self.settle(result, timeout, waited_for, arrived)
    }

    /// Everything that came, pings, pongs and close frames included, oldest first; but not what answers a
    /// [`fence`](Self::fence).
    ///
    /// The log keeps the newest 16,384 messages and at most 64 MiB. Waiting does not remove anything from it.
    pub fn received(&self) -> Vec<Message> {
        self.state.log_from(0).1
    }

    /// What was said on this connection, as far as it is kept: every frame in both directions, with those that the
    /// server answered by itself, and what the test did to it.
    pub fn transcript(&self) -> Transcript {
        self.state.log.transcript()
    }

    /// Number of messages that came, including those that the log no longer has.
    pub fn received_total(&self) -> u64 {
        self.state.received_total()
    }

    /// Number of messages and raw sends that were never written: called for after the end, after a close frame, or with
    /// 64 MiB waiting already.
    pub fn discarded(&self) -> u64 {
        self.state.discarded()
    }

    /// The bytes that came since the handshake and were not taken by [`expect_raw`](Self::expect_raw), on a server with
    /// [`raw_frames`](crate::MockServerBuilder::raw_frames); the first 64 MiB of them.
    pub fn received_raw(&self) -> Vec<u8> {
        self.state.raw()
    }

    /// Takes the next `len` bytes, on a server with [`raw_frames`](crate::MockServerBuilder::raw_frames).
    ///
    /// # Errors
    /// Fewer came within `timeout`, or before the connection ended.
    pub fn expect_raw(&self, len: usize, timeout: Duration) -> Result<Vec<u8>, WaitError> {
        let waited_for = || format!("{len} raw bytes");
        self.check_thread(waited_for)?;
        let result = self.state.wait_raw(len, timeout);
        self.settle(result, timeout, waited_for, || format!("{} arrived", self.state.raw().len()))
    }

    /// Runs a blocking wait on this connection on a thread of its own, for async tests; see
    /// [`unblock`](crate::unblock()).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use everwire_testing::{ConnHandle, WaitError};
    /// # async fn example(conn: ConnHandle) -> Result<(), WaitError> {
    /// conn.unblock(|conn| conn.expect("hello", Duration::from_secs(5))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unblock<T: Send + 'static>(&self, wait: impl FnOnce(&Self) -> T + Send + 'static) -> Unblocked<T> {
        let conn = self.clone();
        unblock(move || wait(&conn))
    }

    fn run(&self, command: Command) {
        let number = self.state.push(command);
        self.state.wait_executed(number, COMMAND_TIME);
    }

    pub(crate) fn state(&self) -> &ConnState {
        &self.state
    }

    /// The path without its query, which may hold credentials.
    pub(crate) fn story_path(&self) -> String {
        story_path(self.request())
    }
}

/// The path of a request for logs: without its query, which may hold credentials.
pub(crate) fn story_path<T>(request: &tungstenite::http::Request<T>) -> String {
    let uri = request.uri();
    format!("{}{}", uri.path(), if uri.query().is_some() { "?..." } else { "" })
}

impl fmt::Debug for ConnHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnHandle")
            .field("index", &self.index())
            .field("path", &self.story_path())
            .field("received", &self.received_total())
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEnd {
    /// With a complete closing handshake.
    Closed {
        /// The first close frame was the server's.
        by_server: bool,
        /// The client's close frame, `None` if it was empty.
        frame: Option<CloseFrame>,
    },
    /// The client ended its TCP or TLS stream without a complete closing handshake.
    Eof,
    /// The client reset the TCP connection, or it failed otherwise; the operating system's word for it.
    Reset(String),
    /// Cut by [`ConnHandle::kill`] or [`ConnHandle::kill_after`].
    Killed,
    /// Ended by [`ConnHandle::hang_up`].
    HungUp,
    /// The client broke the protocol. The server told it so in a close frame and ended the connection.
    Protocol(String),
    /// A handler panicked; its message.
    HandlerPanicked(String),
    /// The [`MockServer`](crate::MockServer) was dropped.
    ServerStopped,
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { by_server, frame } => {
                let who = if *by_server { "server" } else { "client" };
                write!(
                    f,
                    "closed by the {who}, the client's frame: {}",
                    describe(&Message::Close(frame.clone()))
                )
            }
            Self::Eof => f.write_str("the client ended the stream without a closing handshake"),
            Self::Reset(text) => write!(f, "the connection failed: {text}"),
            Self::Killed => f.write_str("killed by the test"),
            Self::HungUp => f.write_str("the server hung up, as the test wanted"),
            Self::Protocol(text) => write!(f, "the client broke the protocol: {text}"),
            Self::HandlerPanicked(text) => write!(f, "a handler panicked: {text}"),
            Self::ServerStopped => f.write_str("the server was dropped"),
        }
    }
}

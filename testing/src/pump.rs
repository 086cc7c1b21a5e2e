//! The task of one connection: moves bytes between the socket and tungstenite, and executes commands.
//!
//! tungstenite works on two buffers in memory instead of the socket. So a frame is always written whole into the output,
//! and raw bytes can go between two frames without regard to what the socket takes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

use crate::ConnHandle;
use crate::ConnectionEnd;
use crate::conn_state::{Command, ConnState, Output};
use crate::frame::RawFrame;
use crate::shared::Shared;
use crate::transcript::{Direction, FrameLog};
use crate::transport::Transport;

/// Output above which no further commands are executed.
const OUTPUT_HIGH: usize = 256 << 10;
/// How long the last output and the FIN may take.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// Steps after which other connections get their turn.
const STEPS: usize = 128;

pub(crate) struct Pump {
    transport: Transport,
    ws: WebSocket<Wire>,
    state: Arc<ConnState>,
    handle: ConnHandle,
    shared: Arc<Shared>,
    /// Bytes are recorded, not parsed.
    raw: bool,
    /// The transport may hold bytes that it has not given to the socket.
    unflushed: bool,
    /// Writing failed. The client may have sent more before it left, so reading goes on.
    write_failed: bool,
    close_sent: bool,
    /// The client's close frame, once it came.
    close_received: Option<Option<CloseFrame>>,
}

impl Pump {
    /// `response` is written first, together with `frames` in one piece; `input` has been read already.
    pub(crate) fn new(
        transport: Transport,
        response: Vec<u8>,
        frames: &[Message],
        input: Vec<u8>,
        state: Arc<ConnState>,
        shared: Arc<Shared>,
    ) -> Self {
        let log = state.log.clone();
        log.bytes(Direction::FromClient, &input);
        let wire = Wire { input: input.into(), output: response, ended: false, log };
        let handle = ConnHandle::new(state.clone());
        let mut pump = Self {
            transport,
            ws: WebSocket::from_raw_socket(wire, Role::Server, None),
            state,
            handle,
            raw: shared.config.raw_frames,
            shared,
            unflushed: false,
            write_failed: false,
            close_sent: false,
            close_received: None,
        };
        for frame in frames {
            pump.send(frame.clone());
        }
        if pump.raw {
            let input: Vec<u8> = std::mem::take(&mut pump.ws.get_mut().input).into();
            pump.state.push_raw(&input);
        }
        pump
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) {
        let ending = Ending { state: self.state.clone(), shared: self.shared.clone() };
        // The own step limit is fair enough. tokio's would make a socket look full that is not, and `kill` asks that.
        let end = tokio::task::unconstrained(poll_fn(|cx| self.poll(cx))).await;
        match end {
            ConnectionEnd::Killed | ConnectionEnd::HandlerPanicked(_) => {
                self.transport.cut();
                ending.note(end);
            }
            ConnectionEnd::Reset(_) => ending.note(end),
            _ => {
                let finished = tokio::time::timeout(FINISH_TIME, self.finish()).await;
                ending.note(end);
                if matches!(finished, Ok(Ok(()))) {
                    self.transport.drain().await;
                }
            }
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await?;
        self.state.flushed();
        self.transport.finish().await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        self.state.register(cx.waker());
        for _ in 0..STEPS {
            let flushed = self.drive_output(cx);
            if self.state.fault.was_cut() || (!flushed && self.state.kill_wanted()) {
                return Poll::Ready(ConnectionEnd::Killed);
            }
            let room = self.ws.get_ref().output.len() < OUTPUT_HIGH;
            if let Some(command) = self.state.next_command(Output { room, flushed }) {
                // One that ends the connection is not done before the end is.
                if let Some(end) = self.execute(command) {
                    return Poll::Ready(end);
                }
                self.state.executed();
                continue;
            }
            if self.state.fault.stalled() {
                return Poll::Pending;
            }
            if !self.raw {
                match self.read_message() {
                    Ok(Some(message)) => match self.deliver(message) {
                        Ok(()) => continue,
                        Err(panic) => return Poll::Ready(ConnectionEnd::HandlerPanicked(panic)),
                    },
                    Ok(None) => {}
                    Err(end) => return Poll::Ready(end),
                }
                // A close reply, for example, is in the output now.
                if self.has_output() && !self.write_failed && flushed {
                    continue;
                }
            }
            match ready!(self.poll_read(cx)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    // TLS without close_notify.
                    self.ws.get_mut().ended = true;
                }
                Err(_) if self.state.fault.was_cut() => return Poll::Ready(ConnectionEnd::Killed),
                Err(error) => return Poll::Ready(ConnectionEnd::Reset(error.to_string())),
            }
            if self.raw && self.ws.get_ref().ended {
                return Poll::Ready(ConnectionEnd::Eof);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_output(&self) -> bool {
        self.unflushed || !self.ws.get_ref().output.is_empty()
    }

    /// Writes what the socket takes; `true` if that is everything.
    fn drive_output(&mut self, cx: &mut Context<'_>) -> bool {
        match self.poll_write(cx) {
            Poll::Ready(Ok(())) => {
                self.state.flushed();
                true
            }
            Poll::Ready(Err(_)) => {
                self.write_failed = true;
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = &mut self.ws.get_mut().output;
        if self.write_failed {
            output.clear();
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        while !output.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            output.drain(..written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; 16 << 10];
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer))?;
        let wire = self.ws.get_mut();
        wire.log.bytes(Direction::FromClient, buffer.filled());
        if buffer.filled().is_empty() {
            wire.ended = true;
        } else if self.raw {
            self.state.push_raw(buffer.filled());
        } else {
            wire.input.extend(buffer.filled());
        }
        Poll::Ready(Ok(()))
    }

    fn execute(&mut self, command: Command) -> Option<ConnectionEnd> {
        match command {
            Command::Send(message) => self.send(message),
            Command::Raw(_) | Command::Frames(_) if self.write_failed => self.state.count_discarded(),
            Command::Raw(bytes) => {
                self.state.log.raw(&bytes);
                self.ws.get_mut().output.extend_from_slice(&bytes);
            }
            Command::Frames(frames) => {
                for frame in frames {
                    self.state.log.sent(&frame);
                    self.ws.get_mut().output.extend_from_slice(&frame.bytes());
                }
            }
            Command::Close(frame) => self.send(Message::Close(frame)),
            Command::HangUp => {
                self.state.fault.set_stalled(false);
                return Some(ConnectionEnd::HungUp);
            }
            Command::Kill => return Some(ConnectionEnd::Killed),
            Command::KillAfter(bytes) => {
                self.state.log.note(format!("to be cut after {bytes} more bytes"));
                self.state.fault.cut_after(bytes);
            }
            Command::Stall => {
                self.state.log.note("stalled");
                self.state.stall();
            }
        }
        None
    }

    fn send(&mut self, message: Message) {
        let is_close = message.is_close();
        // The wire takes everything, so an error says that a close frame went before, in one direction or the other.
        let written = self.ws.write(message).and_then(|()| self.ws.flush()).is_ok() && !self.write_failed;
        if is_close {
            self.close_sent |= self.close_received.is_none();
        } else if !written {
            self.state.count_discarded();
        }
    }

    fn read_message(&mut self) -> Result<Option<Message>, ConnectionEnd> {
        let error = match self.ws.read() {
            Ok(message) => return Ok(Some(message)),
            Err(error) => error,
        };
        let (code, text) = match &error {
            Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Error::ConnectionClosed | Error::AlreadyClosed => return Err(self.closed()),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Err(ConnectionEnd::Eof),
            Error::Utf8(_) => (CloseCode::Invalid, error.to_string()),
            Error::Capacity(_) => (CloseCode::Size, error.to_string()),
            _ => (CloseCode::Protocol, error.to_string()),
        };
        if !self.close_sent && self.close_received.is_none() {
            let frame = RawFrame::close(code.into(), "");
            self.state.log.sent(&frame);
            self.ws.get_mut().output.extend_from_slice(&frame.bytes());
        }
        Err(ConnectionEnd::Protocol(text))
    }

    fn closed(&mut self) -> ConnectionEnd {
        match self.close_received.take() {
            Some(frame) => ConnectionEnd::Closed { by_server: self.close_sent, frame },
            None => ConnectionEnd::Eof,
        }
    }

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        if let Message::Close(frame) = &message {
            self.close_received = Some(frame.clone());
        }
        self.state.push_received(message.clone());
        if message.is_text() || message.is_binary() {
            call_handler(|| self.shared.message(&self.handle, message))?;
        }
        Ok(())
    }
}

/// Calls a handler; its panic becomes an error.
pub(crate) fn call_handler(handler: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(handler)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a text".to_owned())
    })
}

/// Notes the end of the connection, also when its task is dropped together with the server.
struct Ending {
    state: Arc<ConnState>,
    shared: Arc<Shared>,
}

impl Ending {
    fn note(&self, end: ConnectionEnd) {
        self.shared.connection_ended(&self.state, end);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.note(ConnectionEnd::ServerStopped);
    }
}

/// tungstenite's stream: the bytes from and to the client that are in memory.
#[derive(Debug)]
struct Wire {
    input: VecDeque<u8>,
    output: Vec<u8>,
    /// The client sends no more.
    ended: bool,
    log: Arc<FrameLog>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.log.bytes(Direction::ToClient, buf);
        self.output.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

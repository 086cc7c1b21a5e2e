//! The lowest layer of a connection: a `TcpStream` that can be cut or stalled from outside.
//!
//! It sits below TLS and below the WebSocket framing, so a cut falls wherever it falls: in the middle of a frame, of a
//! TLS record, of the handshake.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the test wants from the socket; shared by the handle and the stream.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    inner: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    stalled: bool,
    /// Bytes that may still be written before the connection is cut.
    remaining: Option<u64>,
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl FaultState {
    pub(crate) fn stalled(&self) -> bool {
        self.lock().stalled
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        let wakers = {
            let mut wanted = self.lock();
            wanted.stalled = stalled;
            [wanted.reader.take(), wanted.writer.take()]
        };
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    pub(crate) fn cut_after(&self, bytes: u64) {
        self.lock().remaining = Some(bytes);
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.lock().cut
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TCP connection under the control of a [`FaultState`].
#[derive(Debug)]
pub(crate) struct FaultStream {
    /// `None` once cut.
    tcp: Option<TcpStream>,
    state: Arc<FaultState>,
}

impl FaultStream {
    pub(crate) fn new(tcp: TcpStream, state: Arc<FaultState>) -> Self {
        Self { tcp: Some(tcp), state }
    }

    /// Ends the connection with a TCP RST (`SO_LINGER` of zero, then close).
    pub(crate) fn cut(&mut self) {
        self.state.lock().cut = true;
        if let Some(tcp) = self.tcp.take() {
            // Only fails on a socket that is already dead, where there is nothing left to reset.
            let _ = tcp.set_zero_linger();
        }
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(cut_error)
    }
}

impl AsyncRead for FaultStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut wanted = self.state.lock();
            if wanted.stalled {
                wanted.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.tcp()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for FaultStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let remaining = {
            let mut wanted = self.state.lock();
            if wanted.stalled {
                wanted.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            wanted.remaining
        };
        let Some(remaining) = remaining else { return self.tcp()?.poll_write(cx, buf) };

        let allowed = usize::try_from(remaining).unwrap_or(usize::MAX).min(buf.len());
        let written = if allowed == 0 {
            0
        } else {
            match self.tcp()?.poll_write(cx, &buf[..allowed]) {
                Poll::Ready(Ok(written)) => written,
                other => return other,
            }
        };
        let remaining = remaining - written as u64;
        self.state.lock().remaining = Some(remaining);
        if remaining == 0 {
            self.cut();
            return Poll::Ready(Err(cut_error()));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut wanted = self.state.lock();
            if wanted.stalled {
                wanted.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.tcp()?.poll_shutdown(cx)
    }
}

fn cut_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the test cut this connection")
}

//! A connection's byte stream, plain or TLS, above the fault layer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::fault_stream::FaultStream;

/// How long a finished connection waits for the client's FIN before its socket is closed.
const DRAIN_TIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) enum Transport {
    Plain(FaultStream),
    Tls {
        stream: Box<TlsStream<FaultStream>>,
        /// `false`: end with a bare FIN, without the alert that tells the end from a truncation.
        close_notify: bool,
    },
}

impl Transport {
    /// Ends with a TCP RST.
    pub(crate) fn cut(&mut self) {
        self.socket().cut();
    }

    /// Ends with a FIN, after a TLS close_notify where there is TLS.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tls { stream, close_notify: false } => stream.get_mut().0.shutdown().await,
            _ => self.shutdown().await,
        }
    }

    /// Reads until the client is done too. A socket closed with unread bytes sends a RST, which could destroy what the
    /// client has not read yet.
    pub(crate) async fn drain(&mut self) {
        drain(self.socket()).await;
    }

    fn socket(&mut self) -> &mut FaultStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls { stream, .. } => stream.get_mut().0,
        }
    }
}

/// Ends a plain socket with FIN and waits a little for the client's.
pub(crate) async fn finish_socket(socket: &mut FaultStream) {
    if socket.shutdown().await.is_ok() {
        drain(socket).await;
    }
}

/// Reads and discards until the client ends the connection.
pub(crate) async fn discard_all(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}

async fn drain(socket: &mut FaultStream) {
    // Too slow is as good as done: the socket is closed either way.
    let _ = tokio::time::timeout(DRAIN_TIME, discard_all(socket)).await;
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

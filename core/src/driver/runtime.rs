//! What a driver needs of its runtime.

use crate::clock::Clock;
use crate::session::SocketOptions;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// A future that a driver keeps until it is ready, or until nobody wants its output any more.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The I/O and the timer that a [`Driver`](super::Driver) runs on. Whoever implements it has a driver for his runtime: nothing of WebSocket,
/// TLS or reconnecting is in it.
///
/// Pending polls wake the task of their context when it is worth to poll again, as futures do.
pub trait Runtime: Send + Sized + 'static {
    /// A connected byte stream.
    type Stream: Send + 'static;

    /// The runtime's part of a new driver, what time it is, and 32 random bytes that nobody can guess.
    ///
    /// # Errors
    /// What the operating system said, if it gives none of these.
    fn start() -> io::Result<(Self, Clock, [u8; 32])>;

    /// Reads the runtime's clock.
    fn now() -> Instant;

    /// The addresses of a host.
    fn resolve(&mut self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>>;

    /// Opens a TCP connection.
    fn connect(&mut self, addr: SocketAddr, options: &SocketOptions) -> BoxFuture<io::Result<Self::Stream>>;

    /// Reads into `buffer`, which is not empty; 0 is the end of the stream.
    fn poll_read(
        stream: &mut Self::Stream,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>>;

    /// Writes some of `bytes`, which are not empty.
    fn poll_write(stream: &mut Self::Stream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what the stream has buffered. TCP buffers nothing.
    fn poll_flush(stream: &mut Self::Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = (stream, cx);
        Poll::Ready(Ok(()))
    }

    /// Ready at `deadline`; never without one. Each call takes the place of the one before.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()>;
}

/// A runtime whose drivers take streams of this type from the user's connector.
pub trait Carries<S>: Runtime {
    /// What makes it one of the runtime's own.
    fn carrier(&self) -> impl Fn(S) -> io::Result<Self::Stream> + Clone + Send + Sync + 'static;
}

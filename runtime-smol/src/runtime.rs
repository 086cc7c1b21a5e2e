//! Sockets, names and the timer, by async-io: its reactor has a thread of its own, so that any executor will do.

use async_io::{Async, Timer};
use everwire_core::driver::{BoxFuture, Carries, Runtime};
use everwire_core::{Clock, SocketOptions};
use futures_io::{AsyncRead, AsyncWrite};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// async-io, for a [`Driver`](crate::Driver).
#[derive(Debug, Default)]
pub struct Smol {
    timer: Option<(Instant, Timer)>,
}

/// A byte stream of the futures family.
#[non_exhaustive]
pub enum Stream {
    /// TCP.
    Tcp(Async<TcpStream>),
    /// One of the user's connector.
    Own(Box<dyn Duplex>),
}

/// What a stream of the user must be able to do.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Runtime for Smol {
    type Stream = Stream;

    fn start() -> io::Result<(Self, Clock, [u8; 32])> {
        let (clock, seed) = everwire_os::start(Self::now())?;
        Ok((Self::default(), clock, seed))
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn resolve(&mut self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(smol::unblock(move || Ok((host, port).to_socket_addrs()?.collect())))
    }

    fn connect(&mut self, addr: SocketAddr, options: &SocketOptions) -> BoxFuture<io::Result<Stream>> {
        let stream = everwire_os::connect(addr, options);
        Box::pin(async move {
            let stream = Async::new_nonblocking(stream?)?;
            stream.writable().await?;
            match stream.get_ref().take_error()? {
                Some(error) => Err(error),
                None => Ok(Stream::Tcp(stream)),
            }
        })
    }

    fn poll_read(stream: &mut Stream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Own(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_write(stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Own(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match stream {
            Stream::Tcp(_) => Poll::Ready(Ok(())),
            Stream::Own(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let (set, timer) = self.timer.get_or_insert_with(|| (deadline, Timer::at(deadline)));
        if *set != deadline {
            *set = deadline;
            timer.set_at(deadline);
        }
        Pin::new(timer).poll(cx).map(drop)
    }
}

impl<S: Duplex + 'static> Carries<S> for Smol {
    fn carrier(&self) -> impl Fn(S) -> io::Result<Stream> + Clone + Send + Sync + 'static {
        |stream| Ok(Stream::Own(Box::new(stream)))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Own(_) => "Own",
        })
    }
}

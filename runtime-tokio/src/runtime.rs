//! Sockets, names and the timer, by tokio.

use everwire_core::driver::{BoxFuture, Carries, Runtime};
use everwire_core::{Clock, SocketOptions};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Sleep, sleep_until};

/// Tokio, for a [`Driver`](crate::Driver).
#[derive(Debug, Default)]
pub struct Tokio {
    timer: Option<Pin<Box<Sleep>>>,
}

/// A byte stream of tokio's.
#[non_exhaustive]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// One of the user's connector.
    Own(Box<dyn Duplex>),
}

/// What a stream of the user must be able to do.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Runtime for Tokio {
    type Stream = Stream;

    fn start() -> io::Result<(Self, Clock, [u8; 32])> {
        let (clock, seed) = everwire_os::start(Self::now())?;
        Ok((Self::default(), clock, seed))
    }

    /// Tokio's clock, so that its tests can pause it.
    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn resolve(&mut self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&mut self, addr: SocketAddr, options: &SocketOptions) -> BoxFuture<io::Result<Stream>> {
        let stream = everwire_os::connect(addr, options);
        Box::pin(async move {
            let stream = TcpStream::from_std(stream?)?;
            stream.writable().await?;
            match stream.take_error()? {
                Some(error) => Err(error),
                None => Ok(Stream::Tcp(stream)),
            }
        })
    }

    fn poll_read(stream: &mut Stream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Own(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
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
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

impl<S: Duplex + 'static> Carries<S> for Tokio {
    fn carrier(&self) -> impl Fn(S) -> io::Result<Stream> + Clone + Send + Sync + 'static {
        |stream| Ok(Stream::Own(Box::new(stream)))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Own(_) => "Own",
        })
    }
}

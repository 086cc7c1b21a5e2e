//! Sockets, names and the timer, by the standard library and `polling`.

use crate::background::background;
use crate::reactor::{Direction, Reactor, Registered};
use everwire_core::driver::{BoxFuture, Carries, Runtime};
use everwire_core::{Clock, SocketOptions};
use polling::AsSource;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// A thread that waits, for a [`Driver`](crate::Driver).
#[derive(Debug)]
pub struct Std {
    pub(crate) reactor: Arc<Reactor>,
}

/// A byte stream that wakes its thread.
#[derive(Debug)]
pub struct Stream(Kind);

enum Kind {
    Tcp(Registered<TcpStream>),
    Own(Registered<Own>),
}

/// What a stream of the user must be able to do: a socket, or something that has one, which must be non-blocking.
pub trait Duplex: Read + Write + AsSource + Send {}

impl<S: Read + Write + AsSource + Send> Duplex for S {}

/// A stream of the user. The standard library passes the socket of what is in a `Box` on for any type on Unix, but only for sized ones on
/// Windows.
struct Own(Box<dyn Duplex>);

#[cfg(unix)]
impl std::os::fd::AsFd for Own {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Own {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.0.as_socket()
    }
}

impl Runtime for Std {
    type Stream = Stream;

    fn start() -> io::Result<(Self, Clock, [u8; 32])> {
        let (clock, seed) = everwire_os::start(Self::now())?;
        Ok((Self { reactor: Reactor::new()? }, clock, seed))
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn resolve(&mut self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let found = background(move || Ok((host, port).to_socket_addrs()?.collect()));
        Box::pin(async move { found.await? })
    }

    fn connect(&mut self, addr: SocketAddr, options: &SocketOptions) -> BoxFuture<io::Result<Stream>> {
        let (stream, reactor) = (everwire_os::connect(addr, options), self.reactor.clone());
        Box::pin(async move {
            let mut stream = Registered::new(stream?, reactor)?;
            poll_fn(|_| stream.poll(Direction::Write, is_connected)).await?;
            Ok(Stream(Kind::Tcp(stream)))
        })
    }

    fn poll_read(stream: &mut Stream, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut stream.0 {
            Kind::Tcp(stream) => stream.poll(Direction::Read, |stream| stream.read(buffer)),
            Kind::Own(stream) => stream.poll(Direction::Read, |stream| stream.0.read(buffer)),
        }
    }

    fn poll_write(stream: &mut Stream, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut stream.0 {
            Kind::Tcp(stream) => stream.poll(Direction::Write, |stream| stream.write(bytes)),
            Kind::Own(stream) => stream.poll(Direction::Write, |stream| stream.0.write(bytes)),
        }
    }

    fn poll_flush(stream: &mut Stream, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut stream.0 {
            Kind::Tcp(_) => Poll::Ready(Ok(())),
            Kind::Own(stream) => stream.poll(Direction::Write, |stream| stream.0.flush()),
        }
    }

    /// The reactor's thread waits for no longer than this.
    fn poll_timer(&mut self, _: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        self.reactor.set_deadline(deadline);
        Poll::Pending
    }
}

impl<S: Duplex + 'static> Carries<S> for Std {
    fn carrier(&self) -> impl Fn(S) -> io::Result<Stream> + Clone + Send + Sync + 'static {
        let reactor = self.reactor.clone();
        move |stream| Ok(Stream(Kind::Own(Registered::new(Own(Box::new(stream)), reactor.clone())?)))
    }
}

/// Whether the connection that was begun is there.
fn is_connected(stream: &mut TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::Error::from(io::ErrorKind::WouldBlock))
        }
        other => other.map(drop),
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Own(_) => "Own",
        })
    }
}

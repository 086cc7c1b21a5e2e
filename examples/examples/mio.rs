//! The session in a mio event loop: edge-triggered, so that what is ready must be remembered.
//!
//! ```text
//! cargo run -p everwire-examples --example mio -- [ws://an.echo.server]
//! ```

use everwire_core::{ConnId, Disconnect, Output, Session, SocketOptions};
use everwire_examples::{Demo, Lookups, earliest};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// The name of the waker among the sockets, whose names are their `ConnId`s.
const WAKER: Token = Token(usize::MAX);

fn main() -> ExitCode {
    everwire_examples::main("mio", run)
}

pub(crate) fn run(demo: &mut Demo) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut ready = Events::with_capacity(64);
    // How another thread ends the sleep of this one.
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let lookups = Lookups::default();
    // Often one. Several while addresses race, or while an old connection says its last word.
    let mut sockets: BTreeMap<ConnId, Socket> = BTreeMap::new();

    let mut now = Instant::now();
    let mut session = demo.session(now)?;
    loop {
        // What the session wants. There is no default branch: a duty that is forgotten does not compile.
        let deadline = match session.poll_output(now) {
            Output::Resolve(id) => {
                let waker = waker.clone();
                // Waking fails when the loop is gone.
                lookups.start(id, &session, move || drop(waker.wake()));
                continue;
            }
            Output::Connect(conn, addr) => {
                // What fails at once is told like what fails later.
                match Socket::connect(conn, addr, session.socket_options(), &poll) {
                    Ok(socket) => drop(sockets.insert(conn, socket)),
                    Err(error) => session.handle_disconnected(conn, error.into(), now),
                }
                continue;
            }
            Output::Disconnect(conn) => {
                // Closing a socket takes it out of the poll as well.
                sockets.remove(&conn);
                continue;
            }
            // The program has no time for an event. Until it takes it, `recv_buffer` is empty and nothing is read: the
            // peer has to wait. What is to be written goes out all the same.
            Output::Event if demo.is_busy(now) => earliest(session.timeout(), demo.busy_until()),
            Output::Event => {
                demo.take(&mut session, now);
                continue;
            }
            Output::Wait(deadline) => deadline,
            // Only for configurations that ask for them: a provider of endpoints, and transports that are not TCP.
            Output::Provide(_) | Output::Open(_) => {
                unreachable!("the configuration has an endpoint, and TCP")
            }
            Output::Closed => return Ok(()),
        };

        // Everything that can be done without sleeping, first.
        now = Instant::now();
        let mut moved = lookups.finish(&mut session, now);
        sockets.retain(|conn, socket| match socket.advance(*conn, &mut session, now) {
            Ok(any) => {
                moved |= any;
                true
            }
            Err(cause) => {
                session.handle_disconnected(*conn, cause, now);
                moved = true;
                false
            }
        });
        if moved {
            continue;
        }

        demo.turn(&session);
        match poll.poll(&mut ready, deadline.map(|at| at.saturating_duration_since(now))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &ready {
            let conn = sockets.iter_mut().find(|(conn, _)| token(**conn) == event.token());
            if let Some((_, socket)) = conn {
                // An edge is told once: what is ready stays so until a read or write says `WouldBlock`.
                socket.readable |= event.is_readable() || event.is_error();
                socket.writable |= event.is_writable() || event.is_error();
            }
        }
        now = Instant::now();
        if deadline.is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
    }
}

fn token(conn: ConnId) -> Token {
    Token(conn.as_u64() as usize)
}

struct Socket {
    stream: TcpStream,
    connected: bool,
    readable: bool,
    writable: bool,
    /// Why a write failed: what has arrived is read before it is told.
    broken: Option<Disconnect>,
}

impl Socket {
    fn connect(conn: ConnId, addr: SocketAddr, options: &SocketOptions, poll: &Poll) -> io::Result<Self> {
        let mut stream = TcpStream::from_std(everwire_os::connect(addr, options)?);
        // Once for all: where nothing is read, edges cost nothing.
        poll.registry().register(&mut stream, token(conn), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, connected: false, readable: false, writable: false, broken: None })
    }

    /// Does what does not block. True if anything moved; an error is the end of the connection.
    fn advance(&mut self, conn: ConnId, session: &mut Session, now: Instant) -> Result<bool, Disconnect> {
        let mut moved = false;
        if !self.connected {
            // Once a socket can be written, connecting is over, well or not.
            if !self.writable {
                return Ok(false);
            }
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            match self.stream.peer_addr() {
                // Some systems wake up early.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.writable = false;
                    return Ok(false);
                }
                result => result?,
            };
            self.connected = true;
            session.handle_connected(conn, now);
            moved = true;
        }
        while self.writable && self.broken.is_none() && !session.transmit(conn).is_empty() {
            match self.stream.write(session.transmit(conn)) {
                // Often only a part: the rest stays in `transmit`.
                Ok(len) => {
                    session.handle_transmitted(conn, len, now);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.broken = Some(error.into()),
            }
        }
        // One read, then the session has its say: it may not want another.
        let room = session.recv_buffer(conn);
        if self.readable && !room.is_empty() {
            match self.stream.read(room) {
                Ok(0) => return Err(self.broken.take().unwrap_or(Disconnect::Eof)),
                Ok(len) => {
                    session.handle_received(conn, len, now);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => moved = true,
                Err(error) => return Err(self.broken.take().unwrap_or_else(|| error.into())),
            }
        }
        Ok(moved)
    }
}

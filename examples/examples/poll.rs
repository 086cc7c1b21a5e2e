//! The session in a plain poll loop, with the `polling` crate: level-triggered, each time asking for what is wanted now.
//!
//! ```text
//! cargo run -p everwire-examples --example poll -- [ws://an.echo.server]
//! ```

use everwire_core::{ConnId, Disconnect, Output, Session, SocketOptions};
use everwire_examples::{Demo, Lookups, earliest};
use polling::{Event, Events, Poller};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

fn main() -> ExitCode {
    everwire_examples::main("poll", run)
}

pub(crate) fn run(demo: &mut Demo) -> Result<(), Box<dyn Error>> {
    let poller = Arc::new(Poller::new()?);
    let mut ready = Events::new();
    let lookups = Lookups::default();
    // Often one. Several while addresses race, or while an old connection says its last word.
    let mut sockets: BTreeMap<ConnId, Socket> = BTreeMap::new();

    let mut now = Instant::now();
    let mut session = demo.session(now)?;
    loop {
        // What the session wants. There is no default branch: a duty that is forgotten does not compile.
        let deadline = match session.poll_output(now) {
            Output::Resolve(id) => {
                let poller = poller.clone();
                // `notify` ends the sleep of this thread.
                lookups.start(id, &session, move || drop(poller.notify()));
                continue;
            }
            Output::Connect(conn, addr) => {
                // What fails at once is told like what fails later.
                match Socket::connect(conn, addr, session.socket_options(), &poller) {
                    Ok(socket) => drop(sockets.insert(conn, socket)),
                    Err(error) => session.handle_disconnected(conn, error.into(), now),
                }
                continue;
            }
            Output::Disconnect(conn) => {
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

        for (conn, socket) in &mut sockets {
            socket.arm(*conn, &mut session)?;
        }
        demo.turn(&session);
        ready.clear();
        // A signal ends the sleep as well.
        match poller.wait(&mut ready, deadline.map(|at| at.saturating_duration_since(Instant::now()))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        now = Instant::now();
        lookups.finish(&mut session, now);
        for event in ready.iter() {
            let found = sockets.iter_mut().find(|(conn, _)| key(**conn) == event.key);
            let Some((&conn, socket)) = found else { continue };
            if let Err(cause) = socket.handle(event, conn, &mut session, now) {
                sockets.remove(&conn);
                session.handle_disconnected(conn, cause, now);
            }
        }
        if deadline.is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
    }
}

fn key(conn: ConnId) -> usize {
    conn.as_u64() as usize
}

struct Socket {
    stream: TcpStream,
    poller: Arc<Poller>,
    connected: bool,
    /// What the poller waits for: readable, writable.
    armed: (bool, bool),
    /// Why a write failed: what has arrived is read before it is told.
    broken: Option<Disconnect>,
}

impl Socket {
    fn connect(
        conn: ConnId,
        addr: SocketAddr,
        options: &SocketOptions,
        poller: &Arc<Poller>,
    ) -> io::Result<Self> {
        let stream = everwire_os::connect(addr, options)?;
        #[expect(unsafe_code, reason = "the poller must not outlast the socket: see `drop`")]
        // SAFETY: `drop` takes the stream out of the poller before it is closed.
        unsafe {
            poller.add(&stream, Event::none(key(conn)))?;
        }
        Ok(Self { stream, poller: poller.clone(), connected: false, armed: (false, false), broken: None })
    }

    /// Waits for what the session can use now, and for nothing else: a loop that waits for what it does not take spins.
    fn arm(&mut self, conn: ConnId, session: &mut Session) -> io::Result<()> {
        let readable = self.connected && !session.recv_buffer(conn).is_empty();
        let writable = self.broken.is_none() && !session.transmit(conn).is_empty();
        // Once a socket can be written, connecting is over, well or not.
        let wanted = (readable, writable || !self.connected);
        if wanted != self.armed {
            self.poller.modify(&self.stream, Event::new(key(conn), wanted.0, wanted.1))?;
            self.armed = wanted;
        }
        Ok(())
    }

    /// Does what the socket is ready for. An error is the end of the connection.
    fn handle(
        &mut self,
        event: Event,
        conn: ConnId,
        session: &mut Session,
        now: Instant,
    ) -> Result<(), Disconnect> {
        // Each answer is given once, and then has to be asked for again.
        self.armed = (false, false);
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            self.connected = true;
            session.handle_connected(conn, now);
            return Ok(());
        }
        let bytes = session.transmit(conn);
        if event.writable && self.broken.is_none() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                // Often only a part: the rest stays in `transmit`, and is written when the socket takes more.
                Ok(len) => session.handle_transmitted(conn, len, now),
                Err(error) if is_no_error(&error) => {}
                Err(error) => self.broken = Some(error.into()),
            }
        }
        let room = session.recv_buffer(conn);
        if event.readable && !room.is_empty() {
            match self.stream.read(room) {
                Ok(0) => return Err(self.broken.take().unwrap_or(Disconnect::Eof)),
                Ok(len) => session.handle_received(conn, len, now),
                Err(error) if is_no_error(&error) => {}
                Err(error) => return Err(self.broken.take().unwrap_or_else(|| error.into())),
            }
        }
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What cannot be taken out is not in it.
        let _ = self.poller.delete(&self.stream);
    }
}

fn is_no_error(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

//! What the examples share, so that each of them shows nothing but its event loop: the program around the loop, a server that it talks
//! to, and the check of what came.
//!
//! The program sends 20 messages and expects each of them back. After the tenth it loses its connection, and goes on over the next. Its
//! server is one of this process, unless the command line names another: any that echoes, and says nothing else.

mod lookup;
mod peer;

pub use lookup::{Lookups, earliest};
pub use peer::Peer;

use everwire_core::{CloseCode, Config, Event, Message, SendOptions, Session, SocketOptions};
use everwire_testing::MockServer;
use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Messages over each of the two connections.
const PER_CONNECTION: usize = 10;
/// The last one of the first connection has 4 MiB more than the others.
const LARGE: usize = 4 << 20;
/// What a socket takes of it at once.
const SOCKET_BUFFER: usize = 64 << 10;
/// How long the server reads nothing at first.
const STALL: Duration = Duration::from_millis(50);
/// How long the program takes no event once, and a server that goes on sending has to wait.
const BUSY: Duration = Duration::from_millis(200);
/// An example that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A loop that goes to sleep more often than this does not sleep: one that spins for no longer than the program is busy comes to ten
/// times as many, one that does not spin to a third at most.
const MAX_TURNS: usize = 2_000;

/// The program that the session works for. In yours, all of this is your own.
pub struct Demo {
    /// `None`: the user's own.
    server: Option<MockServer>,
    url: String,
    connections: usize,
    received: usize,
    failed_attempts: usize,
    /// It takes no events until then.
    busy_until: Option<Instant>,
    /// How often the loop slept.
    turns: usize,
    /// A write took only a part of what there was.
    wrote_part: bool,
    /// An event had to wait.
    held: bool,
    /// The first thing that was not as it must be.
    fault: Option<String>,
}

/// This system has not what the example needs, through no fault of the example.
#[derive(Debug)]
pub struct NotHere(String);

impl NotHere {
    /// It lacks this.
    pub fn because(why: &str) -> Box<dyn Error> {
        Self(why.to_owned()).into()
    }

    /// A system call that does not exist here, or is forbidden as in many containers; anything else is an error as others.
    pub fn or_error(error: io::Error) -> Box<dyn Error> {
        match error.kind() {
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => Self::because(&error.to_string()),
            _ => error.into(),
        }
    }
}

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NotHere {}

/// Runs an example as a program: with the server that the command line names, or else one of this process. The last line on standard
/// output is `name: ok, 2 connections, 20 messages`, or `name: did not run: ...` for [`NotHere`]; anything else is exit code 1.
pub fn main(name: &str, example: impl FnOnce(&mut Demo) -> Result<(), Box<dyn Error>>) -> ExitCode {
    match run(name, std::env::args().nth(1), example) {
        Ok(summary) => {
            println!("{name}: ok, {summary}");
            ExitCode::SUCCESS
        }
        Err(error) if error.is::<NotHere>() => {
            println!("{name}: did not run: {error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs an example, with the server at `url` or else one of this process; gives how many connections and messages there were. After 20
/// seconds it ends the process.
///
/// # Errors
/// What the loop could not do, or what was not as it must be.
pub fn run(
    name: &str,
    url: Option<String>,
    example: impl FnOnce(&mut Demo) -> Result<(), Box<dyn Error>>,
) -> Result<String, Box<dyn Error>> {
    let mut demo = Demo::new(url);
    // A loop that hangs cannot say so itself. It is over when `done` is dropped.
    let (done, over) = mpsc::channel::<()>();
    let name = name.to_owned();
    thread::spawn(move || {
        if over.recv_timeout(TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name}: not done after {TIMEOUT:?}");
            std::process::exit(1);
        }
    });
    let ended = example(&mut demo);
    drop(done);
    ended?;
    demo.check()?;
    Ok(format!("{} connections, {} messages", demo.connections, demo.received))
}

impl Demo {
    fn new(url: Option<String>) -> Self {
        let server = url.is_none().then(|| MockServer::builder().handler(|conn, message| conn.send(message)));
        let server = server.map(everwire_testing::MockServerBuilder::start);
        let local = || server.as_ref().map(|server| format!("ws://localhost:{}/", server.addr().port()));
        Self {
            url: url.or_else(local).unwrap_or_default(),
            server,
            connections: 0,
            received: 0,
            failed_attempts: 0,
            busy_until: None,
            turns: 0,
            wrote_part: false,
            held: false,
            fault: None,
        }
    }

    /// The session: what it is to do, what time it is, and the only entropy that it will ever have.
    ///
    /// # Errors
    /// The URL is none, or the operating system has no entropy.
    pub fn session(&self, now: Instant) -> Result<Session, Box<dyn Error>> {
        let config = match &self.server {
            // Nobody listens on port 1: so the first attempt fails, and the loop must know what to do then.
            Some(_) => Config::new("ws://127.0.0.1:1/")?.endpoints([&self.url])?,
            None => Config::new(&self.url)?,
        };
        let config = config.backoff(Duration::from_millis(100), Duration::from_secs(1)).max_attempts(5);
        // The session takes the large message at once, a socket does not.
        let config = config
            .send_buffer(2 * LARGE)
            .sockets(SocketOptions::default().send_buffer(SOCKET_BUFFER).recv_buffer(SOCKET_BUFFER));
        let (clock, seed) = everwire_os::start(now)?;
        Ok(Session::new(config, clock, seed)?)
    }

    /// Whether the program does something else now, and takes no event.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Until when. Asked for while an event waits.
    pub fn busy_until(&mut self) -> Option<Instant> {
        self.held = true;
        self.busy_until
    }

    /// Takes the event that is announced, and does what the program does about it.
    pub fn take(&mut self, session: &mut Session, now: Instant) {
        match session.event() {
            Some(Event::Online { .. }) => {
                self.connections += 1;
                if let Some(conn) = self.server.as_ref().and_then(MockServer::last) {
                    conn.stall(true);
                    conn.after(STALL, |conn| conn.stall(false));
                }
                for n in self.received + 1..=self.received + PER_CONNECTION {
                    if let Err(error) = session.send(Message::Text(&text(n)), SendOptions::default(), now) {
                        self.wrong(format!("message {n} was not taken: {error}"));
                    }
                }
            }
            Some(Event::Message { message, .. }) => {
                let awaited = text(self.received + 1);
                if message.as_bytes() != awaited.as_bytes() {
                    let begin: String = message.as_text().unwrap_or_default().chars().take(40).collect();
                    self.wrong(format!("instead of message {} came {begin:?}", self.received + 1));
                }
                self.received += 1;
                match self.received {
                    1 => self.busy_until = Some(now + BUSY),
                    PER_CONNECTION => match &self.server {
                        Some(server) => server.kill_all(),
                        None => session.reconnect(now),
                    },
                    n if n == 2 * PER_CONNECTION => session.close(CloseCode::Normal, "", now),
                    _ => {}
                }
            }
            Some(Event::Lost { error, .. }) => println!("lost: {error}"),
            Some(Event::AttemptFailed { error, .. }) => {
                println!("failed: {error}");
                self.failed_attempts += 1;
            }
            Some(Event::Closed { error: Some(error), .. }) => {
                let explained = error.explain().to_string();
                self.wrong(explained);
            }
            _ => {}
        }
        if self.fault.is_some() {
            session.close(CloseCode::Normal, "", now);
        }
    }

    /// The loop goes to sleep.
    pub fn turn(&mut self, session: &Session) {
        self.turns += 1;
        self.wrote_part |= session.queued() > 0;
    }

    fn wrong(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    fn check(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let counts = (self.connections, self.received);
        if counts != (2, 2 * PER_CONNECTION) {
            return Err(format!("{} connections and {} messages, not 2 and 20", counts.0, counts.1));
        }
        if self.turns > MAX_TURNS {
            return Err(format!("the loop went round {} times: it does not sleep", self.turns));
        }
        // With a server elsewhere these are up to the network.
        if self.server.is_some() {
            if self.failed_attempts != 1 {
                return Err(format!("{} attempts failed, not 1", self.failed_attempts));
            }
            if !self.wrote_part {
                return Err("every write took all there was, and so nothing is proved".to_owned());
            }
            if !self.held {
                return Err("no event had to wait, and so nothing is proved".to_owned());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demo")
            .field("connections", &self.connections)
            .field("received", &self.received)
            .field("turns", &self.turns)
            .finish_non_exhaustive()
    }
}

fn text(n: usize) -> String {
    let padding = if n == PER_CONNECTION { LARGE } else { 0 };
    format!("message {n}{}", " ".repeat(padding))
}

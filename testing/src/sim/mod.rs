//! A session in virtual time: no socket, no clock, no thread, and one seed that decides everything.
//!
//! [`Simulation`] drives an [`everwire_core::Session`] exactly as a real driver does, between a [`Server`] and a [`User`] that are
//! plain state machines, over a [`Net`] that delays, cuts up and loses what they say. Hours of session time take milliseconds, and a run
//! that fails is repeated by its seed alone.

mod dice;
mod driver;
mod link;
mod log;
pub mod model;
mod net;
mod pipe;
mod runner;
mod scenario;
mod script;
#[cfg(test)]
mod tests;
pub mod venue;
pub mod ws;

pub use dice::Dice;
pub use log::{Fault, Log};
pub use net::{Faults, Net};
pub use runner::{Outcome, Simulation, Stats};
#[cfg(feature = "mutants")]
pub use scenario::simulate_with;
pub use scenario::{Report, Scenario, simulate};
pub use script::{Plan, Script};

use everwire_core::{Clock, OwnedEvent, Session};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// A server, sans-IO, in virtual time: every `now` counts from the start of the simulation.
///
/// After each call its [`output`](Self::output) is asked for until there is none.
pub trait Server: Debug {
    /// A client connects to this address, whose port is that of the URL. Ids count up and are never used twice.
    fn accept(&mut self, conn: u64, to: SocketAddr, now: Duration) -> Accept;

    /// These bytes arrived on an open connection, cut as the network pleased.
    fn received(&mut self, conn: u64, bytes: &[u8], now: Duration);

    /// The client's side or the network ended the connection: nothing arrives on it any more, and what is sent on it is lost. Said at
    /// most once for each connection, and never after the server's own [`Action::Reset`]. When a connection is half-open it is never
    /// said, as in life.
    fn closed(&mut self, conn: u64, how: Ended, now: Duration);

    /// When [`run`](Self::run) is to be called; `None` is never. A moment that is over means now.
    fn deadline(&self) -> Option<Duration>;

    /// Time has come: deal with all that is due. Early and needless calls are possible.
    fn run(&mut self, now: Duration);

    /// What to do next, oldest first; `None` when there is nothing left.
    fn output(&mut self) -> Option<(u64, Action)>;

    /// Whether it reads from this connection now. False: what arrives waits, and in the end the client's writes do. It is asked again
    /// whenever anything happens; so set a deadline for when it changes. Default true.
    fn reads(&self, conn: u64, now: Duration) -> bool {
        let _ = (conn, now);
        true
    }

    /// What is wrong with what the client did, if anything is. It ends the run as [`Outcome::Violation`]. Asked after every step, so
    /// that it should only look up what was found before. Default: nothing.
    fn violation(&self) -> Option<String> {
        None
    }
}

/// What the user of the session does: called with each event, and when time comes. Every `now` counts from the start of the simulation;
/// [`instant`] makes of it what the session's calls take.
pub trait User: Debug {
    /// An event was taken.
    fn event(&mut self, event: &OwnedEvent, session: &mut Session, now: Duration);

    /// The session begins to connect to this address, whose port is that of the URL: for whoever watches where it goes. Default: nothing.
    fn connects(&mut self, conn: u64, to: SocketAddr, session: &Session, now: Duration) {
        let _ = (conn, to, session, now);
    }

    /// When [`act`](Self::act) is to be called; `None` is never. A moment that is over means now.
    fn deadline(&self) -> Option<Duration>;

    /// Time has come: do all that is due. It must move [`deadline`](Self::deadline) on.
    fn act(&mut self, session: &mut Session, now: Duration);

    /// Whether the next event is taken. False is a slow consumer: events wait, and so does what arrives behind them. It is asked again
    /// whenever anything happens, [`act`](Self::act) included; so set a deadline for when it changes. Default true.
    fn takes(&mut self, now: Duration) -> bool {
        let _ = now;
        true
    }

    /// What is wrong with what the session did, if anything is. It ends the run as [`Outcome::Violation`]. Asked after every step, so
    /// that it should only look up what was found before. Default: nothing.
    fn violation(&self) -> Option<String> {
        None
    }
}

/// A server's answer to a client that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accept {
    /// The connection is there.
    Open,
    /// Nobody listens: the client is told at once.
    Refuse,
    /// No answer, ever.
    Silent,
}

/// What a server does to one of its connections. Actions on a connection that is not there are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Sends these bytes. What the network does not take yet waits.
    Send(Vec<u8>),
    /// Sends no more. What was sent before still arrives, and so does what the client sends.
    Fin,
    /// Drops the connection: what the network did not take yet and what the client sent is lost.
    Reset,
}

/// How a connection ended, seen by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// A FIN came, behind all that arrived.
    Fin,
    /// An RST came.
    Reset,
}

/// The moment that all virtual time counts from, the same in all simulations of a process. Its wall clock shows 2026-01-01 00:00:00 UTC.
pub fn start() -> Clock {
    static START: OnceLock<Instant> = OnceLock::new();
    let instant = *START.get_or_init(Instant::now);
    Clock { instant, system: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) }
}

/// Virtual time as the session's calls take it.
pub fn instant(now: Duration) -> Instant {
    let start = start().instant;
    start.checked_add(now).unwrap_or(start)
}

/// The reverse of [`instant`].
pub fn since_start(instant: Instant) -> Duration {
    instant.saturating_duration_since(start().instant)
}

//! A session that gets its inputs from a record.

use super::output::{AttemptId, ConnId, Output};
use super::{Config, ConfigError, Endpoint, Lease, RequestId, Session, SubscriptionId};
use crate::clock::Clock;
use crate::error::{Disconnect, Error, ProviderError, ResolveError};
use crate::record::Left;
use std::net::SocketAddr;
use std::time::Instant;

/// Gives a session the inputs of a record, with numbers for ids. It has no sockets: what a connection read is what the record says was parsed,
/// and TLS and proxies are left out.
///
/// What the session makes of it goes to the [recorder](Config::recorder) of its configuration, and must be what the record has.
#[derive(Debug)]
pub struct Player {
    session: Session,
    lease: Option<Lease>,
}

/// What came of a read, or of an end: bytes of the WebSocket, or of the handshake, and the fault behind them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fed {
    /// As a server would send them over a plain connection.
    pub bytes: Vec<u8>,
    /// What [`Observed::Fault`](crate::record::Observed::Fault) said before the next read.
    pub faults: Vec<Error>,
    /// The same, if it was found late.
    pub late: Option<Error>,
}

impl Player {
    /// A session as [`Session::new`] makes it.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn new(config: Config, start: Clock, seed: [u8; 32]) -> Result<Self, ConfigError> {
        let mut session = Session::new(config, start, seed)?;
        session.replayed = true;
        Ok(Self { session, lease: None })
    }

    /// The session, for the calls of its user.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// [`Session::poll_output`].
    pub fn poll_output(&mut self, now: Instant) -> Output {
        self.session.poll_output(now)
    }

    /// Tells the recorder what came of the last call. A session does that at the next one.
    pub fn flush(&mut self) {
        self.session.drain_notes();
    }

    /// [`Session::handle_endpoint`].
    pub fn endpoint(&mut self, attempt: u64, result: Result<Endpoint, ProviderError>, now: Instant) {
        self.session.handle_endpoint(AttemptId(attempt), result, now);
    }

    /// [`Session::handle_resolved`].
    pub fn resolved(&mut self, attempt: u64, result: Result<&[SocketAddr], ResolveError>, now: Instant) {
        self.session.handle_resolved(AttemptId(attempt), result, now);
    }

    /// [`Session::handle_connected`].
    pub fn connected(&mut self, conn: u64, now: Instant) {
        self.session.handle_connected(ConnId(conn), now);
    }

    /// [`Session::handle_disconnected`], with what was parsed after it.
    pub fn disconnected(&mut self, conn: u64, cause: Disconnect, fed: Fed, now: Instant) {
        self.feed(conn, fed);
        self.session.handle_disconnected(ConnId(conn), cause, now);
    }

    /// [`Session::handle_received`] of `len` bytes that came to what is `fed`.
    pub fn received(&mut self, conn: u64, len: usize, fed: Fed, now: Instant) {
        self.feed(conn, fed);
        self.session.handle_received(ConnId(conn), len, now);
    }

    /// [`Session::handle_transmitted`] of `len` bytes, after which so much was left.
    pub fn transmitted(&mut self, conn: u64, len: usize, left: Left, now: Instant) {
        self.session.replay_transmitted(ConnId(conn), len, left, now);
    }

    /// What [`Observed::Way`](crate::record::Observed::Way) says. It is nothing that the session tells in a replay.
    pub fn way(&mut self, conn: u64, left: Left, now: Instant) {
        if let Some(index) = self.session.link_index(ConnId(conn)) {
            self.session.links[index].replay_written(0, left, now);
        }
    }

    /// Takes the announced event, for a while if it was `leased`. Whether there was one. This call and the next two have no time of their own; `now` is
    /// what the record says.
    pub fn take(&mut self, leased: bool, now: Instant) -> bool {
        self.session.tap_poll(now);
        if leased {
            self.lease = self.session.lease();
            self.lease.is_some()
        } else {
            self.session.event().is_some()
        }
    }

    /// Gives back what was leased.
    pub fn give_back(&mut self, now: Instant) {
        self.session.tap_poll(now);
        if let Some(lease) = self.lease.take() {
            self.session.give_back(lease);
        }
    }

    /// [`Session::cancel`].
    pub fn cancel(&mut self, id: u64, now: Instant) {
        self.session.cancel(RequestId(id), now);
    }

    /// [`Session::unsubscribe`].
    pub fn unsubscribe(&mut self, id: u64, now: Instant) {
        self.session.unsubscribe(SubscriptionId(id), now);
    }

    /// Ends a subscription, whoever has references to it.
    pub fn end_subscription(&mut self, id: u64, now: Instant) {
        self.session.end_subscription(SubscriptionId(id), now);
    }

    /// [`Session::respond`].
    pub fn respond(
        &mut self,
        epoch: u64,
        id: &str,
        result: Result<&str, &crate::protocol::OwnedRpcError>,
        now: Instant,
    ) {
        // What it says is told to the recorder.
        let _told = self.session.respond(super::Epoch(epoch), id, result, now);
    }

    /// A handle awaits this request.
    pub fn watch(&mut self, id: u64, now: Instant) {
        self.session.tap_poll(now);
        self.session.watch(RequestId(id));
    }

    fn feed(&mut self, conn: u64, fed: Fed) {
        let Some(index) = self.session.link_index(ConnId(conn)) else { return };
        if let Some(feed) = self.session.links[index].feed() {
            feed.put(&fed.bytes, fed.faults, fed.late);
        }
    }
}

//! What the session asks its driver to do.

use std::net::SocketAddr;
use std::time::Instant;

/// An attempt to connect. A later one never has the same id, so that late answers do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub(crate) u64);

impl AttemptId {
    /// The number itself: unique within its session, counting up.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// A connection, or an attempt at one. A later one never has the same id, so that late news do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) u64);

impl ConnId {
    /// The number itself: unique within its session, counting up.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// What to do next.
///
/// Exhaustive on purpose: a new duty must be a compile error in every driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Output {
    /// Ask the user's endpoint provider, and answer with `handle_endpoint`: for an attempt, or ahead of the expiry of a connection's endpoint.
    /// Said once. If it is still at work on an earlier one, that answer is not wanted any more.
    Provide(AttemptId),
    /// Resolve the name and port that `Session::host` gives for it, and answer with `handle_resolved`. Said once.
    Resolve(AttemptId),
    /// Open a TCP connection with the options that `Session::socket_options` gives, and answer with `handle_connected` or
    /// `handle_disconnected`. Said once. Several may be under way at a time (RFC 8305): the first that is connected is kept, and
    /// `Disconnect` is said of the others.
    Connect(ConnId, SocketAddr),
    /// Ask the user's connector for a stream of bytes, and answer with `handle_connected` or `handle_disconnected`. `Session::target`
    /// says to what. Said once, and only if `Config::transport` is not TCP; then nothing is to be resolved or connected.
    Open(ConnId),
    /// Drop that connection or attempt; no answer is expected. Said once.
    Disconnect(ConnId),
    /// Call `Session::event`.
    Event,
    /// Sleep until a connection can be read (where `recv_buffer` is not empty) or written (where `transmit` is not empty), or
    /// until then; `None` is no limit. The moment is later than the `now` of the call.
    Wait(Option<Instant>),
    /// The end: nothing will come any more. Repeated forever.
    Closed,
}

//! What can be asked of a session, without changing it.

use super::closing::SessionEnd;
use super::event::RequestId;
use super::latency::Latency;
use super::status::{State, Stats, Status};
use super::topic::SubscriptionInfo;
use super::{Session, SocketOptions};
use std::fmt;
use std::time::Instant;

impl Session {
    /// Where it stands.
    pub fn state(&self) -> State {
        self.history.state
    }

    /// Where it stands, and how it came there.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            state: self.history.state,
            why: self.history.why(),
            age: self.history.age(now),
            epoch: self.epoch,
            retry_at: self.retry_at,
            failures: self.failures,
            expires_at: self.renewal.expires_at(),
            refresh_at: self.renewal.refresh_at(),
            refresh_failures: self.renewal.failures(),
            transitions: self.history.transitions(),
        }
    }

    /// What is to be set on each socket of [`Output::Connect`](crate::Output::Connect).
    pub fn socket_options(&self) -> &SocketOptions {
        &self.config.sockets
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let users = if self.limited { self.let_out } else { self.last_send };
        Stats { messages_sent: users + self.own_sent, ..self.stats }
    }

    /// How it ended: as `Event::Closed` tells it, and as soon as it is certain, however late events are taken. `None` until then.
    pub fn end(&self) -> Option<&SessionEnd> {
        self.end.as_ref()
    }

    /// When the time of a request of the user's is over; `None` if it is settled.
    pub(crate) fn request_deadline(&self, id: RequestId) -> Option<Instant> {
        self.requests.users_deadline_of(id.0)
    }

    /// Bytes that wait to be written on the current connection.
    pub fn queued(&self) -> usize {
        self.current.map_or(0, |index| self.links[index].sender.queued())
    }

    /// The subscriptions in the order in which they were made, then those that were given up and that the peer has not let go of.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionInfo> {
        self.subscriptions.iter()
    }

    /// How long things take, over the last `Config::latency_buffer` of each kind.
    pub fn latency(&self) -> Latency {
        self.timings.latency()
    }

    /// What is left of each limit on sending: name, what is left, of how much.
    pub fn budget(&self, now: Instant) -> impl Iterator<Item = (&str, u64, u64)> {
        self.outbox.limiter.budget(now)
    }
}

// Keys, requests and messages are nobody's business.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.history.state)
            .field("epoch", &self.epoch)
            .field("connections", &self.links.len())
            .field("queued", &self.queued())
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

//! What can be asked of a session, without changing it.

use super::Session;
use super::latency::Latency;
use super::status::{State, Stats, Status};
use super::topic::SubscriptionInfo;
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

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats { messages_sent: self.last_send + self.own_sent, ..self.stats }
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

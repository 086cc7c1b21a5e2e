//! Where a session stands, and how it came there.

use super::event::Epoch;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// State of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It has not been polled yet.
    Idle,
    /// It looks for an endpoint, resolves, connects, or shakes hands.
    Connecting,
    /// It authenticates, or waits for the server to speak first ([`Protocol::greets`](crate::Protocol::greets)).
    Authenticating,
    /// It says what prepares the connection ([`Protocol::prepare`](crate::Protocol::prepare)).
    Preparing,
    /// It restores subscriptions.
    Restoring,
    /// What is sent goes out.
    Online,
    /// It waits before the next attempt.
    Backoff,
    /// The user closed it: what was accepted goes out, then the peer's answer to the close frame is awaited.
    Closing,
    /// It is over.
    Closed,
}

/// A change of state, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Instant,
    /// From which state.
    pub from: State,
    /// To which.
    pub to: State,
    /// Why.
    pub why: String,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Why it is in it, or what it waits for there.
    pub why: String,
    /// How long it has been in it.
    pub age: Duration,
    /// The epoch of the newest connection; 0 before the first.
    pub epoch: Epoch,
    /// When the next attempt begins, if one is waited for.
    pub retry_at: Option<Instant>,
    /// Attempts in a row that did not get online.
    pub failures: u32,
    /// When the endpoint of the connection expires, or its authentication, whichever is first; `None` if neither does.
    pub expires_at: Option<Instant>,
    /// When that is renewed: the provider is asked for a fresh endpoint, or authentication is made again; or when the session changes over to
    /// another connection ([`Protocol::life`](crate::Protocol::life)). `None` if nothing is to be renewed, if that is under way, and if the provider said that it will not do it.
    pub refresh_at: Option<Instant>,
    /// How often in a row the provider failed to renew the endpoint of the connection.
    pub refresh_failures: u32,
    /// The last changes of state, oldest first; at most 32.
    pub transitions: Vec<Transition>,
}

/// Counters of a session, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections that became WebSockets.
    pub connections: u64,
    /// Attempts that failed before that.
    pub failed_attempts: u64,
    /// Messages that arrived; a streamed one counts once, at its end.
    pub messages_received: u64,
    /// Messages that were there already, by their sequence numbers, and were not told again.
    pub duplicates: u64,
    /// Messages that were sent, requests and subscriptions included. Not those that still wait for the rate limiter, or expired there.
    pub messages_sent: u64,
    /// Bytes that arrived, as read from sockets.
    pub bytes_received: u64,
    /// Bytes that were written to sockets.
    pub bytes_sent: u64,
    /// Round-trip time of the last ping that was answered.
    pub rtt: Option<Duration>,
}

/// The state and its history.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) state: State,
    why: String,
    since: Instant,
    transitions: VecDeque<Transition>,
    /// Changes that were not told to the recorder yet, if there is one.
    notes: Option<Vec<Transition>>,
}

impl History {
    const KEPT: usize = 32;

    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: State::Idle,
            why: "not polled yet".to_owned(),
            since: now,
            transitions: VecDeque::new(),
            notes: None,
        }
    }

    /// Keeps changes until [`noted`](Self::noted) takes them.
    pub(crate) fn note(&mut self) {
        self.notes = Some(Vec::new());
    }

    /// The changes since the last call.
    pub(crate) fn noted(&mut self) -> Vec<Transition> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The state is `to`. If it was that already, what changes is only why.
    pub(crate) fn set(&mut self, to: State, why: impl Into<String>, now: Instant) {
        self.why = why.into();
        if self.state == to {
            return;
        }
        if self.transitions.len() == Self::KEPT {
            self.transitions.pop_front();
        }
        let change = Transition { at: now, from: self.state, to, why: self.why.clone() };
        self.notes.iter_mut().for_each(|notes| notes.push(change.clone()));
        self.transitions.push_back(change);
        (self.state, self.since) = (to, now);
    }

    pub(crate) fn why(&self) -> String {
        self.why.clone()
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(crate) fn transitions(&self) -> Vec<Transition> {
        self.transitions.iter().cloned().collect()
    }
}

//! What a user says of a subscription, and is told of it.

use super::event::SubscriptionId;
use super::overflow::Overflow;
use super::sequence::SequenceRule;
use super::watch::Watch;
use std::time::Instant;

/// State of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// It waits for a connection, or for its turn on it.
    Waiting,
    /// The peer was asked.
    Pending,
    /// In force.
    Confirmed,
    /// The peer refused, or did not answer in time. It is asked again, alone, after a while.
    Rejected,
    /// The last reference is gone; the peer has not confirmed yet that it ends.
    Unsubscribing,
    /// It was in force, and is made anew: messages were missing, or none came for too long.
    Stale,
}

/// How a topic is to be subscribed to.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// Topics of higher priority are asked for, and restored, first. Default 0.
    pub priority: u8,
    /// What to do when no message of it comes for long. Default `None`: silence means nothing.
    pub watch: Option<Watch>,
    /// How its messages are numbered. Default `None`: as the protocol says ([`Protocol::tracker`](crate::Protocol::tracker)).
    pub sequence: Option<SequenceRule>,
    /// What to do with its messages when the user of a spawned session is too slow. Default [`Overflow::Block`]: nothing is lost, and the
    /// connection is not read meanwhile.
    pub overflow: Overflow,
}

impl SubscribeOptions {
    /// Asked for, and restored, before those of lower priority.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// What to do when no message of it comes for long.
    pub fn watch(self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// How its messages are numbered.
    pub fn sequence(self, rule: SequenceRule) -> Self {
        Self { sequence: Some(rule), ..self }
    }

    /// What to do with its messages when the user is too slow.
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }
}

/// A subscription, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// Its id.
    pub id: SubscriptionId,
    /// Its topic's name.
    pub topic: String,
    /// Its state.
    pub state: SubscriptionState,
    /// Since when it has been in it.
    pub since: Instant,
    /// How often it was subscribed to and not unsubscribed from.
    pub references: u32,
    /// When its last message came, on whichever connection.
    pub last_message: Option<Instant>,
    /// Why it was rejected the last time, if it was not confirmed since; or, of one that is waiting, that the server allows no more topics on a
    /// connection ([`Protocol::topics_per_connection`](crate::Protocol::topics_per_connection)).
    pub reason: Option<String>,
    /// When it is asked for again, if it was rejected.
    pub retry_at: Option<Instant>,
}

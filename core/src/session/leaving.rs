//! Topics that nobody wants any more: what the peer still has to be told, and what may still come of them on this connection.

use super::event::SubscriptionId;
use super::subscriptions::LOOKAHEAD;
use super::topic::{SubscriptionInfo, SubscriptionState};
use crate::protocol::{Protocol, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Leaving {
    all: BTreeMap<SubscriptionId, Left>,
    /// Those of them that the peer was not told of yet.
    unsaid: BTreeSet<SubscriptionId>,
    /// Those that the next message names, unless that has to be found anew.
    next: Vec<SubscriptionId>,
    /// Names of topics that were ended for good, whose messages may still come.
    muted: BTreeSet<String>,
}

#[derive(Debug)]
struct Left {
    topic: Topic,
    since: Instant,
    /// The peer will still answer the message that asked for it, and does not say which one it answers.
    owed: bool,
}

impl Leaving {
    /// The peer is to be told that it ends. `owed` if it still owes the answer to having been asked for it.
    pub(crate) fn add(&mut self, id: SubscriptionId, topic: Topic, owed: bool, now: Instant) {
        self.all.insert(id, Left { topic, since: now, owed });
        self.unsaid.insert(id);
        self.next.clear();
    }

    /// No message of a topic of that name is told any more, though some may still come.
    pub(crate) fn mute(&mut self, name: &str) {
        self.muted.insert(name.to_owned());
    }

    /// A topic of that name is wanted again.
    pub(crate) fn wanted(&mut self, name: &str) {
        self.muted.remove(name);
    }

    /// Whether what still comes of a topic of that name concerns nobody.
    pub(crate) fn is_muted(&self, name: &str) -> bool {
        !self.muted.is_empty() && self.muted.contains(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn topic(&self, id: SubscriptionId) -> Option<&Topic> {
        self.all.get(&id).map(|left| &left.topic)
    }

    pub(crate) fn has_unsaid(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// The first topic that the peer is still to be told of, and those that share a message with it.
    pub(crate) fn unsaid(&mut self, protocol: &dyn Protocol) -> &[SubscriptionId] {
        if self.next.is_empty()
            && let Some(first) = self.unsaid.first().and_then(|id| self.all.get(id))
        {
            let shares = |id: &&SubscriptionId| {
                let other = self.all.get(id);
                other.is_some_and(|other| protocol.shares(&first.topic, &other.topic))
            };
            let others = self.unsaid.iter().skip(1).take(LOOKAHEAD).filter(shares);
            let max = protocol.topics_per_message().max(1);
            self.next = self.unsaid.iter().take(1).chain(others).take(max).copied().collect();
        }
        &self.next
    }

    /// The peer was told; `forget` if it will not answer.
    pub(crate) fn said(&mut self, ids: &[SubscriptionId], forget: bool) {
        self.next.clear();
        for id in ids {
            self.unsaid.remove(id);
            if forget {
                self.all.remove(id);
            }
        }
    }

    /// The peer answered that it does not send these any more.
    pub(crate) fn let_go(&mut self, ids: &[SubscriptionId]) {
        for left in ids.iter().filter_map(|id| self.all.get(id)) {
            self.muted.remove(left.topic.name());
        }
        self.said(ids, true);
    }

    /// The peer confirmed that a topic of that name ended; false if nobody had asked for that.
    pub(crate) fn ended(&mut self, name: &str) -> bool {
        let id = self.all.iter().find(|(id, left)| left.topic.name() == name && !self.unsaid.contains(id));
        let id = id.map(|(id, _)| *id);
        self.muted.remove(name);
        id.is_some_and(|id| self.all.remove(&id).is_some())
    }

    /// The peer confirmed, without saying which message it answers, that it subscribed to a topic of that name. True if that may be meant for
    /// the subscription that is there now, and not for one that was given up.
    pub(crate) fn take_owed(&mut self, name: &str) -> bool {
        let owed = self.all.values_mut().find(|left| left.owed && left.topic.name() == name);
        owed.map(|left| left.owed = false).is_none()
    }

    /// Whether the peer still owes the answer to having been asked for this one.
    pub(crate) fn owes(&self, id: SubscriptionId) -> bool {
        self.all.get(&id).is_some_and(|left| left.owed)
    }

    /// It owes none any more: it refused.
    pub(crate) fn forgive(&mut self, id: SubscriptionId) {
        if let Some(left) = self.all.get_mut(&id) {
            left.owed = false;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = SubscriptionInfo> {
        self.all.iter().map(|(id, left)| SubscriptionInfo {
            id: *id,
            topic: left.topic.name().to_owned(),
            state: SubscriptionState::Unsubscribing,
            since: left.since,
            references: 0,
            last_message: None,
            reason: None,
            retry_at: None,
        })
    }
}

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
    /// Those that the peer was asked for and has not answered: it may do so though nothing more is to be said of them.
    owed: BTreeMap<SubscriptionId, Owed>,
}

#[derive(Debug)]
struct Left {
    topic: Topic,
    since: Instant,
}

#[derive(Debug)]
struct Owed {
    topic: Topic,
    /// The request that asked for it.
    request: u64,
}

impl Leaving {
    /// The peer is to be told that it ends. `owed` if it still owes the answer to this request, which asked for it.
    pub(crate) fn add(&mut self, id: SubscriptionId, topic: Topic, owed: Option<u64>, now: Instant) {
        self.owed.extend(owed.map(|request| (id, Owed { topic: topic.clone(), request })));
        self.all.insert(id, Left { topic, since: now });
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

    /// One that is leaving, or that the peer owes an answer for.
    pub(crate) fn topic(&self, id: SubscriptionId) -> Option<&Topic> {
        let left = self.all.get(&id).map(|left| &left.topic);
        left.or_else(|| self.owed.get(&id).map(|owed| &owed.topic))
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
        // It answers in order.
        for id in ids {
            self.owed.remove(id);
        }
        self.said(ids, true);
    }

    /// The peer confirmed that a topic of that name ended; false if nobody had asked for that.
    pub(crate) fn ended(&mut self, name: &str) -> bool {
        let id = self.all.iter().find(|(id, left)| left.topic.name() == name && !self.unsaid.contains(id));
        let id = id.map(|(id, _)| *id);
        self.muted.remove(name);
        self.owed.retain(|id, owed| owed.topic.name() != name || self.unsaid.contains(id));
        id.is_some_and(|id| self.all.remove(&id).is_some())
    }

    /// The peer answered that it subscribed to a topic of that name, or did not, and says of which request if it says. True if that is meant
    /// for a subscription that was given up, and not for the one that is there now.
    pub(crate) fn take_owed(&mut self, name: &str, request: Option<u64>) -> bool {
        let answered = |owed: &Owed| owed.topic.name() == name && request.is_none_or(|id| id == owed.request);
        let id = self.owed.iter().find(|(_, owed)| answered(owed)).map(|(id, _)| *id);
        id.is_some_and(|id| self.owed.remove(&id).is_some())
    }

    /// Whether the peer still owes the answer to this request, which asked for it.
    pub(crate) fn owes(&self, id: SubscriptionId, request: u64) -> bool {
        self.owed.get(&id).is_some_and(|owed| owed.request == request)
    }

    /// It owes none to this request any more: it answered, or the time for that is over.
    pub(crate) fn forgive(&mut self, ids: &[SubscriptionId], request: u64) {
        for id in ids {
            if self.owes(*id, request) {
                self.owed.remove(id);
            }
        }
    }

    /// The peer listed what is subscribed to: so it answered for those that are in the list.
    pub(crate) fn listed(&mut self, is_in: impl Fn(&Topic) -> bool) {
        self.owed.retain(|_, owed| !is_in(&owed.topic));
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

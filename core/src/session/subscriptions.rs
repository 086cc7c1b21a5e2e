//! What the user wants to be subscribed to, and what has become of it on this connection.

use super::event::{Epoch, Gap, SubscriptionId};
use crate::protocol::Topic;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// State of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// It waits for a connection.
    Waiting,
    /// The peer was asked.
    Pending,
    /// In force.
    Confirmed,
    /// The peer refused, or did not answer in time. It is tried again on the next connection.
    Rejected,
}

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    last_id: u64,
    all: BTreeMap<SubscriptionId, Subscription>,
    // Only looked up, never walked: hash order must decide nothing.
    by_name: HashMap<String, SubscriptionId>,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: Topic,
    pub(crate) state: SubscriptionState,
    references: u32,
    /// It was confirmed on this connection, or a message of it came.
    live: bool,
    /// It was in force until then, on the connection of that epoch, and what came since may have been missed.
    gap: Option<(Epoch, Instant)>,
}

impl Subscriptions {
    /// Adds a topic; true if it is a new one. One that is there already gets another reference.
    pub(crate) fn add(&mut self, topic: Topic) -> (SubscriptionId, bool) {
        if let Some(&id) = self.by_name.get(topic.name()) {
            if let Some(subscription) = self.all.get_mut(&id) {
                subscription.references += 1;
            }
            return (id, false);
        }
        self.last_id += 1;
        let id = SubscriptionId(self.last_id);
        self.by_name.insert(topic.name().to_owned(), id);
        let state = SubscriptionState::Waiting;
        self.all.insert(id, Subscription { topic, state, references: 1, live: false, gap: None });
        (id, true)
    }

    /// Gives back a reference. The subscription if it was the last; `Err` if there is no such subscription.
    pub(crate) fn release(&mut self, id: SubscriptionId) -> Result<Option<Subscription>, ()> {
        let subscription = self.all.get_mut(&id).ok_or(())?;
        subscription.references -= 1;
        if subscription.references > 0 {
            return Ok(None);
        }
        let removed = self.all.remove(&id);
        if let Some(subscription) = &removed {
            self.by_name.remove(subscription.topic.name());
        }
        Ok(removed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.all.get_mut(&id)
    }

    pub(crate) fn named(&self, name: &str) -> Option<SubscriptionId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubscriptionId, &Subscription)> {
        self.all.iter().map(|(id, subscription)| (*id, subscription))
    }

    /// Ids of those that wait for a connection.
    pub(crate) fn waiting(&self) -> Vec<SubscriptionId> {
        self.iter().filter(|(_, s)| s.state == SubscriptionState::Waiting).map(|(id, _)| id).collect()
    }

    /// The connection is lost; it was alive until `since`.
    pub(crate) fn lost(&mut self, epoch: Epoch, since: Instant) {
        for subscription in self.all.values_mut() {
            if std::mem::take(&mut subscription.live) {
                subscription.gap.get_or_insert((epoch, since));
            }
            subscription.state = SubscriptionState::Waiting;
        }
    }

    /// These topics are in force: that ends their gaps. Those that had one make up the report. Topics whose gaps began differently get
    /// reports of their own.
    pub(crate) fn close_gaps(&mut self, ids: &[SubscriptionId], after: Epoch, until: Instant) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for &id in ids {
            let Some(subscription) = self.all.get_mut(&id) else { continue };
            subscription.live = true;
            let Some((before, since)) = subscription.gap.take() else { continue };
            let topic = (id, subscription.topic.name().to_owned());
            match gaps.iter_mut().find(|gap| gap.before == before && gap.since == since) {
                Some(gap) => gap.topics.push(topic),
                None => gaps.push(Gap { topics: vec![topic], before, after, since, until }),
            }
        }
        gaps
    }
}

impl Subscription {
    /// Whether messages of it need no announcement: it is known to be in force on this connection.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }
}

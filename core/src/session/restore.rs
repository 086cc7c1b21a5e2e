//! A connection is there: subscriptions are restored, then the user may send.

use super::event::{Gap, OwnedOutcome, Unanswered};
use super::lease::Queued;
use super::link::{Link, Stage};
use super::requests::{Failed, Live, OnDisconnect, What};
use super::status::State;
use super::subscriptions::SubscriptionState;
use super::{Epoch, RequestId, Session, SubscriptionId};
use crate::protocol::{Ack, RpcError, Topic};
use crate::ws::Kind;
use crate::ws::deflate::{Deflater, Inflater};
use crate::ws::handshake::Upgraded;
use crate::ws::receiver::Place;
use std::time::Instant;

impl Session {
    pub(super) fn upgraded(&mut self, index: usize, upgraded: Box<Upgraded>, now: Instant) {
        self.attempt = None;
        self.stats.connections += 1;
        self.epoch = Epoch(self.stats.connections);
        self.current = Some(index);
        let link = &mut self.links[index];
        link.liveness.start(self.config.ping_interval, now);
        if let (Some(params), Some(config)) = (&upgraded.deflate, &self.config.handshake.deflate) {
            link.compress(Inflater::new(params), Deflater::new(config, params));
        }
        self.upgraded = Some(upgraded);
        self.restoring = 0;
        self.history.set(State::Restoring, "connected", now);
        let waiting = self.subscriptions.waiting();
        self.ask_for(&waiting, true, now);
        self.check_restored(now);
    }

    /// Goes online once nothing that restores is outstanding.
    pub(super) fn check_restored(&mut self, now: Instant) {
        if self.history.state != State::Restoring || self.restoring > 0 {
            return;
        }
        let Some(upgraded) = self.upgraded.take() else { return };
        self.history.set(State::Online, "restored", now);
        self.failures = 0;
        self.stable_at = Some(now + self.config.stable_after);
        let resumed = self.stats.connections > 1;
        let lost = self.alive_until.take();
        if let Some((before, since)) = lost.filter(|_| self.subscriptions.is_empty()) {
            let gap = Gap { topics: Vec::new(), before, after: self.epoch, since, until: now };
            self.events.push_back(Queued::Gap(gap));
        }
        self.events.push_back(Queued::Online { epoch: self.epoch, resumed, upgraded });
        self.send_held();
    }

    /// Requests that waited for a connection go out, the oldest first.
    fn send_held(&mut self) {
        let Some(index) = self.current else { return };
        let link = &mut self.links[index];
        while let Some((id, text)) = self.requests.first_held() {
            let ordinal = link.send_own(text);
            self.own_sent += 1;
            self.requests.sent(id, link.id, ordinal);
        }
    }

    /// Asks the peer for these topics, in batches as the protocol wants them.
    pub(super) fn ask_for(&mut self, ids: &[SubscriptionId], restore: bool, now: Instant) {
        let batch = self.config.protocol.topics_per_message().max(1);
        for ids in ids.chunks(batch) {
            let topics: Vec<&Topic> =
                ids.iter().filter_map(|id| self.subscriptions.get(*id)).map(|s| &s.topic).collect();
            let id = self.requests.next_id();
            self.text.clear();
            let ack = self.config.protocol.subscribe(id, &topics, &mut self.text);
            self.send_text(id, ack, What::Subscribe { topics: ids.to_vec(), restore }, now);
            for id in ids {
                if let Some(subscription) = self.subscriptions.get_mut(*id) {
                    subscription.state = SubscriptionState::Pending;
                }
            }
            match ack {
                Ack::Response | Ack::PerTopic => self.restoring += usize::from(restore),
                Ack::None => self.confirmed(ids, now),
            }
        }
    }

    /// Tells the peer that a topic is not wanted any more.
    pub(super) fn ask_no_more(&mut self, topic: &Topic, now: Instant) {
        let id = self.requests.next_id();
        self.text.clear();
        let ack = self.config.protocol.unsubscribe(id, &[topic], &mut self.text);
        if !self.text.is_empty() {
            self.send_text(id, ack, What::Unsubscribe, now);
        }
    }

    /// Sends what the protocol wrote to `text`.
    fn send_text(&mut self, id: u64, ack: Ack, what: What, now: Instant) {
        let Some(index) = self.current else { return };
        let link = &mut self.links[index];
        let ordinal = link.send_own(&self.text);
        self.own_sent += 1;
        if ack == Ack::Response {
            let deadline = now + self.config.request_timeout;
            self.requests.insert(id, what, deadline, OnDisconnect::Fail, "");
            self.requests.sent(id, link.id, ordinal);
        }
    }

    /// The peer answered one of the session's own requests.
    pub(super) fn own_response(&mut self, live: Live, index: usize, at: Place, ok: bool, now: Instant) {
        let What::Subscribe { topics, restore } = live.what else { return };
        let pending = |id: &SubscriptionId| {
            // One that was dropped meanwhile has nobody to be told; one that was confirmed by another answer is settled.
            self.subscriptions.get(*id).is_some_and(|s| s.state == SubscriptionState::Pending)
        };
        let alone = topics.len() == 1;
        let topics: Vec<SubscriptionId> = topics.into_iter().filter(pending).collect();
        let text = self.links[index].receiver.text(at);
        let mut again = Vec::new();
        if ok {
            let confirms = |id: &SubscriptionId| {
                self.subscriptions.get(*id).is_some_and(|s| self.config.protocol.confirms(text, &s.topic))
            };
            let (good, bad): (Vec<_>, Vec<_>) = topics.into_iter().partition(confirms);
            self.confirmed(&good, now);
            self.rejected(&bad, "the server's answer does not name it");
        } else if !alone {
            // One bad topic must not take the others with it: each is tried alone.
            again = topics;
        } else {
            let reason = RpcError::parse(text).to_string();
            self.rejected(&topics, &reason);
        }
        for id in again {
            self.ask_for(&[id], restore, now);
        }
        self.restored(restore, now);
    }

    /// A request that restores is settled.
    fn restored(&mut self, restore: bool, now: Instant) {
        if restore && self.history.state == State::Restoring {
            self.restoring = self.restoring.saturating_sub(1);
            self.check_restored(now);
        }
    }

    fn confirmed(&mut self, ids: &[SubscriptionId], now: Instant) {
        self.report_gaps(ids, now);
        for &id in ids {
            let Some(subscription) = self.subscriptions.get_mut(id) else { continue };
            subscription.state = SubscriptionState::Confirmed;
            let topic = subscription.topic.name().to_owned();
            self.events.push_back(Queued::Subscribed { id, topic, epoch: self.epoch });
        }
    }

    fn rejected(&mut self, ids: &[SubscriptionId], reason: &str) {
        for &id in ids {
            let Some(subscription) = self.subscriptions.get_mut(id) else { continue };
            subscription.state = SubscriptionState::Rejected;
            let (topic, reason) = (subscription.topic.name().to_owned(), reason.to_owned());
            self.events.push_back(Queued::Rejected { id, topic, reason, epoch: self.epoch });
        }
    }

    /// These topics are in force: says what they may have missed; true if that was anything.
    pub(super) fn report_gaps(&mut self, ids: &[SubscriptionId], now: Instant) -> bool {
        let gaps = self.subscriptions.close_gaps(ids, self.epoch, now);
        let any = !gaps.is_empty();
        self.events.extend(gaps.into_iter().map(Queued::Gap));
        any
    }

    /// If this request fails, that is told by [`take_failed`](Self::take_failed) at once and not by an event in its turn: whoever
    /// awaits it must not hang on events that he does not take.
    pub(crate) fn watch(&mut self, id: RequestId) {
        self.watched.insert(id);
    }

    /// A watched request that failed.
    pub(crate) fn take_failed(&mut self) -> Option<(RequestId, OwnedOutcome)> {
        self.watched_failed.pop()
    }

    /// A request ended without an answer.
    pub(super) fn request_failed(&mut self, failed: Failed, now: Instant) {
        let Failed { id, what, maybe_sent, why } = failed;
        match what {
            What::User if self.watched.remove(&RequestId(id)) => {
                let outcome =
                    if maybe_sent { OwnedOutcome::SentUnknown(why) } else { OwnedOutcome::NotSent(why) };
                self.watched_failed.push((RequestId(id), outcome));
            }
            What::User => self.events.push_back(Queued::Unanswered { id: RequestId(id), maybe_sent, why }),
            What::Unsubscribe => {}
            What::Subscribe { topics, restore } if why == Unanswered::Timeout => {
                let pending = |id: &SubscriptionId| {
                    self.subscriptions.get(*id).is_some_and(|s| s.state == SubscriptionState::Pending)
                };
                let topics: Vec<SubscriptionId> = topics.into_iter().filter(pending).collect();
                let reason = format!("no answer in {:?}", self.config.request_timeout);
                self.rejected(&topics, &reason);
                self.restored(restore, now);
            }
            // The topics wait for the next connection.
            What::Subscribe { .. } => {}
        }
    }
}

impl Link {
    /// Sends a message that is not the user's; its ordinal among the connection's data messages.
    pub(crate) fn send_own(&mut self, text: &str) -> u64 {
        debug_assert!(matches!(self.stage, Stage::Open));
        if self.sender.queued() == 0 {
            self.own.clear();
        } else if self.own.len() >= 1024 && self.own.len().is_power_of_two() {
            // Something always waits: find out what does not any more.
            let first = self.sender.messages() - self.sender.unwritten().whole;
            self.own.retain(|ordinal| *ordinal + 1 >= first);
        }
        let ordinal = self.sender.messages();
        self.own.push_back(ordinal);
        self.sender.message(Kind::Text, text.as_bytes(), true);
        ordinal
    }
}

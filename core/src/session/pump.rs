//! What waits goes out, as far as the limiter lets it: the most urgent first.

use super::event::{SendId, Unanswered};
use super::lease::Queued;
use super::limiter::Pressure;
use super::link::{Link, Stage};
use super::outbox::{Lane, Waits};
use super::requests::{OnDisconnect, What};
use super::status::State;
use super::{Mutant, Session, SubscriptionId};
use crate::protocol::{Ack, Topic, Traffic};
use std::time::Instant;

/// The next thing to go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Pong,
    Reply,
    Ping,
    Authenticate,
    Message(Lane),
    Leave,
    Renew(SubscriptionId),
    Ask,
}

impl Session {
    /// Sends what waits and may go now.
    pub(super) fn pump(&mut self, now: Instant) {
        let Some(index) = self.current else { return };
        if self.outbox.is_empty() && !self.subscriptions.has_asks() && !self.subscriptions.has_unsaid() {
            self.outbox.ready_at = None;
            return self.tell_pressure(now);
        }
        if !matches!(self.links[index].stage, Stage::Open) {
            return;
        }
        self.outbox.ready_at = None;
        let limited = self.outbox.is_limited();
        let before = self.links[index].sender.queued();
        let waited = self.outbox.waiting();
        if limited && before == 0 {
            self.outbox.limiter.flushed(now);
        }
        while let Some(next) = self.next_out() {
            if let Err(at) = self.let_out(next, index, now) {
                self.outbox.ready_at = Some(at);
                break;
            }
        }
        if self.links[index].sender.queued() > before {
            self.links[index].encrypt();
        }
        // Only when something has left: what was refused is longer than the room that there is.
        if self.refused && self.outbox.waiting() < waited {
            self.check_room();
        }
        self.tell_pressure(now);
    }

    fn next_out(&self) -> Option<Next> {
        let outbox = &self.outbox;
        if outbox.pong.is_some() {
            return Some(Next::Pong);
        }
        if !outbox.replies.is_empty() {
            return Some(Next::Reply);
        }
        if outbox.ping.is_some() {
            return Some(Next::Ping);
        }
        if outbox.authenticate.is_some() {
            return Some(Next::Authenticate);
        }
        let online = self.history.state == State::Online;
        if online && outbox.has(Lane::Priority) {
            return Some(Next::Message(Lane::Priority));
        }
        if online || self.history.state == State::Restoring {
            if self.subscriptions.has_unsaid() {
                return Some(Next::Leave);
            }
            if let Some(id) = outbox.renewals.front() {
                return Some(Next::Renew(*id));
            }
            if self.subscriptions.has_asks() {
                return Some(Next::Ask);
            }
        }
        (online && outbox.has(Lane::Normal)).then_some(Next::Message(Lane::Normal))
    }

    /// Takes this from the limits' budgets; the moment at which that may be possible if it is not now.
    fn spend(&mut self, traffic: Traffic<'_>, now: Instant) -> Result<(), Instant> {
        let protocol = &self.config.protocol;
        self.outbox.limiter.try_spend(&mut |limit| protocol.cost(limit, traffic), now)
    }

    fn let_out(&mut self, next: Next, index: usize, now: Instant) -> Result<(), Instant> {
        match next {
            Next::Pong => {
                if !self.is(Mutant::IgnorePongs) {
                    self.spend(Traffic::Pong, now)?;
                }
                if let Some(payload) = self.outbox.pong.take() {
                    self.links[index].answer_ping(&payload);
                }
            }
            Next::Ping => {
                self.spend(Traffic::Ping, now)?;
                if let Some(payload) = self.outbox.ping.take() {
                    self.links[index].ping(payload);
                    self.links[index].liveness.held(self.config.pong_timeout, now);
                }
            }
            Next::Reply => {
                self.spend(Traffic::Heartbeat, now)?;
                if let Some((id, text)) = self.outbox.replies.pop_front() {
                    if self.heartbeat.is_awaited() {
                        self.heartbeat.held(id, self.config.heartbeat_timeout, now);
                    }
                    let sent = self.send_own(index, &text);
                    self.requests.sent(id, sent, now);
                }
            }
            Next::Authenticate => {
                self.spend(Traffic::Authenticate, now)?;
                if let Some((id, text)) = self.outbox.authenticate.take() {
                    let sent = self.send_own(index, &text);
                    self.requests.sent(id, sent, now);
                }
            }
            Next::Leave => self.let_leaves_out(index, now)?,
            Next::Renew(id) => {
                self.let_renewal_out(id, index, now)?;
                self.outbox.renewals.pop_front();
            }
            Next::Ask => self.let_asks_out(index, now)?,
            Next::Message(lane) => self.let_message_out(lane, index, now)?,
        }
        Ok(())
    }

    /// Asks the peer for topics, as many as fit in one message.
    fn let_asks_out(&mut self, index: usize, now: Instant) -> Result<(), Instant> {
        let ids = self.subscriptions.next_asks(self.config.protocol.topics_per_message().max(1));
        self.spend(Traffic::Subscribe(ids.len()), now)?;
        let topics: Vec<&Topic> =
            ids.iter().filter_map(|id| self.subscriptions.get(*id)).map(|s| &s.topic).collect();
        let id = self.requests.next_id();
        self.text.clear();
        let ack = self.config.protocol.subscribe(id, &topics, &mut self.text);
        self.subscriptions.asked(&ids, id, now);
        self.send_text(index, id, ack, What::Subscribe { topics: ids.clone() }, now);
        if ack == Ack::None {
            self.confirmed(&ids, now);
            self.check_restored(now);
        }
        Ok(())
    }

    /// Tells the peer which topics are not wanted any more.
    fn let_leaves_out(&mut self, index: usize, now: Instant) -> Result<(), Instant> {
        let ids = self.subscriptions.unsaid(self.config.protocol.topics_per_message().max(1));
        let topics: Vec<&Topic> =
            ids.iter().filter_map(|id| self.subscriptions.leaving(*id)).map(|l| &l.topic).collect();
        let id = self.requests.next_id();
        self.text.clear();
        let ack = self.config.protocol.unsubscribe(id, &topics, &mut self.text);
        if !self.text.is_empty() {
            self.spend(Traffic::Unsubscribe(ids.len()), now)?;
            self.send_text(index, id, ack, What::Unsubscribe(ids.clone()), now);
        }
        self.subscriptions.said(&ids, ack == Ack::None || self.text.is_empty());
        Ok(())
    }

    fn let_message_out(&mut self, lane: Lane, index: usize, now: Instant) -> Result<(), Instant> {
        let protocol = &self.config.protocol;
        let Some((first, limiter)) = self.outbox.first_limited(lane) else { return Ok(()) };
        let requests = &self.requests;
        let mut cost = |limit: &str| {
            // What is settled already, cancelled or out of time, costs nothing: it will not be sent.
            let request = |id: &u64| {
                requests.method(*id).map_or(0, |method| protocol.cost(limit, Traffic::Request(method)))
            };
            match first {
                Waits::Message { bytes, .. } => protocol.cost(limit, Traffic::Message(bytes.len())),
                Waits::Request(id) => request(id),
                Waits::Batch(ids, _) => ids.iter().map(request).fold(0, u32::saturating_add),
            }
        };
        limiter.try_spend(&mut cost, now)?;
        match self.outbox.pop(lane) {
            Some(Waits::Message { id, kind, bytes, compress }) => {
                self.links[index].send_users(id, kind, &bytes, compress);
            }
            Some(Waits::Request(id)) => self.send_request(index, id, now),
            Some(Waits::Batch(ids, text)) => self.send_batch(index, &ids, &text, now),
            None => {}
        }
        Ok(())
    }

    /// Sends a request whose text was kept, if it is not settled.
    pub(super) fn send_request(&mut self, index: usize, id: u64, now: Instant) {
        let Some(kept) = self.requests.take_kept(id) else { return };
        let sent = self.send_own(index, &kept.text);
        self.requests.sent(id, sent, now);
        self.requests.keep(id, kept);
    }

    /// Sends requests in one message; those of them that are left, each by itself, if some are settled already: they must not be sent.
    fn send_batch(&mut self, index: usize, ids: &[u64], text: &str, now: Instant) {
        if !ids.iter().all(|id| self.requests.is_users(*id)) {
            return ids.iter().for_each(|id| self.send_request(index, *id, now));
        }
        let sent = self.send_own(index, text);
        ids.iter().for_each(|id| self.requests.sent(*id, sent, now));
    }

    /// Sends a message of the session's own.
    pub(super) fn send_own(&mut self, index: usize, text: &str) -> (super::ConnId, u64) {
        let link = &mut self.links[index];
        self.own_sent += 1;
        (link.id, link.send_own(text))
    }

    /// Sends what the protocol wrote to `text`, and awaits the answer if there will be one.
    fn send_text(&mut self, index: usize, id: u64, ack: Ack, what: What, now: Instant) {
        let text = std::mem::take(&mut self.text);
        let sent = self.send_own(index, &text);
        self.text = text;
        if ack != Ack::None {
            let deadline = now + self.config.request_timeout;
            self.requests.insert(id, what, deadline, OnDisconnect::Fail, None);
            self.requests.sent(id, sent, now);
        }
        if ack == Ack::PerTopic {
            self.requests.set_per_topic(id);
        }
    }

    /// What waited in the lanes when the connection was lost: messages are gone, requests end or wait for the next connection.
    pub(super) fn empty_outbox(&mut self, now: Instant) -> Vec<SendId> {
        let mut unsent = Vec::new();
        for waits in self.outbox.lost(now) {
            match waits {
                Waits::Message { id, .. } => unsent.push(id),
                Waits::Request(id) => self.unsent_request(id, now),
                Waits::Batch(ids, _) => ids.into_iter().for_each(|id| self.unsent_request(id, now)),
            }
        }
        self.tell_pressure(now);
        unsent
    }

    fn unsent_request(&mut self, id: u64, now: Instant) {
        match self.requests.on_disconnect(id) {
            Some(OnDisconnect::Fail) => {
                if let Some(failed) = self.requests.fail(id, Unanswered::ConnectionLost) {
                    self.request_failed(failed, now);
                }
            }
            Some(OnDisconnect::Hold | OnDisconnect::Resend) => self.requests.hold(id),
            None => {}
        }
    }

    /// Drops messages that waited for too long.
    pub(super) fn expire_messages(&mut self, now: Instant) {
        while let Some(waits) = self.outbox.expire(now) {
            if let Waits::Message { id, .. } = waits {
                self.events.push_back(Queued::Expired { id });
            }
        }
    }

    /// Tells the user when the pressure has another level, and that there is room again if he was refused some.
    fn tell_pressure(&mut self, now: Instant) {
        let waiting = self.outbox.waiting();
        let level = Pressure::of(waiting, self.config.queue_messages);
        if level == self.outbox.level {
            return;
        }
        self.outbox.level = level;
        let delay = self.outbox.limiter.suggested_delay(waiting, now);
        let pressure = Queued::Pressure { level, waiting, delay };
        // One that was not taken yet is out of date.
        match self.events.iter_mut().find(|event| matches!(event, Queued::Pressure { .. })) {
            Some(queued) => *queued = pressure,
            None => self.events.push_back(pressure),
        }
    }

    /// How hard the rate limiter holds back what is sent.
    pub fn pressure(&self) -> Pressure {
        self.outbox.level
    }

    /// Tells the peer to end a subscription that is to be made anew, and asks for it again once that is confirmed.
    fn let_renewal_out(&mut self, id: SubscriptionId, index: usize, now: Instant) -> Result<(), Instant> {
        let Some(subscription) = self.subscriptions.get(id) else { return Ok(()) };
        let request = self.requests.next_id();
        self.text.clear();
        let ack = self.config.protocol.unsubscribe(request, &[&subscription.topic], &mut self.text);
        if !self.text.is_empty() {
            self.spend(Traffic::Unsubscribe(1), now)?;
            self.send_text(index, request, ack, What::Renew(id), now);
            self.subscriptions.renews(id, request);
        }
        if ack == Ack::None || self.text.is_empty() {
            self.subscriptions.ask(id, true, now);
        }
        Ok(())
    }
}

impl Link {
    /// Sends a message of the user's that has waited.
    pub(crate) fn send_users(&mut self, id: SendId, kind: crate::ws::Kind, bytes: &[u8], compress: bool) {
        if self.sender.queued() == 0 {
            self.users.clear();
        }
        self.users.push_back((self.sender.messages(), id));
        self.sender.message(kind, bytes, compress);
    }
}

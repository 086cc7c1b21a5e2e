//! What waits goes out, as far as the limiter lets it: the most urgent first.

use super::event::{SendId, Unanswered};
use super::lease::Queued;
use super::limiter::Pressure;
use super::link::{Link, Stage};
use super::outbox::{Ending, Lane, Waits};
use super::requests::{OnDisconnect, What};
use super::status::State;
use super::{Mutant, Session, SubscriptionId};
use crate::protocol::{Ack, Topic, Traffic, Unsupported};
use std::time::Instant;

/// The next thing to go out. What comes first has the limits first: it lets others pass that spend nothing of what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Pong,
    Reply,
    Beat,
    Ping,
    Introduce,
    Message(Lane),
    Leave,
    Renew(SubscriptionId),
    Ask,
}

/// Which lanes wait for a limit, as bits.
#[derive(Debug, Clone, Copy, Default)]
struct Blocked(u8);

impl Next {
    /// What shares a lane keeps its order: to subscribe again must not overtake the end of the subscription before.
    fn lane(self) -> u8 {
        match self {
            Self::Pong => 1,
            Self::Reply | Self::Beat => 1 << 1,
            Self::Ping => 1 << 2,
            // Nothing passes it: it is the first that a connection hears of us.
            Self::Introduce => !0 << 3,
            Self::Message(Lane::Priority) => 1 << 4,
            Self::Leave | Self::Renew(_) | Self::Ask => 1 << 5,
            Self::Message(Lane::Normal) => 1 << 6,
        }
    }
}

impl Blocked {
    fn block(&mut self, next: Next) {
        self.0 |= next.lane();
    }

    fn lets(self, next: Next) -> bool {
        self.0 & next.lane() == 0
    }
}

impl Session {
    /// Sends what waits and may go now, and tells how much is left.
    pub(super) fn pump(&mut self, now: Instant) {
        self.let_all_out(now);
        self.tell_pressure(now);
    }

    /// Sends what waits and may go now.
    pub(super) fn let_all_out(&mut self, now: Instant) {
        let Some(index) = self.current else { return };
        self.plan_topics(now);
        if self.outbox.is_empty()
            && self.subscriptions.next_asks().is_empty()
            && !self.subscriptions.leaving.has_unsaid()
        {
            self.outbox.ready_at = None;
            return;
        }
        if !matches!(self.links[index].stage, Stage::Open) {
            return;
        }
        self.outbox.ready_at = None;
        let before = self.links[index].sender.queued();
        if self.limited && self.links[index].is_flushed() {
            self.outbox.limiter.flushed(now);
        }
        // What passed one that is blocked may have made it wait for longer: then all is asked again.
        let mut passed = true;
        while std::mem::take(&mut passed) {
            self.outbox.ready_at = None;
            self.outbox.limiter.begin();
            let mut blocked = Blocked::default();
            while let Some(next) = self.next_out(blocked) {
                if let Err(at) = self.let_out(next, index, now) {
                    let ready_at = self.outbox.ready_at.map_or(at, |other| other.min(at));
                    self.outbox.ready_at = Some(ready_at);
                    blocked.block(next);
                } else {
                    passed |= self.outbox.ready_at.is_some();
                }
                self.plan_topics(now);
            }
        }
        if self.links[index].sender.queued() > before {
            self.links[index].encrypt();
        }
    }

    fn plan_topics(&mut self, now: Instant) {
        if self.subscriptions.plan(&*self.config.protocol) {
            self.check_restored(now);
        }
    }

    /// The most urgent of what waits and is not blocked.
    fn next_out(&self, blocked: Blocked) -> Option<Next> {
        let outbox = &self.outbox;
        let online = self.history.state == State::Online;
        let restores = online || self.history.state == State::Restoring;
        let users = online || self.is_draining();
        let message = |lane| (users && outbox.has(lane)).then_some(Next::Message(lane));
        let topics = || {
            let leave = self.subscriptions.leaving.has_unsaid().then_some(Next::Leave);
            let renew = || outbox.renewals.front().map(|id| Next::Renew(*id));
            let ask = || (!self.subscriptions.next_asks().is_empty()).then_some(Next::Ask);
            leave.or_else(renew).or_else(ask)
        };
        [
            outbox.pong.as_ref().map(|_| Next::Pong),
            outbox.replies.front().map(|_| Next::Reply),
            outbox.beat.then_some(Next::Beat),
            outbox.ping.map(|_| Next::Ping),
            outbox.introduction.as_ref().map(|_| Next::Introduce),
            message(Lane::Priority),
            restores.then(topics).flatten(),
            message(Lane::Normal),
        ]
        .into_iter()
        .flatten()
        .find(|next| blocked.lets(*next))
    }

    /// Takes this from the limits' budgets; the moment at which that may be possible if it is not now.
    fn spend(&mut self, traffic: Traffic<'_>, now: Instant) -> Result<(), Instant> {
        let protocol = &self.config.protocol;
        self.outbox.limiter.spend_next(&mut |limit| protocol.cost(limit, traffic), now)
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
                    let link = &mut self.links[index];
                    link.ping(payload);
                    link.liveness.released(link.terms.pong_timeout, now);
                }
            }
            Next::Reply => {
                self.spend(Traffic::Heartbeat, now)?;
                if let Some((id, text)) = self.outbox.replies.pop_front() {
                    let sent = self.send_own(index, &text);
                    self.links[index].replied();
                    if self.requests.is_reply(id) {
                        self.requests.sent(id, sent, now);
                    }
                }
            }
            Next::Beat => {
                self.spend(Traffic::Heartbeat, now)?;
                self.outbox.beat = false;
                let id = self.requests.next_id();
                self.text.clear();
                let terms = &self.links[index].terms;
                let context = self.links[index].context(self.clock.wall(now));
                let ack = self.config.protocol.heartbeat(id, &context, &mut self.text);
                if self.text.is_empty() {
                    // There was one when it was due, and the limits held it back.
                    return Ok(());
                }
                if ack != Ack::None {
                    self.heartbeat.sent(id, terms.heartbeat_timeout, now);
                }
                self.send_text(index, id, ack, What::Heartbeat, now);
            }
            Next::Introduce => {
                let introduction = self.outbox.introduction.as_ref();
                let prepares = introduction.is_some_and(|it| matches!(it.what, What::Prepare(_)));
                self.spend(if prepares { Traffic::Prepare } else { Traffic::Authenticate }, now)?;
                self.let_introduction_out(index, now);
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
        let ids = self.subscriptions.next_asks().to_vec();
        self.spend(Traffic::Subscribe(ids.len()), now)?;
        let topics: Vec<&Topic> =
            ids.iter().filter_map(|id| self.subscriptions.get(*id)).map(|s| &s.topic).collect();
        let id = self.requests.next_id();
        self.text.clear();
        let context = self.links[index].context(self.clock.wall(now));
        let ack = match self.config.protocol.subscribe(id, &topics, &context, &mut self.text) {
            Ok(ack) => ack,
            Err(unsaid) => {
                self.cannot_subscribe(&ids, &unsaid, now);
                return Ok(());
            }
        };
        self.subscriptions.asked(&ids, id, now);
        let said = !self.text.is_empty();
        if said {
            self.send_text(index, id, ack, What::Subscribe { topics: ids.clone() }, now);
        }
        if !said || ack == Ack::None {
            self.confirmed(&ids, now);
            self.check_restored(now);
        }
        Ok(())
    }

    /// The protocol cannot ask for these topics. What the limits granted for that is not given back.
    fn cannot_subscribe(&mut self, ids: &[SubscriptionId], unsaid: &Unsupported, now: Instant) {
        if let [_, _, ..] = ids {
            // One that cannot be said must not take the others with it.
            return ids.iter().for_each(|id| self.subscriptions.ask(*id, true, now));
        }
        self.subscriptions.unasked(ids);
        self.rejected(ids, &unsaid.reason, None, now);
        self.check_restored(now);
    }

    /// Tells the peer which topics are not wanted any more.
    fn let_leaves_out(&mut self, index: usize, now: Instant) -> Result<(), Instant> {
        let ids = self.subscriptions.leaving.unsaid(&*self.config.protocol).to_vec();
        let (_, forget) = self.let_ending_out(&ids, What::Unsubscribe(ids.clone()), index, now)?;
        self.subscriptions.leaving.said(&ids, forget);
        Ok(())
    }

    /// Tells the peer to end a subscription that is to be made anew, and asks for it again once that is confirmed.
    fn let_renewal_out(&mut self, id: SubscriptionId, index: usize, now: Instant) -> Result<(), Instant> {
        if self.subscriptions.get(id).is_none() {
            return Ok(());
        }
        let (request, unanswered) = self.let_ending_out(&[id], What::Renew(id), index, now)?;
        if let Some(request) = request {
            self.subscriptions.renews(id, request);
        }
        self.subscriptions.renewal(id, self.epoch, now);
        if unanswered || self.is(Mutant::HastyResync) {
            self.subscriptions.ask(id, true, now);
        }
        Ok(())
    }

    /// Tells the peer to end subscriptions, if the protocol has a message for that. The request that does, and whether there will be no
    /// answer.
    fn let_ending_out(
        &mut self,
        ids: &[SubscriptionId],
        what: What,
        index: usize,
        now: Instant,
    ) -> Result<(Option<u64>, bool), Instant> {
        let ending = self.ending(ids, index, now);
        if !ending.text.is_empty()
            && let Err(at) = self.spend(Traffic::Unsubscribe(ids.len()), now)
        {
            self.outbox.ending = Some(ending);
            return Err(at);
        }
        let Ending { id, text, ack, .. } = ending;
        self.text = text;
        if self.text.is_empty() {
            return Ok((None, true));
        }
        self.requests.next_id();
        self.send_text(index, id, ack, what, now);
        Ok((Some(id), ack == Ack::None))
    }

    /// What ends subscriptions, as it was written when it was held back, or written now.
    fn ending(&mut self, ids: &[SubscriptionId], index: usize, now: Instant) -> Ending {
        // As long as it is not sent it has not taken an id: how often it was tried must not show.
        let id = self.requests.peek_id();
        if let Some(ending) = self.outbox.ending.take()
            && ending.id == id
            && ending.topics == ids
        {
            return ending;
        }
        let topic = |id: &SubscriptionId| {
            let leaving = self.subscriptions.leaving.topic(*id);
            leaving.or_else(|| self.subscriptions.get(*id).map(|subscription| &subscription.topic))
        };
        let topics: Vec<&Topic> = ids.iter().filter_map(topic).collect();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let context = self.links[index].context(self.clock.wall(now));
        let ack = self.config.protocol.unsubscribe(id, &topics, &context, &mut text).unwrap_or_else(|_| {
            text.clear();
            Ack::None
        });
        Ending { topics: ids.to_vec(), id, text, ack }
    }

    /// The time of what is first in a lane may be over, though nobody has looked since.
    fn drop_late(&mut self, lane: Lane, now: Instant) {
        loop {
            if let Some(late) = self.outbox.take_late(lane, now) {
                if let Waits::Message { id, .. } = late {
                    self.events.push_back(Queued::Expired { id });
                }
                continue;
            }
            let Some(first) = self.outbox.first(lane) else { return };
            let late = first.requests().iter().copied().find(|id| self.requests.is_late(*id, now));
            let Some(failed) = late.and_then(|id| self.requests.fail(id, Unanswered::Timeout)) else {
                return;
            };
            self.request_failed(failed, now);
        }
    }

    fn let_message_out(&mut self, lane: Lane, index: usize, now: Instant) -> Result<(), Instant> {
        self.drop_late(lane, now);
        let protocol = &self.config.protocol;
        let Some((first, limiter)) = self.outbox.first_limited(lane) else { return Ok(()) };
        let requests = &self.requests;
        let mut cost = |limit: &str| {
            // What is settled already, cancelled or out of time, costs nothing: it will not be sent.
            let request = |id: &u64| {
                requests.method(*id).map_or(0, |method| protocol.cost(limit, Traffic::Request(method)))
            };
            match first {
                Waits::Message { method: Some(method), .. } => protocol.cost(limit, Traffic::Request(method)),
                Waits::Message { bytes, .. } => protocol.cost(limit, Traffic::Message(bytes.len())),
                Waits::Request { id, .. } => request(id),
                Waits::Batch(ids, _) => ids.iter().map(request).fold(0, u32::saturating_add),
            }
        };
        limiter.spend_next(&mut cost, now)?;
        match self.outbox.pop(lane) {
            Some(Waits::Message { id, kind, bytes, compress, .. }) => {
                self.let_out += 1;
                self.links[index].send_users(id, kind, &bytes, compress);
            }
            Some(Waits::Request { id, .. }) => self.send_request(index, id, now),
            Some(Waits::Batch(ids, _)) => self.send_batch(index, &ids, now),
            None => {}
        }
        Ok(())
    }

    /// Sends a request, if it is not settled.
    pub(super) fn send_request(&mut self, index: usize, id: u64, now: Instant) {
        let Some(kept) = self.requests.take_kept(id) else { return };
        let protocol = &self.config.protocol;
        let context = self.links[index].context(self.clock.wall(now));
        let text = match self.outbox.fresh.take_if(|fresh| fresh.first == id) {
            Some(fresh) => Ok(fresh.text),
            // What it was written with when it was made may be over: it is written with what holds now.
            None => {
                let mut text = String::new();
                protocol.request(id, &kept.request(), &context, &mut text).map(|()| text)
            }
        };
        match text {
            Ok(text) => {
                let sent = self.send_own(index, &text);
                self.requests.sent(id, sent, now);
                self.requests.keep(id, kept);
            }
            Err(_) => self.cannot_send(id, now),
        }
    }

    /// The protocol cannot say a request on the connection that there is now, though it could when it was made.
    fn cannot_send(&mut self, id: u64, now: Instant) {
        if let Some(failed) = self.requests.fail(id, Unanswered::Unsupported) {
            self.request_failed(failed, now);
        }
    }

    /// Sends requests in one message; those of them that are left, each by itself, if some are settled already: they must not be sent.
    fn send_batch(&mut self, index: usize, ids: &[u64], now: Instant) {
        let said = |id: &u64| Some((*id, self.requests.kept(*id)?.request()));
        let requests: Vec<_> = ids.iter().filter_map(said).collect();
        if requests.len() < ids.len() {
            self.outbox.fresh = None;
            return ids.iter().for_each(|id| self.send_request(index, *id, now));
        }
        let context = self.links[index].context(self.clock.wall(now));
        let text = match self.outbox.fresh.take_if(|fresh| Some(&fresh.first) == ids.first()) {
            Some(fresh) => Ok(fresh.text),
            None => {
                let mut text = String::new();
                self.config.protocol.batch(&requests, &context, &mut text).map(|()| text)
            }
        };
        match text {
            Ok(text) => {
                let sent = self.send_own(index, &text);
                ids.iter().for_each(|id| self.requests.sent(*id, sent, now));
            }
            Err(_) => ids.iter().for_each(|id| self.cannot_send(*id, now)),
        }
    }

    /// Sends a message of the session's own.
    pub(super) fn send_own(&mut self, index: usize, text: &str) -> (super::ConnId, u64) {
        let link = &mut self.links[index];
        self.own_sent += 1;
        (link.id, link.send_own(text))
    }

    /// Sends what the protocol wrote to `text`, and awaits the answer if there will be one.
    pub(super) fn send_text(&mut self, index: usize, id: u64, ack: Ack, what: What, now: Instant) {
        let text = std::mem::take(&mut self.text);
        let sent = self.send_own(index, &text);
        self.text = text;
        if ack != Ack::None {
            let deadline = now + self.config.request_timeout;
            self.requests.insert(id, what, deadline, OnDisconnect::Fail, None);
            self.requests.sent(id, sent, now);
        }
        if ack == Ack::Separate {
            self.requests.set_separate(id);
        }
    }

    /// What waited in the lanes when the connection was lost: messages are gone, requests end or wait for the next connection.
    pub(super) fn empty_outbox(&mut self, now: Instant) -> (Vec<SendId>, Vec<u64>) {
        let (mut messages, mut requests) = (Vec::new(), Vec::new());
        for waits in self.outbox.lost(now) {
            match waits {
                Waits::Message { id, .. } => messages.push(id),
                Waits::Request { id, .. } => requests.push(id),
                Waits::Batch(ids, _) => requests.extend(ids),
            }
        }
        self.tell_pressure(now);
        (messages, requests)
    }

    /// A request that waited for the connection that is lost ends, or waits for the next.
    pub(super) fn unsent_request(&mut self, id: u64, now: Instant) {
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

    /// A close frame goes out whatever the limits say, but it counts for other sessions on the same account.
    pub(super) fn spend_close(&mut self, now: Instant) {
        self.spend_anyway(Traffic::Close, now);
    }

    pub(super) fn spend_anyway(&mut self, traffic: Traffic<'_>, now: Instant) {
        let protocol = &self.config.protocol;
        self.outbox.limiter.spend_anyway(&mut |limit| protocol.cost(limit, traffic), now);
    }

    /// Tells the user when the pressure has another level, and that there is room again if he was refused some.
    pub(super) fn tell_pressure(&mut self, now: Instant) {
        let waiting = self.outbox.waiting();
        let level = Pressure::of(waiting, self.config.queue_messages);
        // Only when something has left, or its time has come: what was refused may be longer than the room that there is.
        let due = self.outbox.room_at.take_if(|at| *at <= now).is_some();
        let fewer = waiting < std::mem::replace(&mut self.outbox.waited, waiting);
        if self.refused && (due || fewer) {
            self.check_room();
        }
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
}

impl Link {
    /// Sends a message of the user's that has waited.
    pub(crate) fn send_users(&mut self, id: SendId, kind: crate::ws::Kind, bytes: &[u8], compress: bool) {
        if self.sender.queued() == 0 {
            self.users.clear();
        } else if self.users.len() >= 1024 && self.users.len().is_power_of_two() {
            // Something always waits: find out what does not any more.
            let first = self.sender.messages() - self.sender.unwritten().whole;
            self.users.retain(|(ordinal, _)| *ordinal + 1 >= first);
        }
        self.users.push_back((self.sender.messages(), id));
        self.sender.message(kind, bytes, compress);
    }
}

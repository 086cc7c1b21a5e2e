//! What arrives on a connection.

use super::event::GapCause;
use super::lease::Queued;
use super::link::{Stage, Step};
use super::liveness::Verdict;
use super::sequence::{Continuity, Sequence};
use super::subscriptions::Subscription;
use super::topic::SubscriptionState;
use super::{Announced, Batch, Mutant, RequestId, Session, SubscriptionId};
use crate::error::{Closed, Error, Notice, Recovery, Timeout};
use crate::protocol::{self, Fault, Unsupported};
use crate::ws::receiver::{Inbound, Place};
use crate::ws::{CloseCode, Kind, close};
use std::time::Instant;

impl Session {
    /// Takes one thing off a connection; false if it has nothing.
    pub(super) fn step_link(&mut self, index: usize, now: Instant) -> bool {
        if self.batch.is_some_and(|batch| batch.link == index) {
            self.step_batch(now);
            return true;
        }
        if let Some(farewell) = self.links[index].farewell() {
            return self.step_parting(index, farewell);
        }
        match self.links[index].poll() {
            Step::Idle if self.renew && self.current == Some(index) => {
                let error = self.leaves_for();
                self.failed(index, error, now);
            }
            Step::Idle if self.current == Some(index) && self.notice.is_some() => {
                let Some(notice) = self.notice.take() else { return false };
                self.failed(index, Error::Notice(notice), now);
            }
            Step::Idle if self.gives_up(index) => {
                let Some(error) = self.outbox.unsaid.take() else { return false };
                self.failed(index, error, now);
            }
            Step::Idle => return false,
            Step::Upgraded(upgraded) => self.upgraded(index, upgraded, now),
            Step::Redirect(to) => self.redirected(index, *to, now),
            Step::Inbound(inbound) => self.inbound(index, inbound, now),
            Step::Failed(error) => self.failed(index, error, now),
        }
        true
    }

    /// Whether what the connection is of no use without could not be written. Who leaves anyway does not mind.
    pub(super) fn gives_up(&self, index: usize) -> bool {
        self.current == Some(index) && self.outbox.unsaid.is_some() && !self.closing
    }

    pub(super) fn inbound(&mut self, index: usize, inbound: Inbound, now: Instant) {
        self.tap_inbound(index, inbound);
        let link = &mut self.links[index];
        match inbound {
            Inbound::Message(kind, at) => {
                self.quiet.told(now);
                self.stats.messages_received += 1;
                let before = std::mem::replace(&mut self.last_message, now);
                let link = &mut self.links[index];
                self.announced = if self.inspects && kind == Kind::Text {
                    match &mut link.tracker {
                        None => self.route(index, at, false, now),
                        Some(tracker) => {
                            let continuity = tracker.check(None, link.receiver.text(at));
                            self.route_tracked(index, at, continuity, before, now)
                        }
                    }
                } else {
                    self.data_came(now);
                    Announced::Message { link: index, kind, at, subscription: None }
                };
            }
            Inbound::Chunk { kind, at, last } => {
                self.quiet.told(now);
                self.stats.messages_received += u64::from(last);
                self.last_message = now;
                self.data_came(now);
                self.announced = Announced::Chunk { link: index, kind, at, last };
            }
            Inbound::Ping(at) if self.limited && matches!(link.stage, Stage::Open) => {
                self.outbox.pong = Some(link.receiver.bytes(at).to_vec());
                self.pump(now);
            }
            Inbound::Ping(at) => link.pong(at),
            Inbound::Pong(at) => {
                let payload = link.receiver.bytes(at);
                if let Some(rtt) = link.liveness.pong(payload, link.terms.ping_interval, now) {
                    self.stats.rtt = Some(rtt);
                    self.timings.ping.record(rtt);
                    self.events.push_back(Queued::Pong { rtt, epoch: self.epoch });
                }
            }
            Inbound::Close(at) => match close::parse(link.receiver.bytes(at)) {
                Ok((code, reason)) => {
                    let closed = Closed { code, reason: reason.to_owned() };
                    self.peer_closed(index, closed, now);
                }
                Err(error) => self.failed(index, Error::Protocol(error), now),
            },
        }
    }

    /// Deals with a text whose place among all that came over the connection is known. `before` is when the one before it came.
    fn route_tracked(
        &mut self,
        index: usize,
        at: Place,
        continuity: Continuity,
        before: Instant,
        now: Instant,
    ) -> Announced {
        let cause = match continuity {
            Continuity::Continues => return self.route(index, at, false, now),
            Continuity::Duplicate => {
                self.stats.duplicates += 1;
                return Announced::Nothing;
            }
            Continuity::Gap { expected, got } => GapCause::Sequence { expected, got },
            Continuity::Corrupt { reason } => GapCause::Corrupt { reason },
        };
        self.connection_gap_found(before, cause, now);
        let announced = self.route(index, at, false, now);
        if announced == Announced::Nothing {
            return announced;
        }
        // Behind the gap.
        self.postponed = announced;
        Announced::Nothing
    }

    /// Takes the next part of a message that is several.
    fn step_batch(&mut self, now: Instant) {
        let Some(Batch { link, at, cursor }) = &mut self.batch else { return };
        let (link, whole) = (*link, *at);
        let text = self.links[link].receiver.text(whole);
        let before = *cursor;
        let item = self.config.protocol.item(text, cursor);
        // One that does not move on would never end.
        match item.filter(|_| *cursor > before).and_then(|item| part_of(text, item)) {
            Some(part) => self.announced = self.route(link, whole.slice(part), true, now),
            None => self.batch = None,
        }
    }

    /// What an inbound text is to the protocol. What is the session's own is dealt with, and nothing is announced. A `part` of a message is not
    /// divided further.
    fn route(&mut self, index: usize, at: Place, part: bool, now: Instant) -> Announced {
        let text = self.links[index].receiver.text(at);
        let plain = Announced::Message { link: index, kind: Kind::Text, at, subscription: None };
        let place = |part: &str| at.slice(part_of(text, part).unwrap_or(0..0));
        match self.config.protocol.classify(text) {
            protocol::Inbound::Message { topic, sequence, sent } => {
                // As in `data_came`.
                self.last_data = now;
                self.data.heard(now);
                if let Some(sent) = sent {
                    self.timings.received(sent, self.clock.wall(now));
                }
                let Some(name) = topic else { return plain };
                let name = name.whole(&mut self.name);
                match self.subscriptions.named(name) {
                    Some(id) => self.topic_message(id, index, at, sequence, now),
                    None if self.subscriptions.leaving.is_muted(name) => Announced::Nothing,
                    None => plain,
                }
            }
            protocol::Inbound::Response { id, result } => {
                let raw = result.unwrap_or_else(|error| error);
                let (at, ok) = (place(raw), result.is_ok());
                let users = self.requests.is_users(id);
                if ok && self.requests.is_separate(id) {
                    return Announced::Nothing;
                }
                if !ok && self.refused_in_part(id, index, at, now) {
                    return Announced::Nothing;
                }
                // If nobody waits for it, it came too late, or somebody else asked. That is for the user to know.
                let Some(live) = self.requests.settle(id) else {
                    if ok && self.is(Mutant::AcceptStaleAck) {
                        let text = self.links[index].receiver.text(at);
                        let named: Vec<SubscriptionId> = self.subscriptions.named_in(text);
                        self.confirmed(&named, now);
                    }
                    return plain;
                };
                if let Some(sent) = live.sent {
                    self.timings.request.record(now.saturating_duration_since(sent.at));
                }
                if users {
                    self.watched.remove(&RequestId(id));
                    if !ok {
                        self.request_refused(index, at);
                    }
                    return Announced::Response { link: index, id: RequestId(id), ok, at };
                }
                self.own_response(id, live, index, at, ok, now);
                Announced::Nothing
            }
            protocol::Inbound::Batch if !part => {
                self.batch = Some(Batch { link: index, at, cursor: 0 });
                Announced::Nothing
            }
            protocol::Inbound::Batch => plain,
            protocol::Inbound::Subscribed { topic, id, result } => {
                let topic = topic.whole(&mut self.name);
                let owed = self.subscriptions.leaving.take_owed(topic, id);
                let error = result.err().map(str::to_owned);
                if let Some(topic) = self.subscriptions.named(topic).filter(|_| !owed) {
                    self.topic_answered(topic, id, error.as_deref(), now);
                }
                Announced::Nothing
            }
            protocol::Inbound::Unsubscribed { topic } => {
                let topic = topic.whole(&mut self.name);
                let (asked, known) =
                    (self.subscriptions.leaving.ended(topic), self.subscriptions.named(topic));
                if let Some(id) = known.filter(|_| !asked) {
                    self.topic_ended(id, now);
                }
                Announced::Nothing
            }
            protocol::Inbound::Confirmed(list) => {
                self.topics_listed(index, place(list), now);
                Announced::Nothing
            }
            protocol::Inbound::Refused(error) => {
                let at = place(error);
                if self.subscribe_refused(index, at, now) {
                    return Announced::Nothing;
                }
                Announced::Notice { link: index, at, recovery: None }
            }
            protocol::Inbound::Authenticated(result) => {
                let (at, ok) = (place(result.unwrap_or_else(|error| error)), result.is_ok());
                if self.authentication_told(index, at, ok, now) || ok {
                    return Announced::Nothing;
                }
                Announced::Notice { link: index, at, recovery: None }
            }
            protocol::Inbound::Request { id, method, params } => Announced::Request {
                link: index,
                id: place(id),
                method: place(method),
                params: params.map(place),
            },
            protocol::Inbound::Greeting => {
                self.take_greeting(index, at, now);
                Announced::Nothing
            }
            protocol::Inbound::Heartbeat => {
                let id = self.requests.next_id();
                let mut reply = String::new();
                self.config.protocol.heartbeat_reply(text, id, &mut reply);
                self.answer_heartbeat(reply, id, now);
                Announced::Nothing
            }
            protocol::Inbound::HeartbeatAnswer => {
                self.heartbeat_answered(None, now);
                Announced::Nothing
            }
            protocol::Inbound::Notice { text: said, recovery } => {
                let at = place(said);
                // What is to be done about it is done when all that arrived is told, unless the user is leaving anyway.
                if let Some(recovery) = recovery.filter(|_| !self.closing && !self.is(Mutant::IgnoreNotice)) {
                    self.notice = Some(Notice::new(said, recovery));
                }
                Announced::Notice { link: index, at, recovery }
            }
        }
    }

    /// The server's first word, if that is awaited: all begins with it, unless it is meant for another connection.
    fn take_greeting(&mut self, index: usize, at: Place, now: Instant) {
        if !self.greeted() {
            return;
        }
        let link = &self.links[index];
        let context = link.context(self.clock.wall(now));
        match self.config.protocol.greeting(link.receiver.text(at), &context) {
            Ok(()) => self.begin_authentication("greeted", now),
            Err(other) => {
                let reason = format!("take the server's first word: {}", other.reason);
                self.failed(index, Error::Unsupported(Unsupported { reason }), now);
            }
        }
    }

    /// The server answered a request of the user's with an error: what that says about the connection is done when all that arrived is told.
    fn request_refused(&mut self, index: usize, at: Place) {
        let protocol = &self.config.protocol;
        let error = self.links[index].receiver.text(at);
        let recovery =
            protocol.recovery(Fault::Request(error)).filter(|recovery| *recovery != Recovery::Stop);
        if let Some(recovery) = recovery.filter(|_| !self.closing && !self.is(Mutant::IgnoreNotice)) {
            self.notice = Some(Notice::new(&protocol.error(error).to_string(), recovery));
        }
    }

    /// Data came: answers, heartbeats and the like are none, for they come from a feed that is dead as well.
    fn data_came(&mut self, now: Instant) {
        self.last_data = now;
        self.data.heard(now);
    }

    /// A message of a topic.
    fn topic_message(
        &mut self,
        id: SubscriptionId,
        index: usize,
        at: Place,
        sequence: Option<Sequence>,
        now: Instant,
    ) -> Announced {
        let message = Announced::Message { link: index, kind: Kind::Text, at, subscription: Some(id) };
        let Some(before) = self.subscriptions.get(id).map(Subscription::heard) else { return message };
        let Some(subscription) = self.subscriptions.heard(id, now) else { return message };
        let continuity = match &mut subscription.tracker {
            Some(tracker) => tracker.check(sequence, self.links[index].receiver.text(at)),
            None => Continuity::Continues,
        };
        let cause = match continuity {
            Continuity::Continues => return self.after_gap(message, Some(id), now),
            Continuity::Duplicate => {
                self.stats.duplicates += 1;
                return Announced::Nothing;
            }
            Continuity::Gap { expected, got } => GapCause::Sequence { expected, got },
            Continuity::Corrupt { reason } => GapCause::Corrupt { reason },
        };
        self.gap_found(id, before, cause, now);
        self.postponed = message;
        Announced::Nothing
    }

    /// The server ended a subscription that is still wanted.
    fn topic_ended(&mut self, id: SubscriptionId, now: Instant) {
        use SubscriptionState::{Confirmed, Stale};
        match self.subscriptions.get(id).map(|s| s.state) {
            Some(Confirmed) => {
                self.subscriptions.missed(id, self.epoch, GapCause::Ended);
                self.rejected(&[id], "the server ended it", None, now);
            }
            // It was asked to, so that it can be made anew.
            Some(Stale) => {
                self.subscriptions.ask(id, true, now);
                self.pump(now);
            }
            _ => {}
        }
    }

    /// Has a message of a topic wait until its gap is reported, if it has one.
    fn after_gap(
        &mut self,
        message: Announced,
        subscription: Option<SubscriptionId>,
        now: Instant,
    ) -> Announced {
        let new = |id: &SubscriptionId| self.subscriptions.get(*id).is_some_and(|s| !s.is_live());
        let Some(id) = subscription.filter(new) else { return message };
        if !self.report_gaps(&[id], now) {
            return message;
        }
        self.postponed = message;
        Announced::Nothing
    }

    /// The peer sent a close frame (RFC 6455 section 5.5.1).
    fn peer_closed(&mut self, index: usize, closed: Closed, now: Instant) {
        let until = now + self.config.close_timeout;
        if matches!(self.links[index].stage, Stage::Closing) {
            // The answer to ours: the peer ends the connection now.
            self.seal(None, now);
            self.links[index].retire(None, until, true);
            return self.finish(None, now);
        }
        let code = closed.code;
        self.lost(index, Error::Closed(closed), Some((code, "")), now);
    }

    /// A connection cannot go on.
    pub(super) fn failed(&mut self, index: usize, error: Error, now: Instant) {
        match self.links[index].stage {
            Stage::Handshake(_) => self.attempt_failed(error, now),
            Stage::Closing => {
                let until = now + self.config.close_timeout;
                self.seal(None, now);
                self.links[index].retire(None, until, false);
                self.finish(None, now);
            }
            Stage::Open => {
                let reply = match &error {
                    Error::Protocol(fault) => Some(fault.close_code()),
                    Error::Notice(_)
                    | Error::Authentication(_)
                    | Error::Preparation(_)
                    | Error::Unsupported(_) => Some(CloseCode::Normal),
                    Error::Expired | Error::Renewed | Error::Rotated | Error::Reconnect => {
                        Some(CloseCode::Normal)
                    }
                    Error::Timeout(_) => Some(CloseCode::Away),
                    _ => None,
                };
                let reason =
                    if let Error::Protocol(fault) = &error { fault.to_string() } else { String::new() };
                self.lost(index, error, reply.map(|code| (code, &*reason)), now);
            }
            Stage::Retired => self.links[index].deadline = None,
        }
    }

    /// Deals with what is due on a connection that is not left; `run_out` drops the others.
    pub(super) fn link_overdue(&mut self, index: usize, now: Instant) {
        let Some(link) = self.links.get_mut(index).filter(|link| !link.is_retired()) else { return };
        if let Some(timeout) = self.config.write_timeout
            && link.is_open()
            && link.stall.is_dead(timeout, now)
        {
            return self.failed(index, Error::Timeout(Timeout::Write), now);
        }
        if matches!(link.stage, Stage::Open) {
            match link.liveness.check(link.terms.pong_timeout, link.last_received, now) {
                Verdict::Wait => {}
                Verdict::Ping(payload) if self.limited => {
                    self.outbox.ping = Some(payload);
                    link.liveness.hold();
                }
                Verdict::Ping(payload) => link.ping(payload),
                Verdict::Dead => {
                    let error = link.overdue();
                    return self.failed(index, error, now);
                }
            }
        }
        if link.deadline.take_if(|deadline| *deadline <= now).is_none() {
            return;
        }
        let error = link.overdue();
        self.failed(index, error, now);
    }
}

/// Where `part`, a slice of `whole`, lies in it. `None` if it is none: a protocol that answers with a text of its own, against its contract.
fn part_of(whole: &str, part: &str) -> Option<std::ops::Range<usize>> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    (start <= whole.len() && part.len() <= whole.len() - start).then(|| start..start + part.len())
}

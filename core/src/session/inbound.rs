//! What arrives on a connection.

use super::lease::Queued;
use super::link::{Stage, Step};
use super::liveness::Verdict;
use super::{Announced, RequestId, Session, SubscriptionId};
use crate::error::{Closed, Error};
use crate::protocol;
use crate::ws::receiver::{Inbound, Place};
use crate::ws::{CloseCode, Kind, close};
use std::time::Instant;

impl Session {
    /// Takes one thing off a connection; false if it has nothing.
    pub(super) fn step_link(&mut self, index: usize, now: Instant) -> bool {
        match self.links[index].poll() {
            Step::Idle if self.renew && self.current == Some(index) => {
                self.failed(index, Error::Reconnect, now);
            }
            Step::Idle => return false,
            Step::Upgraded(upgraded) => self.upgraded(index, upgraded, now),
            Step::Redirect(to) => self.redirected(index, *to, now),
            Step::Inbound(inbound) => self.inbound(index, inbound, now),
            Step::Failed(error) => self.failed(index, error, now),
        }
        true
    }

    pub(super) fn inbound(&mut self, index: usize, inbound: Inbound, now: Instant) {
        let link = &mut self.links[index];
        match inbound {
            Inbound::Message(kind, at) => {
                self.stats.messages_received += 1;
                self.announced = if self.inspects && kind == Kind::Text {
                    self.route(index, at, now)
                } else {
                    Announced::Message { link: index, kind, at, subscription: None }
                };
            }
            Inbound::Chunk { kind, at, last } => {
                self.stats.messages_received += u64::from(last);
                self.announced = Announced::Chunk { link: index, kind, at, last };
            }
            Inbound::Ping(at) => link.pong(at),
            Inbound::Pong(at) => {
                let payload = link.receiver.bytes(at);
                if let Some(rtt) = link.liveness.pong(payload, self.config.ping_interval, now) {
                    self.stats.rtt = Some(rtt);
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

    /// What an inbound text is to the protocol. What is the session's own is dealt with, and nothing is announced.
    fn route(&mut self, index: usize, at: Place, now: Instant) -> Announced {
        let text = self.links[index].receiver.text(at);
        match self.config.protocol.classify(text) {
            protocol::Inbound::Message { topic, .. } => {
                let subscription = topic.and_then(|name| self.subscriptions.named(name));
                let message = Announced::Message { link: index, kind: Kind::Text, at, subscription };
                self.after_gap(message, subscription, now)
            }
            protocol::Inbound::Response { id, result } => {
                let raw = result.unwrap_or_else(|error| error);
                let part = at.slice(part_of(text, raw));
                let ok = result.is_ok();
                if self.requests.is_users(id) {
                    self.requests.settle(id);
                    self.watched.remove(&RequestId(id));
                    return Announced::Response { link: index, id: RequestId(id), ok, at: part };
                }
                match self.requests.settle(id) {
                    Some(live) => self.own_response(live, index, part, ok, now),
                    // Nobody waits for it: it came too late, or somebody else asked. That is for the user to know.
                    None => {
                        return Announced::Message { link: index, kind: Kind::Text, at, subscription: None };
                    }
                }
                Announced::Nothing
            }
            _ => Announced::Message { link: index, kind: Kind::Text, at, subscription: None },
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
            self.links[index].retire(None, until, true);
            return self.finish(None, now);
        }
        let code = closed.code;
        self.lost(index, Error::Closed(closed), Some((code, "")), now);
    }

    /// A connection cannot go on.
    pub(super) fn failed(&mut self, index: usize, error: Error, now: Instant) {
        match self.links[index].stage {
            Stage::Connecting | Stage::Handshake(_) => self.attempt_failed(error, now),
            Stage::Closing => {
                let until = now + self.config.close_timeout;
                self.links[index].retire(None, until, false);
                self.finish(None, now);
            }
            Stage::Open => {
                let reply = match &error {
                    Error::Protocol(fault) => Some(fault.close_code()),
                    Error::Reconnect => Some(CloseCode::Normal),
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

    /// Deals with what is due on a connection.
    pub(super) fn link_overdue(&mut self, index: usize, now: Instant) {
        let Some(link) = self.links.get_mut(index) else { return };
        if matches!(link.stage, Stage::Open) {
            match link.liveness.check(self.config.pong_timeout, link.last_received, now) {
                Verdict::Wait => {}
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
        match link.stage {
            Stage::Connecting => self.connect_failed(index, None, now),
            // Its time is over: `is_over` sees that there is no deadline any more.
            Stage::Retired => {}
            _ => {
                let error = link.overdue();
                self.failed(index, error, now);
            }
        }
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn part_of(whole: &str, part: &str) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if start <= whole.len() && part.len() <= whole.len() - start {
        start..start + part.len()
    } else {
        // A protocol that answers with a text of its own, against its contract.
        0..0
    }
}

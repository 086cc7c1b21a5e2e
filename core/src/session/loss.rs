//! The end of a connection, and of the session.

use super::closing::SessionEnd;
use super::event::{SendId, Unanswered, Unsent};
use super::lease::Queued;
use super::requests::Failed;
use super::status::State;
use super::{Announced, Link, Mutant, Session};
use crate::error::{Category, Error, Recovery};
use crate::protocol::Fault;
use crate::record::Input;
use crate::ws::CloseCode;
use crate::ws::sender::Unwritten;
use std::time::Instant;

impl Session {
    /// The current connection is lost: everything that hung on it is settled or put back, and the next attempt is set.
    pub(super) fn lost(
        &mut self,
        index: usize,
        error: Error,
        reply: Option<(CloseCode, &str)>,
        now: Instant,
    ) {
        let until = now + self.config.close_timeout;
        let link = &mut self.links[index];
        let (conn, since) = (link.id, link.last_received);
        // What the server gave notice of is why, whatever came behind that. So it does not depend on how the bytes were cut.
        let noticed = self.notice.take_if(|_| self.current == Some(index) && !error.is_wanted());
        if noticed.is_some() {
            self.fault_recovery = None;
        }
        let works = noticed.is_none() && reply.is_some() && link.gone.is_none();
        let error = noticed.map_or(error, Error::Notice);
        // The peer's fault comes behind what it was answered before: that goes out, and counts as sent, ahead of the close frame.
        let flush = matches!(error, Error::Protocol(_)) && link.gone.is_none();
        let unwritten = if flush { Unwritten::default() } else { link.sender.unwritten() };
        let messages = link.sender.messages();
        let mut unsent = link.unsent(unwritten, self.last_send, self.limited);
        let parts = works && error.is_parting() && link.sender.is_between_messages();
        // A peer that was told why it is left gets the time to read it.
        if !flush {
            // What is reported unsent must not be sent after all.
            link.sender.cut();
        }
        let farewell = if parts { self.say_farewell(index, now) } else { None };
        let link = &mut self.links[index];
        match farewell {
            Some(id) => link.retire_awaiting(id, until),
            None => link.retire(reply, until, reply.is_some()),
        }
        if self.current.take_if(|current| *current == index).is_none() {
            return;
        }
        (self.stable_at, self.upgraded, self.renew, self.refused) = (None, None, false, false);
        (self.batch, self.notice, self.direct) = (None, None, false);
        self.stop_watches(now);
        self.stop_renewal();
        if reply.is_some() {
            self.spend_close(now);
        }
        let (messages_left, requests_left) = self.empty_outbox(now);
        unsent.waiting.extend(messages_left);
        unsent.waiting.sort_unstable();
        if self.history.state != State::Online && !error.is_wanted() {
            // It never was of use, and that is not because the user wanted another.
            self.failures += 1;
            self.turn = self.turn.wrapping_add(1);
        }
        let asked = if self.config.restore { Vec::new() } else { self.subscriptions.asked_for() };
        self.subscriptions.lost(self.epoch, since, now);
        self.gapped.clear();
        self.alive_until.get_or_insert((self.epoch, since));
        let failed = self.requests.lost(conn, messages, unwritten);
        let retry_at = self.schedule_retry(&error, now);
        let epoch = self.epoch;
        if self.closing {
            // The end is told once, by `Closed`.
            unsent.waiting.extend(self.ending.iter_mut().flat_map(|ending| ending.waiting.drain(..)));
            unsent.waiting.sort_unstable();
            self.end = Some(SessionEnd { error: None, unsent });
        } else {
            self.events.push_back(Queued::Lost { epoch, error: error.clone(), retry_at, unsent });
        }
        requests_left.into_iter().for_each(|id| self.unsent_request(id, now));
        for failed in failed {
            if failed.id % 4 == 0 && self.is(Mutant::ForgetRequest) {
                continue;
            }
            self.request_failed(failed, now);
        }
        for (id, subscription) in self.subscriptions.forget(asked) {
            let topic = subscription.topic.name().to_owned();
            let reason = "the connection was lost, and Config::restore is off".to_owned();
            self.events.push_back(Queued::Rejected { id, topic, reason, retry_at: None, epoch });
        }
        if self.closing {
            let why = format!("closed by the user; the connection was lost before its end: {error}");
            self.history.set(State::Closing, why, now);
            self.finish(None, now);
        } else if retry_at.is_none() {
            self.finish(Some(error), now);
        }
    }

    /// When to connect again after `error`; `None` if not.
    pub(super) fn schedule_retry(&mut self, error: &Error, now: Instant) -> Option<Instant> {
        if self.closing || self.history.state == State::Closed {
            return None;
        }
        let told = match error {
            Error::Closed(closed) => {
                self.config.protocol.recovery(Fault::Closed(u16::from(closed.code), &closed.reason))
            }
            _ => self.fault_recovery,
        };
        self.fault_recovery = None;
        if error.is_wanted() {
            return self.retry(now, error, now);
        }
        let ends = !self.config.reconnects && self.stats.connections > 0;
        if ends || self.config.max_attempts.is_some_and(|max| self.failures >= max) {
            return None;
        }
        let delay = self.backoff.next(self.config.backoff_initial, self.config.backoff_max, &mut self.rng);
        let recovery = match told {
            Some(told) => told.bounded(),
            None => self.config.policy.recovery(error, self.clock.wall(now)),
        };
        let certificate = error.category() == Category::Tls && recovery == Recovery::Stop;
        let haste = matches!(error, Error::Notice(_)) && self.is(Mutant::HasteAfterNotice);
        let recovery = match haste || (certificate && self.is(Mutant::RetryCertificate)) {
            true => Recovery::Reconnect,
            false => recovery,
        };
        // What one of several endpoints refuses, another may grant.
        let others = self.config.fallbacks.len();
        let turned_away =
            self.history.state != State::Online && !matches!(error, Error::Closed(_) | Error::Notice(_));
        let for_good = match recovery {
            // A path that served before will serve again: a deployment, a load balancer between servers.
            Recovery::Stop => !(self.was_online && error.may_pass()),
            // The same credentials on a server that never took them.
            Recovery::Reauthenticate => self.config.endpoint.is_some() && !self.was_online,
            _ => false,
        };
        match recovery {
            _ if for_good && turned_away => {
                // The turn has moved on already.
                self.turned_down.insert(self.turn.wrapping_sub(1) % (others + 1));
            }
            Recovery::Backoff(_) => {}
            _ => self.turned_down.clear(),
        }
        let asked_all = !turned_away || self.turned_down.len() > others;
        let delay = match recovery {
            _ if for_good && asked_all => return None,
            // Only that host is to be left alone.
            Recovery::Backoff(least) if others > 0 && self.config.policy.cools_down(error) => {
                if let Some(host) = &self.host {
                    self.config.cooldown.hold(host, now + least);
                }
                delay
            }
            Recovery::Backoff(least) => {
                // Many that were told the same time must not all come at it.
                let late = super::backoff::fraction(self.config.backoff_initial, &mut self.rng);
                if (told.is_some() || self.config.policy.cools_down(error))
                    && let Some(host) = &self.host
                {
                    self.config.cooldown.hold(host, now + least);
                }
                delay.max(least + late)
            }
            Recovery::Reconnect | Recovery::Reauthenticate | Recovery::Stop => delay,
        };
        self.retry(now + delay, error, now)
    }

    /// The next attempt is due then, or when the flap budget allows it.
    fn retry(&mut self, at: Instant, error: &Error, now: Instant) -> Option<Instant> {
        let at = self.flaps.as_mut().map_or(at, |flaps| flaps.earliest(at));
        self.retry_at = Some(at);
        self.history.set(State::Backoff, error.to_string(), now);
        self.retry_at
    }

    /// The session is over: everything that is unsettled is settled, and nothing will be begun.
    pub(super) fn finish(&mut self, error: Option<Error>, now: Instant) {
        if self.history.state == State::Closed {
            return;
        }
        let why = match &error {
            Some(error) => error.to_string(),
            None if self.history.state == State::Closing => self.history.why(),
            None => "closed by the user".to_owned(),
        };
        self.abandon_attempt(now);
        self.seal(error, now);
        self.history.set(State::Closed, why, now);
        (self.retry_at, self.stable_at, self.upgraded, self.current) = (None, None, None, None);
        (self.postponed, self.batch, self.notice) = (Announced::Nothing, None, None);
        self.direct = false;
        self.stop_watches(now);
        self.end_renewal();
        self.ending = None;
        self.events.extend(self.end.clone().map(Queued::Closed));
    }

    /// Ends the session at once: no close handshake, every connection dropped. For a driver that goes away.
    pub fn abort(&mut self, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Abort, now);
        }
        self.calm = false;
        self.closing = true;
        self.finish(None, now);
        for link in &mut self.links {
            // What was just told not to have been sent must not be.
            link.sender.cut();
            link.retire(None, now, false);
            link.deadline = None;
        }
    }

    /// Nothing of what was accepted will be written any more: what that is, and how each request ends.
    pub(super) fn seal(&mut self, error: Option<Error>, now: Instant) {
        if self.end.is_some() {
            return self.settle_all(now);
        }
        let mut unsent = Unsent::none(self.last_send);
        if let Some(index) = self.current.filter(|index| self.links[*index].is_open()) {
            let link = &mut self.links[index];
            let unwritten = link.sender.unwritten();
            unsent = link.unsent(unwritten, self.last_send, self.limited);
            // What is told not to be sent must not be; the peer is told of the end all the same.
            link.sender.cut_messages();
            for failed in self.requests.lost(link.id, link.sender.messages(), unwritten) {
                self.request_failed(Failed { why: Unanswered::Closed, ..failed }, now);
            }
        }
        self.settle_all(now);
        // Requests are settled already.
        let (waiting, _) = self.empty_outbox(now);
        unsent.waiting.extend(waiting);
        unsent.waiting.extend(self.ending.iter_mut().flat_map(|ending| ending.waiting.drain(..)));
        unsent.waiting.sort_unstable();
        self.end = Some(SessionEnd { error, unsent });
    }

    /// Ends every request: the session will not wait for answers.
    pub(super) fn settle_all(&mut self, now: Instant) {
        while let Some(failed) = self.requests.fail_first(Unanswered::Closed) {
            self.request_failed(failed, now);
        }
    }
}

impl Link {
    /// Which of the user's messages were not written, `last_send` being the newest of them, besides those that did not get as far as this
    /// connection's buffer.
    fn unsent(&self, unwritten: Unwritten, last_send: u64, limited: bool) -> Unsent {
        let first = self.sender.messages() - unwritten.whole;
        if limited {
            let behind = self.users.iter().filter(|(ordinal, _)| *ordinal >= first);
            let begun = self.users.iter().find(|(ordinal, _)| unwritten.partial && *ordinal + 1 == first);
            let none = SendId(last_send + 1);
            let waiting = behind.map(|(_, id)| *id).collect();
            return Unsent { not_sent: none..none, waiting, cut: begun.map(|(_, id)| *id) };
        }
        let own = self.own.iter().filter(|ordinal| **ordinal >= first).count() as u64;
        let not_sent = SendId(last_send + 1 - (unwritten.whole - own))..SendId(last_send + 1);
        let cut_is_users = unwritten.partial && !self.own.contains(&(first.wrapping_sub(1)));
        let cut = cut_is_users.then(|| SendId(not_sent.start.0 - 1));
        Unsent { not_sent, waiting: Vec::new(), cut }
    }
}

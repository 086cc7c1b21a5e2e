//! The end of a connection, and of the session.

use super::event::{SendId, Unanswered, Unsent};
use super::lease::Queued;
use super::requests::Failed;
use super::status::State;
use super::{Announced, Link, Session};
use crate::error::{Error, Recovery};
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
        // The peer's fault comes behind what it was answered before: that goes out, and counts as sent, ahead of the close frame.
        let flush = matches!(error, Error::Protocol(_)) && link.gone.is_none();
        let unwritten = if flush { Unwritten::default() } else { link.sender.unwritten() };
        let messages = link.sender.messages();
        let unsent = link.unsent(unwritten, self.last_send);
        // A peer that was told why it is left gets the time to read it.
        if !flush {
            // What is reported unsent must not be sent after all.
            link.sender.cut();
        }
        link.retire(reply, until, reply.is_some());
        if self.current.take_if(|current| *current == index).is_none() {
            return;
        }
        (self.stable_at, self.upgraded, self.renew, self.refused) = (None, None, false, false);
        self.restoring = 0;
        if self.history.state != State::Online {
            // It never was of use.
            self.failures += 1;
        }
        self.subscriptions.lost(self.epoch, since);
        self.alive_until.get_or_insert((self.epoch, since));
        let failed = self.requests.lost(conn, messages, unwritten);
        let retry_at = self.schedule_retry(&error, now);
        let epoch = self.epoch;
        self.events.push_back(Queued::Lost { epoch, error: error.clone(), retry_at, unsent });
        for failed in failed {
            self.request_failed(failed, now);
        }
        if retry_at.is_none() {
            self.finish(Some(error), now);
        }
    }

    /// When to connect again after `error`; `None` if not.
    pub(super) fn schedule_retry(&mut self, error: &Error, now: Instant) -> Option<Instant> {
        if self.closing || self.history.state == State::Closed {
            return None;
        }
        if *error == Error::Reconnect {
            self.retry_at = Some(now);
            self.history.set(State::Backoff, error.to_string(), now);
            return self.retry_at;
        }
        let delay = self.backoff.next(self.config.backoff_initial, self.config.backoff_max, &mut self.rng);
        let tired = self.config.max_attempts.is_some_and(|max| self.failures >= max);
        let delay = match error.recovery(self.clock.wall(now)) {
            _ if tired => return None,
            // A path that served before will serve again: a deployment, a load balancer between servers.
            Recovery::Stop if matches!(error, Error::Handshake(_)) && self.stats.connections > 0 => delay,
            Recovery::Stop => return None,
            // The same credentials on a server that never took them.
            Recovery::Reauthenticate if self.config.endpoint.is_some() && self.stats.connections == 0 => {
                return None;
            }
            Recovery::Backoff(least) => delay.max(least),
            Recovery::Reconnect | Recovery::Reauthenticate => delay,
        };
        self.retry_at = Some(now + delay);
        self.history.set(State::Backoff, error.to_string(), now);
        self.retry_at
    }

    /// The session is over: everything that is unsettled is settled, and nothing will be begun.
    pub(super) fn finish(&mut self, error: Option<Error>, now: Instant) {
        if self.history.state == State::Closed {
            return;
        }
        let why = error.as_ref().map_or_else(|| "closed".to_owned(), ToString::to_string);
        self.abandon_attempt(now);
        self.history.set(State::Closed, why, now);
        (self.retry_at, self.stable_at, self.upgraded, self.current) = (None, None, None, None);
        self.postponed = Announced::Nothing;
        self.settle_all(now);
        self.events.push_back(Queued::Closed { error });
    }

    /// Ends the session at once: no close handshake, every connection dropped. For a driver that goes away.
    pub fn abort(&mut self, now: Instant) {
        self.calm = false;
        self.closing = true;
        if let Some(index) = self.current {
            // Nothing more will be written: what was not is known.
            let sender = &self.links[index].sender;
            let failed = self.requests.lost(self.links[index].id, sender.messages(), sender.unwritten());
            for failed in failed {
                self.request_failed(Failed { why: Unanswered::Closed, ..failed }, now);
            }
        }
        self.finish(None, now);
        for link in &mut self.links {
            // What was just told not to have been sent must not be.
            link.sender.cut();
            link.retire(None, now, false);
            link.deadline = None;
        }
    }

    /// Ends every request: the session will not wait for answers.
    pub(super) fn settle_all(&mut self, now: Instant) {
        while let Some(failed) = self.requests.fail_first(Unanswered::Closed) {
            self.request_failed(failed, now);
        }
    }
}

impl Link {
    /// Which of the user's messages were not written, `last_send` being the newest of them.
    fn unsent(&self, unwritten: Unwritten, last_send: u64) -> Unsent {
        let first = self.sender.messages() - unwritten.whole;
        let own = self.own.iter().filter(|ordinal| **ordinal >= first).count() as u64;
        let not_sent = SendId(last_send + 1 - (unwritten.whole - own))..SendId(last_send + 1);
        let cut_is_users = unwritten.partial && !self.own.contains(&(first.wrapping_sub(1)));
        let cut = cut_is_users.then(|| SendId(not_sent.start.0 - 1));
        Unsent { not_sent, cut }
    }
}

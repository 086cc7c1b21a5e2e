//! Every deadline of a session, and what is done when it has passed.

use super::attempt::Attempt;
use super::link::Link;
use super::{Announced, Session};
use std::time::Instant;

impl Session {
    /// Earliest moment at which `handle_timeout` has something to do. `Output::Wait` gives the same; this is for a driver that goes
    /// on while an event is not taken.
    pub fn timeout(&self) -> Option<Instant> {
        if self.announced == Announced::Nothing {
            return self.deadline();
        }
        let ends = self.links.iter().filter(|link| link.ends()).filter_map(|link| link.deadline);
        [self.requests.users_deadline(), self.outbox.deadline(), self.close_deadline()]
            .into_iter()
            .flatten()
            .chain(ends)
            .min()
    }

    /// Earliest moment at which something is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stalled =
            |link: &Link| self.config.write_timeout.and_then(|timeout| link.stall.deadline(timeout));
        let links =
            self.links.iter().flat_map(|link| [link.deadline, link.liveness.deadline(), stalled(link)]);
        self.own_deadlines().chain(links.flatten()).min()
    }

    fn own_deadlines(&self) -> impl Iterator<Item = Instant> {
        let attempt = self.attempt.as_ref().and_then(Attempt::due);
        let overdue = self.overdue.map(|_| self.last_message);
        let watches = self.watched().and_then(|_| self.watches_deadline().into_iter().chain(overdue).min());
        let waits = [self.requests.deadline(), self.outbox.deadline(), watches, self.renewal_deadline()];
        [self.retry_at, self.stable_at, attempt, self.close_deadline()].into_iter().chain(waits).flatten()
    }

    /// Ends what has run out of time whatever may lie in a socket: the user's requests have the time that he gave them, and nothing is
    /// expected of a connection that was left. False if that changed nothing.
    pub(super) fn run_out(&mut self, now: Instant) -> bool {
        self.expire_requests(now);
        let more = self.config.close_timeout;
        let left = self.links.iter_mut().filter(|link| link.is_retired());
        let due = left.filter(|link| link.deadline.is_some_and(|at| at <= now));
        // `is_over` sees that there is no deadline any more.
        let ended = due.map(|link| link.run_out(more, now)).count();
        ended > 0 || !self.events.is_empty()
    }

    /// Deals with what else is due. Only when all that arrived is parsed and told: a pong, an answer or a close frame may be among it.
    pub(super) fn run_timers(&mut self, now: Instant) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.start_attempt(now);
        }
        if self.stable_at.take_if(|at| *at <= now).is_some() {
            self.backoff.reset();
        }
        self.attempt_due(now);
        while let Some(failed) = self.requests.expire_own(now) {
            self.request_failed(failed, now);
        }
        self.expire_messages(now);
        self.close_overdue(now);
        self.run_renewal(now);
        self.run_watches(now);
        for index in 0..self.links.len() {
            self.link_overdue(index, now);
        }
    }

    pub(super) fn expire_requests(&mut self, now: Instant) {
        while let Some(failed) = self.requests.expire_users(now) {
            self.request_failed(failed, now);
        }
    }
}

//! Every deadline of a session, and what is done when it has passed.

use super::link::Link;
use super::{Announced, Backlog, Session};
use std::time::{Duration, Instant};

impl Session {
    /// Earliest moment at which `handle_timeout` has something to do. `Output::Wait` gives the same; this is for a driver that goes
    /// on while an event is not taken.
    pub fn timeout(&self) -> Option<Instant> {
        if self.announced == Announced::Nothing {
            return self.deadline();
        }
        let ends = self.links.iter().filter(|link| link.ends()).filter_map(|link| link.deadline);
        [self.requests.users_deadline(), self.outbox.deadline()].into_iter().flatten().chain(ends).min()
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
        let attempt = self.attempt.as_ref().and_then(|attempt| attempt.deadline);
        let overdue = self.overdue.map(|_| self.last_message);
        let watches = self.watched().and_then(|_| self.watches_deadline().into_iter().chain(overdue).min());
        let waits = [self.requests.deadline(), self.outbox.deadline(), watches, self.renewal_deadline()];
        [self.retry_at, self.stable_at, attempt].into_iter().chain(waits).flatten()
    }

    /// Nobody is judged by the time while his answer may lie in the socket: if an event was looked at for long, what arrived meanwhile is to
    /// be read before timers run. When to look again; `None` if all is read, or was tried for long enough.
    pub(super) fn read_first(&mut self, now: Instant) -> Option<Instant> {
        let told = std::mem::take(&mut self.told_since) || self.seen != self.stats.messages_received;
        self.seen = self.stats.messages_received;
        // One at a time: who is always slow must not hold up timers for ever.
        if told && now > self.told_at && self.current.is_some() && self.backlog.is_none() {
            self.backlog = Some(Backlog { until: now + Self::CATCH_UP, received: u64::MAX, again: now });
        }
        let Backlog { until, received, again } = self.backlog?;
        if now < again {
            return Some(again);
        }
        if now >= until || received == self.stats.bytes_received {
            self.backlog = None;
            return None;
        }
        let again = now + Duration::from_millis(1);
        self.backlog = Some(Backlog { until, received: self.stats.bytes_received, again });
        Some(again)
    }

    /// Timers do not wait for longer than this for a peer that sends all the time.
    const CATCH_UP: Duration = Duration::from_secs(1);

    /// Deals with what is due. Only when all that arrived is parsed and told: a pong, an answer or a close frame may be among it.
    pub(super) fn run_timers(&mut self, now: Instant) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.start_attempt(now);
        }
        if self.stable_at.take_if(|at| *at <= now).is_some() {
            self.backoff.reset();
        }
        self.attempt_overdue(now);
        self.expire_requests(now);
        while let Some(failed) = self.requests.expire_own(now) {
            self.request_failed(failed, now);
        }
        self.expire_messages(now);
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

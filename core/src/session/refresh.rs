//! What expires is renewed ahead of that, while the connection goes on working: the endpoint, by asking its provider again; an
//! authentication, by making it again.
//!
//! ```text
//!                     due                   answer        Parameters: put in place
//! ask_at ------------------------> Asked --------------> Reauthenticate: said on the live connection; refused, that is changed
//!    ^    failed, or no answer in    |                   Reconnect: `change_over`
//!    +------ connect_timeout --------+
//!
//! authenticate_at ----> authenticate again, as the answer to the last one said
//!
//! rotate_at ----------> another connection, before the server ends this one
//! ```
//!
//! Either happens only while the session is online: before that all is fresh, and after that the next attempt asks by itself. What the end
//! of a connection leaves is an endpoint that was fetched for the next one (`ready`).

use super::attempt::host_port;
use super::backoff::{self, Backoff};
use super::config::{AtExpiry, Life, MAX_TIME, Refresh, Terms};
use super::lease::Queued;
use super::liveness::TICK;
use super::output::{AttemptId, Output};
use super::requests::What;
use super::status::State;
use super::{Endpoint, Session};
use crate::error::{Error, ProviderError, Recovery, Timeout};
use std::time::{Duration, Instant};

/// What is to be renewed on the current connection, and when.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    refresh: Refresh,
    at_expiry: AtExpiry,
    /// When the endpoint ends.
    expires_at: Option<Instant>,
    /// When the provider is asked for another.
    ask_at: Option<Instant>,
    /// It was asked, and by when it has to answer.
    asked: Option<(AttemptId, Instant)>,
    backoff: Backoff,
    failures: u32,
    /// When the authentication ends, by the server's word, and when it is made again.
    authenticated_until: Option<Instant>,
    authenticate_at: Option<Instant>,
    /// It is being made again.
    reauthenticates: bool,
    /// How often in a row it could not be written.
    unsigned: u32,
    unsigned_backoff: Backoff,
    /// By when the server must have greeted us.
    greeting_by: Option<Instant>,
    /// The next attempt is made with this one.
    ready: Option<Endpoint>,
    /// When the session changes over to it. `None`: at once, or as soon as there is no connection any more.
    change_at: Option<Instant>,
    /// When the session leaves the connection, as the server would soon end it.
    rotate_at: Option<Instant>,
    /// It does, for that reason.
    rotates: bool,
}

/// The part of a connection's life after which the session leaves it, and the part that chance may add.
const ROTATED_AFTER: f64 = 0.95;
const ROTATED_SPREAD: f64 = 0.03;

impl Renewal {
    /// When something is renewed next.
    pub(crate) fn refresh_at(&self) -> Option<Instant> {
        [self.ask_at, self.authenticate_at, self.change_at, self.rotate_at].into_iter().flatten().min()
    }

    /// What the next attempt is made with, if that is known.
    pub(crate) fn ready(&self, now: Instant) -> Option<&Endpoint> {
        self.ready.as_ref().filter(|endpoint| !endpoint.is_over(now))
    }

    /// When the first of what is to be renewed ends.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.expires_at.into_iter().chain(self.authenticated_until).min()
    }

    /// How often in a row the provider failed to renew the endpoint.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// These terms are in force.
    fn begin(&mut self, terms: &Terms) {
        (self.refresh, self.at_expiry) = (terms.refresh, terms.at_expiry);
        self.expires_at = terms.life.map(|life| life.expires_at);
        let refreshed = terms.life.filter(|_| terms.refresh != Refresh::Off);
        self.ask_at = refreshed.map(|life| life.refresh_at);
        (self.failures, self.backoff) = (0, Backoff::default());
    }

    /// When the connection is given up.
    fn ends_at(&self) -> Option<Instant> {
        self.expires_at.filter(|_| self.at_expiry == AtExpiry::Disconnect)
    }
}

impl Session {
    /// A connection is there, and what its endpoint says is in force.
    pub(super) fn begin_renewal(&mut self, index: usize, now: Instant) {
        self.renewal = Renewal::default();
        self.renewal.begin(&self.links[index].terms);
        if let Some(life) = self.config.protocol.life().filter(|_| self.config.reconnects) {
            let life = life.clamp(Life::SHORTEST, MAX_TIME);
            // Connections that were made together must not be left together.
            let chance = backoff::fraction(life.mul_f64(ROTATED_SPREAD), &mut self.rng);
            self.renewal.rotate_at = Some(now + life.mul_f64(ROTATED_AFTER) + chance);
        }
    }

    /// The server has its say first: nothing of ours goes before that.
    pub(super) fn await_greeting(&mut self, now: Instant) {
        self.renewal.greeting_by = Some(now + self.config.handshake_timeout);
    }

    /// The server said its first word. True if that was awaited.
    pub(super) fn greeted(&mut self) -> bool {
        self.renewal.greeting_by.take().is_some()
    }

    /// There is no connection any more whose endpoint could be renewed.
    pub(super) fn stop_renewal(&mut self) {
        let ready = self.renewal.ready.take();
        self.forget_question();
        self.renewal = Renewal { ready, ..Renewal::default() };
    }

    /// What was fetched for the next connection is not wanted: there will be none.
    pub(super) fn end_renewal(&mut self) {
        self.stop_renewal();
        self.renewal.ready = None;
    }

    /// The provider is not to be asked any more, or its answer does not matter.
    fn forget_question(&mut self) {
        if let Some((id, _)) = self.renewal.asked.take() {
            self.duties.retain(|duty| *duty != Output::Provide(id));
        }
    }

    /// An attempt needs an endpoint: the one that was fetched for it, or one that the provider is asked for.
    pub(super) fn provide(&mut self, id: AttemptId, now: Instant) {
        match self.renewal.ready.take().filter(|endpoint| !endpoint.is_over(now)) {
            Some(endpoint) => self.handle_endpoint(id, Ok(endpoint), now),
            None => self.duties.push_back(Output::Provide(id)),
        }
    }

    /// Earliest moment at which something has to be done.
    pub(super) fn renewal_deadline(&self) -> Option<Instant> {
        self.watched()?;
        let Renewal { ask_at, asked, authenticate_at, greeting_by, change_at, rotate_at, .. } = self.renewal;
        let always = [self.renewal.ends_at(), greeting_by, asked.map(|(_, by)| by)];
        let online =
            [ask_at, change_at, rotate_at, authenticate_at.filter(|_| !self.renewal.reauthenticates)];
        let online = online.into_iter().filter(|_| self.history.state == State::Online);
        always.into_iter().chain(online).flatten().min()
    }

    /// Deals with what is due.
    pub(super) fn run_renewal(&mut self, now: Instant) {
        let Some(index) = self.watched() else { return };
        let due = |at: &mut Instant| *at <= now;
        if self.renewal.greeting_by.take_if(due).is_some() {
            return self.failed(index, Error::Timeout(Timeout::Greeting), now);
        }
        if self.renewal.ends_at().is_some_and(|at| at <= now) {
            return self.failed(index, Error::Expired, now);
        }
        if self.renewal.asked.is_some_and(|(_, by)| by <= now) {
            self.forget_question();
            let message = format!("no answer in {:?} (Config::connect_timeout)", self.config.connect_timeout);
            self.refresh_failed(Error::Provider(ProviderError::new(message)), now);
        }
        if self.history.state != State::Online {
            return;
        }
        if self.renewal.change_at.take_if(due).is_some()
            && let Some(endpoint) = self.renewal.ready.take()
        {
            match endpoint.is_over(now) {
                true => self.renewal.ask_at = Some(now),
                false => self.change_over(endpoint, now),
            }
        }
        if self.renewal.rotate_at.take_if(due).is_some() {
            self.rotate(now);
        }
        if self.renewal.ask_at.take_if(due).is_some() {
            self.last_attempt += 1;
            let id = AttemptId(self.last_attempt);
            self.renewal.asked = Some((id, now + self.config.connect_timeout));
            self.duties.push_back(Output::Provide(id));
        }
        if !self.renewal.reauthenticates && self.renewal.authenticate_at.take_if(due).is_some() {
            self.reauthenticate(now);
        }
    }

    /// Whether the provider was asked this to renew the endpoint of a connection.
    pub(super) fn renews(&self, id: AttemptId) -> bool {
        self.renewal.asked.is_some_and(|(asked, _)| asked == id)
    }

    /// What the provider answered to that.
    pub(super) fn endpoint_renewed(&mut self, result: Result<Endpoint, ProviderError>, now: Instant) {
        self.forget_question();
        let Some(index) = self.watched() else { return };
        let endpoint = match result.map_err(Error::Provider).and_then(|given| self.accept(given, now)) {
            Ok(endpoint) => endpoint,
            Err(error) => return self.refresh_failed(error, now),
        };
        let by = match self.renewal.refresh {
            Refresh::Auto if self.config.protocol.reauthenticates() => Refresh::Reauthenticate,
            Refresh::Auto => Refresh::Reconnect,
            by => by,
        };
        let terms = Terms::new(&self.config, &endpoint);
        let expires_at = terms.life.map(|life| life.expires_at);
        self.events.push_back(Queued::Refreshed { by, expires_at, epoch: self.epoch });
        if by == Refresh::Reconnect {
            self.renewal.ask_at = None;
            return self.change_over(endpoint, now);
        }
        self.put_in_force(index, terms, now);
        if by == Refresh::Reauthenticate {
            self.reauthenticate(now);
        }
    }

    /// Checks an endpoint that the provider gave.
    pub(super) fn accept(&mut self, endpoint: Endpoint, now: Instant) -> Result<Endpoint, Error> {
        endpoint.accept(&self.config, &self.clock, &mut self.rng, now).map_err(Error::Endpoint)
    }

    /// The session moves to a connection that is made with this endpoint. As long as a session has one connection at a time, the old one
    /// ends first; to rotate without a gap, open the other one here and let this one go when that is online.
    fn change_over(&mut self, endpoint: Endpoint, now: Instant) {
        let at = self.free_at(&host_port(&endpoint.target), now);
        self.renewal.ready = Some(endpoint);
        if at > now {
            // As long as no other may be made, the one that works is better than none.
            self.renewal.change_at = Some(at);
            return;
        }
        self.renewal.authenticate_at = None;
        self.renew = true;
    }

    /// The session moves to another connection before the server ends this one. As in `change_over`, the old one ends first for now.
    fn rotate(&mut self, now: Instant) {
        let host = self.host.clone().unwrap_or_default();
        let at = self.free_at(&host, now);
        if at > now {
            self.renewal.rotate_at = Some(at);
            return;
        }
        self.renewal.authenticate_at = None;
        (self.renewal.rotates, self.renew) = (true, true);
    }

    /// Why the session leaves a connection that works.
    pub(super) fn leaves_for(&mut self) -> Error {
        if self.renewal.rotates {
            return self.notice.take().map_or(Error::Rotated, Error::Notice);
        }
        if self.renewal.ready.is_none() || self.renewal.change_at.is_some() {
            return Error::Reconnect;
        }
        // Nobody is in a hurry: what the server wants besides is kept to.
        self.notice.take().map_or(Error::Renewed, Error::Notice)
    }

    /// What a fresh endpoint says holds for the live connection from now on.
    fn put_in_force(&mut self, index: usize, terms: Terms, now: Instant) {
        self.renewal.begin(&terms);
        // What waits was written with the old parameters.
        self.outbox.ending = None;
        let link = &mut self.links[index];
        let old = std::mem::replace(&mut link.terms, terms);
        // What did not change keeps its time.
        if old.ping_interval != link.terms.ping_interval {
            link.liveness.start(link.terms.ping_interval, now);
        }
        if old.heartbeat_interval != link.terms.heartbeat_interval {
            self.heartbeat.start(link.terms.heartbeat_interval, now);
        }
    }

    /// Authenticates the live connection again, ahead of all that waits.
    fn reauthenticate(&mut self, now: Instant) {
        self.renewal.authenticate_at = None;
        let id = self.requests.next_id();
        match self.introduce(What::Authenticate, id, now) {
            Ok(true) => {
                self.renewal.reauthenticates = true;
                self.pump(now);
            }
            Ok(false) => {}
            Err(unsaid) => self.cannot_introduce(&What::Authenticate, unsaid, now),
        }
    }

    /// The protocol could not write it, and the connection still works: it is tried again until the server ends that.
    pub(super) fn cannot_reauthenticate(&mut self, error: Error, now: Instant) {
        let (initial, max) = (self.config.backoff_initial, self.config.backoff_max);
        let delay = self.renewal.unsigned_backoff.next(initial, max, &mut self.rng).max(TICK);
        let retry_at = Some(now + delay);
        self.renewal.reauthenticates = false;
        self.renewal.authenticate_at = retry_at;
        self.renewal.unsigned = self.renewal.unsigned.saturating_add(1);
        let (failures, expires_at) = (self.renewal.unsigned, self.renewal.authenticated_until);
        let epoch = self.epoch;
        self.events.push_back(Queued::RefreshFailed { failures, error, retry_at, expires_at, epoch });
    }

    /// The server took our authentication. It holds for so long, if it says.
    pub(super) fn authentication_lasts(&mut self, life: Option<Duration>, now: Instant) {
        let life = life.map(|life| Life::new(life, Life::RENEWED_AFTER, &mut self.rng, now));
        self.renewal.authenticate_at = life.map(|life| life.refresh_at);
        self.renewal.authenticated_until = life.map(|life| life.expires_at);
    }

    /// It is not being made again any more.
    pub(super) fn reauthenticated(&mut self) {
        (self.renewal.unsigned, self.renewal.unsigned_backoff) = (0, Backoff::default());
        self.renewal.reauthenticates = false;
    }

    /// The provider did not give a fresh endpoint while the connection goes on: it is asked again.
    fn refresh_failed(&mut self, error: Error, now: Instant) {
        let (initial, max) = (self.config.backoff_initial, self.config.backoff_max);
        let delay = self.renewal.backoff.next(initial, max, &mut self.rng).max(TICK);
        let retry_at = match self.config.policy.recovery(&error, self.clock.wall(now)) {
            Recovery::Stop => None,
            Recovery::Backoff(least) => {
                Some(now + delay.max(least + backoff::fraction(initial, &mut self.rng)))
            }
            Recovery::Reconnect | Recovery::Reauthenticate => Some(now + delay),
        };
        self.renewal.failures = self.renewal.failures.saturating_add(1);
        self.renewal.ask_at = retry_at;
        let Renewal { failures, expires_at, .. } = self.renewal;
        let epoch = self.epoch;
        self.events.push_back(Queued::RefreshFailed { failures, error, retry_at, expires_at, epoch });
    }
}

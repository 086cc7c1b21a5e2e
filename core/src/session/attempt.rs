//! The way to a connection: endpoint, name, addresses, TCP, handshake, redirects.

use super::lease::Queued;
use super::link::{Link, Stage};
use super::output::{AttemptId, ConnId, Output};
use super::status::State;
use super::{Endpoint, Session};
use crate::error::{Disconnect, Error, ProviderError, ResolveError, Timeout};
use crate::transport::proxy::Proxy;
use crate::ws::Target;
use crate::ws::handshake::HandshakeOptions;
use rand_chacha::rand_core::Rng;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// One attempt, over all addresses and redirects.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    endpoint: Option<Endpoint>,
    /// By way of which the endpoint is reached.
    proxy: Option<Proxy>,
    options: HandshakeOptions,
    addrs: VecDeque<SocketAddr>,
    redirects: u32,
    /// By when TCP must be connected; `None` once it is.
    pub(crate) deadline: Option<Instant>,
    conn: Option<(ConnId, SocketAddr)>,
    failure: Option<Error>,
}

impl Session {
    pub(super) fn start_attempt(&mut self, now: Instant) {
        // Of several endpoints, one whose host does not want to be left alone.
        let held = |turn: usize| {
            let endpoint = self.config.endpoint_at(turn);
            endpoint.is_some_and(|e| self.config.cooldown.until(&host_port(&e.target), now).is_some())
        };
        let turns = (0..=self.config.fallbacks.len()).map(|n| self.turn.wrapping_add(n));
        self.turn = turns.into_iter().find(|turn| !held(*turn)).unwrap_or(self.turn);
        let endpoint = self.config.endpoint_at(self.turn).cloned();
        let host = endpoint.as_ref().map(|endpoint| host_port(&endpoint.target));
        if host.is_some_and(|host| self.hold_back(&host, now)) {
            return;
        }
        if let Some(flaps) = &mut self.flaps {
            flaps.began(now);
        }
        self.last_attempt += 1;
        let id = AttemptId(self.last_attempt);
        self.history.set(State::Connecting, format!("attempt {}", id.0), now);
        self.attempt = Some(Attempt {
            id,
            endpoint: None,
            proxy: None,
            options: self.config.handshake.clone(),
            addrs: VecDeque::new(),
            redirects: 0,
            deadline: Some(now + self.config.connect_timeout),
            conn: None,
            failure: None,
        });
        match endpoint {
            Some(endpoint) => self.approach(endpoint, now),
            None => self.duties.push_back(Output::Provide(id)),
        }
    }

    /// Puts the next attempt off if the host is to be left alone: another session was told so, and that is no failure of ours.
    fn hold_back(&mut self, host: &str, now: Instant) -> bool {
        let Some(until) = self.config.cooldown.until(host, now) else { return false };
        self.abandon_attempt(now);
        // Many wait for the same moment, and must not all come at it.
        let late = super::backoff::fraction(self.config.backoff_initial, &mut self.rng);
        let at = until.checked_add(late).unwrap_or(until);
        self.retry_at = Some(self.flaps.as_ref().map_or(at, |flaps| flaps.earliest(at)));
        self.history.set(State::Backoff, format!("{host} wants to be left alone for a while"), now);
        true
    }

    /// The provider's answer to [`Output::Provide`].
    pub fn handle_endpoint(&mut self, id: AttemptId, result: Result<Endpoint, ProviderError>, now: Instant) {
        self.calm = false;
        let waits = |attempt: &&mut Attempt| attempt.id == id && attempt.endpoint.is_none();
        let Some(attempt) = self.attempt.as_mut().filter(waits) else { return };
        match result {
            Ok(endpoint) => {
                // Each name that the endpoint gives replaces all of that name in the configuration.
                let headers = &mut attempt.options.headers;
                for (name, _) in endpoint.headers.iter() {
                    headers.remove(name);
                }
                let appended =
                    endpoint.headers.iter().try_for_each(|(name, value)| headers.append(name, value));
                match appended.and_then(|()| attempt.options.validate()) {
                    Ok(()) => self.approach(endpoint, now),
                    Err(error) => self.attempt_failed(Error::Request(error), now),
                }
            }
            Err(error) => self.attempt_failed(Error::Provider(error), now),
        }
    }

    /// Finds the addresses of an endpoint.
    fn approach(&mut self, endpoint: Endpoint, now: Instant) {
        let name = host_port(&endpoint.target);
        // Where a provider or a redirect leads to is known only now.
        if self.hold_back(&name, now) {
            return;
        }
        self.host = Some(name);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.proxy = self.config.proxy.proxy_for(&endpoint.target).cloned();
        attempt.endpoint = Some(endpoint);
        let Some((host, port)) = attempt.reaches() else { return };
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        match literal {
            Some(addr) => {
                attempt.addrs = [addr].into();
                self.next_address(now);
            }
            None => self.duties.push_back(Output::Resolve(attempt.id)),
        }
    }

    /// Name and port to be resolved for [`Output::Resolve`]; `None` if the attempt is over.
    pub fn host(&self, id: AttemptId) -> Option<(&str, u16)> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.id == id)?;
        attempt.reaches()
    }

    /// The resolver's answer to [`Output::Resolve`]: the addresses in the order in which they are to be tried.
    pub fn handle_resolved(
        &mut self,
        id: AttemptId,
        result: Result<&[SocketAddr], ResolveError>,
        now: Instant,
    ) {
        self.calm = false;
        let waits =
            |a: &&mut Attempt| a.id == id && a.endpoint.is_some() && a.conn.is_none() && a.deadline.is_some();
        let Some(attempt) = self.attempt.as_mut().filter(waits) else { return };
        match result {
            Ok(addrs) => {
                // What a resolver gives is not ours to bound, but nobody has use for more.
                attempt.addrs = addrs.iter().copied().take(32).collect();
                let message = "the name has no addresses".to_owned();
                attempt.failure = Some(Error::Resolve(ResolveError { message }));
                self.next_address(now);
            }
            Err(error) => self.attempt_failed(Error::Resolve(error), now),
        }
    }

    /// Tries the next address; fails the attempt if there is none.
    fn next_address(&mut self, now: Instant) {
        let id = self.next_conn();
        let Some(attempt) = &mut self.attempt else { return };
        let left = attempt.addrs.len() as u32;
        let Some(addr) = attempt.addrs.pop_front() else {
            let error = attempt.failure.take().unwrap_or(Error::Timeout(Timeout::Connect));
            return self.attempt_failed(error, now);
        };
        attempt.conn = Some((id, addr));
        let mut link = Link::new(id, &self.config, self.seed, now);
        // What time is left is shared, so that a silent address does not use up that of the others.
        let share = attempt.deadline.map(|end| end.saturating_duration_since(now) / left);
        link.deadline = share.map(|share| now + share);
        self.links.push(link);
        self.duties.push_back(Output::Connect(id, addr));
    }

    /// The connection that [`Output::Connect`] asked for is open.
    pub fn handle_connected(&mut self, conn: ConnId, now: Instant) {
        self.calm = false;
        let Some(index) = self.link_index(conn) else { return };
        if !matches!(self.links[index].stage, Stage::Connecting) {
            return;
        }
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.deadline = None;
        let Some(endpoint) = &attempt.endpoint else { return };
        let proxy = attempt.proxy.as_ref();
        let begun = self.links[index].connected(endpoint, proxy, &attempt.options, &self.config, nonce, now);
        if let Err(error) = begun {
            self.attempt_failed(error, now);
        }
    }

    /// TCP to one address failed.
    pub(super) fn connect_failed(&mut self, index: usize, cause: Option<Disconnect>, now: Instant) {
        let link = &mut self.links[index];
        let conn = link.id;
        link.gone = cause.clone();
        self.remove_link(index);
        let Some(attempt) = &mut self.attempt else { return };
        let Some((_, addr)) = attempt.conn.take_if(|(id, _)| *id == conn) else { return };
        attempt.failure = Some(match cause {
            Some(cause) => Error::Connect { addr, cause },
            None => Error::Timeout(Timeout::Connect),
        });
        self.next_address(now);
    }

    /// The handshake was answered with another place to go to.
    pub(super) fn redirected(&mut self, index: usize, to: Target, now: Instant) {
        self.links[index].retire(None, now, false);
        let max = self.config.max_redirects;
        let Some(attempt) = &mut self.attempt else { return };
        attempt.conn = None;
        if attempt.redirects >= max {
            return self.attempt_failed(Error::TooManyRedirects { max }, now);
        }
        let Some(mut endpoint) = attempt.endpoint.take() else { return };
        attempt.redirects += 1;
        attempt.options = attempt.options.for_redirect(&endpoint.target, &to);
        attempt.deadline = Some(now + self.config.connect_timeout);
        endpoint.target = to;
        self.approach(endpoint, now);
    }

    /// The time for finding and reaching the peer is over.
    pub(super) fn attempt_overdue(&mut self, now: Instant) {
        let overdue = |attempt: &Attempt| attempt.deadline.is_some_and(|deadline| deadline <= now);
        if self.attempt.as_ref().is_some_and(overdue) {
            self.attempt_failed(Error::Timeout(Timeout::Connect), now);
        }
    }

    pub(super) fn attempt_failed(&mut self, error: Error, now: Instant) {
        let proxy = self.attempt.as_ref().and_then(|attempt| attempt.proxy.as_ref());
        let error = match proxy {
            Some(proxy) => proxy.blame(error),
            None => error,
        };
        self.abandon_attempt(now);
        self.stats.failed_attempts += 1;
        self.failures += 1;
        self.turn = self.turn.wrapping_add(1);
        let retry_at = self.schedule_retry(&error, now);
        let failures = self.failures;
        self.events.push_back(Queued::AttemptFailed { failures, error: error.clone(), retry_at });
        if retry_at.is_none() {
            self.finish(Some(error), now);
        }
    }

    /// Ends the attempt that is under way, if one is, and lets its connection say its last word.
    pub(super) fn abandon_attempt(&mut self, now: Instant) {
        let Some(attempt) = self.attempt.take() else { return };
        if let Some(index) = attempt.conn.and_then(|(conn, _)| self.link_index(conn)) {
            let until = now + self.config.close_timeout;
            self.links[index].retire(None, until, false);
        }
    }
}

impl Attempt {
    /// Name or address, and port, of what TCP is to connect to.
    fn reaches(&self) -> Option<(&str, u16)> {
        let target = &self.endpoint.as_ref()?.target;
        Some(match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (target.host(), target.port()),
        })
    }
}

/// What cool-downs go by.
fn host_port(target: &Target) -> String {
    format!("{}:{}", target.host(), target.port())
}

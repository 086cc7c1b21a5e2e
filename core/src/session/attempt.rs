//! The way to a connection: endpoint, name, addresses, TCP, handshake, redirects.

use super::lease::Queued;
use super::link::{Link, Purpose};
use super::output::{AttemptId, ConnId, Output};
use super::status::State;
use super::{Endpoint, Mutant, Session, Transport};
use crate::error::{Disconnect, Error, ProviderError, ResolveError, Timeout};
use crate::record::Input;
use crate::transport::proxy::Proxy;
use crate::transport::race::Race;
use crate::ws::Target;
use crate::ws::handshake::HandshakeOptions;
use rand_chacha::rand_core::Rng;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// One attempt, over all addresses and redirects.
#[derive(Debug)]
pub(crate) struct Attempt {
    id: AttemptId,
    endpoint: Option<Endpoint>,
    /// By way of which the endpoint is reached.
    proxy: Option<Proxy>,
    options: HandshakeOptions,
    redirects: u32,
    /// By when there must be a connection.
    deadline: Instant,
    stage: Approach,
}

/// How far an attempt has come.
#[derive(Debug)]
enum Approach {
    /// The provider is asked for an endpoint.
    Endpoint,
    /// The resolver is asked for addresses.
    Name,
    /// Addresses are connected to.
    Race(Race<ConnId>),
    /// The user's connector is asked for a stream.
    Open(ConnId),
    /// This connection is there: its link does the handshake, and has a deadline for it. The address is that of a race.
    Connected(ConnId, Option<SocketAddr>),
}

impl Attempt {
    /// What is to be connected to: a name or an address, and a port. `None` as long as the provider is asked.
    fn reaches(&self) -> Option<(&str, u16)> {
        let target = &self.endpoint.as_ref()?.target;
        Some(match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (target.host(), target.port()),
        })
    }

    /// What addresses of the destination are remembered by.
    fn reaches_name(&self) -> Option<String> {
        self.reaches().map(|(host, port)| format!("{host}:{port}"))
    }

    /// The address that is connected, and what it is remembered by.
    fn connected_to(&self) -> Option<(String, SocketAddr)> {
        let Approach::Connected(_, Some(addr)) = self.stage else { return None };
        Some((self.reaches_name()?, addr))
    }

    /// The next moment at which something is to be done.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.stage {
            Approach::Endpoint | Approach::Name | Approach::Open(_) => Some(self.deadline),
            Approach::Race(race) => Some(race.due().map_or(self.deadline, |due| due.min(self.deadline))),
            Approach::Connected(..) => None,
        }
    }
}

impl Session {
    pub(super) fn start_attempt(&mut self, now: Instant) {
        // Of several endpoints, one whose host does not want to be left alone; if all do, the one that does so for the least time.
        let held = |turn: &usize| {
            let endpoint = self.config.endpoint_at(*turn)?;
            self.held_until(&host_port(&endpoint.target), now)
        };
        let turns = (0..=self.config.fallbacks.len()).map(|n| self.turn.wrapping_add(n));
        let turn = turns.min_by_key(held).unwrap_or(self.turn);
        let endpoint = self.config.endpoint_at(turn).cloned();
        let host =
            endpoint.as_ref().or_else(|| self.renewal.ready(now)).map(|endpoint| host_port(&endpoint.target));
        if host.is_some_and(|host| self.hold_back(&host, now)) {
            return;
        }
        self.turn = turn;
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
            redirects: 0,
            deadline: now + self.config.connect_timeout,
            stage: Approach::Endpoint,
        });
        match endpoint {
            Some(endpoint) => self.approach(endpoint, now),
            None => self.provide(id, now),
        }
    }

    /// Puts the next attempt off if the host is to be left alone: another session was told so, and that is no failure of ours.
    fn hold_back(&mut self, host: &str, now: Instant) -> bool {
        if self.held_until(host, now).is_none() {
            return false;
        }
        self.abandon_attempt(now);
        self.retry_at = Some(self.free_at(host, now));
        self.history.set(State::Backoff, format!("{host} wants to be left alone for a while"), now);
        true
    }

    /// An endpoint leads to a host that is to be left alone: the next one has its turn, if there are several, as after a failure.
    fn pass_on(&mut self, now: Instant) {
        if self.config.fallbacks.is_empty() {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let delay = self.backoff.next(self.config.backoff_initial, self.config.backoff_max, &mut self.rng);
        let at = self.flaps.as_ref().map_or(now + delay, |flaps| flaps.earliest(now + delay));
        self.retry_at = self.retry_at.map(|held| held.min(at));
    }

    /// The first moment at which an attempt at this host may begin; now, if nothing is against it.
    pub(super) fn free_at(&mut self, host: &str, now: Instant) -> Instant {
        let held = self.held_until(host, now).map(|until| {
            // Many wait for the same moment, and must not all come at it.
            let late = super::backoff::fraction(self.config.backoff_initial, &mut self.rng);
            until.checked_add(late).unwrap_or(until)
        });
        let at = held.unwrap_or(now);
        self.flaps.as_ref().map_or(at, |flaps| flaps.earliest(at))
    }

    fn held_until(&self, host: &str, now: Instant) -> Option<Instant> {
        self.config.cooldown.until(host, now).filter(|_| !self.is(Mutant::IgnoreCooldown))
    }

    /// The provider's answer to [`Output::Provide`]: for an attempt, or to renew the endpoint of a connection that lives.
    pub fn handle_endpoint(&mut self, id: AttemptId, result: Result<Endpoint, ProviderError>, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Endpoint { attempt: id, result: result.as_ref() }, now);
        }
        self.calm = false;
        if self.renews(id) {
            return self.endpoint_renewed(result, now);
        }
        let waits = |attempt: &Attempt| attempt.id == id && matches!(attempt.stage, Approach::Endpoint);
        if !self.attempt.as_ref().is_some_and(waits) {
            return;
        }
        let endpoint = match result.map_err(Error::Provider).and_then(|given| self.accept(given, now)) {
            Ok(endpoint) => endpoint,
            Err(error) => return self.attempt_failed(error, now),
        };
        let options = endpoint.handshake(&self.config.handshake);
        match (&mut self.attempt, options) {
            (Some(attempt), Ok(options)) => attempt.options = options,
            (_, Err(error)) => return self.attempt_failed(Error::Request(error), now),
            (None, _) => return,
        }
        self.approach(endpoint, now);
    }

    /// Finds the addresses of an endpoint.
    fn approach(&mut self, endpoint: Endpoint, now: Instant) {
        let name = host_port(&endpoint.target);
        // Where a provider or a redirect leads to is known only now.
        if self.hold_back(&name, now) {
            return self.pass_on(now);
        }
        self.host = Some(name);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.proxy = self.config.proxy.proxy_for(&endpoint.target).cloned();
        attempt.endpoint = Some(endpoint);
        if self.config.transport != Transport::Tcp {
            self.last_conn += 1;
            let conn = ConnId(self.last_conn);
            attempt.stage = Approach::Open(conn);
            self.duties.push_back(Output::Open(conn));
            return;
        }
        let literal = attempt
            .reaches()
            .and_then(|(host, port)| Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port)));
        match literal {
            Some(addr) => self.race(&[addr], now),
            None => {
                attempt.stage = Approach::Name;
                self.duties.push_back(Output::Resolve(attempt.id));
            }
        }
    }

    /// Name and port to be resolved for [`Output::Resolve`]; `None` if the attempt is over.
    pub fn host(&self, id: AttemptId) -> Option<(&str, u16)> {
        self.attempt.as_ref().filter(|attempt| attempt.id == id)?.reaches()
    }

    /// What a connection that is being opened is to reach: what the stream of [`Output::Open`] is to lead to. `None` once it is
    /// there, or given up.
    pub fn target(&self, conn: ConnId) -> Option<&Target> {
        let attempt = self.attempt.as_ref()?;
        let opening = match &attempt.stage {
            Approach::Race(race) => race.address(conn).is_some(),
            Approach::Open(opening) => *opening == conn,
            Approach::Endpoint | Approach::Name | Approach::Connected(..) => false,
        };
        attempt.endpoint.as_ref().filter(|_| opening).map(Endpoint::target)
    }

    /// The resolver's answer to [`Output::Resolve`]: the addresses in its order, which that of RFC 6724 should be. They are raced as
    /// RFC 8305 says: see [`Config::race_delay`](crate::Config::race_delay).
    pub fn handle_resolved(
        &mut self,
        id: AttemptId,
        result: Result<&[SocketAddr], ResolveError>,
        now: Instant,
    ) {
        if self.tap.is_some() {
            self.tap(Input::Resolved { attempt: id, result: result.as_ref().copied() }, now);
        }
        self.calm = false;
        let waits = |attempt: &&Attempt| attempt.id == id && matches!(attempt.stage, Approach::Name);
        if self.attempt.as_ref().filter(waits).is_none() {
            return;
        }
        match result {
            Ok(addrs) => self.race(addrs, now),
            Err(error) => self.attempt_failed(Error::Resolve(error), now),
        }
    }

    /// Connects to these addresses.
    fn race(&mut self, addrs: &[SocketAddr], now: Instant) {
        let Some(attempt) = &mut self.attempt else { return };
        let name = attempt.reaches_name().unwrap_or_default();
        let reached = addrs.iter().copied().filter(|addr| self.config.sockets.reaches(*addr));
        let ordered = self.addresses.order(&name, reached);
        if ordered.is_empty() {
            let message = if addrs.is_empty() {
                "the name has no addresses"
            } else {
                "it has no address of a family that has a local address in Config::sockets"
            };
            return self.attempt_failed(Error::Resolve(ResolveError { message: message.to_owned() }), now);
        }
        attempt.stage = Approach::Race(Race::new(ordered, self.config.race_delay, attempt.deadline, now));
        self.go_on(now);
    }

    /// Starts what is due of a race; fails the attempt if that was lost.
    fn go_on(&mut self, now: Instant) {
        let Some(Attempt { stage: Approach::Race(race), .. }) = &mut self.attempt else { return };
        if let Some(conn) = race.expire(now) {
            self.duties.push_back(Output::Disconnect(conn));
        }
        let conn = ConnId(self.last_conn + 1);
        if let Some(addr) = race.start(conn, now) {
            self.last_conn += 1;
            self.duties.push_back(Output::Connect(conn, addr));
        }
        if let Some((addr, cause)) = race.lost() {
            let error = Error::Connect { addr: *addr, cause: cause.clone() };
            self.attempt_failed(error, now);
        }
    }

    /// The connection that [`Output::Connect`] or [`Output::Open`] asked for is there.
    pub fn handle_connected(&mut self, conn: ConnId, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Connected { conn }, now);
        }
        self.calm = false;
        let Some(attempt) = &mut self.attempt else { return };
        let addr = match &attempt.stage {
            Approach::Race(race) => {
                let Some(addr) = race.address(conn) else { return };
                let losers = race.running().filter(|running| *running != conn);
                self.duties.extend(losers.map(Output::Disconnect));
                Some(addr)
            }
            Approach::Open(opening) if *opening == conn => None,
            _ => return,
        };
        // Until its link has it.
        attempt.stage = Approach::Open(conn);
        let Some(endpoint) = &attempt.endpoint else { return };
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let (noted, replayed) = (self.tap.is_some(), self.replayed);
        let proxy = attempt.proxy.as_ref();
        let purpose = Purpose { endpoint, proxy, options: &attempt.options, noted, replayed };
        match Link::new(conn, purpose, &self.config, self.seed, nonce, now) {
            Ok(link) => {
                attempt.stage = Approach::Connected(conn, addr);
                self.links.push(link);
            }
            // That says nothing of the address.
            Err(error) => self.attempt_failed(error, now),
        }
    }

    /// What was to be connected or opened was not; false if that is none of the attempt's.
    pub(super) fn connect_failed(&mut self, conn: ConnId, cause: &Disconnect, now: Instant) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        match &mut attempt.stage {
            Approach::Race(race) => {
                let was_racing = race.failed(conn, cause.clone(), now);
                if was_racing {
                    self.go_on(now);
                }
                was_racing
            }
            Approach::Open(opening) if *opening == conn => {
                // There is nothing to be dropped any more.
                attempt.stage = Approach::Endpoint;
                self.attempt_failed(Error::Open(cause.clone()), now);
                true
            }
            _ => false,
        }
    }

    /// The handshake succeeded: there is nothing more to attempt.
    pub(super) fn attempt_succeeded(&mut self) {
        if let Some((name, addr)) = self.attempt.take().as_ref().and_then(Attempt::connected_to) {
            self.addresses.worked(&name, addr);
        }
    }

    /// The handshake was answered with another place to go to.
    pub(super) fn redirected(&mut self, index: usize, to: Target, now: Instant) {
        self.links[index].retire(None, now, false);
        let max = self.config.max_redirects;
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.redirects >= max {
            return self.attempt_failed(Error::TooManyRedirects { max }, now);
        }
        // It answered as it should.
        if let Some((name, addr)) = attempt.connected_to() {
            self.addresses.worked(&name, addr);
        }
        attempt.stage = Approach::Name;
        let Some(mut endpoint) = attempt.endpoint.take() else { return };
        attempt.redirects += 1;
        attempt.options = attempt.options.for_redirect(&endpoint.target, &to);
        attempt.deadline = now + self.config.connect_timeout;
        endpoint.redirect(to);
        self.approach(endpoint, now);
    }

    /// Does what is due of the attempt, if anything is.
    pub(super) fn attempt_due(&mut self, now: Instant) {
        let Some(attempt) = &self.attempt else { return };
        if attempt.due().is_none_or(|due| due > now) {
            return;
        }
        if attempt.deadline <= now {
            self.attempt_failed(Error::Timeout(Timeout::Connect), now);
        } else {
            self.go_on(now);
        }
    }

    pub(super) fn attempt_failed(&mut self, error: Error, now: Instant) {
        if let Some((name, addr)) = self.attempt.as_ref().and_then(Attempt::connected_to) {
            self.addresses.failed(&name, addr);
        }
        let error = match self.attempt.as_ref().and_then(|attempt| attempt.proxy.as_ref()) {
            Some(proxy) => proxy.blame(error),
            None => error,
        };
        self.abandon_attempt(now);
        self.stats.failed_attempts += 1;
        self.failures += 1;
        self.turn = self.turn.wrapping_add(usize::from(!self.is(Mutant::KeepTurn)));
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
        match &attempt.stage {
            // What is not said yet need not be.
            Approach::Endpoint => self.duties.retain(|duty| *duty != Output::Provide(attempt.id)),
            Approach::Name => self.duties.retain(|duty| *duty != Output::Resolve(attempt.id)),
            Approach::Race(race) => self.duties.extend(race.running().map(Output::Disconnect)),
            Approach::Open(conn) => self.duties.push_back(Output::Disconnect(*conn)),
            Approach::Connected(conn, _) => {
                if let Some(index) = self.link_index(*conn) {
                    let until = now + self.config.close_timeout;
                    self.links[index].retire(None, until, false);
                }
            }
        }
    }
}

/// What cool-downs go by.
pub(super) fn host_port(target: &Target) -> String {
    format!("{}:{}", target.host(), target.port())
}

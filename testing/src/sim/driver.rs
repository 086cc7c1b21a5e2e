//! The client's side of a simulation: what every driver does, and a watch on what the session promises it.

use super::link::{Conn, Stage};
use super::log::{Fault, Log, Step};
use super::pipe::{chance, duration};
use super::runner::{MANY, Simulation};
use super::{Ended, Net, Outcome, Server, User, instant, since_start};
use everwire_core::{AttemptId, Disconnect, Epoch, Output, OwnedEvent, ProviderError, ResolveError};
use rand_chacha::ChaCha8Rng;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Outputs in a row, other than events, after which a session is taken to go in circles.
const LIVELOCK: u32 = 10_000;

/// Question and answer that are under way.
#[derive(Debug)]
pub(super) enum Lookup {
    Provide(AttemptId),
    FailToProvide(AttemptId),
    Resolve(AttemptId, u16),
    FailToResolve(AttemptId),
}

/// Where polling stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    Until(Option<Duration>),
    /// The user does not take an event.
    Event,
}

impl<S: Server, U: User> Simulation<S, U> {
    /// Lets the client deal with what is there; whether anything was.
    pub(super) fn drive(&mut self) -> Result<bool, String> {
        let mut moved = self.io()?;
        let timer = match self.waits {
            None => None,
            Some(Waits::Until(until)) => until,
            Some(Waits::Event) => self.session.timeout().map(since_start),
        };
        // As in life: what has arrived is read first.
        if !moved && timer.is_some_and(|due| due <= self.now) {
            self.timeout();
            moved = true;
        }
        let user = self.user.deadline().is_some_and(|due| due <= self.now);
        let takes = self.waits == Some(Waits::Event) && self.user.takes(self.now);
        if !moved && !user && !takes && self.waits.is_some() {
            return Ok(false);
        }
        for _ in 0..MANY {
            self.poll()?;
            if self.end.is_some() {
                return Ok(true);
            }
            if self.user.deadline().is_some_and(|due| due <= self.now) {
                self.log.note(self.now, Step::Act);
                self.user.act(&mut self.session, self.now);
                continue;
            }
            if self.io()? {
                continue;
            }
            if self.waits == Some(Waits::Event)
                && self.session.timeout().is_some_and(|due| due <= self.instant())
            {
                self.timeout();
                if self.session.timeout().is_some_and(|due| due <= self.instant()) {
                    return Err("handle_timeout leaves in timeout() what is due".into());
                }
                continue;
            }
            return Ok(true);
        }
        Err("the client goes on forever: does User::act not move its deadline on?".into())
    }

    /// Polls the session and obeys, until it waits.
    fn poll(&mut self) -> Result<(), String> {
        let (mut outputs, mut events) = (0, 0);
        let now = self.now;
        loop {
            let output = self.session.poll_output(self.instant());
            outputs += 1;
            if outputs > LIVELOCK || events > MANY {
                let status = self.session.status(self.instant());
                return Err(format!(
                    "livelock: {outputs} outputs and {events} events without Wait; {status:?}"
                ));
            }
            match output {
                Output::Provide(id) => {
                    self.log.note(now, Step::Provide);
                    self.provide(id);
                }
                Output::Resolve(id) => {
                    self.log.note(now, Step::Resolve);
                    self.resolve(id)?;
                }
                Output::Connect(id, addr) => {
                    let number = id.as_u64();
                    if self.last_conn.is_some_and(|last| last >= number) {
                        return Err(format!(
                            "Connect({id:?}) after number {:?}: ids count up",
                            self.last_conn
                        ));
                    }
                    self.last_conn = Some(number);
                    self.log.note(now, Step::Connect(number, addr));
                    let (conn, sleep) = Conn::new(id, addr, self.seed, &self.net, now, &mut self.log);
                    self.conns.push(conn);
                    self.sleeps.extend(sleep);
                    self.user.connects(number, addr, &self.session, now);
                }
                Output::Open(id) => return Err(format!("Open({id:?}), and the transport is TCP")),
                Output::Disconnect(id) => {
                    self.log.note(now, Step::Dropped(id.as_u64()));
                    let conn = self.conns.iter_mut().find(|conn| conn.id == id && conn.client);
                    let conn = conn.ok_or_else(|| format!("Disconnect({id:?}), which is not there"))?;
                    conn.drop_client(&self.net, now, &mut self.log);
                }
                Output::Event => {
                    (outputs, events) = (0, events + 1);
                    if let Some(id) = self.reading() {
                        return Err(format!("recv_buffer of #{id} is not empty while an event is not taken"));
                    }
                    if !self.user.takes(now) {
                        if self.waits != Some(Waits::Event) {
                            self.log.note(now, Step::Held);
                        }
                        self.waits = Some(Waits::Event);
                        return Ok(());
                    }
                    self.take()?;
                }
                Output::Wait(until) => {
                    if until.is_some_and(|until| until <= self.instant()) {
                        return Err(format!(
                            "Wait({:?}), which is not later than now",
                            until.map(since_start)
                        ));
                    }
                    let nothing = self.lookups.is_empty() && !self.conns.iter().any(|conn| conn.client);
                    if until.is_none() && nothing {
                        return Err("waits forever, and for nothing".into());
                    }
                    self.waits = Some(Waits::Until(until.map(since_start)));
                    return Ok(());
                }
                Output::Closed => return self.closed(),
            }
        }
    }

    /// The announced event is taken.
    fn take(&mut self) -> Result<(), String> {
        let Some(event) = self.session.event().map(|event| event.to_owned()) else {
            return Err("Output::Event, and event() has none".into());
        };
        if let Some(epoch) = epoch(&event) {
            if epoch < self.last_epoch {
                return Err(format!("an event of {epoch:?} after one of {:?}", self.last_epoch));
            }
            self.last_epoch = epoch;
        }
        if let OwnedEvent::Online { resumed: true, .. } = event {
            self.stats.reconnects += 1;
        }
        self.user.event(&event, &mut self.session, self.now);
        self.log.note(self.now, Step::Event(event));
        Ok(())
    }

    /// The end: it stays that.
    fn closed(&mut self) -> Result<(), String> {
        self.log.note(self.now, Step::Closed);
        if let Some(conn) = self.conns.iter().find(|conn| conn.client) {
            return Err(format!("Closed, and #{} was not dropped", conn.number()));
        }
        self.session.handle_timeout(self.instant());
        for later in [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(86_400)] {
            let output = self.session.poll_output(instant(self.now.saturating_add(later)));
            if output != Output::Closed {
                return Err(format!("{output:?} after Closed"));
            }
        }
        self.end = Some(Outcome::Closed);
        Ok(())
    }

    fn timeout(&mut self) {
        self.log.note(self.now, Step::Timeout);
        self.session.handle_timeout(self.instant());
    }

    /// A connection that the session would read from.
    fn reading(&mut self) -> Option<u64> {
        let reading = |conn: &&Conn| conn.client && !self.session.recv_buffer(conn.id).is_empty();
        self.conns.iter().find(reading).map(Conn::number)
    }

    fn instant(&self) -> Instant {
        instant(self.now)
    }

    /// Lets move what can; whether anything did.
    fn io(&mut self) -> Result<bool, String> {
        let mut moved = self.answer_lookups();
        for index in 0..self.conns.len() {
            moved |= self.conns[index].client && self.conn_io(index)?;
        }
        Ok(moved)
    }

    fn conn_io(&mut self, index: usize) -> Result<bool, String> {
        let (now, at) = (self.now, instant(self.now));
        let Self { session, net, log, stats, .. } = self;
        let conn = &mut self.conns[index];
        let (id, number) = (conn.id, conn.number());
        let mut moved = false;
        match conn.stage {
            Stage::Answered(due, true) if due <= now => {
                conn.stage = Stage::Open;
                stats.connections += 1;
                log.note(now, Step::Connected(number));
                session.handle_connected(id, at);
                moved = true;
            }
            Stage::Answered(due, false) if due <= now => {
                conn.drop_client(net, now, log);
                let cause = Disconnect::from(io::Error::from(io::ErrorKind::ConnectionRefused));
                log.note(now, Step::ClientTold(number, "connection refused".into()));
                session.handle_disconnected(id, cause, at);
                return Ok(true);
            }
            Stage::Open => {}
            _ if !session.transmit(id).is_empty() || !session.recv_buffer(id).is_empty() => {
                return Err(format!(
                    "the session wants to write to or read from #{number}, which is not open"
                ));
            }
            _ => return Ok(false),
        }
        loop {
            let room = conn.writable(net, now);
            let bytes = session.transmit(id);
            let bytes = &bytes[..bytes.len().min(room)];
            if bytes.is_empty() {
                break;
            }
            let len = conn.write(bytes, net, now, log);
            conn.digest(&bytes[..len], log);
            log.note(now, Step::Wrote(number, len));
            session.handle_transmitted(id, len, at);
            moved = true;
        }
        // Also where nothing is to be read, so that what has arrived is no news at the next moment.
        conn.refresh(now);
        let room = session.recv_buffer(id);
        if room.is_empty() {
            return Ok(moved);
        }
        match conn.readable(room.len(), net) {
            Ok([]) => return Ok(moved),
            Ok(bytes) => {
                let len = bytes.len();
                room[..len].copy_from_slice(bytes);
                conn.digest(&room[..len], log);
                log.note(now, Step::Read(number, len));
                stats.bytes += len as u64;
                conn.read(len, net, now, log);
                session.handle_received(id, len, at);
            }
            Err(how) => {
                conn.drop_client(net, now, log);
                let cause = match how {
                    Ended::Fin => Disconnect::Eof,
                    Ended::Reset => io::Error::from(io::ErrorKind::ConnectionReset).into(),
                };
                log.note(now, Step::ClientTold(number, format!("{how:?}")));
                session.handle_disconnected(id, cause, at);
            }
        }
        Ok(true)
    }

    // ---- What is asked for before there is a connection.

    fn provide(&mut self, id: AttemptId) {
        let Self { net, lookup_rng: rng, log, now, .. } = self;
        let faults = &net.faults;
        let due = delay(rng, &faults.provider_delay, Fault::ProviderDelay, net, *now, log);
        let fails = chance(rng, faults.provider_failure) && *now < faults.until;
        let lookup = if fails { Lookup::FailToProvide(id) } else { Lookup::Provide(id) };
        self.lookups.push((due, lookup));
    }

    fn resolve(&mut self, id: AttemptId) -> Result<(), String> {
        let Some((_, port)) = self.session.host(id) else {
            return Err("Output::Resolve, and host() has no name".into());
        };
        let Self { net, lookup_rng: rng, log, now, .. } = self;
        let faults = &net.faults;
        let due = delay(rng, &faults.resolve_delay, Fault::ResolveDelay, net, *now, log);
        let fails = chance(rng, faults.resolve_failure) && *now < faults.until;
        let lookup = if fails { Lookup::FailToResolve(id) } else { Lookup::Resolve(id, port) };
        self.lookups.push((due, lookup));
        Ok(())
    }

    /// Gives the answers that are due; whether there were any.
    fn answer_lookups(&mut self) -> bool {
        let (now, at) = (self.now, self.instant());
        let mut moved = false;
        while let Some(index) = self.lookups.iter().position(|(due, _)| *due <= now) {
            moved = true;
            let (_, lookup) = self.lookups.remove(index);
            match lookup {
                Lookup::Provide(id) => {
                    let none = || Err(ProviderError::new("the simulation has no provider"));
                    let result = self.provider.as_mut().map_or_else(none, |provider| provider(now));
                    let error = result.as_ref().err().map(|error| error.message.clone());
                    self.log.note(now, Step::Looked(error));
                    self.session.handle_endpoint(id, result, at);
                }
                Lookup::FailToProvide(id) => {
                    self.log.fault(now, None, Fault::ProviderFailure, None);
                    let error = ProviderError::new("simulated");
                    self.session.handle_endpoint(id, Err(error), at);
                }
                Lookup::Resolve(id, port) => {
                    self.log.note(now, Step::Looked(None));
                    let addrs = (1..=self.net.addresses).map(|n| SocketAddr::from(([192, 0, 2, n], port)));
                    let addrs: Vec<_> = addrs.collect();
                    self.session.handle_resolved(id, Ok(&addrs), at);
                }
                Lookup::FailToResolve(id) => {
                    self.log.fault(now, None, Fault::ResolveFailure, None);
                    let error = ResolveError { message: "simulated".into() };
                    self.session.handle_resolved(id, Err(error), at);
                }
            }
        }
        moved
    }
}

/// When an answer comes.
fn delay(
    rng: &mut ChaCha8Rng,
    (probability, delay): &(f64, std::ops::Range<Duration>),
    fault: Fault,
    net: &Net,
    now: Duration,
    log: &mut Log,
) -> Duration {
    let (comes, delay) = (chance(rng, *probability), duration(rng, delay));
    if !comes || now >= net.faults.until {
        return now;
    }
    let due = net.faults.end(now, delay);
    log.fault(now, None, fault, Some(due));
    due
}

fn epoch(event: &OwnedEvent) -> Option<Epoch> {
    match event {
        OwnedEvent::Online { epoch, .. }
        | OwnedEvent::Message { epoch, .. }
        | OwnedEvent::Chunk { epoch, .. }
        | OwnedEvent::Subscribed { epoch, .. }
        | OwnedEvent::Rejected { epoch, .. }
        | OwnedEvent::Pong { epoch, .. }
        | OwnedEvent::Lost { epoch, .. } => Some(*epoch),
        OwnedEvent::Gap(gap) => Some(gap.after),
        _ => None,
    }
}

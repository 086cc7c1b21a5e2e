//! The driver of a simulated session: what a real one does, and a watch on what the session promises.

use super::link::{Conn, Stage, chance, duration, stream};
use super::log::{Fault, Log, Step};
use super::{Action, Ended, Net, Server, User, instant, since_start, start};
use everwire_core::{
    AttemptId, Config, ConfigError, Disconnect, Endpoint, Epoch, Output, OwnedEvent, ProviderError,
    ResolveError, Session,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Outputs in a row, other than events, after which a session is taken to go in circles.
const LIVELOCK: u32 = 10_000;
/// The same for events, of which a buffer may hold many, for calls of a user, and for rounds between client and server at one moment.
const MANY: u32 = 1_000_000;
/// Virtual time ends there, so that no sum overflows: a hundred years.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Streams of the generator: connections have the ones between.
const SESSION_STREAM: u64 = 0;
const LOOKUP_STREAM: u64 = u64::MAX;

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The session is closed.
    Closed,
    /// The time was over.
    Limit,
    /// The session broke a promise of its interface, or the server or user found something wrong. The text says what.
    Violation(String),
}

/// What happened in a run, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// TCP connections that opened.
    pub connections: u64,
    /// Times that the session came online, the first excepted.
    pub reconnects: u64,
    /// Bytes that reached either side.
    pub bytes: u64,
    /// Moments of virtual time at which something happened.
    pub steps: u64,
}

/// A session, its server and its user, in virtual time.
///
/// ```
/// use everwire_core::{Config, OwnedEvent, Session};
/// use everwire_testing::sim::{Accept, Action, Ended, Net, Outcome, Server, Simulation, User};
/// use std::time::Duration;
///
/// /// Nobody at home.
/// #[derive(Debug)]
/// struct Nobody;
///
/// impl Server for Nobody {
///     fn accept(&mut self, _: u64, _: Duration) -> Accept {
///         Accept::Refuse
///     }
///     fn received(&mut self, _: u64, _: &[u8], _: Duration) {}
///     fn closed(&mut self, _: u64, _: Ended, _: Duration) {}
///     fn deadline(&self) -> Option<Duration> {
///         None
///     }
///     fn run(&mut self, _: Duration) {}
///     fn output(&mut self) -> Option<(u64, Action)> {
///         None
///     }
/// }
///
/// #[derive(Debug, Default)]
/// struct Counts(u32);
///
/// impl User for Counts {
///     fn event(&mut self, event: &OwnedEvent, _: &mut Session, _: Duration) {
///         self.0 += u32::from(matches!(event, OwnedEvent::AttemptFailed { .. }));
///     }
///     fn deadline(&self) -> Option<Duration> {
///         None
///     }
///     fn act(&mut self, _: &mut Session, _: Duration) {}
/// }
///
/// let config = Config::new("ws://192.0.2.1/feed")?.max_attempts(10);
/// let mut simulation = Simulation::new(config, 1, Net::lossy(), Nobody, Counts::default())?;
/// let outcome = simulation.run_until(Duration::from_secs(3600));
/// assert_eq!(outcome, Outcome::Closed, "{}", simulation.log());
/// assert_eq!(simulation.user().0, 10);
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
pub struct Simulation<S: Server, U: User> {
    session: Session,
    server: S,
    user: U,
    net: Net,
    seed: u64,
    now: Duration,
    /// Those that anybody still has, by their ids.
    conns: Vec<Conn>,
    lookups: Vec<(Duration, Lookup)>,
    lookup_rng: ChaCha8Rng,
    provider: Option<Provider>,
    /// When the client's process falls asleep, and for how long.
    sleeps: Vec<(Duration, Duration)>,
    /// It sleeps until then.
    asleep: Option<Duration>,
    /// What the session waits for; `None` before it is polled.
    waits: Option<Waits>,
    last_conn: Option<u64>,
    last_epoch: Epoch,
    end: Option<Outcome>,
    stats: Stats,
    log: Log,
}

type Provider = Box<dyn FnMut(Duration) -> Result<Endpoint, ProviderError>>;

/// Question and answer that are under way.
#[derive(Debug)]
enum Lookup {
    Provide(AttemptId),
    FailToProvide(AttemptId),
    Resolve(AttemptId, u16),
    FailToResolve(AttemptId),
}

/// Where polling stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Until(Option<Duration>),
    /// The user does not take an event.
    Event,
}

impl<S: Server, U: User> Simulation<S, U> {
    /// A simulation at time zero. TLS is not simulated: `config` has a `ws://` URL or none.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work.
    pub fn new(config: Config, seed: u64, net: Net, server: S, user: U) -> Result<Self, ConfigError> {
        let mut bytes = [0; 32];
        stream(seed, SESSION_STREAM).fill_bytes(&mut bytes);
        Ok(Self {
            session: Session::new(config, start(), bytes)?,
            server,
            user,
            net,
            seed,
            now: Duration::ZERO,
            conns: Vec::new(),
            lookups: Vec::new(),
            lookup_rng: stream(seed, LOOKUP_STREAM),
            provider: None,
            sleeps: Vec::new(),
            asleep: None,
            waits: None,
            last_conn: None,
            last_epoch: Epoch::default(),
            end: None,
            stats: Stats::default(),
            log: Log::new(seed),
        })
    }

    /// Answers `Output::Provide`, for a config made by [`Config::provided`]; its argument is virtual time. Without one every such
    /// attempt fails.
    pub fn provider(
        self,
        provider: impl FnMut(Duration) -> Result<Endpoint, ProviderError> + 'static,
    ) -> Self {
        Self { provider: Some(Box::new(provider)), ..self }
    }

    /// Runs until the session is closed, something is wrong, or virtual time is `limit` (of at most a hundred years). It may be called
    /// again, with a later limit.
    pub fn run_until(&mut self, limit: Duration) -> Outcome {
        let limit = limit.min(MAX_TIME);
        while self.end.is_none() {
            self.stats.steps += 1;
            if let Err(wrong) = self.moment() {
                self.end = Some(Outcome::Violation(format!("at {:.6} s: {wrong}", self.now.as_secs_f64())));
                break;
            }
            let next = self.next().filter(|next| *next <= limit);
            match next {
                _ if self.end.is_some() => {}
                Some(next) => self.now = next.max(self.now),
                None => {
                    self.now = limit.max(self.now);
                    return Outcome::Limit;
                }
            }
        }
        self.end.clone().unwrap_or(Outcome::Limit)
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, for calls between two runs.
    pub fn session_mut(&mut self) -> &mut Session {
        // It may have something new to say.
        self.waits = None;
        &mut self.session
    }

    /// The server.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// The server, to change it between two runs.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    /// The user.
    pub fn user(&self) -> &U {
        &self.user
    }

    /// The user, to change it between two runs.
    pub fn user_mut(&mut self) -> &mut U {
        &mut self.user
    }

    /// Virtual time: since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What happened last: print it when a run fails.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Everything that happens now.
    fn moment(&mut self) -> Result<(), String> {
        self.fall_asleep();
        for _ in 0..MANY {
            let mut moved = self.serve();
            if self.asleep.is_none() && self.end.is_none() {
                moved |= self.drive()?;
            }
            if let Some(wrong) = self.server.violation().or_else(|| self.user.violation()) {
                return Err(wrong);
            }
            self.conns.retain(Conn::is_alive);
            if !moved {
                return Ok(());
            }
        }
        Err("client and server go on forever without any time passing: is a deadline not moved on?".into())
    }

    /// The next moment at which anything happens.
    fn next(&mut self) -> Option<Duration> {
        let (server, now) = (&self.server, self.now);
        let read = |conn: &Conn| conn.server_next().filter(|_| server.reads(conn.number(), now));
        let mut next = self.conns.iter().filter_map(read).chain(server.deadline()).min();
        let mut at = |time: Option<Duration>| next = next.into_iter().chain(time).min();
        if self.asleep.is_some() || self.end.is_some() {
            at(self.asleep);
            return next;
        }
        at(match self.waits {
            None => Some(now),
            Some(Waits::Until(until)) => until,
            Some(Waits::Event) => self.session.timeout().map(since_start),
        });
        at(self.user.deadline());
        at(self.lookups.iter().map(|(due, _)| *due).min());
        at(self.sleeps.iter().map(|(start, _)| *start).min());
        for conn in &self.conns {
            at(conn.client_next());
            // Whether there is anything to be written is not looked at: the pause is over soon enough.
            at(conn.paused(now));
        }
        next
    }

    fn fall_asleep(&mut self) {
        let now = self.now;
        if self.asleep.take_if(|end| *end <= now).is_some() {
            self.log.note(now, Step::Awake);
        }
        while let Some(due) = self.sleeps.iter().position(|(start, _)| *start <= now) {
            let end = self.net.faults.end(now, self.sleeps.swap_remove(due).1);
            self.log.fault(now, None, Fault::Suspend, Some(end));
            self.asleep = self.asleep.max(Some(end));
        }
    }

    // ---- The server's side.

    /// Lets the server deal with what is there; whether anything was.
    fn serve(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for conn in &mut self.conns {
            let id = conn.number();
            if let Stage::Asked(at) = conn.stage
                && at <= now
                && conn.client
            {
                let answer = conn.intercept(now, &mut self.log);
                let answer = answer.unwrap_or_else(|| self.server.accept(id, now));
                self.log.note(now, Step::Accept(id, answer));
                conn.answer(answer, &self.net, now, &mut self.log);
                moved = true;
            }
            while conn.server && self.server.reads(id, now) {
                match conn.arrived(&self.net, now) {
                    Ok([]) => break,
                    Ok(bytes) => {
                        let len = bytes.len();
                        self.stats.bytes += len as u64;
                        self.log.note(now, Step::Arrived(id, len));
                        self.server.received(id, bytes, now);
                        conn.delivered(len);
                    }
                    Err(how) => {
                        conn.server = false;
                        self.log.note(now, Step::ServerTold(id, how));
                        self.server.closed(id, how, now);
                    }
                }
                moved = true;
            }
        }
        if self.server.deadline().is_some_and(|due| due <= now) {
            self.log.note(now, Step::Run);
            self.server.run(now);
            moved = true;
        }
        while let Some((id, action)) = self.server.output() {
            moved = true;
            let Some(conn) = self.conns.iter_mut().find(|conn| conn.number() == id && conn.server) else {
                continue;
            };
            match action {
                Action::Send(bytes) => {
                    self.log.note(now, Step::Sent(id, bytes.len()));
                    conn.send(&bytes, &self.net, now, &mut self.log);
                }
                Action::Fin => {
                    self.log.note(now, Step::ServerFin(id));
                    conn.finish(&self.net, now, &mut self.log);
                }
                Action::Reset => {
                    self.log.note(now, Step::ServerReset(id));
                    conn.reset(&self.net, now, &mut self.log);
                }
            }
        }
        moved
    }

    // ---- The client's side: the loop of a driver.

    /// Lets the client deal with what is there; whether anything was.
    fn drive(&mut self) -> Result<bool, String> {
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
                    let (conn, sleep) = Conn::new(id, self.seed, &self.net, now, &mut self.log);
                    self.conns.push(conn);
                    self.sleeps.extend(sleep);
                }
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
            log.bytes(&bytes[..len]);
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
                log.bytes(bytes);
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
                    let none = || Err(ProviderError { message: "the simulation has no provider".into() });
                    let result = self.provider.as_mut().map_or_else(none, |provider| provider(now));
                    let error = result.as_ref().err().map(|error| error.message.clone());
                    self.log.note(now, Step::Looked(error));
                    self.session.handle_endpoint(id, result, at);
                }
                Lookup::FailToProvide(id) => {
                    self.log.fault(now, None, Fault::ProviderFailure, None);
                    let error = ProviderError { message: "simulated".into() };
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

impl<S: Server, U: User> fmt::Debug for Simulation<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("session", &self.session)
            .field("server", &self.server)
            .field("user", &self.user)
            .finish_non_exhaustive()
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
